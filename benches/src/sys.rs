//! System calls that no safe function offers. The only unsafe of this crate.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::UnshareFlags;

/// Makes the child die with the thread that starts it: a runner that is killed
/// leaves no worker behind.
pub fn die_with_parent(command: &mut Command) {
    let set = || {
        // SAFETY: prctl(PR_SET_PDEATHSIG) takes integers only, and is
        // async-signal-safe, as code between fork and exec must be.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: `set` allocates nothing and touches no lock.
    unsafe { command.pre_exec(set) };
}

/// Gives the calling thread a mount namespace of its own.
///
/// # Errors
/// Those of unshare(2).
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: the descriptor table stays shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.map_err(Into::into)
}

/// Gives this process, which has one thread only, a user namespace and a mount
/// namespace of its own. Ids are unmapped until somebody outside maps them.
///
/// # Errors
/// Those of unshare(2).
pub fn unshare_user_and_mounts() -> io::Result<()> {
    // SAFETY: the descriptor table stays shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }.map_err(Into::into)
}

/// A shared mapping of a file's beginning.
pub struct Mapping {
    address: *mut libc::c_void,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes for reading and writing, or only for reading.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new(file: BorrowedFd<'_>, len: usize, protection: ProtFlags) -> io::Result<Mapping> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no
        // memory of ours.
        let address =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, file, 0)? };
        Ok(Mapping { address, len })
    }

    /// Adds up one byte of each page.
    pub fn touch(&self) -> u64 {
        let pages = (0..self.len).step_by(4096);
        // SAFETY: the offsets are inside the mapping, which was made readable;
        // volatile, since a file may change below.
        pages.map(|at| u64::from(unsafe { self.address.cast::<u8>().add(at).read_volatile() })).sum()
    }

    /// Stores one byte into each page of a writable mapping.
    pub fn fill(&mut self, byte: u8) {
        for at in (0..self.len).step_by(4096) {
            // SAFETY: the offset is inside the mapping.
            unsafe { self.address.cast::<u8>().add(at).write_volatile(byte) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it exists.
        if let Err(error) = unsafe { rustix::mm::munmap(self.address, self.len) } {
            eprintln!("munmap: {error}");
        }
    }
}
