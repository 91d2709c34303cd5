//! The marks of a layer as questions about open files.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::upper::{Below, Data};
use crate::config::Namespace;
use crate::error::Result;
use crate::name::Name;
use crate::ondisk::redirect::{self, Redirect};
use crate::sys::xattr::{self, Target};

/// The attributes of one namespace.
struct Names {
    opaque: &'static CStr,
    redirect: &'static CStr,
    metacopy: &'static CStr,
    whiteout: &'static CStr,
}

const TRUSTED: Names = Names {
    opaque: c"trusted.overlay.opaque",
    redirect: c"trusted.overlay.redirect",
    metacopy: c"trusted.overlay.metacopy",
    whiteout: c"trusted.overlay.whiteout",
};

const USER: Names = Names {
    opaque: c"user.overlay.opaque",
    redirect: c"user.overlay.redirect",
    metacopy: c"user.overlay.metacopy",
    whiteout: c"user.overlay.whiteout",
};

fn names(namespace: Namespace) -> &'static Names {
    match namespace {
        Namespace::Trusted => &TRUSTED,
        Namespace::User => &USER,
    }
}

/// What a file's name says about whiteouts.
pub enum WhiteoutFile<'a> {
    /// It whites this name out.
    Of(Name<'a>),
    /// It is the business of whoever wrote the layer.
    Reserved,
    /// Nothing.
    No,
}

/// Reads a name in the form that archives use.
pub fn whiteout_file(name: Name<'_>) -> WhiteoutFile<'_> {
    match name.bytes().strip_prefix(b".wh.") {
        None => WhiteoutFile::No,
        Some(hidden) if hidden.starts_with(b".wh.") => WhiteoutFile::Reserved,
        Some(hidden) => Name::new(hidden).map_or(WhiteoutFile::Reserved, WhiteoutFile::Of),
    }
}

/// Whether the archive form of a whiteout stands for this name.
pub fn has_whiteout_file(directory: BorrowedFd<'_>, name: Name<'_>) -> Result<bool> {
    let mut marked = b".wh.".to_vec();
    marked.extend_from_slice(name.bytes());
    match statat(directory, marked, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        // The longest names have no room for the mark.
        Err(Errno::NOENT | Errno::NAMETOOLONG | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// What is seen through a directory.
pub fn below(directory: BorrowedFd<'_>, namespace: Namespace) -> Result<Below> {
    let target = Target::Fd(directory);
    let opaque =
        |name| -> Result<bool> { Ok(xattr::get_vec(target, name)?.is_some_and(|value| value == b"y")) };
    if opaque(names(namespace).opaque)? || opaque(c"user.fuseoverlayfs.opaque")? {
        return Ok(Below::Nothing);
    }
    match statat(directory, c".wh..wh..opq", AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => return Ok(Below::Nothing),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(redirect_of(target, namespace)?.map_or(Below::SameName, Below::Redirected))
}

/// Whether whiteouts may stand in this directory as marked files.
pub fn holds_xattr_whiteouts(directory: BorrowedFd<'_>, namespace: Namespace) -> Result<bool> {
    let value = xattr::get_vec(Target::Fd(directory), names(namespace).opaque)?;
    Ok(value.is_some_and(|value| value == b"x"))
}

/// Whether a file is a whiteout by its mark.
pub fn is_xattr_whiteout(
    (directory, name): (BorrowedFd<'_>, Name<'_>),
    namespace: Namespace,
) -> Result<bool> {
    Ok(xattr::get_vec(Target::At(directory, name), names(namespace).whiteout)?.is_some())
}

/// Where the data of a file is.
pub fn data((directory, name): (BorrowedFd<'_>, Name<'_>), namespace: Namespace) -> Result<Data> {
    let target = Target::At(directory, name);
    match xattr::get_vec(target, names(namespace).metacopy)? {
        None => Ok(Data::Own),
        Some(_) => Ok(Data::Lower(redirect_of(target, namespace)?)),
    }
}

fn redirect_of(target: Target<'_>, namespace: Namespace) -> Result<Option<Redirect>> {
    xattr::get_vec(target, names(namespace).redirect)?.map(|value| redirect::parse(&value)).transpose()
}

/// A file's extended attributes but for the marks, sorted by name.
///
/// What may not be read counts as absent: it could not be changed either.
pub fn visible_attributes(target: Target<'_>) -> Result<Vec<(CString, Vec<u8>)>> {
    let mut attributes = Vec::new();
    for name in xattr::list(target)?.split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if is_private(name) {
            continue;
        }
        match xattr::get_vec(target, name) {
            Ok(Some(value)) => attributes.push((name.to_owned(), value)),
            Ok(None) => {}
            Err(error) if error.errno() == Errno::ACCESS => {}
            Err(error) => return Err(error),
        }
    }
    attributes.sort();
    Ok(attributes)
}

/// Whether an attribute belongs to the union and not to the file's users.
pub fn is_private(name: &CStr) -> bool {
    const PREFIXES: [&[u8]; 4] =
        [b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs.", b"user.containers.override_stat"];
    PREFIXES.iter().any(|prefix| name.to_bytes().starts_with(prefix))
}
