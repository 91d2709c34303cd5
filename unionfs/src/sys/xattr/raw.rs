//! The `*xattrat` system calls, by number: neither rustix nor every C library
//! has them.

use std::ffi::CStr;
use std::os::fd::AsRawFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::AtPath;

// The same on every architecture that got them in Linux 6.13.
const SETXATTRAT: libc::c_long = 463;
const GETXATTRAT: libc::c_long = 464;
const LISTXATTRAT: libc::c_long = 465;
const REMOVEXATTRAT: libc::c_long = 466;

/// `struct xattr_args` of linux/xattr.h.
#[repr(C, align(8))]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// Asks for an attribute with an argument structure of no size, which
/// always fails.
pub fn probe() -> rustix::io::Result<usize> {
    let args = XattrArgs { value: 0, size: 0, flags: 0 };
    let (path, name) = (c".".as_ptr(), c"user.x".as_ptr());
    // SAFETY: all pointers are valid, and a size of 0 lets none be read. The
    // sizes are `usize`: the call takes whole registers.
    result(unsafe { libc::syscall(GETXATTRAT, libc::AT_FDCWD, path, 0, name, &raw const args, 0_usize) })
}

pub fn get(path: &AtPath<'_>, name: &CStr, value: &mut [u8]) -> rustix::io::Result<usize> {
    let size = u32::try_from(value.len()).unwrap_or(u32::MAX);
    let args = XattrArgs { value: value.as_mut_ptr() as u64, size, flags: 0 };
    // SAFETY: both strings end in NUL; `args` points to `size` bytes of
    // memory that is ours to write until the call returns.
    result(unsafe {
        libc::syscall(
            GETXATTRAT,
            path.dir.as_raw_fd(),
            path.name.as_ptr(),
            path.flags.bits(),
            name.as_ptr(),
            &raw const args,
            size_of::<XattrArgs>(),
        )
    })
}

pub fn list(path: &AtPath<'_>, names: &mut [u8]) -> rustix::io::Result<usize> {
    // SAFETY: the string ends in NUL; the kernel writes at most
    // `names.len()` bytes into `names`.
    result(unsafe {
        libc::syscall(
            LISTXATTRAT,
            path.dir.as_raw_fd(),
            path.name.as_ptr(),
            path.flags.bits(),
            names.as_mut_ptr(),
            names.len(),
        )
    })
}

pub fn set(path: &AtPath<'_>, name: &CStr, value: &[u8], flags: XattrFlags) -> rustix::io::Result<()> {
    let size = u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)?;
    let args = XattrArgs { value: value.as_ptr() as u64, size, flags: flags.bits() };
    // SAFETY: both strings end in NUL; `args` points to `size` bytes that
    // the kernel only reads.
    result(unsafe {
        libc::syscall(
            SETXATTRAT,
            path.dir.as_raw_fd(),
            path.name.as_ptr(),
            path.flags.bits(),
            name.as_ptr(),
            &raw const args,
            size_of::<XattrArgs>(),
        )
    })
    .map(drop)
}

pub fn remove(path: &AtPath<'_>, name: &CStr) -> rustix::io::Result<()> {
    // SAFETY: both strings end in NUL.
    result(unsafe {
        libc::syscall(
            REMOVEXATTRAT,
            path.dir.as_raw_fd(),
            path.name.as_ptr(),
            path.flags.bits(),
            name.as_ptr(),
        )
    })
    .map(drop)
}

/// The value of a system call, or the errno it left.
fn result(value: libc::c_long) -> rustix::io::Result<usize> {
    usize::try_from(value).map_err(|_| {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        Errno::from_raw_os_error(errno)
    })
}
