//! Trees of files as tar streams and back: what volumes are filled by, and
//! what `cp` and `export` pass on.
//!
//! A container may change its files while they are read or written here, in
//! order to be read from or written to elsewhere. So nothing is done by a path:
//! every step is a name in a directory that is held open, no symbolic link is
//! ever followed, and a file is opened for reading only through a descriptor
//! that is known to be of a regular file: no device, no FIFO, no swap between
//! the look and the opening. Where the top of a tree is, its opener decides.
//!
//! | module | what |
//! |---|---|
//! | [`pack`] | a tree into a stream |
//! | [`pack_union`] | a union that is not mounted into a stream |
//! | [`unpack`] | a stream into a tree |
//! | [`crew`] | the threads that a stream's small files are made by |
//! | [`make`] | how one of them is made |
//! | [`Owners`] | whose the files are on the other side |

mod crew;
mod make;
mod pack;
mod union;
mod unpack;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use crate::bundle::IdMapping;

pub use pack::{Borders, Packed, pack};
pub use union::{dir_in_union, pack_union};
pub use unpack::{Place, unpack};

/// Directories in directories so far are walked.
const DEEPEST: usize = 4096;

/// Whose files are on the other side, and what goes with that.
#[derive(Clone, Debug)]
pub enum Owners {
    /// Everything is as it was: owners, all modes, all attributes. Ids on disk
    /// are those of a container by these maps; no maps, no difference.
    Kept(Maps),
    /// The same, as far as this user may: owners that he cannot give away are
    /// himself, devices that he cannot make are left out.
    Possible(Maps),
    /// All is one user's; nothing makes a program more than that.
    Given(u32, u32),
    /// All is whoever's who writes it; nothing makes a program more than that.
    Writers,
}

/// A container's ids, and how they lie on disk.
#[derive(Clone, Debug, Default)]
pub struct Maps {
    /// Of users.
    pub users: Vec<IdMapping>,
    /// Of groups.
    pub groups: Vec<IdMapping>,
}

/// What an id without a mapping looks like (/proc/sys/kernel/overflowuid).
const NOBODY: u32 = 65534;

impl Maps {
    /// The container's ids of a file on disk.
    fn inside(&self, stat: &Stat) -> (u32, u32) {
        let of = |map: &[IdMapping], id: u32| shifted(map, id, |range| (range.host_id, range.container_id));
        (of(&self.users, stat.st_uid), of(&self.groups, stat.st_gid))
    }

    /// The ids on disk of a container's.
    pub fn outside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let of = |map: &[IdMapping], id: u32| shifted(map, id, |range| (range.container_id, range.host_id));
        (of(&self.users, uid), of(&self.groups, gid))
    }
}

fn shifted(map: &[IdMapping], id: u32, ends: impl Fn(&IdMapping) -> (u32, u32)) -> u32 {
    if map.is_empty() {
        return id;
    }
    let found = map.iter().find_map(|range| {
        let (from, to) = ends(range);
        let offset = id.checked_sub(from).filter(|offset| *offset < range.size)?;
        to.checked_add(offset)
    });
    found.unwrap_or(NOBODY)
}

/// A file that is held without being opened: whatever happens to its name, this
/// is the one.
struct Held {
    fd: OwnedFd,
    stat: Stat,
}

impl Held {
    /// What has this name; a symbolic link is itself held.
    fn open(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Held> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(dir, name, flags, Mode::empty())?;
        let stat = fstat(&fd)?;
        Ok(Held { fd, stat })
    }

    /// As [`Held::open`]; `None` where there is nothing.
    fn present(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<Held>> {
        match Held::open(dir, name) {
            Err(Errno::NOENT) => Ok(None),
            held => held.map(Some),
        }
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// The very file that is held, as a path that leads to nothing else.
    fn path(&self) -> String {
        magic_path(self.fd.as_fd())
    }
}

/// The kernel's own link to an open file: a symbolic link that is held is
/// itself meant.
fn magic_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests;
