//! Does blocking work on several threads at once: network, locks, compressors that use rayon's
//! pool themselves and would starve in it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many threads at the most.
const MAX_THREADS: usize = 6;

/// `work` done for each item, the results in the items' order.
///
/// # Errors
/// The first failure.
pub fn map<T: Sync, R: Send, E: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    if let [only] = items {
        return Ok(vec![work(only)?]);
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<R, E>)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..items.len().min(MAX_THREADS) {
            scope.spawn(|| {
                while let Some((at, item)) = take(items, &next) {
                    let result = work(item);
                    done.lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push((at, result));
                }
            });
        }
    });
    let mut done = done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

fn take<'a, T>(items: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    items.get(at).map(|item| (at, item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_and_failures_win() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(map(&items, |n| Ok::<_, ()>(n * 2)).unwrap()[99], 198);
        assert_eq!(
            map(&items, |n| if *n == 7 { Err("seven") } else { Ok(()) }),
            Err("seven")
        );
    }
}
