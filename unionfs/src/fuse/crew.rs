//! How many threads wait for requests, and how many more there may be: a request
//! may never end, where a layer's own server hangs, and others must not wait for
//! it.

use crate::sync::atomic::{AtomicUsize, Ordering};

/// Threads of a transport together, at most.
pub const MOST_THREADS: usize = 64;

/// The threads of a transport, or of a part of it, counted.
pub struct Crew {
    waiting: AtomicUsize,
    /// How many more there may be.
    left: AtomicUsize,
    /// How often the last one that waited took a request. It wraps.
    exhausted: AtomicUsize,
    most_waiting: usize,
}

/// How many threads a crew may have.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// At first, all waiting.
    pub first: usize,
    /// At most.
    pub most: usize,
    /// Waiting, at most.
    pub waiting: usize,
}

/// What a thread leaves behind that has taken a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Others, who wait.
    OthersWait,
    /// Nobody.
    NobodyWaits,
}

/// What a thread does that has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It waits for the next request.
    Wait,
    /// It ends, and is counted no more: enough others wait.
    Leave,
}

impl Crew {
    /// Of threads that are about to wait.
    pub fn new(bounds: Bounds) -> Crew {
        Crew {
            waiting: AtomicUsize::new(bounds.first),
            left: AtomicUsize::new(bounds.most.saturating_sub(bounds.first)),
            exhausted: AtomicUsize::new(0),
            most_waiting: bounds.waiting,
        }
    }

    /// A thread has taken a request.
    pub fn take(&self) -> Taken {
        if self.waiting.fetch_sub(1, Ordering::SeqCst) > 1 {
            return Taken::OthersWait;
        }
        self.exhausted.fetch_add(1, Ordering::Relaxed);
        Taken::NobodyWaits
    }

    /// It has answered the request.
    pub fn answered(&self) -> Answered {
        let one_more = |waiting: usize| (waiting < self.most_waiting).then_some(waiting + 1);
        match self.waiting.fetch_update(Ordering::SeqCst, Ordering::Relaxed, one_more) {
            Ok(_) => Answered::Wait,
            Err(_) => {
                self.left.fetch_add(1, Ordering::Relaxed);
                Answered::Leave
            }
        }
    }

    /// Counts one more thread as waiting, which is to be started; `false` if there
    /// may be no more.
    pub fn enlarge(&self) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        let is_larger = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok();
        if is_larger {
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
        is_larger
    }

    /// It could not be started.
    pub fn not_started(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether anybody waits.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// A number that stays the same as long as nobody waits and nobody answers.
    pub fn exhausted(&self) -> usize {
        self.exhausted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_to_wait_is_told_and_more_may_come() {
        let crew = Crew::new(Bounds { first: 2, most: 4, waiting: 2 });
        assert_eq!((crew.take(), crew.take()), (Taken::OthersWait, Taken::NobodyWaits));
        assert!(!crew.is_waiting());
        assert!(crew.enlarge() && crew.is_waiting());
        assert_eq!(crew.take(), Taken::NobodyWaits);
        assert!(crew.enlarge() && !crew.enlarge());
        crew.not_started();
        assert!(!crew.is_waiting() && crew.enlarge());
    }

    #[test]
    fn those_too_many_leave_and_can_be_replaced() {
        let crew = Crew::new(Bounds { first: 2, most: 4, waiting: 2 });
        for _ in 0..4 {
            crew.take();
            crew.enlarge();
        }
        let answers: Vec<_> = (0..4).map(|_| crew.answered()).collect();
        assert_eq!(answers, [Answered::Wait, Answered::Wait, Answered::Leave, Answered::Leave]);
        assert!(crew.enlarge() && crew.enlarge() && !crew.enlarge());
    }

    #[test]
    fn an_answer_is_noticed_though_nobody_waits_again() {
        let crew = Crew::new(Bounds { first: 1, most: 1, waiting: 1 });
        crew.take();
        let before = crew.exhausted();
        assert_eq!(
            (crew.exhausted(), crew.answered(), crew.take()),
            (before, Answered::Wait, Taken::NobodyWaits)
        );
        assert_ne!(crew.exhausted(), before);
    }
}
