//! The name maps that are kept, and a bound on how many names they hold.
//!
//! A map can always be built again, so the ones not used lately go first: a
//! clock, as for descriptors. A map that someone is using stays.

use std::collections::VecDeque;

use super::names::NameMap;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

/// A directory's names, if they are kept now.
#[derive(Default)]
pub struct KeptNames {
    map: RwLock<Option<NameMap>>,
    used: AtomicBool,
    /// How many names were asked for since there was no map.
    asked: AtomicU32,
    /// How often they were locked to be changed.
    changes: AtomicU32,
}

impl KeptNames {
    /// For who looks names up.
    pub fn read(&self) -> RwLockReadGuard<'_, Option<NameMap>> {
        let map = self.map.read();
        if map.is_some() && !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        map
    }

    /// For who changes the directory, or fills the map.
    pub fn write(&self) -> RwLockWriteGuard<'_, Option<NameMap>> {
        let map = self.map.write();
        self.changes.fetch_add(1, Ordering::Relaxed);
        map
    }

    /// Of a directory without a map, one name of which is wanted: how many names
    /// are worth being listed for that, none if the layers are to be asked.
    ///
    /// Those of a small directory are listed at once: as cheap as asking once. A
    /// large one is listed when so many names were asked for that it has cost as
    /// much; as its size is not known, that is tried at longer and longer
    /// intervals.
    pub fn worth_listing(&self) -> usize {
        /// What is read in vain of a large one, the first time.
        const SMALL: usize = 256;
        /// What asking for one costs, in names listed.
        const ASKING: usize = 64;
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let paid = asked as usize * ASKING;
        let is_due = asked.is_power_of_two() && asked.trailing_zeros().is_multiple_of(2);
        match asked {
            0 => SMALL,
            _ if is_due && paid > SMALL => paid,
            _ => 0,
        }
    }

    /// Notes that a map was built: the next one is of a directory known to be
    /// worth it.
    pub fn listed(&self) {
        self.asked.store(0, Ordering::Relaxed);
    }

    /// How often the names were locked to be changed, as of now; of meaning to
    /// who has them locked. It wraps.
    pub fn changes(&self) -> u32 {
        self.changes.load(Ordering::Relaxed)
    }
}

/// All maps there are, oldest first.
pub struct Maps {
    limit: usize,
    names: Arc<AtomicUsize>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    maps: VecDeque<Weak<KeptNames>>,
    /// The length at which those of forgotten directories are taken out.
    full: usize,
}

/// Fewer than this many are not worth looking through.
const FEW: usize = 64;

impl Maps {
    /// Keeps about `limit` names.
    pub fn new(limit: usize) -> Maps {
        Maps { limit, names: Arc::default(), queue: Mutex::default() }
    }

    /// A map's share in the number of all names.
    pub fn total(&self, names: usize) -> Total {
        self.names.fetch_add(names, Ordering::Relaxed);
        Total { all: self.names.clone(), own: names }
    }

    /// About how many names are kept at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many names are kept.
    pub fn names(&self) -> usize {
        self.names.load(Ordering::Relaxed)
    }

    /// Notes a map that was just built, and gives up others if there are too
    /// many names now. The new map itself is locked by the caller, so it stays.
    pub fn built(&self, map: &Arc<KeptNames>) {
        let mut chances = self.enter(map);
        while self.names() > self.limit && chances > 0 {
            chances -= 1;
            let Some(oldest) = self.queue.lock().maps.pop_front() else { return };
            let Some(oldest) = oldest.upgrade() else { continue };
            let given_up = match oldest.used.swap(false, Ordering::Relaxed) {
                true => None,
                false => oldest.map.try_write().and_then(|mut map| map.take()),
            };
            if given_up.is_none() {
                self.queue.lock().maps.push_back(Arc::downgrade(&oldest));
            }
            drop(given_up);
        }
    }

    /// Puts a map last; gives how many are worth trying.
    fn enter(&self, map: &Arc<KeptNames>) -> usize {
        let mut queue = self.queue.lock();
        if queue.maps.len() >= queue.full.max(FEW) {
            queue.maps.retain(|map| map.strong_count() > 0);
            queue.full = 2 * queue.maps.len();
        }
        queue.maps.push_back(Arc::downgrade(map));
        // Each may be passed over once for having been used.
        2 * queue.maps.len()
    }
}

/// What one map adds to the number of all names.
#[derive(Default)]
pub struct Total {
    all: Arc<AtomicUsize>,
    own: usize,
}

impl Total {
    /// One name more.
    pub fn add_one(&mut self) {
        self.own += 1;
        self.all.fetch_add(1, Ordering::Relaxed);
    }

    /// One name less.
    pub fn take_one(&mut self) {
        self.own -= 1;
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Total {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}
