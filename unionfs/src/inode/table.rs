//! Every file the kernel holds a reference to, by node id and by what it is on
//! disk.
//!
//! # Invariants
//! - A physical identity ([`Key`]) leads to at most one live node, so two names
//!   of one file, or one name looked up twice, share pages and locks.
//! - Most nodes have the number their file has on disk: the table by id is then
//!   the table by identity too, and [`Identity`] says so. Only what else leads
//!   to a node is kept apart: the upper's copy, the number that was taken.
//! - An identity has the shard of the number it gives. References are added
//!   under that shard's lock; the last one is given up under the locks of all
//!   shards that lead to the node. A node that is found therefore is live, and
//!   stays so until its reference is returned.
//! - Shards are locked by ascending index, for memory work only.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::hash::{Hash, Hasher};

use foldhash::fast::RandomState;
use rustix::fs::FileType;
use smallvec::SmallVec;

use super::number::Numbers;
use super::{Body, Inode, Learnt, NodeId, ROOT};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard};

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

/// Whether a node's id is its number on disk, and on which side; changed under
/// the lock of the id's shard.
pub(in crate::inode) struct Identity(AtomicU8);

impl Identity {
    fn new(side: Option<Side>) -> Identity {
        Identity(AtomicU8::new(Self::code(side)))
    }

    fn code(side: Option<Side>) -> u8 {
        match side {
            None => 0,
            Some(Side::Upper) => 1,
            Some(Side::Lower) => 2,
        }
    }

    fn is(&self, side: Option<Side>) -> bool {
        self.0.load(Ordering::Relaxed) == Self::code(side)
    }

    /// No side from now on; the one there was.
    fn take(&self) -> Option<Side> {
        match self.0.swap(Self::code(None), Ordering::Relaxed) {
            1 => Some(Side::Upper),
            2 => Some(Side::Lower),
            _ => None,
        }
    }

    fn set(&self, side: Option<Side>) {
        self.0.store(Self::code(side), Ordering::Relaxed);
    }
}

/// A node, found by its id.
struct ById(Arc<Inode>);

impl Borrow<NodeId> for ById {
    fn borrow(&self) -> &NodeId {
        &self.0.id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &ById) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

/// Enough that threads seldom meet; a power of two.
const SHARDS: usize = 16;

/// All live nodes.
pub struct Table {
    shards: [Mutex<Shard>; SHARDS],
    /// Nodes removed since that was last said to be many.
    gone: AtomicUsize,
}

/// The nodes whose id, and the identities whose number, lead here.
#[derive(Default)]
struct Shard {
    nodes: HashSet<ById, RandomState>,
    /// What leads to nodes whose id does not tell.
    by_key: HashMap<Key, Arc<Inode>, RandomState>,
    /// The same by node, for those that have their id here.
    keys: HashMap<NodeId, SmallVec<[Key; 1]>, RandomState>,
}

impl Shard {
    fn find(&self, key: &Key) -> Option<&Arc<Inode>> {
        let own = Numbers::of(key.device, key.ino).and_then(|number| self.nodes.get(&number));
        match own {
            Some(ById(inode)) if inode.identity.is(Some(key.side)) => Some(inode),
            _ => self.by_key.get(key),
        }
    }

    fn has(&self, inode: &Arc<Inode>) -> bool {
        self.nodes.get(&inode.id).is_some_and(|ById(known)| Arc::ptr_eq(known, inode))
    }

    fn keys_of(&self, id: NodeId) -> &[Key] {
        self.keys.get(&id).map(|keys| &**keys).unwrap_or_default()
    }

    /// Gives up memory that a large walk took, once most of it is unused.
    fn shrink(&mut self) {
        let len = self.nodes.len();
        if self.nodes.capacity() > SMALL && len < self.nodes.capacity() / 8 {
            self.nodes.shrink_to(2 * len);
        }
    }
}

/// Tables of this many nodes are not worth shrinking.
const SMALL: usize = 1024;
/// So many nodes are some megabytes.
const MANY: usize = 1 << 14;

impl Table {
    /// A table with a root, which is never forgotten.
    pub fn new(root: Body) -> (Table, Arc<Inode>) {
        let table = Table { shards: std::array::from_fn(|_| Mutex::default()), gone: AtomicUsize::new(0) };
        let root = Arc::new(Inode {
            id: ROOT,
            kind: FileType::Directory,
            lock: Mutex::new(()),
            lookups: AtomicU64::new(1),
            identity: Identity::new(None),
            is_succeeded: AtomicBool::new(false),
            learnt: Learnt::default(),
            body: root,
        });
        table.shard(Self::index_of_id(ROOT)).nodes.insert(ById(root.clone()));
        (table, root)
    }

