//! Every file the kernel holds a reference to, by node id and by what it is on
//! disk.
//!
//! # Invariants
//! - A physical identity ([`Key`]) leads to at most one live node, so two names
//!   of one file, or one name looked up twice, share pages and locks.
//! - References are added under the shard lock of a key; the last one is given
//!   up under the locks of all the node's keys. A node found by key therefore
//!   is live, and stays so until its reference is returned.
//! - Locks here are held for memory work only.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::{Body, Inode, NodeId, ROOT};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard};
use rustix::fs::FileType;

/// What a file is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Which side of the union it is on.
    pub side: Side,
    /// Its file system, see `Layers::device`.
    pub device: u16,
    /// Its inode number there.
    pub ino: u64,
}

/// The upper, or any of the lowers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The writable layer.
    Upper,
    /// A read-only layer.
    Lower,
}

/// Enough that threads seldom meet; a power of two.
const SHARDS: usize = 16;

type Map<K> = HashMap<K, Arc<Inode>, RandomState>;

/// All live nodes.
pub struct Table {
    by_key: [Mutex<Map<Key>>; SHARDS],
    by_id: [Mutex<Map<NodeId>>; SHARDS],
}

impl Table {
    /// A table with a root, which is never forgotten.
    pub fn new(root: Body) -> (Table, Arc<Inode>) {
        let table = Table {
            by_key: std::array::from_fn(|_| Mutex::new(Map::default())),
            by_id: std::array::from_fn(|_| Mutex::new(Map::default())),
        };
        let root = Arc::new(Inode {
            id: ROOT,
            kind: FileType::Directory,
            lock: Mutex::new(()),
            lookups: AtomicU64::new(1),
            keys: Mutex::new(SmallVec::new()),
            body: root,
        });
        table.id_shard(ROOT).lock().insert(ROOT, root.clone());
        (table, root)
    }

    fn id_shard(&self, id: NodeId) -> &Mutex<Map<NodeId>> {
        &self.by_id[(id as usize ^ (id >> 48) as usize) % SHARDS]
    }

    fn key_index(key: &Key) -> usize {
        (key.ino as usize ^ usize::from(key.device)) % SHARDS
    }

    /// The node with this id.
    pub fn get(&self, id: NodeId) -> Option<Arc<Inode>> {
        self.id_shard(id).lock().get(&id).cloned()
    }

    /// The node a physical file is, with one more reference.
    pub fn find(&self, key: &Key) -> Option<Arc<Inode>> {
        let shard = self.by_key[Self::key_index(key)].lock();
        let inode = shard.get(key)?;
        inode.lookups.fetch_add(1, Ordering::Relaxed);
        Some(inode.clone())
    }

    /// One more reference to a node that the kernel refers to already.
    pub fn refer(&self, inode: &Inode) {
        inode.lookups.fetch_add(1, Ordering::Relaxed);
    }

    /// The node a physical file is, with one more reference; made from `body`
    /// if there is none. `number` is the id it should have, `private` gives
    /// another where that one is taken. Without a key the node is found by its
    /// id only.
    pub fn find_or_insert(
        &self,
        key: Option<Key>,
        kind: FileType,
        number: NodeId,
        private: impl Fn() -> NodeId,
        body: impl FnOnce() -> Body,
    ) -> (Arc<Inode>, Found) {
        let mut shard = key.map(|key| (key, self.by_key[Self::key_index(&key)].lock()));
        if let Some((key, shard)) = &shard {
            if let Some(inode) = shard.get(key) {
                inode.lookups.fetch_add(1, Ordering::Relaxed);
                return (inode.clone(), Found::Before);
            }
        }
        let mut id = number;
        let mut ids = self.id_shard(id).lock();
        while ids.contains_key(&id) {
            drop(ids);
            id = private();
            ids = self.id_shard(id).lock();
        }
        let inode = Arc::new(Inode {
            id,
            kind,
            lock: Mutex::new(()),
            lookups: AtomicU64::new(1),
            keys: Mutex::new(key.into_iter().collect()),
            body: body(),
        });
        ids.insert(id, inode.clone());
        drop(ids);
        if let Some((key, shard)) = &mut shard {
            shard.insert(*key, inode.clone());
        }
        (inode, Found::Now)
    }

    /// Makes one more physical identity lead to a live node: the upper's copy
    /// of a lower file, or the lower name of an indexed one.
    pub fn add_key(&self, inode: &Arc<Inode>, key: Key) {
        let mut shard = self.by_key[Self::key_index(&key)].lock();
        let mut keys = inode.keys.lock();
        // A node forgotten meanwhile must not come back by a key.
        if inode.lookups.load(Ordering::Acquire) > 0 && !keys.contains(&key) && !shard.contains_key(&key) {
            keys.push(key);
            shard.insert(key, inode.clone());
        }
    }

    /// Makes an identity lead nowhere: the file it named is gone from disk and
    /// its number may be given to another.
    pub fn remove_key(&self, inode: &Arc<Inode>, key: Key) {
        let mut shard = self.by_key[Self::key_index(&key)].lock();
        inode.keys.lock().retain(|known| *known != key);
        if shard.get(&key).is_some_and(|known| Arc::ptr_eq(known, inode)) {
            shard.remove(&key);
        }
    }

    /// Returns references the kernel held. The root is never forgotten.
    pub fn forget(&self, id: NodeId, count: u64) {
        if id == ROOT {
            return;
        }
        let Some(inode) = self.get(id) else { return };
        let take = |known: u64| Some(known.saturating_sub(count));
        let before = inode.lookups.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        if before.is_ok_and(|before| before > count) {
            return;
        }
        self.remove_if_unused(&inode);
    }

    fn remove_if_unused(&self, inode: &Arc<Inode>) {
        loop {
            let keys = inode.keys.lock().clone();
            let mut shards = self.lock_shards(&keys);
            let mut known = inode.keys.lock();
            if *known != keys {
                continue;
            }
            if inode.lookups.load(Ordering::Acquire) > 0 {
                return;
            }
            for key in known.drain(..) {
                for (index, shard) in &mut shards {
                    if *index == Self::key_index(&key) {
                        shard.remove(&key);
                    }
                }
            }
            let mut ids = self.id_shard(inode.id).lock();
            if ids.get(&inode.id).is_some_and(|known| Arc::ptr_eq(known, inode)) {
                ids.remove(&inode.id);
            }
            return;
        }
    }

    /// Locks the shards of some keys, each once, in ascending order.
    fn lock_shards(&self, keys: &[Key]) -> SmallVec<[(usize, MutexGuard<'_, Map<Key>>); 2]> {
        let mut indices: SmallVec<[usize; 2]> = keys.iter().map(Self::key_index).collect();
        indices.sort_unstable();
        indices.dedup();
        indices.into_iter().map(|index| (index, self.by_key[index].lock())).collect()
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.by_id.iter().map(|shard| shard.lock().len()).sum()
    }
}

/// Whether a node was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was.
    Before,
    /// It was made just now.
    Now,
}
