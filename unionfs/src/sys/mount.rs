//! Holding a layer's root: a clone of its mount, where the caller may. A clone
//! keeps nobody from unmounting what it was made of, as with kernel overlayfs.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Result;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::config::Submounts;

/// A layer's root.
pub struct Root {
    /// Its descriptor.
    pub fd: OwnedFd,
    /// Whether nothing below it can be written through it, by whatever means.
    pub is_sealed: bool,
}

impl Root {
    fn plain(path: &Path) -> Result<Root> {
        Ok(Root { fd: hold_plainly(path)?, is_sealed: false })
    }
}

/// Opens the directory at `path` (symlinks in it are followed: it is the
/// caller's own word) and, with [`Submounts::Hide`], detaches it from what is
/// mounted below and makes it read-only, where the caller may.
///
/// # Errors
/// What opening it gave.
pub fn hold_root(path: &Path, submounts: Submounts) -> Result<Root> {
    match submounts {
        Submounts::Cross => Root::plain(path),
        Submounts::Hide => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            // EPERM without CAP_SYS_ADMIN, EINVAL where the mounts below are
            // locked by a user namespace: the plain directory then.
            match open_tree(fs::CWD, path, flags) {
                Ok(fd) if fs::FileType::from_raw_mode(fs::fstat(&fd)?.st_mode).is_dir() => {
                    let is_sealed = raw::seal(&fd).is_ok();
                    Ok(Root { fd, is_sealed })
                }
                _ => Root::plain(path),
            }
        }
    }
}

/// Opens two directories that files are renamed between: they must be on one
/// mount, so the clone is of a directory that holds both.
pub fn hold_pair(paths: [&Path; 2]) -> Result<[OwnedFd; 2]> {
    let [first, second] = paths;
    let plain = [hold_plainly(first)?, hold_plainly(second)?];
    Ok(match cloned_pair(paths) {
        // Another mount may lie between the two and the directory above them.
        Ok(cloned) if is_same(&plain[0], &cloned[0])? && is_same(&plain[1], &cloned[1])? => cloned,
        _ => plain,
    })
}

fn hold_plainly(path: &Path) -> Result<OwnedFd> {
    fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn cloned_pair([first, second]: [&Path; 2]) -> std::io::Result<[OwnedFd; 2]> {
    let (first, second) = (first.canonicalize()?, second.canonicalize()?);
    let common = first.components().zip(second.components()).take_while(|(a, b)| a == b).map(|(a, _)| a);
    let above: PathBuf = common.collect();
    let tree = open_tree(fs::CWD, &above, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let beneath = |path: &Path| -> std::io::Result<OwnedFd> {
        let below = path.strip_prefix(&above).map_err(std::io::Error::other)?;
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(fs::openat2(
            &tree,
            below,
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )?)
    };
    Ok([beneath(&first)?, beneath(&second)?])
}

fn is_same(a: &OwnedFd, b: &OwnedFd) -> Result<bool> {
    let (a, b) = (fs::fstat(a)?, fs::fstat(b)?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

mod raw {
    use std::os::fd::{AsRawFd, OwnedFd};

    use rustix::io::Result;

    /// Makes a detached mount read-only, and its access times stay.
    pub fn seal(mount: &OwnedFd) -> Result<()> {
        let wanted = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOATIME;
        // The kernel takes the time attributes as one value: all others go.
        set(mount, wanted, libc::MOUNT_ATTR__ATIME)
            // A user namespace may not change what its mounts inherited.
            .or_else(|_| set(mount, libc::MOUNT_ATTR_RDONLY, 0))
    }

    fn set(mount: &OwnedFd, set: u64, clear: u64) -> Result<()> {
        let attributes = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
        // SAFETY: the path is a C string, `attributes` is read to the size given
        // with it, and both outlive the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                mount.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                &raw const attributes,
                size_of::<libc::mount_attr>(),
            )
        };
        if result == 0 { Ok(()) } else { Err(super::super::at::last_errno()) }
    }
}
