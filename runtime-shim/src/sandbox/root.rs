//! Makes the view the root of this mount namespace.
//!
//! Every mount point is opened beneath the view without following symlinks and
//! mounted on by descriptor; what is made inside the view is made in file
//! systems of our own. The host's tree is detached as a whole at the end.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
    unmount,
};

use super::{devices, identity};
use crate::failure::{Context, Result};
use crate::sys;

/// Parts of /proc that change the whole machine, or tell of its devices: as
/// read-only as in any container.
const READ_ONLY: [&str; 7] =
    ["proc/sys", "proc/sysrq-trigger", "proc/irq", "proc/bus", "proc/fs", "proc/acpi", "proc/scsi"];

/// Mounts `view` and what belongs into it, and makes it the root.
pub fn enter(view: OwnedFd, mount_point: &Path) -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| identity::cannot_mount(errno, "make the mounts private"))?;
    let here = openat(CWD, mount_point, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("cannot open {}", mount_point.display()))?;
    attach(view.as_fd(), here.as_fd()).context(|| "cannot place the view".to_string())?;
    let root = openat(CWD, mount_point, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(|| "cannot open the view".to_string())?;

    let root = root.as_fd();
    mount_proc(root)?;
    mount_sys(root)?;
    devices::mount(root)?;
    pivot(root).map_err(|errno| crate::launch::cannot_pivot(errno, "make the view the root"))
}

/// A new /proc: it shows this pid namespace only.
fn mount_proc(root: BorrowedFd<'_>) -> Result<()> {
    let secure = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let proc = file_system(c"proc", &[("source", "proc")], secure)
        .map_err(|errno| identity::cannot_mount(errno, "mount /proc"))?;
    attach_at(proc.as_fd(), root, "proc")?;
    for path in READ_ONLY {
        let context = || format!("cannot make /{path} read-only");
        match beneath(root, path, OFlags::PATH) {
            Ok(target) => {
                let bind = bind(target.as_fd()).context(context)?;
                sys::make_read_only(&bind).context(context)?;
                attach(bind.as_fd(), target.as_fd()).context(context)?;
            }
            // Not every kernel has each of them.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).context(context),
        }
    }
    Ok(())
}

/// The host's /sys with all that is mounted there, read-only. A new one would
/// need a network namespace of one's own.
fn mount_sys(root: BorrowedFd<'_>) -> Result<()> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = match open_tree(CWD, "/sys", flags) {
        Ok(tree) => tree,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno).context(|| "cannot take /sys".to_string()),
    };
    sys::make_read_only(&tree).context(|| "cannot make /sys read-only".to_string())?;
    attach_at(tree.as_fd(), root, "sys")
}

/// Swaps the root; the old one ends up below the new, and is let go of.
fn pivot(root: BorrowedFd<'_>) -> rustix::io::Result<()> {
    // Through a descriptor that may be searched: O_PATH is enough.
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

/// A new, detached file system.
pub fn file_system(
    kind: &CStr,
    settings: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in settings {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A detached clone of the one mount an open file lies on, with it as root.
pub fn bind(target: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let empty_path = OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(target, c"", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | empty_path)
}

/// Puts a detached mount on an open file or directory.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let by_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", by_descriptor)
}

/// Puts a detached mount on a path of the view.
pub fn attach_at(mount: BorrowedFd<'_>, root: BorrowedFd<'_>, path: &str) -> Result<()> {
    beneath(root, path, OFlags::PATH)
        .and_then(|target| attach(mount, target.as_fd()))
        .context(|| format!("cannot mount /{path}"))
}

/// Opens a path of the view: beneath it, and through no link.
pub fn beneath(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), resolve)
}
