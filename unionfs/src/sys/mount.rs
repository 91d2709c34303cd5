//! Holding a layer's root: a clone of its mount, where the caller may. A clone
//! keeps nobody from unmounting what it was made of, as with kernel overlayfs.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Result;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::config::Submounts;

/// Opens the directory at `path` (symlinks in it are followed: it is the
/// caller's own word) and, with [`Submounts::Hide`], detaches it from what is
/// mounted below.
pub fn hold_root(path: &Path, submounts: Submounts) -> Result<OwnedFd> {
    match submounts {
        Submounts::Cross => hold_plainly(path),
        Submounts::Hide => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            // EPERM without CAP_SYS_ADMIN, EINVAL where the mounts below are
            // locked by a user namespace: the plain directory then.
            match open_tree(fs::CWD, path, flags) {
                Ok(fd) if fs::FileType::from_raw_mode(fs::fstat(&fd)?.st_mode).is_dir() => Ok(fd),
                _ => hold_plainly(path),
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
