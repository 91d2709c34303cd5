//! Which marks a file carries, learnt with one system call where there is none.
//!
//! Marks are read and written in the mount's namespace, as in the kernel: in a
//! `trusted.` mount, `user.overlay.` is what a union nested in it keeps, and
//! data. In the `user.` namespace any owner of a layer can forge marks; who
//! follows a redirect from there is the resolver's decision. fuse-overlayfs's
//! opaque mark is read in both.

use std::ffi::CStr;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::config::Namespace;
use crate::error::{Absent, Error, Result};
use crate::image::format::{BadMetacopy, Metacopy};
use crate::object::Object;
use crate::sys::owned;
use crate::sys::xattr::{self, Target};
use crate::verity::Digest;

/// One of overlay's private attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// "y": nothing below is merged; "x": may hold xattr whiteouts.
    Opaque,
    /// Where the lower directories (or a metacopy's data) are.
    Redirect,
    /// The inode holds metadata, its data is further down.
    Metacopy,
    /// File handle of the lower file it was copied from.
    Origin,
    /// The directory may hold entries with an origin.
    Impure,
    /// Link count relative to the upper or the lower inode.
    Nlink,
    /// An empty regular file that hides what is below.
    Whiteout,
}

impl Mark {
    fn name(self, namespace: Namespace) -> &'static CStr {
        match (namespace, self) {
            (Namespace::Trusted, Mark::Opaque) => c"trusted.overlay.opaque",
            (Namespace::Trusted, Mark::Redirect) => c"trusted.overlay.redirect",
            (Namespace::Trusted, Mark::Metacopy) => c"trusted.overlay.metacopy",
            (Namespace::Trusted, Mark::Origin) => c"trusted.overlay.origin",
            (Namespace::Trusted, Mark::Impure) => c"trusted.overlay.impure",
            (Namespace::Trusted, Mark::Nlink) => c"trusted.overlay.nlink",
            (Namespace::Trusted, Mark::Whiteout) => c"trusted.overlay.whiteout",
            (Namespace::User, Mark::Opaque) => c"user.overlay.opaque",
            (Namespace::User, Mark::Redirect) => c"user.overlay.redirect",
            (Namespace::User, Mark::Metacopy) => c"user.overlay.metacopy",
            (Namespace::User, Mark::Origin) => c"user.overlay.origin",
            (Namespace::User, Mark::Impure) => c"user.overlay.impure",
            (Namespace::User, Mark::Nlink) => c"user.overlay.nlink",
            (Namespace::User, Mark::Whiteout) => c"user.overlay.whiteout",
        }
    }
}

/// fuse-overlayfs's name for an opaque directory.
const FUSE_OVERLAYFS_OPAQUE: &CStr = c"user.fuseoverlayfs.opaque";
/// The attribute POSIX default ACLs are kept in.
pub const DEFAULT_ACL: &CStr = c"system.posix_acl_default";

/// How much of the layers below a directory shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opacity {
    /// All of it.
    #[default]
    Transparent,
    /// All of it, and regular files in here may be xattr whiteouts.
    XattrWhiteouts,
    /// Nothing.
    Opaque,
}

/// Everything a file's attributes say about its place in the union.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// Of directories.
    pub opacity: Opacity,
    /// The directory or metacopy's redirect, unparsed.
    pub redirect: Option<Vec<u8>>,
    /// Whether data is further down.
    pub metacopy: bool,
    /// The copy-up origin's file handle; empty where unknown.
    pub origin: Option<Vec<u8>>,
    /// The link count's offset, unparsed.
    pub nlink: Option<Vec<u8>>,
    /// Whether entries may have an origin.
    pub impure: bool,
    /// Whether new entries inherit an ACL.
    pub default_acl: bool,
    /// Whether an empty regular file here is a whiteout.
    pub whiteout: bool,
}

