//! kiln as a child of itself.

use std::io;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// Runs this program with other words, on this one's terminal, and gives its exit status. A request
/// to end is passed on; what a terminal sends reaches the child by itself.
pub(super) fn run(words: &[String]) -> io::Result<u8> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(async {
        let child = Command::new("/proc/self/exe")
            .arg0("kiln")
            .args(words)
            .spawn()?;
        wait(child).await
    })
}

async fn wait(mut child: Child) -> io::Result<u8> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut ended = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            status = child.wait() => {
                let code = status?.code().unwrap_or(1);
                return Ok(u8::try_from(code).unwrap_or(1));
            }
            _ = interrupted.recv() => {}
            _ = ended.recv() => end(&child),
        }
    }
}

fn end(child: &Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(id) = id.and_then(Pid::from_raw) {
        _ = kill_process(id, Signal::TERM);
    }
}
