//! The marks of a layer as questions about open files.
//!
//! What a mark looks like is [`crate::ondisk`]'s business; here is what it
//! means for whoever compares or applies an upper.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::upper::{Below, Birth, Data};
use crate::config::Namespace;
use crate::error::Result;
use crate::name::Name;
use crate::ondisk::marks::{Marks, Opacity};
use crate::ondisk::redirect::{self, Redirect};
use crate::ondisk::{origin, private, whiteout};
use crate::sys::xattr::{self, Target};

/// Whether the archive form of a whiteout stands for this name.
pub fn has_whiteout_file(directory: BorrowedFd<'_>, name: Name<'_>) -> Result<bool> {
    match whiteout::file_of(name) {
        Some(file) => exists(directory, file.as_name().bytes()),
        None => Ok(false),
    }
}

/// What is seen through a directory.
pub fn below(directory: BorrowedFd<'_>, namespace: Namespace) -> Result<Below> {
    let marks = Marks::read(Target::Fd(directory), namespace)?;
    if marks.opacity == Opacity::Opaque {
        return Ok(Below::Nothing);
    }
    for file in whiteout::OPAQUE_FILES {
        if exists(directory, file)? {
            return Ok(Below::Nothing);
        }
    }
    Ok(parse(marks.redirect)?.map_or(Below::SameName, Below::Redirected))
}

/// Whether whiteouts may stand in this directory as marked files.
pub fn holds_xattr_whiteouts(directory: BorrowedFd<'_>, namespace: Namespace) -> Result<bool> {
    Ok(Marks::read(Target::Fd(directory), namespace)?.opacity == Opacity::XattrWhiteouts)
}

/// What the marks of a regular file make of it.
pub enum RegularFile {
    /// A whiteout, if its directory says that it may hold some.
    Whiteout,
    /// A file.
    File(Data, Birth),
}

/// Reads the marks of a regular file.
pub fn regular_file(directory: BorrowedFd<'_>, name: Name<'_>, namespace: Namespace) -> Result<RegularFile> {
    let marks = Marks::read(Target::At(directory, name), namespace)?;
    if marks.whiteout {
        return Ok(RegularFile::Whiteout);
    }
    let birth = marks.origin.map_or(Birth::Made, |value| Birth::Copied(origin::decode(&value)));
    let data = match marks.metacopy {
        true => Data::Lower(parse(marks.redirect)?),
        false => Data::Own,
    };
    Ok(RegularFile::File(data, birth))
}

fn parse(redirect: Option<Vec<u8>>) -> Result<Option<Redirect>> {
    redirect.map(|redirect| redirect::parse(&redirect)).transpose()
}

fn exists(directory: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// A file's extended attributes as the union shows them: without the marks, and
/// sorted by name.
///
/// What may not be read counts as absent: it could not be changed either.
pub fn visible_attributes(target: Target<'_>, namespace: Namespace) -> Result<Vec<(CString, Vec<u8>)>> {
    let mut attributes = Vec::new();
    for name in xattr::list(target)?.split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let Some(shown) =
            private::from_disk(name.to_bytes(), namespace).and_then(|shown| CString::new(shown).ok())
        else {
            continue;
        };
        match xattr::get_vec(target, name) {
            Ok(Some(value)) => attributes.push((shown, value)),
            Ok(None) => {}
            Err(error) if error.errno() == Errno::ACCESS => {}
            Err(error) => return Err(error),
        }
    }
    attributes.sort();
    Ok(attributes)
}