    fn index_of_id(id: NodeId) -> usize {
        (id as usize ^ (id >> 48) as usize) % SHARDS
    }

    fn index_of(key: &Key) -> usize {
        Numbers::of(key.device, key.ino).map_or(key.ino as usize % SHARDS, Self::index_of_id)
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.shards[index % SHARDS].lock()
    }

    /// The node with this id.
    pub fn get(&self, id: NodeId) -> Option<Arc<Inode>> {
        self.shard(Self::index_of_id(id)).nodes.get(&id).map(|ById(inode)| inode.clone())
    }

    /// The node a physical file is, with one more reference.
    pub fn find(&self, key: &Key) -> Option<Arc<Inode>> {
        let shard = self.shard(Self::index_of(key));
        let inode = shard.find(key)?;
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
        let Ok(found) = self.find_or_try_insert(key, kind, number, private, || Ok::<_, Infallible>(body()));
        found
    }

    /// As [`Table::find_or_insert`], with a body that is made only when it is
    /// certain that there is no node, and may fail even then.
    ///
    /// # Errors
    /// The body's.
    pub fn find_or_try_insert<E>(
        &self,
        key: Option<Key>,
        kind: FileType,
        number: NodeId,
        private: impl Fn() -> NodeId,
        body: impl FnOnce() -> Result<Body, E>,
    ) -> Result<(Arc<Inode>, Found), E> {
        let mut id = number;
        loop {
            let mut locked = self.lock_shards(id, key.as_slice());
            if let Some(inode) = key.and_then(|key| locked.of(Self::index_of(&key))?.find(&key).cloned()) {
                inode.lookups.fetch_add(1, Ordering::Relaxed);
                return Ok((inode, Found::Before));
            }
            if locked.has_id(id) {
                drop(locked);
                id = private();
                continue;
            }
            let inode = Arc::new(Inode {
                id,
                kind,
                lock: Mutex::new(()),
                lookups: AtomicU64::new(1),
                identity: Identity::new(None),
                is_succeeded: AtomicBool::new(false),
                learnt: Learnt::default(),
                body: body()?,
            });
            if let Some(shard) = locked.of(Self::index_of_id(id)) {
                shard.nodes.insert(ById(inode.clone()));
            }
            if let Some(key) = key {
                locked.lead(key, &inode);
            }
            return Ok((inode, Found::Now));
        }
    }

    /// Makes one more physical identity lead to a live node: the upper's copy
    /// of a lower file, or the lower name of an indexed one.
    pub fn add_key(&self, inode: &Arc<Inode>, key: Key) {
        let mut locked = self.lock_shards(inode.id, &[key]);
        let is_known = locked.of(Self::index_of(&key)).is_none_or(|shard| shard.find(&key).is_some());
        // A node forgotten meanwhile must not come back by a key.
        if inode.lookups.load(Ordering::Acquire) > 0 && !is_known {
            locked.lead(key, inode);
        }
    }

    /// Makes an identity lead nowhere: the file it named is gone from disk and
    /// its number may be given to another.
    pub fn remove_key(&self, inode: &Arc<Inode>, key: Key) {
        let mut locked = self.lock_shards(inode.id, &[key]);
        let leads_here = |shard: &&mut Shard| shard.find(&key).is_some_and(|known| Arc::ptr_eq(known, inode));
        if let Some(shard) = locked.of(Self::index_of(&key)).filter(leads_here) {
            if shard.by_key.remove(&key).is_none() {
                inode.identity.set(None);
                return;
            }
        }
        if let Some(shard) = locked.of(Self::index_of_id(inode.id)).filter(|shard| shard.has(inode)) {
            if let Some(keys) = shard.keys.get_mut(&inode.id) {
                keys.retain(|known| *known != key);
            }
        }
    }

    /// Makes a new node be the file that `old` was: whatever leads to the one by
    /// its identity leads to the other from now on. The kernel goes on calling
    /// the old one by its id, and the new one lives as long as the old at least.
    ///
    /// `old`'s state is locked by the caller, who makes it say so.
    pub fn succeed(&self, old: &Arc<Inode>, id: NodeId, body: Body) -> Arc<Inode> {
        let mut all = Locked((0..SHARDS).map(|index| (index, self.shard(index))).collect());
        let new = Arc::new(Inode {
            id,
            kind: old.kind,
            lock: Mutex::new(()),
            // The old node's, returned when that is forgotten.
            lookups: AtomicU64::new(1),
            identity: Identity::new(None),
            is_succeeded: AtomicBool::new(false),
            learnt: Learnt::default(),
            body,
        });
        if let Some(shard) = all.of(Self::index_of_id(id)) {
            shard.nodes.insert(ById(new.clone()));
        }
        let mut keys = match all.of(Self::index_of_id(old.id)) {
            Some(shard) => shard.keys.remove(&old.id).unwrap_or_default(),
            None => SmallVec::new(),
        };
        keys.extend(old.identity.take().map(|side| {
            let (device, ino) = Numbers::parts(old.id);
            Key { side, device, ino }
        }));
        for key in keys {
            all.lead(key, &new);
        }
        old.is_succeeded.store(true, Ordering::Release);
        new
    }

