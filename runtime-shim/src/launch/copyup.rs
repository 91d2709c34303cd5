//! `tmpcopyup`: a tmpfs that begins with what the directory holds that it
//! covers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fstat, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat,
};
use rustix::io::Errno;

use super::target::{self, Links};

/// Deeper trees are nobody's.
const DEEPEST: usize = 256;

/// Copies what lies at `path` of the root into the tree.
pub fn copy(root: BorrowedFd<'_>, path: &Path, into: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let from = target::open(root, path, OFlags::RDONLY | OFlags::DIRECTORY, Links::Within)?;
    // What a mount is first known by cannot be changed.
    copy_directory(from.as_fd(), directory(into, c".")?.as_fd(), 0)
}

fn copy_directory(from: BorrowedFd<'_>, into: BorrowedFd<'_>, depth: usize) -> rustix::io::Result<()> {
    if depth > DEEPEST {
        return Err(Errno::NAMETOOLONG);
    }
    // The top is as the mount's own options have it.
    if depth > 0 {
        dress(from, into, None)?;
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::Directory => {
                mkdirat(into, name, Mode::from_raw_mode(0o700))?;
                copy_directory(directory(from, name)?.as_fd(), directory(into, name)?.as_fd(), depth + 1)?;
            }
            FileType::RegularFile => copy_file(from, into, name, &stat)?,
            FileType::Symlink => {
                symlinkat(readlinkat(from, name, Vec::new())?.as_c_str(), into, name)?;
                own(into, name, &stat)?;
            }
            _ => {
                mknodat(into, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)?;
                own(into, name, &stat)?;
            }
        }
    }
    Ok(())
}

fn directory(at: BorrowedFd<'_>, name: &std::ffi::CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

fn copy_file(
    from: BorrowedFd<'_>,
    into: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    stat: &Stat,
) -> rustix::io::Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let from = openat(from, name, read, Mode::empty())?;
    let into = openat(into, name, write, Mode::from_raw_mode(0o600))?;
    let (mut reader, mut writer) = (std::fs::File::from(from), std::fs::File::from(into));
    std::io::copy(&mut reader, &mut writer)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    dress(reader.as_fd(), writer.as_fd(), Some(stat))
}

/// Owner and mode, in the order that keeps set-user-id bits.
fn dress(from: BorrowedFd<'_>, into: BorrowedFd<'_>, stat: Option<&Stat>) -> rustix::io::Result<()> {
    let looked;
    let stat = match stat {
        Some(stat) => stat,
        None => {
            looked = fstat(from)?;
            &looked
        }
    };
    tolerate_foreign(rustix::fs::fchown(
        into,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    ))?;
    fchmod(into, Mode::from_raw_mode(stat.st_mode & 0o7777))
}

fn own(at: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    tolerate_foreign(chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))
}

/// An owner that a user namespace has no number for stays the copier.
fn tolerate_foreign(owned: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match owned {
        Err(Errno::INVAL | Errno::PERM) => Ok(()),
        owned => owned,
    }
}
