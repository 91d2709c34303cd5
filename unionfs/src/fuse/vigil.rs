//! A processor kept awake while requests follow each other.
//!
//! Who answers by a queue of io_uring does so on its caller's processor, and still
//! runs there when the kernel wakes the caller: which goes to another processor if
//! one is idle, that has to be woken first and knows nothing of its data. On a
//! machine of two processors a thread of the lowest priority, which gives way to
//! everybody, keeps the other one from being idle. On larger machines there is
//! always one more.

use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::log;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The priority that is behind all others.
const LOWEST: i32 = 19;

/// How the threads that answer tell the one that stays awake.
pub struct Vigil {
    begun: Instant,
    /// When the last request came, in nanoseconds since then.
    last: AtomicU64,
    /// How far apart requests may be.
    most: Duration,
    is_asleep: AtomicBool,
    is_over: AtomicBool,
    keeper: Mutex<Option<Thread>>,
}

impl Vigil {
    /// For requests at most `most` apart; nothing where it would not help.
    pub fn new(most: Duration) -> Option<Vigil> {
        (!most.is_zero() && processors() == 2).then(|| Vigil::of(most))
    }

    fn of(most: Duration) -> Vigil {
        Vigil {
            begun: Instant::now(),
            last: AtomicU64::new(0),
            most,
            is_asleep: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            keeper: Mutex::new(None),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn is_within(&self, from: u64, to: u64) -> bool {
        u128::from(to.saturating_sub(from)) < self.most.as_nanos()
    }

    /// A request has come. The first after a pause wakes nobody: there may be no
    /// second.
    pub fn request(&self) {
        let now = self.now();
        let before = self.last.swap(now, Ordering::Relaxed);
        if self.is_within(before, now) && self.is_asleep.swap(false, Ordering::Relaxed) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(keeper) = &*self.keeper.lock() {
            keeper.unpark();
        }
    }

    /// What the thread does that stays awake, until [`Vigil::end`].
    pub fn keep(&self) {
        if let Err(errno) = rustix::process::setpriority_process(None, LOWEST) {
            return log::warn(format_args!("cannot give a thread the lowest priority: {errno}"));
        }
        *self.keeper.lock() = Some(std::thread::current());
        while !self.is_over.load(Ordering::Acquire) {
            while self.is_within(self.last.load(Ordering::Relaxed), self.now()) {
                rustix::thread::sched_yield();
            }
            self.is_asleep.store(true, Ordering::Relaxed);
            std::thread::park();
        }
    }

    /// Ends it.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.wake();
    }
}

/// How many processors this process may run on.
fn processors() -> u32 {
    rustix::thread::sched_getaffinity(None).map_or(0, |allowed| allowed.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_awake_sleeps_until_requests_follow_each_other() {
        let vigil = Vigil::of(Duration::from_secs(1));
        let is_asleep = || vigil.is_asleep.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| vigil.keep());
            let until = |asleep: bool| {
                while is_asleep() != asleep {
                    std::thread::sleep(Duration::from_millis(1));
                }
            };
            until(true);
            // Long after the beginning, as it were.
            vigil.last.store(0, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1001));
            vigil.request();
            assert!(is_asleep());
            vigil.request();
            assert!(!is_asleep());
            until(true);
            vigil.end();
        });
    }
}