    /// Returns references the kernel held. The root is never forgotten. From time
    /// to time the answer is that much memory was freed by it all.
    pub fn forget(&self, id: NodeId, count: u64) -> Freed {
        let mut freed = Freed::Little;
        let mut next = Some((id, count)).filter(|(id, _)| *id != ROOT);
        while let Some((id, count)) = next.take() {
            let Some(gone) = self.forget_one(id, count) else { break };
            freed = self.freed();
            next = gone.successor().map(|successor| (successor.id, 1));
        }
        freed
    }

    /// Counts a node that was removed.
    fn freed(&self) -> Freed {
        let gone = self.gone.fetch_add(1, Ordering::Relaxed) + 1;
        if !gone.is_multiple_of(MANY) || gone < self.count() {
            return Freed::Little;
        }
        self.gone.store(0, Ordering::Relaxed);
        Freed::Much
    }

    /// Returns references to a node; gives it, if it was removed. Its directory
    /// may go with it, and a descriptor of that: no lock is held any more.
    fn forget_one(&self, id: NodeId, count: u64) -> Option<Arc<Inode>> {
        let mut shard = self.shard(Self::index_of_id(id));
        let ById(inode) = shard.nodes.get(&id)?;
        let take = |known: u64| Some(known.saturating_sub(count));
        let before = inode.lookups.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        if before.is_ok_and(|before| before > count) {
            return None;
        }
        if shard.keys.contains_key(&id) {
            let inode = inode.clone();
            drop(shard);
            return self.remove_if_unused(&inode).then_some(inode);
        }
        let gone = shard.nodes.take(&id);
        shard.shrink();
        gone.map(|ById(inode)| inode)
    }

    /// Removes a node that other shards may lead to; whether it did.
    fn remove_if_unused(&self, inode: &Arc<Inode>) -> bool {
        loop {
            let keys: SmallVec<[Key; 2]> =
                SmallVec::from_slice(self.shard(Self::index_of_id(inode.id)).keys_of(inode.id));
            let mut locked = self.lock_shards(inode.id, &keys);
            let Some(shard) = locked.of(Self::index_of_id(inode.id)).filter(|shard| shard.has(inode)) else {
                return false;
            };
            if *shard.keys_of(inode.id) != *keys {
                drop(locked);
                continue;
            }
            if inode.lookups.load(Ordering::Acquire) > 0 {
                return false;
            }
            shard.keys.remove(&inode.id);
            shard.nodes.remove(&inode.id);
            for key in &keys {
                if let Some(shard) = locked.of(Self::index_of(key)) {
                    shard.by_key.remove(key);
                }
            }
            return true;
        }
    }

    /// Locks the shards of an id and of some keys, each once.
    fn lock_shards(&self, id: NodeId, keys: &[Key]) -> Locked<'_> {
        let mut indices: SmallVec<[usize; 2]> = keys.iter().map(Self::index_of).collect();
        indices.push(Self::index_of_id(id));
        indices.sort_unstable();
        indices.dedup();
        Locked(indices.into_iter().map(|index| (index, self.shard(index))).collect())
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().nodes.len()).sum()
    }
}

/// How much memory forgetting has freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed {
    /// Not worth a thought.
    Little,
    /// As many nodes as there still are, and some megabytes.
    Much,
}

/// Some shards, locked.
struct Locked<'t>(SmallVec<[(usize, MutexGuard<'t, Shard>); 2]>);

impl Locked<'_> {
    fn of(&mut self, index: usize) -> Option<&mut Shard> {
        self.0.iter_mut().find(|(known, _)| *known == index).map(|(_, shard)| &mut **shard)
    }

    fn has_id(&mut self, id: NodeId) -> bool {
        self.of(Table::index_of_id(id)).is_some_and(|shard| shard.nodes.contains(&id))
    }

    /// Makes an identity that leads nowhere lead to a node of the table.
    fn lead(&mut self, key: Key, inode: &Arc<Inode>) {
        if Numbers::of(key.device, key.ino) == Some(inode.id) && inode.identity.is(None) {
            return inode.identity.set(Some(key.side));
        }
        if let Some(shard) = self.of(Table::index_of(&key)) {
            shard.by_key.insert(key, inode.clone());
        }
        if let Some(shard) = self.of(Table::index_of_id(inode.id)) {
            shard.keys.entry(inode.id).or_default().push(key);
        }
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
