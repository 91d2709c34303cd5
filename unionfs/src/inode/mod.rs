//! Identity in memory: what the kernel holds a node id of, and where it is.
//!
//! A node outlives copy-up and rename, so descriptors, mappings and watches do.
//! Nothing here makes a system call or knows a layer's contents.

pub mod idle;
pub mod number;
pub mod table;

use std::os::fd::OwnedFd;

use rustix::fs::FileType;
use smallvec::SmallVec;

use crate::name::NameBuf;
use crate::stack::names::{Merged, NameMap};
use crate::stack::real::{Fd, Spot};
use crate::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, RwLock};
use crate::sys::fuse::Backing;

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
    /// The physical identities that lead here; see [`table::Table`].
    pub(in crate::inode) keys: Mutex<SmallVec<[table::Key; 1]>>,
    /// By type.
    pub body: Body,
}

/// What only directories have, and what all others do.
pub enum Body {
    /// A directory.
    Dir(Dir),
    /// Anything else.
    File(File),
}

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
    /// The names in it, once they were needed.
    pub names: RwLock<Option<NameMap>>,
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
    /// Of a directory that is one lower's: what follows has been learnt.
    LowerKnown = 8,
    /// Empty files in it may be whiteouts.
    XattrWhiteouts = 16,
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

/// A file that is not a directory.
pub struct File {
    /// Where it is.
    pub state: RwLock<FileState>,
}

/// Where a file's metadata and data are, now.
pub struct FileState {
    /// The names it is known under; the first is where copy-up puts it.
    pub links: SmallVec<[Link; 1]>,
    /// Where its metadata is.
    pub place: Place,
    /// Where its data is, if elsewhere: a metacopy's.
    pub data: Option<Box<Spot>>,
    /// The origin's link count and how the union's differs from the upper's,
    /// for files kept in the index.
    pub nlink: Option<i32>,
    /// Whether the file came from a lower layer, now or before copy-up.
    pub has_origin: bool,
    /// The descriptor all its opens share, and how many they are.
    pub open: Option<Open>,
    /// Whether the kernel's pages may be older than the file, which was written
    /// past them.
    pub is_stale: bool,
}

/// Where a file's metadata is.
pub enum Place {
    /// In a lower layer.
    Lower(Spot),
    /// In the upper, under its first link.
    Upper,
    /// In the index, with no link known in the upper.
    Index(NameBuf),
    /// Removed from every place known: only a descriptor is left.
    Held(Fd),
}

/// The one descriptor behind all opens of a file.
pub struct Open {
    /// How many opens there are.
    pub count: u64,
    /// The descriptor.
    pub data: Arc<Data>,
    /// The file as the kernel knows it, if it reads and writes it by itself.
    pub backing: Option<Backing>,
}

impl Open {
    /// Opens of a file through the server.
    pub fn new(count: u64, data: Arc<Data>) -> Open {
        Open { count, data, backing: None }
    }
}

/// A file's data, open.
pub struct Data {
    /// The descriptor.
    pub fd: OwnedFd,
    /// What it may be used for.
    pub access: Access,
}

/// What a descriptor may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

impl Inode {
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

impl File {
    /// Gives up the descriptor of a file that nobody has open.
    pub fn close_if_idle(&self) {
        let mut state = self.state.write();
        if state.open.as_ref().is_some_and(|open| open.count == 0) {
            // Closed outside of the lock: it may be the end of a large file.
            let last = state.open.take();
            drop(state);
            drop(last);
        }
    }
}

impl FileState {
    /// A file of a lower layer.
    pub fn lower(link: Link, spot: Spot, data: Option<Box<Spot>>) -> FileState {
        FileState {
            links: SmallVec::from_elem(link, 1),
            place: Place::Lower(spot),
            data,
            nlink: None,
            has_origin: true,
            open: None,
            is_stale: false,
        }
    }

    /// A file of the upper, under its first link.
    pub fn upper(link: Link) -> FileState {
        FileState {
            links: SmallVec::from_elem(link, 1),
            place: Place::Upper,
            data: None,
            nlink: None,
            has_origin: false,
            open: None,
            is_stale: false,
        }
    }

    /// Whether metadata changes need a copy-up first.
    pub fn is_lower(&self) -> bool {
        matches!(self.place, Place::Lower(_))
    }

    /// Notes one more name.
    pub fn add_link(&mut self, link: Link) {
        if !self.has_link(&link) {
            self.links.push(link);
        }
    }

    /// Whether the file is known under a name.
    pub fn has_link(&self, link: &Link) -> bool {
        self.links.iter().any(|known| known.is(link))
    }

    /// Forgets a name.
    pub fn drop_link(&mut self, link: &Link) {
        self.links.retain(|known| !known.is(link));
    }
}

impl Link {
    /// Whether two links are the same name.
    pub fn is(&self, other: &Link) -> bool {
        self.parent.id == other.parent.id && self.name == other.name
    }
}
