//! What `/dev/fuse` does beyond reads and writes: its ioctls.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};

/// Whether reading a descriptor waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// It does.
    Waits,
    /// It says `EAGAIN`.
    Asks,
}

/// One more descriptor of a connection, with a queue of replies of its own.
///
/// # Errors
/// What opening `/dev/fuse` again gave, which a container may not have.
pub fn clone_device(device: BorrowedFd<'_>, blocking: Blocking) -> Result<OwnedFd> {
    let mut flags = OFlags::RDWR | OFlags::CLOEXEC;
    if blocking == Blocking::Asks {
        flags |= OFlags::NONBLOCK;
    }
    let clone = rustix::fs::open(c"/dev/fuse", flags, Mode::empty())?;
    raw::clone(clone.as_fd(), device)?;
    Ok(clone)
}

/// A file the kernel may read and write in the place of a node of the mount,
/// without asking the server.
#[derive(Debug)]
pub struct Backing {
    id: i32,
    device: Arc<OwnedFd>,
}

impl Backing {
    /// Registers a file. The connection holds a reference of its own until this
    /// is dropped.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN` in the initial user namespace or where
    /// passthrough was not negotiated, `ELOOP` for a file of a stacked file
    /// system.
    pub fn open(device: &Arc<OwnedFd>, file: BorrowedFd<'_>) -> Result<Backing> {
        let id = raw::backing_open(device.as_fd(), file)?;
        Ok(Backing { id, device: device.clone() })
    }

    /// Its number in an open's reply.
    pub fn id(&self) -> i32 {
        self.id
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        match raw::backing_close(self.device.as_fd(), self.id) {
            // The connection is gone, and its files with it.
            Ok(()) | Err(Errno::PERM | Errno::NOENT | Errno::NOTCONN | Errno::NODEV) => {}
            Err(errno) => crate::log::warn(format_args!("cannot release a passed-through file: {errno}")),
        }
    }
}

/// Whether this process may register files: it has the system's own
/// `CAP_SYS_ADMIN`, not that of a user namespace.
pub fn may_pass_through() -> bool {
    /// The inode number of the initial user namespace, the same on every boot.
    const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
    let is_initial =
        rustix::fs::stat(c"/proc/self/ns/user").is_ok_and(|ns| ns.st_ino == INITIAL_USER_NAMESPACE);
    let admin = rustix::thread::CapabilitySet::SYS_ADMIN;
    is_initial && rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(admin))
}

mod raw {
    use super::*;

    /// `_IOR(229, 0, uint32_t)`
    const CLONE: libc::Ioctl = 0x8004_e500_u32 as libc::Ioctl;
    /// `_IOW(229, 1, struct fuse_backing_map)`
    const BACKING_OPEN: libc::Ioctl = 0x4010_e501;
    /// `_IOW(229, 2, uint32_t)`
    const BACKING_CLOSE: libc::Ioctl = 0x4004_e502;

    /// `struct fuse_backing_map`
    #[repr(C)]
    struct BackingMap {
        fd: i32,
        flags: u32,
        padding: u64,
    }

    pub fn clone(new: BorrowedFd<'_>, device: BorrowedFd<'_>) -> Result<()> {
        let source = device.as_raw_fd() as u32;
        // SAFETY: the request reads one number, which `source` is.
        check(unsafe { libc::ioctl(new.as_raw_fd(), CLONE, &raw const source) }).map(drop)
    }

    pub fn backing_open(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> Result<i32> {
        let map = BackingMap { fd: file.as_raw_fd(), flags: 0, padding: 0 };
        // SAFETY: the request reads one `struct fuse_backing_map`, which `map` is.
        check(unsafe { libc::ioctl(device.as_raw_fd(), BACKING_OPEN, &raw const map) })
    }

    pub fn backing_close(device: BorrowedFd<'_>, id: i32) -> Result<()> {
        // SAFETY: the request reads one number, which `id` is.
        check(unsafe { libc::ioctl(device.as_raw_fd(), BACKING_CLOSE, &raw const id) }).map(drop)
    }

    fn check(result: libc::c_int) -> Result<i32> {
        if result >= 0 { Ok(result) } else { Err(super::super::at::last_errno()) }
    }
}
