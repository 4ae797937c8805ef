//! Commands that run as children on this process's terminal.

use std::io;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a command to its end. A request to end is passed on; what a terminal sends reaches the child
/// by itself.
pub(super) fn run(command: std::process::Command) -> io::Result<ExitStatus> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(async {
        let child = Command::from(command).spawn()?;
        wait(child).await
    })
}

async fn wait(mut child: Child) -> io::Result<ExitStatus> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut ended = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            status = child.wait() => return status,
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
