//! One directory of an upper: the names in it, and what their marks mean.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use super::marks::{self, RegularFile};
use crate::config::Namespace;
use crate::error::{Error, Result};
use crate::name::{Name, NameBuf};
use crate::ondisk::origin::Origin;
use crate::ondisk::redirect::Redirect;
use crate::ondisk::whiteout::{self, NameMeaning};
use crate::sys::at::{self, Stat, Target};

/// One name in an upper.
#[derive(Debug)]
pub struct Entry {
    /// The name it has in the union.
    pub name: NameBuf,
    /// What stands there.
    pub kind: EntryKind,
}

/// What stands under a name of an upper.
#[derive(Debug)]
pub enum EntryKind {
    /// Nothing any more, whatever the lowers have.
    Whiteout,
    /// A directory.
    Directory(Stat, Below),
    /// Anything else.
    File(Stat, Data, Birth),
}

/// How a file came into the upper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Birth {
    /// As the copy of this lower file, whose place it takes under all its names.
    Copied(Origin),
    /// As a new file.
    Made,
}

/// What is seen through a directory of an upper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Below {
    /// The directories of the same name in the lowers.
    SameName,
    /// Directories under another name in the lowers: it was renamed.
    Redirected(Redirect),
    /// Nothing: it is opaque.
    Nothing,
}

/// Where the data of a file of an upper is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// In the file itself.
    Own,
    /// In the lower file, for only its metadata changed; under another name in
    /// the lowers, if it was renamed.
    Lower(Option<Redirect>),
}

/// Opens the top of an upper.
///
/// # Errors
/// A sentence that names it.
pub fn open(upper: &Path) -> Result<OwnedFd> {
    openat(CWD, upper, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::from(errno).context(format!("cannot open {}", upper.display())))
}

/// Opens a directory within a layer; a symlink is not followed.
///
/// # Errors
/// What the kernel says; `ENOTDIR` for anything else.
pub fn open_child(parent: BorrowedFd<'_>, name: Name<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name.bytes(), flags, Mode::empty())
}

/// Reads a directory of an upper, sorted by name.
///
/// # Errors
/// A sentence that names the entry that cannot be read.
pub fn read(directory: BorrowedFd<'_>, namespace: Namespace) -> Result<Vec<Entry>> {
    let holds_xattr_whiteouts = marks::holds_xattr_whiteouts(directory, namespace)?;
    let mut entries = Vec::new();
    for found in Dir::read_from(directory)? {
        let found = found?;
        let bytes = found.file_name().to_bytes();
        if bytes == b"." || bytes == b".." {
            continue;
        }
        let name = Name::new(bytes)?;
        match whiteout::meaning(bytes) {
            NameMeaning::Entry => {}
            NameMeaning::Whiteout(hidden) => {
                entries.push(Entry { name: hidden.to_buf(), kind: EntryKind::Whiteout });
                continue;
            }
            NameMeaning::Opaque | NameMeaning::Reserved => continue,
        }
        let kind = look(directory, name, holds_xattr_whiteouts, namespace)
            .map_err(|error| error.context(format!("cannot read {name:?} in the upper")))?;
        if let Some(kind) = kind {
            entries.push(Entry { name: name.to_buf(), kind });
        }
    }
    // A whiteout that a crash left beside what took its place is void.
    entries.sort_by(|a, b| (&a.name, a.is_whiteout()).cmp(&(&b.name, b.is_whiteout())));
    entries.dedup_by(|later, earlier| later.name == earlier.name);
    Ok(entries)
}

impl Entry {
    fn is_whiteout(&self) -> bool {
        matches!(self.kind, EntryKind::Whiteout)
    }
}

/// The attributes of what has a name in a directory, or of the directory for an
/// empty name, as the union shows them: without its marks, sorted by name.
///
/// # Errors
/// What the file system gave.
pub fn attributes(
    directory: BorrowedFd<'_>,
    name: &[u8],
    namespace: Namespace,
) -> Result<Vec<(CString, Vec<u8>)>> {
    match name {
        [] => marks::visible_attributes(Target::Fd(directory), namespace),
        name => marks::visible_attributes(Target::At(directory, Name::new(name)?), namespace),
    }
}

/// What stands under one name; `None` if it has just gone.
pub(super) fn look(
    directory: BorrowedFd<'_>,
    name: Name<'_>,
    holds_xattr_whiteouts: bool,
    namespace: Namespace,
) -> Result<Option<EntryKind>> {
    let stat = match at::stat(Target::At(directory, name)) {
        Err(Errno::NOENT) => return Ok(None),
        stat => stat?,
    };
    let kind = match stat.kind() {
        _ if stat.is_whiteout_device() => EntryKind::Whiteout,
        FileType::Directory => {
            let child = at::open_dir(directory, name)?;
            EntryKind::Directory(stat, marks::below(child.as_fd(), namespace)?)
        }
        // Only marks of this directory make marks of its files count.
        FileType::RegularFile => match marks::regular_file(directory, name, namespace)? {
            RegularFile::Whiteout if holds_xattr_whiteouts => EntryKind::Whiteout,
            RegularFile::Whiteout => EntryKind::File(stat, Data::Own, Birth::Made),
            RegularFile::File(data, birth) => EntryKind::File(stat, data, birth),
        },
        _ => EntryKind::File(stat, Data::Own, Birth::Made),
    };
    Ok(Some(kind))
}
