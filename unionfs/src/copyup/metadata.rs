//! Owner, mode and attributes of a file, onto its copy: exactly, or not at all.

use std::ffi::CStr;

use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;

use super::{Owner, Source, Trust};
use crate::config::Namespace;
use crate::error::Result;
use crate::object::Object;
use crate::ondisk::{override_stat, private};
use crate::sys::at::{self, Stat, Target};
use crate::sys::xattr;

/// The attribute file capabilities are kept in.
pub const CAPABILITY: &CStr = c"security.capability";

/// Copies owner, attributes and mode, in this order: changing the owner clears
/// set-id bits and capabilities, and an ACL changes the mode.
///
/// # Errors
/// What the file systems gave. An attribute the upper cannot carry is left
/// behind unless it is an ACL or a security attribute, as in the kernel.
pub fn copy(to: Target<'_>, source: &Source<'_>, namespace: Namespace) -> Result<()> {
    let stat = source.stat;
    if let Some(name) = source.override_stat {
        let mode = trusted_mode(stat.mode, source.trust);
        copy_attributes(source.metadata, to, source.trust, namespace)?;
        override_stat::keep(to, name, &Stat { mode, ..*stat })?;
        return Ok(at::chmod(to, override_stat::mode_on_disk(stat.kind(), mode))?);
    }
    let owned = at::chown(to, Some(stat.uid), Some(stat.gid)).or_else(not_if_already(to, stat.uid, stat.gid));
    let trust = match owned {
        Ok(()) => source.trust,
        // What is another's here must not be that owner's program.
        Err(Errno::PERM | Errno::INVAL) if source.owner == Owner::Squashed => Trust::NoSetId,
        Err(errno) => return Err(errno.into()),
    };
    copy_attributes(source.metadata, to, trust, namespace)?;
    if stat.kind() != FileType::Symlink {
        at::chmod(to, trusted_mode(stat.mode, trust))?;
    }
    Ok(())
}

/// A process that may not chown need not where the owner is right already.
fn not_if_already(to: Target<'_>, uid: u32, gid: u32) -> impl FnOnce(Errno) -> rustix::io::Result<()> {
    move |errno| {
        let now = at::stat(to)?;
        if now.uid == uid && now.gid == gid { Ok(()) } else { Err(errno) }
    }
}

/// The mode without set-id bits, where the layer's are not believed.
fn trusted_mode(mode: u32, trust: Trust) -> u32 {
    match trust {
        Trust::Full => mode,
        Trust::NoSetId if FileType::from_raw_mode(mode) == FileType::Directory => mode,
        Trust::NoSetId => mode & !0o6000,
    }
}

/// Copies every attribute but marks.
///
/// # Errors
/// As [`copy`].
pub fn copy_attributes(from: Object<'_>, to: Target<'_>, trust: Trust, namespace: Namespace) -> Result<()> {
    for name in from.xattr_names()?.split_inclusive(|&b| b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let distrusted = trust == Trust::NoSetId && name == CAPABILITY;
        if private::is_private(name.to_bytes(), namespace) || distrusted {
            continue;
        }
        let Some(value) = from.xattr_vec(name)? else { continue };
        match xattr::set(to, name, &value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) if !must_copy(name) => {}
            // What this process may not write it must not smuggle in either;
            // the copy is less privileged than the original, never more.
            Err(Errno::PERM) if !is_acl(name) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn is_acl(name: &CStr) -> bool {
    name.to_bytes().starts_with(b"system.posix_acl_")
}

fn must_copy(name: &CStr) -> bool {
    is_acl(name) || name.to_bytes().starts_with(b"security.")
}
