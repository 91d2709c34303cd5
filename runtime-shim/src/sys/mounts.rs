//! mount_setattr(2), of which rustix has nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::MountAttr;

/// Which mounts a change is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The one.
    Mount,
    /// And all below it.
    Tree,
}

/// `MOUNT_ATTR_IDMAP` of linux/mount.h.
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Changes attributes (`MOUNT_ATTR_*`) and, where `propagation` is not 0, how
/// mounts reach others (`MS_SHARED` and so on).
pub fn set_attributes(
    mount: impl AsFd,
    reach: Reach,
    set: u64,
    clear: u64,
    propagation: u64,
) -> io::Result<()> {
    call(mount.as_fd(), reach, &MountAttr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 })
}

/// Shows a detached mount's owners as a user namespace maps them.
pub fn map_owners(mount: impl AsFd, reach: Reach, users: BorrowedFd<'_>) -> io::Result<()> {
    let userns_fd = users.as_raw_fd() as u64;
    call(
        mount.as_fd(),
        reach,
        &MountAttr { attr_set: MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd },
    )
}

fn call(mount: BorrowedFd<'_>, reach: Reach, attributes: &MountAttr) -> io::Result<()> {
    let recursive = if reach == Reach::Tree { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty path means the descriptor itself; the kernel reads
    // `size_of` bytes of the structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const *attributes,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
