//! Signals stop builds.

use kiln_engine::Cancel;

/// Ctrl-C and SIGTERM stop the build; a second one ends the program.
pub(crate) fn cancel_on_signals() -> Cancel {
    let cancel = Cancel::new();
    let shared = cancel.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            ) else {
                return;
            };
            let mut count = 0;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => count += 1,
                    _ = terminate.recv() => count += 1,
                }
                if count > 1 {
                    std::process::exit(130);
                }
                shared.cancel();
            }
        });
    });
    cancel
}
