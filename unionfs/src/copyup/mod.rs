//! From lower to upper: stage a complete copy where nobody sees it, then
//! publish it by one system call.
//!
//! What a crash leaves: before publication, something in the work directory
//! that the next mount removes; after it, the whole file. Data is on disk
//! before the file shows (unless the union is volatile). The inode table is not
//! known here, nor is any lock taken: the caller holds the inode's.

pub mod metadata;
pub mod staged;

use std::os::fd::AsFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::image::format::Metacopy;
use crate::object::Object;
use crate::ondisk::marks::{self, Mark};
use crate::stack::upper::Upper;
use crate::sys::at::{self, Stat, Target};
use crate::sys::copy;
use crate::verity::Digest;
use staged::Staged;

/// What a copy is made of.
pub struct Source<'a> {
    /// The file whose metadata is copied.
    pub metadata: Object<'a>,
    /// Its attributes, as just read.
    pub stat: &'a Stat,
    /// The value of the origin mark, empty where the file has no handle;
    /// `None` where the link to the lower file is to be broken.
    pub origin: Option<&'a [u8]>,
    /// What is done about the data.
    pub content: Content<'a>,
    /// Whether set-id bits and capabilities are believed.
    pub trust: Trust,
    /// Whether the copy must have the same owner.
    pub owner: Owner,
    /// The attribute owner and mode are kept in, if they are.
    pub override_stat: Option<&'static std::ffi::CStr>,
}

/// Whether a copy must have the owner of what it copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Yes, or there is no copy.
    Kept,
    /// If that can be: all files are shown with one owner (`squash_to_uid`), so
    /// a daemon that may not give files away does not have to.
    Squashed,
}

/// What a copy does about data.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// All of it, from this open file.
    Copy(std::os::fd::BorrowedFd<'a>),
    /// None: the file is about to be truncated, or has none.
    Empty,
    /// None yet: a metacopy, its data under the same path below. It keeps the
    /// data's digest, where that is known.
    Later(Option<Digest>),
}

/// Whether a layer's set-id bits and capabilities mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// They are copied.
    Full,
    /// The layer is mounted `nosuid`: they are left behind.
    NoSetId,
}

/// Makes a complete copy of one file, not visible yet.
///
/// # Errors
/// What reading the lower or writing the upper gave (`ENOSPC`, `EDQUOT`, `EIO`);
/// nothing is left behind.
pub fn stage<'u>(upper: &'u Upper, source: &Source<'_>) -> Result<Staged<'u>> {
    let staged = match source.stat.kind() {
        FileType::RegularFile => Staged::file(upper, metadata::mode_at_birth(source, upper.namespace))?,
        FileType::Directory => Staged::dir(upper)?,
        FileType::Symlink => Staged::symlink(upper, &source.metadata.read_link()?)?,
        kind => Staged::node(upper, kind, source.stat.rdev)?,
    };
    if let Some(fd) = staged.fd() {
        let len = match source.content {
            Content::Copy(from) => {
                copy::copy_data(from, fd, source.stat.size)?;
                None
            }
            Content::Empty => None,
            Content::Later(_) => Some(source.stat.size),
        };
        if let Some(len) = len {
            rustix::fs::ftruncate(fd, len)?;
        }
    }
    let target = staged.target();
    metadata::copy(&staged, source, upper.namespace)?;
    if let Some(origin) = source.origin {
        marks::set_if_possible(target, upper.namespace, Mark::Origin, origin)?;
    }
    if let Content::Later(digest) = source.content {
        let value = digest.map(|digest| Metacopy::with(&digest)).unwrap_or_default();
        marks::set(target, upper.namespace, Mark::Metacopy, &value)?;
    }
    at::copy_times(target, source.stat)?;
    if let (Some(fd), Content::Copy(_)) = (staged.fd(), source.content) {
        if upper.is_durable() {
            rustix::fs::fsync(fd)?;
        }
    }
    Ok(staged)
}

/// Gives a metacopy its data, in place: the mark goes last, so that a crash
/// leaves a metacopy.
///
/// # Errors
/// As [`stage`]; the file then still is a metacopy, of its old size.
pub fn fill(upper: &Upper, file: impl AsFd, from: impl AsFd, stat: &Stat) -> Result<()> {
    let fd = file.as_fd();
    let target = Target::Fd(fd);
    // Writing clears file capabilities, which copy-up must not.
    let capability = crate::sys::xattr::get_vec(target, metadata::CAPABILITY)?;
    let filled = copy::copy_data(from.as_fd(), fd, stat.size);
    if let Err(error) = filled {
        // What was written so far is behind the mark; give its space back.
        rustix::fs::ftruncate(fd, 0)
            .and_then(|()| rustix::fs::ftruncate(fd, stat.size))
            .and_then(|()| at::copy_times(target, stat))
            .map_err(|errno| Error::from(errno).context("cannot undo a copy-up"))?;
        return Err(error);
    }
    if let Some(value) = capability {
        crate::sys::xattr::set(target, metadata::CAPABILITY, &value, rustix::fs::XattrFlags::empty())?;
    }
    at::copy_times(target, stat)?;
    if upper.is_durable() {
        rustix::fs::fsync(fd)?;
    }
    marks::clear(target, upper.namespace, Mark::Metacopy)?;
    marks::clear(target, upper.namespace, Mark::Redirect)
}

/// The errno for a file whose lower vanished under the mount.
pub fn vanished() -> Error {
    Error::new(Errno::STALE, "a lower layer changed while it was mounted")
}
