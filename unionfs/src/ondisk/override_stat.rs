//! Owner and mode kept in an attribute, for stores whose user may not chown:
//! `UID:GID:MODE`, the mode octal and with or without type bits, perhaps
//! followed by a type that later versions of such stores add.

use std::ffi::CStr;

use crate::config::OverrideStat;

/// What the attribute says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// The attribute's name, if one is used.
pub fn name(which: OverrideStat) -> Option<&'static CStr> {
    match which {
        OverrideStat::Off => None,
        OverrideStat::Fuseoverlayfs => Some(c"user.fuseoverlayfs.override_stat"),
        OverrideStat::Containers => Some(c"user.containers.override_stat"),
    }
}

/// Reads a value; `None` for what is none.
pub fn parse(value: &[u8]) -> Option<Owner> {
    let text = std::str::from_utf8(value).ok()?;
    let mut parts = text.trim_end_matches('\0').splitn(4, ':');
    let uid = parts.next()?.parse().ok()?;
    let gid = parts.next()?.parse().ok()?;
    let mode = u32::from_str_radix(parts.next()?, 8).ok()? & 0o7777;
    Some(Owner { uid, gid, mode })
}

/// Writes a value, without type bits: both readers take it.
pub fn format(owner: Owner) -> String {
    format!("{}:{}:{:o}", owner.uid, owner.gid, owner.mode & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_stores_hold_are_read() {
        let owner = Owner { uid: 7, gid: 8, mode: 0o755 };
        for value in [&b"7:8:755"[..], b"7:8:0755", b"7:8:100755", b"7:8:755:file", b"7:8:0755\0"] {
            assert_eq!(parse(value), Some(owner), "{value:?}");
        }
        assert_eq!(parse(format(owner).as_bytes()), Some(owner));
        for bad in [&b""[..], b"7", b"7:8", b"7:8:9", b"a:8:755", b"\xff"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
