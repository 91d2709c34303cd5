//! The semantics: what each file system call means on a union.
//!
//! Plain functions on [`Union`] that take a [`Caller`] and return values; no
//! reply object comes down here and no descriptor goes up, so they run in tests
//! without a mount. The only module that takes inode locks, in the order that
//! [`crate::sync`] gives. Permission checks are the kernel's
//! (`default_permissions`); what is decided here is what the union itself says.

mod attr;
mod create;
mod dir;
mod ensure;
mod io;
mod link;
mod locate;
mod lookup;
mod names;
mod origin;
mod owner;
mod passthrough;
mod remove;
mod rename;
mod statfs;
mod verity;
mod virtual_xattr;
mod xattr;

use rustix::fs::FileType;
use rustix::io::Errno;

pub use attr::SetAttr;
pub use create::Make;
pub use dir::{Entries, ListedEntry};
pub use io::{OpenFor, Seek, SetId, Sync};
pub use link::Names;
pub use passthrough::{Opened, PassedLowers, Passthrough};
pub use statfs::FileSystemStat;
pub use verity::Verified;
pub use xattr::SetMode;

use crate::error::Result;
use crate::inode::table::Freed;
use crate::inode::{Dir, File, Inode, NodeId};
use crate::stack::upper::Upper;
use crate::sync::Arc;
use crate::sys::at::Time;
use crate::sys::memory;
use crate::{Union, name::Name};

/// On whose behalf an operation is done.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// File system user id, as seen in the mount.
    pub uid: u32,
    /// File system group id, as seen in the mount.
    pub gid: u32,
    /// The bits the caller takes from the modes of what it makes.
    pub umask: u32,
}

/// A file's attributes as seen in the mount.
#[derive(Clone, Copy, Debug)]
pub struct Attr {
    /// Inode number, see [`crate::inode::number`].
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// 512-byte units.
    pub blocks: u64,
    /// Preferred transfer size, bytes.
    pub blksize: u32,
    /// Type.
    pub kind: FileType,
    /// Permission bits, set-id and sticky bits included.
    pub perm: u32,
    /// Hard links; 1 for merged directories, as with kernel overlayfs.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, of device nodes.
    pub rdev: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Birth.
    pub btime: Time,
    /// Whether another node may show the same, so that what is remembered of this
    /// one may not hold.
    pub is_shared: bool,
}

/// A file found or made: the kernel now holds one more reference to its node.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its node id.
    pub id: NodeId,
    /// Its attributes.
    pub attr: Attr,
}

/// Proof that there is an upper to write to.
#[derive(Clone, Copy)]
pub struct Writable<'u>(&'u Upper);

impl<'u> std::ops::Deref for Writable<'u> {
    type Target = &'u Upper;

    fn deref(&self) -> &&'u Upper {
        &self.0
    }
}

impl Union {
    /// The upper.
    ///
    /// # Errors
    /// `EROFS` where there is none; the only source of that error.
    pub(crate) fn writable(&self) -> Result<Writable<'_>> {
        match &self.upper {
            Some(upper) => Ok(Writable(upper)),
            None => Err(Errno::ROFS.into()),
        }
    }

    /// The node with an id the kernel knows.
    pub(crate) fn inode(&self, id: NodeId) -> Result<Arc<Inode>> {
        let inode = self.known(id)?;
        Ok(inode.successor().unwrap_or(inode))
    }

    /// As [`Union::inode`], also where another node has taken its place.
    fn known(&self, id: NodeId) -> Result<Arc<Inode>> {
        self.table.get(id).ok_or_else(|| Errno::STALE.into())
    }

    /// Returns references to a node: the kernel forgot it.
    pub fn forget(&self, id: NodeId, count: u64) {
        if self.table.forget(id, count) == Freed::Much {
            memory::give_back();
        }
    }
}

/// The directory part of a node.
fn dir_of(inode: &Inode) -> Result<&Dir> {
    inode.dir().ok_or_else(|| Errno::NOTDIR.into())
}

/// The file part of a node.
fn file_of(inode: &Inode) -> Result<&File> {
    inode.file().ok_or_else(|| Errno::ISDIR.into())
}

/// A name that may be created: not one that would hide something.
fn creatable(name: Name<'_>) -> Result<Name<'_>> {
    if crate::ondisk::whiteout::is_reserved(name) {
        return Err(Errno::INVAL.into());
    }
    Ok(name)
}
