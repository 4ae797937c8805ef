//! Signals stop builds. One is enough: what doesn't end by itself soon after is ended with the
//! process, which leaves nothing in the store that isn't whole, and no process behind.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use kiln_engine::{Cancel, Engine};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::say;

/// How long what is cancelled may take to end.
const GRACE: Duration = Duration::from_secs(4);

/// The exit status that the first signal asks for; 0: there was none.
static STATUS: AtomicU8 = AtomicU8::new(0);

/// The exit status of a command that a signal has stopped, as shells have it: 128 and the signal.
pub(crate) fn status() -> Option<u8> {
    Some(STATUS.load(Ordering::SeqCst)).filter(|status| *status != 0)
}

/// Ctrl-C and SIGTERM stop the build; a second one, or the end of [`GRACE`], ends the program.
pub(crate) fn cancel_on_signals(engine: &Engine) -> Cancel {
    let cancel = Cancel::new();
    let (shared, engine) = (cancel.clone(), engine.clone());
    let wait = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        if let Ok(runtime) = runtime {
            runtime.block_on(serve(&shared, &engine));
        }
    };
    // Where no thread can be started, signals do what they do by default.
    _ = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait);
    cancel
}

async fn serve(cancel: &Cancel, engine: &Engine) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return;
    };
    let status = next(&mut interrupt, &mut terminate).await;
    STATUS.store(status, Ordering::SeqCst);
    say("cancelling");
    engine.close();
    cancel.cancel();
    let again = next(&mut interrupt, &mut terminate);
    let status = tokio::time::timeout(GRACE, again).await.unwrap_or(status);
    std::process::exit(status.into());
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> u8 {
    let signal = tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
    };
    u8::try_from(128 + signal.as_raw_value()).unwrap_or(u8::MAX)
}
