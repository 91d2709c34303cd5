//! Work on several things at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Kind, Result};

/// Does something with each item, so many at once. The first error ends it: what
/// has begun is finished, and nothing else begins.
pub fn each<T: Sync>(items: &[T], at_once: usize, work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let run = || -> Result<()> {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once.min(items.len())).map(|_| scope.spawn(run)).collect();
        let died = |_| Err(Error::new(Kind::System, "a thread died at its work"));
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap_or_else(died)).collect();
        results.into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn each_is_done_once_and_an_error_ends_it() {
        let items: Vec<u32> = (0..1000).collect();
        let sum = AtomicU32::new(0);
        each(&items, 3, |item| {
            sum.fetch_add(*item, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(sum.into_inner(), 499_500);
        let done = AtomicU32::new(0);
        let failed = each(&items, 1, |item| {
            done.fetch_add(1, Ordering::Relaxed);
            if *item == 10 { Err(Error::new(Kind::Invalid, "ten")) } else { Ok(()) }
        });
        assert_eq!(failed.unwrap_err().message(), "ten");
        assert_eq!(done.into_inner(), 11);
        each(&[] as &[u32], 3, |_| Ok(())).unwrap();
    }
}