impl Marks {
    /// Reads the marks of one file: one listing, then only what it names.
    ///
    /// # Errors
    /// What the file system gave, but for not having attributes.
    pub fn read<'a>(object: impl Into<Object<'a>>, namespace: Namespace) -> Result<Marks> {
        let object = object.into();
        Marks::read_in(object, &[object.namespace(namespace)])
    }

    fn read_in(object: Object<'_>, namespaces: &[Namespace]) -> Result<Marks> {
        let names = object.xattr_names()?;
        let mut marks = Marks::default();
        for name in names.split_inclusive(|&b| b == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            marks.take(object, namespaces, name)?;
        }
        Ok(marks)
    }

    fn take(&mut self, object: Object<'_>, namespaces: &[Namespace], name: &CStr) -> Result<()> {
        if name == DEFAULT_ACL {
            self.default_acl = true;
        } else if name == FUSE_OVERLAYFS_OPAQUE {
            self.note_opacity(&value(object, name)?);
        } else if let Some(mark) = namespaces.iter().find_map(|namespace| parse(name, *namespace)) {
            match mark {
                Mark::Opaque => self.note_opacity(&value(object, name)?),
                Mark::Redirect => self.redirect = Some(value(object, name)?),
                Mark::Metacopy => self.metacopy = true,
                Mark::Origin => self.origin = Some(value(object, name)?),
                Mark::Nlink => self.nlink = Some(value(object, name)?),
                Mark::Impure => self.impure = true,
                Mark::Whiteout => self.whiteout = true,
            }
        }
        Ok(())
    }

    fn note_opacity(&mut self, value: &[u8]) {
        match value {
            b"y" => self.opacity = Opacity::Opaque,
            b"x" if self.opacity == Opacity::Transparent => self.opacity = Opacity::XattrWhiteouts,
            _ => {}
        }
    }
}

/// The value of an attribute just listed; empty if it went meanwhile.
fn value(object: Object<'_>, name: &CStr) -> Result<Vec<u8>> {
    Ok(object.xattr_vec(name)?.unwrap_or_default())
}

fn parse(name: &CStr, namespace: Namespace) -> Option<Mark> {
    let prefix: &[u8] = match namespace {
        Namespace::Trusted => b"trusted.overlay.",
        Namespace::User => b"user.overlay.",
    };
    let mark = match name.to_bytes().strip_prefix(prefix)? {
        b"opaque" => Mark::Opaque,
        b"redirect" => Mark::Redirect,
        b"metacopy" => Mark::Metacopy,
        b"origin" => Mark::Origin,
        b"impure" => Mark::Impure,
        b"nlink" => Mark::Nlink,
        b"whiteout" => Mark::Whiteout,
        _ => return None,
    };
    Some(mark)
}

/// The digest a metacopy gives of its data, where it gives one.
///
/// # Errors
/// `EIO` for a mark that is malformed, or of another algorithm than SHA-256; what
/// the file system gave.
pub fn digest(object: Object<'_>, namespace: Namespace) -> Result<Option<Digest>> {
    let name = Mark::Metacopy.name(object.namespace(namespace));
    let value = value(object, name)?;
    let digest = Metacopy::digest(&value).map_err(|bad| {
        let sentence = match bad {
            BadMetacopy::Malformed => "a metacopy has a malformed mark".to_owned(),
            BadMetacopy::Algorithm(number) => format!("a metacopy has a digest of algorithm {number}"),
        };
        Error::new(Errno::IO, sentence)
    })?;
    Ok(digest.copied())
}

/// Writes a mark in the mount's namespace.
///
/// # Errors
/// What the file system gave.
pub fn set(target: Target<'_>, namespace: Namespace, mark: Mark, value: &[u8]) -> Result<()> {
    Ok(write(target, mark.name(namespace), value)?)
}

/// Writes a mark that a symlink or device may be unable to carry: in the
/// `user.` namespace they have none, and go without.
///
/// # Errors
/// What the file system gave, but for that.
pub fn set_if_possible(target: Target<'_>, namespace: Namespace, mark: Mark, value: &[u8]) -> Result<()> {
    write(target, mark.name(namespace), value).no_attribute()?;
    Ok(())
}

/// A `user.` attribute needs the right to write the file it is of.
fn write(target: Target<'_>, name: &CStr, value: &[u8]) -> rustix::io::Result<()> {
    owned::despite_mode(target, || xattr::set(target, name, value, XattrFlags::empty()))
}

/// Removes a mark, if there.
///
/// # Errors
/// What the file system gave.
pub fn clear(target: Target<'_>, namespace: Namespace, mark: Mark) -> Result<()> {
    let name = mark.name(namespace);
    owned::despite_mode(target, || xattr::remove(target, name)).no_attribute()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_to_the_marks_they_are_written_as() {
        for namespace in [Namespace::Trusted, Namespace::User] {
            for mark in [
                Mark::Opaque,
                Mark::Redirect,
                Mark::Metacopy,
                Mark::Origin,
                Mark::Impure,
                Mark::Nlink,
                Mark::Whiteout,
            ] {
                assert_eq!(parse(mark.name(namespace), namespace), Some(mark));
            }
        }
        for other in [c"user.opaque", c"trusted.overlay.", c"trusted.overlay.overlay.opaque"] {
            assert_eq!(parse(other, Namespace::Trusted), None);
            assert_eq!(parse(other, Namespace::User), None);
        }
    }
}
