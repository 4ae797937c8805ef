//! Calls that are tried again: a server that restarts or is busy is back in a moment.

use std::time::Duration;

use crate::ClusterError;

/// How often a call is made.
const TRIES: u32 = 5;
/// Before the second try; doubled before each other.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How long an answer to one message is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Calls until it succeeds, fails for good, or has failed [`TRIES`] times.
pub(crate) async fn retried<T>(
    mut call: impl AsyncFnMut() -> Result<T, ClusterError>,
) -> Result<T, ClusterError> {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match patiently(call()).await {
            Err(error) if error.is_passing() => tokio::time::sleep(wait).await,
            other => return other,
        }
        wait *= 2;
    }
    patiently(call()).await
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
    fn what_passes_is_tried_again() {
        let (result, calls) = run(&[Code::Unavailable, Code::ResourceExhausted]);
        assert!(result.is_ok() && calls == 3);
        let (result, calls) = run(&[Code::InvalidArgument]);
        assert!(result.is_err() && calls == 1);
        let (result, calls) = run(&[Code::Unavailable; 9]);
        assert!(result.is_err() && calls == TRIES as usize);
    }
}
