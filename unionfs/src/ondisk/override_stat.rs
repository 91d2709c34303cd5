//! Owner and mode kept in an attribute of the file, for stores whose daemon may
//! not give files away: `UID:GID:MODE`, the mode in octal, as fuse-overlayfs
//! (with the type's digits) and containers-storage (without) write it.
//!
//! Anyone who owns a file can write such a mark, so it is read only in layers
//! that are said, or marked on their root, to hold it.

use std::ffi::CStr;

use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;

use crate::config::OverrideStat;
use crate::error::{Absent, Result};
use crate::object::Object;
use crate::sys::at::{Stat, Target};
use crate::sys::xattr;

/// The attributes that mean this, the one that is written most first.
const NAMES: [&CStr; 3] = [
    c"user.containers.override_stat",
    c"user.fuseoverlayfs.override_stat",
    c"security.fuseoverlayfs.override_stat",
];

/// Two ids and a mode need at most 29 bytes; what comes after them (the type
/// of a device) is not ours.
const LONGEST: usize = 256;

/// The attribute that is written where the user asked for one.
pub fn asked(option: OverrideStat) -> Option<&'static CStr> {
    match option {
        OverrideStat::Off => None,
        OverrideStat::Fuseoverlayfs => Some(NAMES[1]),
        OverrideStat::Containers => Some(NAMES[0]),
    }
}

/// The attribute that a layer keeps owners in, by the mark on its root.
///
/// # Errors
/// What reading it gave.
pub fn marked(root: Object<'_>) -> Result<Option<&'static CStr>> {
    for name in NAMES {
        if root.xattr(name, &mut []).no_attribute()?.is_some() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether a file of this type can carry the attribute: the kernel lets no
/// `user.` attribute on others.
pub fn fits(kind: FileType) -> bool {
    matches!(kind, FileType::RegularFile | FileType::Directory)
}

/// The attributes of a file with the owner and mode that are meant.
///
/// # Errors
/// What reading the attribute gave.
pub fn meant(object: Object<'_>, preferred: &CStr, stat: &Stat) -> Result<Stat> {
    let mut buffer = [0; LONGEST];
    let others = NAMES.into_iter().filter(|&name| name != preferred);
    for name in std::iter::once(preferred).chain(others) {
        let length = match object.xattr(name, &mut buffer) {
            Err(Errno::RANGE) => continue,
            result => result.no_attribute()?,
        };
        let value = length.and_then(|length| buffer.get(..length));
        if let Some((uid, gid, mode)) = value.and_then(parse) {
            let mode = stat.mode & !0o7777 | mode & 0o7777;
            return Ok(Stat { uid, gid, mode, ..*stat });
        }
    }
    Ok(*stat)
}

/// Keeps the owner and mode of `stat` in the attribute.
///
/// # Errors
/// What writing it gave.
pub fn keep(target: Target<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    let value = format!("{}:{}:{:04o}", stat.uid, stat.gid, stat.mode & 0o7777);
    Ok(xattr::set(target, name, value.as_bytes(), XattrFlags::empty())?)
}

/// The mode on disk of a file whose own is in the attribute: the daemon's to
/// use, and nobody's more than meant.
pub fn mode_on_disk(kind: FileType, meant: u32) -> u32 {
    let own = if kind == FileType::Directory { 0o700 } else { 0o600 };
    meant & 0o755 | own
}

fn parse(value: &[u8]) -> Option<(u32, u32, u32)> {
    let mut parts = std::str::from_utf8(value).ok()?.trim_end_matches('\0').split(':');
    let uid = parts.next()?.parse().ok()?;
    let gid = parts.next()?.parse().ok()?;
    let mode = u32::from_str_radix(parts.next()?, 8).ok()?;
    Some((uid, gid, mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_found_in_stores() {
        for (value, want) in [
            ("0:0:0755", Some((0, 0, 0o755))),
            ("7:8:100755", Some((7, 8, 0o100755))),
            ("0:0:42775", Some((0, 0, 0o42775))),
            ("1:2:0644:block-1:2", Some((1, 2, 0o644))),
            ("1:2:0644\0", Some((1, 2, 0o644))),
            ("1:2", None),
            ("1:2:9", None),
            ("-1:2:0", None),
            ("", None),
        ] {
            assert_eq!(parse(value.as_bytes()), want, "{value}");
        }
    }

    #[test]
    fn nobody_gets_more_on_disk_than_is_meant() {
        assert_eq!(mode_on_disk(FileType::RegularFile, 0o4755), 0o755);
        assert_eq!(mode_on_disk(FileType::RegularFile, 0o046), 0o644);
        assert_eq!(mode_on_disk(FileType::Directory, 0), 0o700);
        assert_eq!(mode_on_disk(FileType::Directory, 0o1777), 0o755);
    }
}
