//! Attribute names as seen from inside the mount against those on disk.
//!
//! A user inside must neither see nor forge our marks, yet a union mounted on
//! top of ours must be able to keep its own: its `trusted.overlay.X` is stored
//! as `trusted.overlay.overlay.X`, as kernel overlayfs does, and likewise for
//! `user.`. The marks of fuse-overlayfs and of containers' stores are refused.

use std::ffi::{CStr, CString};

/// Where an attribute of this name is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored<'a> {
    /// Under the same name.
    Same(&'a CStr),
    /// Under an escaped name.
    Escaped(CString),
    /// Nowhere: it is private to the store.
    Refused,
}

const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
const ESCAPE: &[u8] = b"overlay.";
const FOREIGN: [&[u8]; 2] = [b"user.fuseoverlayfs.", b"user.containers.override_stat"];

/// Maps a name used inside the mount to the one on disk.
pub fn to_disk(name: &CStr) -> Stored<'_> {
    let bytes = name.to_bytes();
    if FOREIGN.iter().any(|prefix| bytes.starts_with(prefix)) {
        return Stored::Refused;
    }
    for prefix in OVERLAY {
        if let Some(rest) = bytes.strip_prefix(prefix) {
            let escaped = [prefix, ESCAPE, rest].concat();
            return match CString::new(escaped) {
                Ok(escaped) => Stored::Escaped(escaped),
                Err(_) => Stored::Refused,
            };
        }
    }
    Stored::Same(name)
}

/// Maps a name on disk to the one shown inside; `None` for what is private.
pub fn from_disk(name: &[u8]) -> Option<Vec<u8>> {
    if FOREIGN.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    for prefix in OVERLAY {
        if let Some(rest) = name.strip_prefix(prefix) {
            let inner = rest.strip_prefix(ESCAPE)?;
            return Some([prefix, inner].concat());
        }
    }
    Some(name.to_vec())
}

/// Whether a name on disk is a mark of this or another union, which copy-up
/// leaves behind. What a nested union escaped is data and is copied.
pub fn is_private(name: &[u8]) -> bool {
    from_disk(name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_hidden_and_nested_ones_round_trip() {
        assert_eq!(from_disk(b"trusted.overlay.opaque"), None);
        assert_eq!(from_disk(b"user.overlay.redirect"), None);
        assert_eq!(from_disk(b"user.fuseoverlayfs.opaque"), None);
        assert_eq!(to_disk(c"user.containers.override_stat"), Stored::Refused);
        for name in [c"trusted.overlay.opaque", c"user.overlay.x", c"trusted.overlay.overlay.deeper"] {
            let Stored::Escaped(disk) = to_disk(name) else { panic!("{name:?} is not escaped") };
            assert_eq!(from_disk(disk.to_bytes()).as_deref(), Some(name.to_bytes()));
        }
        assert_eq!(to_disk(c"user.x"), Stored::Same(c"user.x"));
        assert_eq!(from_disk(b"security.capability").as_deref(), Some(&b"security.capability"[..]));
    }
}
