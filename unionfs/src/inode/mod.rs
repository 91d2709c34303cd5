//! Identity in memory: what the kernel holds a node id of, and where it is.
//!
//! A node outlives copy-up and rename, so descriptors, mappings and watches do.
//! Nothing here makes a system call or knows a layer's contents.

mod file;
pub mod idle;
pub mod learnt;
pub mod number;
pub mod table;

pub use file::{Access, Data, File, FileState, Open, Place};
pub use learnt::{Fact, Learnt, Moment};

use rustix::fs::FileType;

use crate::name::NameBuf;
use crate::stack::maps::KeptNames;
use crate::stack::names::Merged;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, RwLock};

/// What the kernel calls a file by; also its `st_ino`, but for the root.
pub type NodeId = u64;

/// The root's node id, which FUSE prescribes.
pub const ROOT: NodeId = 1;

/// One file of the union.
pub struct Inode {
    /// Its node id.
    pub id: NodeId,
    /// Its type, which never changes.
    pub kind: FileType,
    /// The inode lock: taken by whoever copies up, moves or removes it.
    pub lock: Mutex<()>,
    /// References the kernel holds; see [`table::Table`].
    pub(in crate::inode) lookups: AtomicU64,
    /// Whether its id is what it is on disk, and on which side; see
    /// [`table::Table`].
    pub(in crate::inode) identity: table::Identity,
    /// Whether another node has taken its place.
    pub(in crate::inode) is_succeeded: AtomicBool,
    /// What need not be asked for again.
    pub learnt: Learnt,
    /// By type.
    pub body: Body,
}

/// What only directories have, and what all others do.
pub enum Body {
    /// A directory: the larger and the rarer.
    Dir(Box<Dir>),
    /// Anything else.
    File(File),
}

// There is one for every file known; what is not in it yet fits in its gaps.
#[cfg(all(not(feature = "shuttle"), target_pointer_width = "64"))]
const _: () = assert!(size_of::<Inode>() == 104);

/// A name under which a file is known: its directory in the union and its name.
#[derive(Clone)]
pub struct Link {
    /// The directory.
    pub parent: Arc<Inode>,
    /// The name.
    pub name: NameBuf,
}

/// A merged directory.
pub struct Dir {
    /// Where it is in the union; `None` for the root and for what was removed.
    pub link: RwLock<Option<Link>>,
    /// The real directories it is made of.
    pub merged: RwLock<Arc<Merged>>,
    /// The names in it, as long as they are needed.
    pub names: Arc<KeptNames>,
    /// The upper directory's redirect, as kernel overlayfs writes it.
    pub redirect: RwLock<Option<Box<[u8]>>>,
    /// What its attributes say that creation must know.
    pub traits: Traits,
}

/// Facts about a directory's attributes, each learnt once.
#[derive(Default)]
pub struct Traits(AtomicU8);

/// One such fact.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Trait {
    /// The others have been learnt.
    Known = 1,
    /// Marked as holding entries with an origin.
    Impure = 2,
    /// New entries inherit an ACL.
    DefaultAcl = 4,
}

impl Traits {
    /// Whether a fact holds.
    pub fn has(&self, which: Trait) -> bool {
        self.0.load(Ordering::Acquire) & which as u8 != 0
    }

    /// Notes that a fact holds.
    pub fn set(&self, which: Trait) {
        self.0.fetch_or(which as u8, Ordering::AcqRel);
    }

    /// Forgets everything; it is learnt again when needed.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Release);
    }
}

impl Inode {
    /// Whether another node has taken its place. Only its opens are its own
    /// then.
    pub fn is_succeeded(&self) -> bool {
        self.is_succeeded.load(Ordering::Acquire)
    }

    /// The node that has taken its place.
    pub fn successor(&self) -> Option<Arc<Inode>> {
        if !self.is_succeeded() {
            return None;
        }
        match self.file()?.state.read().place() {
            Place::Succeeded(inode) => Some(inode.clone()),
            _ => None,
        }
    }

    /// The number it is shown with, unless it is the root.
    pub fn number(&self) -> NodeId {
        self.file().and_then(|file| file.state.read().number()).unwrap_or(self.id)
    }

    /// As a directory.
    pub fn dir(&self) -> Option<&Dir> {
        match &self.body {
            Body::Dir(dir) => Some(dir),
            Body::File(_) => None,
        }
    }

    /// As anything else.
    pub fn file(&self) -> Option<&File> {
        match &self.body {
            Body::Dir(_) => None,
            Body::File(file) => Some(file),
        }
    }
}

impl Dir {
    /// The real directories, as of now.
    pub fn merged(&self) -> Arc<Merged> {
        self.merged.read().clone()
    }
}

impl Link {
    /// Whether two links are the same name.
    pub fn is(&self, other: &Link) -> bool {
        self.parent.id == other.parent.id && self.name == other.name
    }
}
