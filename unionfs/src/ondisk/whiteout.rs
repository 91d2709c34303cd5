//! Names and devices that say "not here": the forms that are read.
//!
//! Written are a character device 0/0 where the caller may make one, else an
//! empty file with the whiteout attribute in a directory marked `opaque=x`.
//! The `.wh.` names of aufs and of OCI layers are reserved in every layer: read
//! as whiteouts, never shown, never created from inside.

use rustix::fs::FileType;

use crate::name::{Name, NameBuf};

/// The prefix of a whiteout's name.
const PREFIX: &[u8] = b".wh.";
/// The files that make their directory opaque.
pub const OPAQUE_FILES: [&[u8]; 2] = [b".wh..wh..opq", b".wh..opq"];

/// What a name alone says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameMeaning<'a> {
    /// An entry like any other.
    Entry,
    /// Hides the named entry of the layers below.
    Whiteout(Name<'a>),
    /// Hides everything of the layers below.
    Opaque,
    /// Bookkeeping of other tools; not shown.
    Reserved,
}

/// Reads a name of a layer.
pub fn meaning(name: &[u8]) -> NameMeaning<'_> {
    let Some(hidden) = name.strip_prefix(PREFIX) else { return NameMeaning::Entry };
    if OPAQUE_FILES.contains(&name) {
        return NameMeaning::Opaque;
    }
    match Name::new(hidden) {
        Ok(hidden) if !hidden.bytes().starts_with(PREFIX) => NameMeaning::Whiteout(hidden),
        _ => NameMeaning::Reserved,
    }
}

/// The file that would hide `name`; the longest names have no room for one.
pub fn file_of(name: Name<'_>) -> Option<NameBuf> {
    Name::new(&[PREFIX, name.bytes()].concat()).ok().map(Name::to_buf)
}

/// Whether a name may not be created from inside.
pub fn is_reserved(name: Name<'_>) -> bool {
    name.bytes().starts_with(PREFIX)
}

/// Whether an entry of this type must be looked at to know that it is no
/// whiteout.
pub fn is_suspect(kind: FileType) -> bool {
    kind == FileType::CharacterDevice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_say_what_they_hide() {
        assert_eq!(meaning(b"a"), NameMeaning::Entry);
        assert_eq!(meaning(b".w"), NameMeaning::Entry);
        assert_eq!(meaning(b".wh.a"), NameMeaning::Whiteout(Name::new(b"a").unwrap()));
        assert_eq!(meaning(b".wh..hidden"), NameMeaning::Whiteout(Name::new(b".hidden").unwrap()));
        assert_eq!(meaning(b".wh..wh..opq"), NameMeaning::Opaque);
        assert_eq!(meaning(b".wh..wh.plnk"), NameMeaning::Reserved);
        assert_eq!(meaning(b".wh."), NameMeaning::Reserved);
        assert_eq!(meaning(b".wh..."), NameMeaning::Reserved);
    }
}
