//! Work that blocks, in the midst of what waits for several things at once.

/// Does work on a thread of its own, and waits for it.
///
/// What the work waits for may be a runtime again, which parks its thread as this one does: on this
/// thread it would take for itself the wake-up of what is waited for here, which then never comes.
pub(crate) fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| match scope.spawn(work).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    /// A wake-up that comes while the work waits in a runtime of its own is not lost.
    #[test]
    fn wake_ups_are_whose_they_are() {
        let runtime = || {
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .unwrap()
        };
        let (outer, inner) = (runtime(), runtime());
        let mut polls = 0;
        outer.block_on(std::future::poll_fn(|context| {
            polls += 1;
            if polls == 2 {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            on_own_thread(|| {
                inner.block_on(async {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                });
            });
            Poll::Pending
        }));
        assert_eq!(polls, 2);
    }
}
