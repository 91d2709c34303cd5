//! Removes a directory tree of any depth with a handful of descriptors.
//!
//! What a command leaves in an upper may be deeper than the limit on open
//! descriptors and longer than the longest path. So nothing is recursed into:
//! a directory that is not empty is moved up to the top of the tree and emptied
//! there in its turn. Symlinks are never followed.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::{Errno, Result};

/// The prefix of directories that were moved up to be emptied.
const MOVED: &str = ".runion-remove-";

/// Removes `name` in `parent` and everything below it; absent is removed.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let top = open_directory(parent, name)?;
    let mut moved = 0_u64;
    empty(top.as_fd(), top.as_fd(), &mut moved)?;
    // Directories moved up while the top was being listed may or may not have
    // been in that listing: list it until it is empty.
    while let Err(errno) = unlinkat(parent, name, AtFlags::REMOVEDIR) {
        if errno != Errno::NOTEMPTY && errno != Errno::EXIST {
            return Err(errno);
        }
        empty(top.as_fd(), top.as_fd(), &mut moved)?;
    }
    Ok(())
}

/// Removes everything in `directory`; what is not empty moves up to `top`.
fn empty(top: BorrowedFd<'_>, directory: BorrowedFd<'_>, moved: &mut u64) -> Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
        match unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let child = open_directory(directory, name)?;
        if name.to_bytes().starts_with(MOVED.as_bytes()) {
            empty(top, child.as_fd(), moved)?;
        } else {
            *moved += 1;
            // Digits hold no NUL.
            let up = CString::new(format!("{MOVED}{moved}")).map_err(|_| Errno::INVAL)?;
            renameat(directory, name, top, &up)?;
        }
    }
    Ok(())
}

/// Opens a directory to be emptied, giving its owner the rights that takes.
fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
    openat(parent, name, flags | OFlags::RDONLY, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_deep_odd_tree_goes_and_what_links_lead_to_stays() {
        let base = std::env::temp_dir().join(format!("runion-removal-{}", std::process::id()));
        std::fs::create_dir_all(base.join("keep")).unwrap();
        std::fs::write(base.join("keep/file"), "x").unwrap();
        std::fs::create_dir_all(base.join("tree/locked/inside")).unwrap();
        symlink(base.join("keep"), base.join("tree/link")).unwrap();
        std::fs::set_permissions(base.join("tree/locked"), PermissionsExt::from_mode(0o0)).unwrap();
        let mut deep = rustix::fs::open(base.join("tree"), OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deep, "d", Mode::RWXU).unwrap();
            deep = openat(&deep, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        drop(deep);

        let parent = rustix::fs::open(&base, OFlags::DIRECTORY, Mode::empty()).unwrap();
        remove_tree(parent.as_fd(), c"tree").unwrap();
        remove_tree(parent.as_fd(), c"tree").unwrap();

        assert!(!base.join("tree").exists());
        assert!(base.join("keep/file").exists());
        std::fs::remove_dir_all(&base).unwrap();
    }
}
