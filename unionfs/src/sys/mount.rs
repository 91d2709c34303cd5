//! Holding a layer's root: a clone of its mount, where the caller may.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Result;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::config::Submounts;

/// Opens the directory at `path` (symlinks in it are followed: it is the
/// caller's own word) and, with [`Submounts::Hide`], detaches it from what is
/// mounted below.
pub fn hold_root(path: &Path, submounts: Submounts) -> Result<OwnedFd> {
    let plain = || fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    match submounts {
        Submounts::Cross => plain(),
        Submounts::Hide => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            // EPERM without CAP_SYS_ADMIN, EINVAL where the mounts below are
            // locked by a user namespace: the plain directory then.
            match open_tree(fs::CWD, path, flags) {
                Ok(fd) if fs::FileType::from_raw_mode(fs::fstat(&fd)?.st_mode).is_dir() => Ok(fd),
                _ => plain(),
            }
        }
    }
}
