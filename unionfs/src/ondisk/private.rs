//! Attribute names as seen from inside the mount against those on disk.
//!
//! A user inside must neither see nor forge our marks, yet a union mounted on
//! top of ours must be able to keep its own: its `trusted.overlay.X` is stored
//! as `trusted.overlay.overlay.X`, as kernel overlayfs does, or likewise for
//! `user.` where that is the mount's namespace; the other one is data. The marks
//! of fuse-overlayfs and of containers' stores are refused.

use std::ffi::{CStr, CString};

use crate::config::Namespace;

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

fn overlay(namespace: Namespace) -> &'static [u8] {
    match namespace {
        Namespace::Trusted => b"trusted.overlay.",
        Namespace::User => b"user.overlay.",
    }
}

const ESCAPE: &[u8] = b"overlay.";
const FOREIGN: [&[u8]; 3] =
    [b"user.fuseoverlayfs.", b"security.fuseoverlayfs.", b"user.containers.override_stat"];

/// Maps a name used inside the mount to the one on disk.
pub fn to_disk(name: &CStr, namespace: Namespace) -> Stored<'_> {
    let bytes = name.to_bytes();
    if FOREIGN.iter().any(|prefix| bytes.starts_with(prefix)) {
        return Stored::Refused;
    }
    let prefix = overlay(namespace);
    let Some(rest) = bytes.strip_prefix(prefix) else { return Stored::Same(name) };
    match CString::new([prefix, ESCAPE, rest].concat()) {
        Ok(escaped) => Stored::Escaped(escaped),
        Err(_) => Stored::Refused,
    }
}

/// Maps a name on disk to the one shown inside; `None` for what is private.
pub fn from_disk(name: &[u8], namespace: Namespace) -> Option<Vec<u8>> {
    if FOREIGN.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let prefix = overlay(namespace);
    match name.strip_prefix(prefix) {
        Some(rest) => Some([prefix, rest.strip_prefix(ESCAPE)?].concat()),
        None => Some(name.to_vec()),
    }
}

/// Whether a name on disk is a mark of this or another union, which copy-up
/// leaves behind. What a nested union escaped is data and is copied.
pub fn is_private(name: &[u8], namespace: Namespace) -> bool {
    from_disk(name, namespace).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_hidden_and_nested_ones_round_trip() {
        use Namespace::{Trusted, User};
        assert_eq!(from_disk(b"trusted.overlay.opaque", Trusted), None);
        assert_eq!(from_disk(b"user.overlay.redirect", User), None);
        assert_eq!(
            from_disk(b"user.overlay.redirect", Trusted).as_deref(),
            Some(&b"user.overlay.redirect"[..])
        );
        for namespace in [Trusted, User] {
            assert_eq!(from_disk(b"user.fuseoverlayfs.opaque", namespace), None);
            assert_eq!(to_disk(c"user.containers.override_stat", namespace), Stored::Refused);
            assert_eq!(to_disk(c"user.x", namespace), Stored::Same(c"user.x"));
        }
        let nested = [(c"trusted.overlay.opaque", Trusted), (c"user.overlay.overlay.deeper", User)];
        for (name, namespace) in nested {
            let Stored::Escaped(disk) = to_disk(name, namespace) else { panic!("{name:?} is not escaped") };
            assert_eq!(from_disk(disk.to_bytes(), namespace).as_deref(), Some(name.to_bytes()));
        }
    }
}
