//! Calls that are tried again: a server that restarts or is busy is back in a moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ClusterError;

/// How often a call is made.
const TRIES: u32 = 5;
/// Before the second try; doubled before each other.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How long an answer to one message is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Calls until it succeeds, fails for good, or has failed [`TRIES`] times. Each answer is waited for
/// [`PATIENCE`].
pub(crate) async fn retried<T>(
    mut call: impl AsyncFnMut() -> Result<T, ClusterError>,
) -> Result<T, ClusterError> {
    repeated(async || patiently(call()).await).await
}

/// The same for calls that watch the time themselves.
pub(crate) async fn repeated<T>(
    mut call: impl AsyncFnMut() -> Result<T, ClusterError>,
) -> Result<T, ClusterError> {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match call().await {
            Err(error) if error.is_passing() => tokio::time::sleep(wait).await,
            other => return other,
        }
        wait *= 2;
    }
    call().await
}

/// Waits for a call that sends much, as long as `moved` grows.
pub(crate) async fn while_moving<T>(
    moved: &AtomicU64,
    patience: Duration,
    call: impl Future<Output = Result<T, ClusterError>>,
) -> Result<T, ClusterError> {
    let mut call = std::pin::pin!(call);
    let mut before = None;
    loop {
        if let Ok(answer) = tokio::time::timeout(patience, &mut call).await {
            return answer;
        }
        let now = Some(moved.load(Ordering::Relaxed));
        if now == before {
            return Err(ClusterError::Silent(patience.as_secs()));
        }
        before = now;
    }
}

/// Waits for an answer, but not for ever.
pub(crate) async fn patiently<T>(
    answer: impl Future<Output = Result<T, ClusterError>>,
) -> Result<T, ClusterError> {
    let late = |_| Err(ClusterError::Silent(PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, answer)
        .await
        .unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn run(codes: &[Code]) -> (Result<(), ClusterError>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let mut calls = 0;
        let result = runtime.unwrap().block_on(retried(async || {
            calls += 1;
            match codes.get(calls - 1) {
                Some(&code) => Err(tonic::Status::new(code, "no").into()),
                None => Ok(()),
            }
        }));
        (result, calls)
    }

    #[test]
    fn calls_that_move_are_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let patience = Duration::from_millis(200);
        let run = |steps: u32, moves: bool| {
            let moved = AtomicU64::new(0);
            let call = async {
                for _ in 0..steps {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    _ = moved.fetch_add(u64::from(moves), Ordering::Relaxed);
                }
                Ok(())
            };
            runtime.block_on(while_moving(&moved, patience, call))
        };
        assert!(run(16, true).is_ok());
        assert!(matches!(run(16, false), Err(ClusterError::Silent(_))));
    }

    #[test]
    fn what_passes_is_tried_again() {
        let (result, calls) = run(&[Code::Unavailable, Code::ResourceExhausted]);
        assert!(result.is_ok() && calls == 3);
        let (result, calls) = run(&[Code::InvalidArgument]);
        assert!(result.is_err() && calls == 1);
        let (result, calls) = run(&[Code::Unavailable; 9]);
        assert!(result.is_err() && calls == TRIES as usize);
    }
}
