//! System calls that rustix does not have, or has for whole processes only.
//! The only unsafe of this crate.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the child die with the thread that starts it, so that a test that is
/// killed leaves no daemon behind.
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

/// Gives the calling thread a mount namespace of its own (and, with it, its own
/// working directory and umask).
///
/// # Errors
/// Those of unshare(2).
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: unshare takes flags only. CLONE_NEWNS concerns the calling thread
    // alone; no memory or descriptor table changes.
    match unsafe { libc::unshare(libc::CLONE_NEWNS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the calling thread a user's: real and effective ids, groups. The saved
/// user id stays 0, so that [`become_root`] can undo it. (The C library would
/// change every thread of the process.)
///
/// # Errors
/// Those of setgroups, setresgid and setresuid.
pub fn become_user(uid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the kernel reads `len` group ids from a live slice.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, groups[0], groups[0], 0) })?;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, 0) })
}

/// Undoes [`become_user`].
///
/// # Errors
/// Those of setgroups, setresgid and setresuid.
pub fn become_root() -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, 0) })?;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, 0, 0, 0) })?;
    // SAFETY: no groups, so nothing is read.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) })
}

/// Sets an open-file-description lock, without waiting.
///
/// # Errors
/// Those of fcntl(F_OFD_SETLK).
pub fn ofd_lock(file: BorrowedFd<'_>, kind: i32, start: i64, len: i64) -> io::Result<()> {
    // SAFETY: `flock` is plain integers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    lock.l_start = start;
    lock.l_len = len;
    // SAFETY: the kernel reads one `flock` from a live reference.
    check(i64::from(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }))
}

/// Reads the first `len` bytes of a file through a shared mapping.
///
/// # Errors
/// Those of mmap, and EFAULT where a page cannot be had.
pub fn read_mapped(file: BorrowedFd<'_>, len: usize) -> io::Result<Vec<u8>> {
    Mapping::readable(file, len)?.read()
}

/// Stores `bytes` at `offset` through a shared mapping of the file's first
/// `len` bytes.
///
/// # Errors
/// Those of mmap, and EFAULT where a page cannot be had.
pub fn write_mapped(file: BorrowedFd<'_>, len: usize, offset: usize, bytes: &[u8]) -> io::Result<()> {
    if offset + bytes.len() > len {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let map = Mapping::new(file, len, libc::PROT_READ | libc::PROT_WRITE)?;
    let source = rustix::fs::memfd_create("bytes", rustix::fs::MemfdFlags::CLOEXEC)?;
    rustix::io::pwrite(&source, bytes, 0)?;
    // SAFETY: the range lies inside the mapping, as checked above.
    let copied = unsafe { libc::pread(source.as_raw_fd(), map.address.byte_add(offset), bytes.len(), 0) };
    check(copied as i64)
}

/// A shared mapping of a file's beginning.
pub struct Mapping {
    address: *mut libc::c_void,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes for reading.
    ///
    /// # Errors
    /// Those of mmap.
    pub fn readable(file: BorrowedFd<'_>, len: usize) -> io::Result<Mapping> {
        Mapping::new(file, len, libc::PROT_READ)
    }

    /// What is mapped, as it is now.
    ///
    /// # Errors
    /// EFAULT where a page cannot be had.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let copy = rustix::fs::memfd_create("mapped", rustix::fs::MemfdFlags::CLOEXEC)?;
        // The kernel reads the mapping, so that a page that cannot be had is an
        // error and not SIGBUS.
        // SAFETY: `len` bytes are mapped.
        let copied = unsafe { libc::pwrite(copy.as_raw_fd(), self.address, self.len, 0) };
        check(copied as i64)?;
        let mut bytes = vec![0; copied as usize];
        let length = rustix::io::pread(&copy, &mut bytes, 0)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    fn new(file: BorrowedFd<'_>, len: usize, protection: i32) -> io::Result<Mapping> {
        // SAFETY: a new mapping at an address of the kernel's choice touches
        // no memory of ours.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { address, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it exists.
        if unsafe { libc::munmap(self.address, self.len) } != 0 {
            eprintln!("munmap: {}", io::Error::last_os_error());
        }
    }
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// truncate(2), which rustix leaves to ftruncate.
///
/// # Errors
/// Those of truncate(2).
pub fn truncate(path: &CStr, len: i64) -> io::Result<()> {
    // SAFETY: `path` is a live C string.
    check(i64::from(unsafe { libc::truncate(path.as_ptr(), len) }))
}
