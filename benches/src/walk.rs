//! Walking a tree as find, du and rm do: from directory to directory by
//! descriptor, one fstatat an entry.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, statat};

use crate::errors::at;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How much of a directory is read at once: as much as the C library reads. FUSE
/// asks its server for so much, so that a smaller buffer costs it requests that
/// no program makes.
const LISTING: usize = 32 << 10;

/// Opens a directory.
///
/// # Errors
/// Those of open(2), with the path.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    openat(CWD, path, DIRECTORY, Mode::empty()).map_err(|e| at(path, e.into()))
}

/// Calls `visit` for each name in a directory but `.` and `..`, before the next
/// are read.
///
/// # Errors
/// Those of getdents(2), or what `visit` gave.
pub fn each_name(dir: BorrowedFd<'_>, mut visit: impl FnMut(&CStr) -> io::Result<()>) -> io::Result<()> {
    let dir = openat(dir, c".", DIRECTORY, Mode::empty())?;
    let mut buffer = Vec::with_capacity(LISTING);
    let mut entries = RawDir::new(&dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            visit(entry.file_name())?;
        }
    }
    Ok(())
}

/// The names in a directory but `.` and `..`.
///
/// # Errors
/// Those of getdents(2).
pub fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    each_name(dir, |name| {
        names.push(name.to_owned());
        Ok(())
    })?;
    Ok(names)
}

/// Lists every directory and stats every entry; at most `limit` of them.
/// Returns how many there were.
///
/// # Errors
/// Those of open(2), getdents(2) and stat(2).
pub fn stat_all(root: &Path, limit: usize) -> io::Result<usize> {
    let mut count = 0;
    stat_below(open(root)?.as_fd(), limit, &mut count)?;
    Ok(count)
}

fn stat_below(dir: BorrowedFd<'_>, limit: usize, count: &mut usize) -> io::Result<()> {
    for name in names(dir)? {
        if *count >= limit {
            return Ok(());
        }
        let stat = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        *count += 1;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let below = openat(dir, &name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
            stat_below(below.as_fd(), limit, count)?;
        }
    }
    Ok(())
}

/// Stats every entry and reads every file to its end.
///
/// # Errors
/// Those of open(2), getdents(2), stat(2) and read(2).
pub fn read_all(root: &Path) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for (path, kind) in paths(root)? {
        if kind == FileType::RegularFile {
            let file = openat(CWD, root.join(path), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            while rustix::io::read(&file, &mut buffer)? > 0 {}
        }
    }
    Ok(())
}

/// Every path below `root`, relative to it, directories before what is in
/// them, in the order of their names.
///
/// # Errors
/// Those of open(2), getdents(2) and stat(2).
pub fn paths(root: &Path) -> io::Result<Vec<(PathBuf, FileType)>> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(dir) = pending.pop() {
        let opened = open(&root.join(&dir))?;
        let mut names = names(opened.as_fd())?;
        names.sort();
        for name in names {
            let kind = FileType::from_raw_mode(statat(&opened, &name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
            let path = dir.join(OsString::from(OsStr::from_bytes(name.to_bytes())));
            if kind == FileType::Directory {
                pending.push(path.clone());
            }
            found.push((path, kind));
        }
    }
    Ok(found)
}
