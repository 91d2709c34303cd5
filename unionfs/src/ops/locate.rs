//! From a node to the files that system calls are made on.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::dir_of;
use crate::Union;
use crate::config::Namespace;
use crate::error::Result;
use crate::inode::{Body, FileState, Inode, Link, Place};
use crate::object::Object;
use crate::stack::real::{Fd, RealDir};
use crate::sync::Arc;
use crate::sys::at::{self, Stat, Target};

impl Union {
    /// Calls `f` with the file that holds the node's metadata. The file does
    /// not move meanwhile.
    ///
    /// # Errors
    /// What opening its directory or `f` gave; `ENOENT` once it is gone.
    pub(crate) fn with_metadata<T>(
        &self,
        inode: &Inode,
        f: impl FnOnce(Object<'_>) -> Result<T>,
    ) -> Result<T> {
        match &inode.body {
            Body::Dir(dir) => {
                let merged = dir.merged();
                let top = merged.top().ok_or(Errno::NOENT)?;
                f(top.hold(&self.layers.fds)?.object())
            }
            Body::File(file) => self.with_place(&file.state.read(), f),
        }
    }

    /// Calls `f` with the file a state speaks of, whose lock the caller holds.
    ///
    /// # Errors
    /// As [`Union::with_metadata`].
    pub(super) fn with_place<T>(
        &self,
        state: &FileState,
        f: impl FnOnce(Object<'_>) -> Result<T>,
    ) -> Result<T> {
        match state.place() {
            Place::Lower(_) | Place::Hidden(_) => {
                let (dir, name) = state.as_lower().ok_or(Errno::NOENT)?;
                f(dir.hold(&self.layers.fds)?.at(name)?)
            }
            Place::Held(fd) => f(Target::Fd(fd.as_fd()).into()),
            Place::Succeeded(inode) => self.with_metadata(inode, f),
            Place::Index(name) => {
                let index = self.index()?.fd(&self.layers.fds)?;
                f(Target::At(index.as_fd(), name.as_name()).into())
            }
            Place::Upper => {
                let link = state.first_link().ok_or(Errno::NOENT)?;
                let parent = self.upper_fd(&link.parent)?;
                f(Target::At(parent.as_fd(), link.name.as_name()).into())
            }
        }
    }

    /// The attributes of the file that holds the node's metadata.
    ///
    /// # Errors
    /// As [`Union::with_metadata`].
    pub(super) fn stat(&self, inode: &Inode) -> Result<Stat> {
        self.with_metadata(inode, |file| Ok(file.stat()?))
    }

    /// A descriptor of the node's file in the upper that can be held on to,
    /// without opening its data.
    ///
    /// # Errors
    /// As [`Union::with_metadata`].
    pub(super) fn hold(&self, state: &FileState) -> Result<Fd> {
        let hold = |file: Object<'_>| match file.target()? {
            Target::At(dir, name) => Ok(Arc::new(at::open_path(dir, name)?)),
            Target::Fd(fd) => {
                let fd: OwnedFd = fd.try_clone_to_owned().map_err(|_| Errno::MFILE)?;
                Ok(Arc::new(fd))
            }
        };
        self.layers.fds.making_room(|| self.with_place(state, hold))
    }

    /// A descriptor of a directory's upper.
    ///
    /// # Errors
    /// `ENOENT` where it has none (it was never copied up, or is gone).
    pub(super) fn upper_fd(&self, dir: &Inode) -> Result<Fd> {
        self.upper_dir(dir)?.fd(&self.layers.fds)
    }

    /// A directory's upper.
    ///
    /// # Errors
    /// As [`Union::upper_fd`].
    pub(super) fn upper_dir(&self, dir: &Inode) -> Result<Arc<RealDir>> {
        dir_of(dir)?.merged().upper.clone().ok_or_else(|| Errno::NOENT.into())
    }

    /// The index directory.
    pub(super) fn index(&self) -> Result<&Arc<RealDir>> {
        self.upper.as_ref().and_then(|upper| upper.index.as_ref()).ok_or_else(|| Errno::NOENT.into())
    }

    /// Whether hard links of lower files of a type are indexed. It takes
    /// attributes to keep count of them, which in the `user.` namespace only
    /// regular files can have. (Kernel overlayfs tries nevertheless, fails with
    /// `EPERM`, and cannot mount the result again.)
    pub(super) fn is_indexing(&self, kind: FileType) -> bool {
        let can_be_marked = kind == FileType::RegularFile || self.config.namespace == Namespace::Trusted;
        can_be_marked && self.index().is_ok()
    }
}

/// A name in a directory.
pub(super) fn link(parent: &Arc<Inode>, name: crate::name::Name<'_>) -> Link {
    Link { parent: parent.clone(), name: name.to_buf() }
}
