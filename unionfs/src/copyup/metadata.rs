//! Owner, mode and attributes of a file, onto its copy: exactly, or not at all.

use std::ffi::CStr;

use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;

use super::staged::Staged;
use super::{Owner, Source, Trust};
use crate::config::Namespace;
use crate::error::Result;
use crate::object::Object;
use crate::ondisk::{override_stat, private};
use crate::sys::at::{self, Stat, Target};
use crate::sys::xattr;

/// The attribute file capabilities are kept in.
pub const CAPABILITY: &CStr = c"security.capability";

/// The permission bits a regular file is made with: those that it shall have,
/// unless they might keep this process from marking it.
pub fn mode_at_birth(source: &Source<'_>, namespace: Namespace) -> u32 {
    match (namespace, source.override_stat) {
        (Namespace::Trusted, None) => source.stat.mode & 0o777,
        _ => 0o600,
    }
}

/// Copies owner, attributes and mode, in this order: changing the owner clears
/// set-id bits and capabilities, and an ACL changes the mode. What the file was
/// made with is not set again.
///
/// # Errors
/// What the file systems gave. An attribute the upper cannot carry is left
/// behind unless it is an ACL or a security attribute, as in the kernel.
pub fn copy(staged: &Staged<'_>, source: &Source<'_>, namespace: Namespace) -> Result<()> {
    let (to, stat) = (staged.target(), source.stat);
    if let Some(name) = source.override_stat {
        let mode = trusted_mode(stat.mode, source.trust);
        copy_attributes(source.metadata, to, source.trust, namespace)?;
        override_stat::keep(to, name, &Stat { mode, ..*stat })?;
        return Ok(at::chmod(to, override_stat::mode_on_disk(stat.kind(), mode))?);
    }
    let owned = match staged.born() {
        Some(born) if (born.uid, born.gid) == (stat.uid, stat.gid) => Ok(()),
        _ => at::chown(to, Some(stat.uid), Some(stat.gid)).or_else(not_if_already(to, stat.uid, stat.gid)),
    };
    let trust = match owned {
        Ok(()) => source.trust,
        // What is another's here must not be that owner's program.
        Err(Errno::PERM | Errno::INVAL) if source.owner == Owner::Squashed => Trust::NoSetId,
        Err(errno) => return Err(errno.into()),
    };
    let copied = copy_attributes(source.metadata, to, trust, namespace)?;
    let mode = trusted_mode(stat.mode, trust);
    match staged.born() {
        _ if stat.kind() == FileType::Symlink => Ok(()),
        // It was made without the bits that a change of the owner clears.
        Some(born) if copied == 0 && born.mode == mode => Ok(()),
        _ => Ok(at::chmod(to, mode)?),
    }
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

/// Copies every attribute but marks, and says how many.
///
/// # Errors
/// As [`copy`].
pub fn copy_attributes(
    from: Object<'_>,
    to: Target<'_>,
    trust: Trust,
    namespace: Namespace,
) -> Result<usize> {
    let mut copied = 0;
    for name in from.xattr_names()?.split_inclusive(|&b| b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let distrusted = trust == Trust::NoSetId && name == CAPABILITY;
        if private::is_private(name.to_bytes(), namespace) || distrusted {
            continue;
        }
        let Some(value) = from.xattr_vec(name)? else { continue };
        match xattr::set(to, name, &value, XattrFlags::empty()) {
            Ok(()) => copied += 1,
            Err(Errno::OPNOTSUPP) if !must_copy(name) => {}
            // What this process may not write it must not smuggle in either;
            // the copy is less privileged than the original, never more.
            Err(Errno::PERM) if !is_acl(name) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(copied)
}

fn is_acl(name: &CStr) -> bool {
    name.to_bytes().starts_with(b"system.posix_acl_")
}

fn must_copy(name: &CStr) -> bool {
    is_acl(name) || name.to_bytes().starts_with(b"security.")
}
