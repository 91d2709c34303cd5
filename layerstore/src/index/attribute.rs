//! The attributes of an inode in an index: the tree's own, escaped where they are
//! overlayfs's, and those by which overlayfs finds a file's contents.

use unionfs::image::format::{
    ESCAPED_PREFIX, METACOPY, Metacopy, OVERLAY_PREFIX, REDIRECT, XATTR_ALIGN, XATTR_PREFIXES, XattrEntry,
};
use zerocopy::IntoBytes;

use crate::error::{Error, Kind, Result};
use crate::object::ObjectId;
use crate::tree::{Content, Device, Node};

/// One attribute, small to copy: its name and value are made when it is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attribute<'a> {
    /// The digest of a file's contents.
    Metacopy(ObjectId),
    /// Where they lie.
    Redirect(ObjectId),
    /// What stands for a whiteout, by its name in the index.
    Mark(&'static [u8], &'static [u8]),
    /// The tree's own, by its name there.
    Own(&'a [u8], &'a [u8]),
}

/// Whether a node is a whiteout to overlayfs, and so must not be one in an index.
pub fn is_whiteout(node: &Node) -> bool {
    matches!(node.content, Content::Char(Device { major: 0, minor: 0 }))
}

/// What an escaped whiteout has, as composefs writes it: for an overlay that
/// reads `trusted.overlay.`, and for one that reads `user.overlay.`.
const WHITEOUT: [Attribute; 2] = [
    Attribute::Mark(b"trusted.overlay.overlay.whiteout", b""),
    Attribute::Mark(b"user.overlay.whiteout", b""),
];

/// What its directory has: `whiteouts` for Linux up to 6.7, `opaque=x` since.
const HAS_WHITEOUTS: [Attribute; 4] = [
    Attribute::Mark(b"trusted.overlay.overlay.whiteouts", b""),
    Attribute::Mark(b"user.overlay.whiteouts", b""),
    Attribute::Mark(b"trusted.overlay.overlay.opaque", b"x"),
    Attribute::Mark(b"user.overlay.opaque", b"x"),
];

/// The attributes of a node in the index. A mark goes before one of the tree
/// that would have its name.
pub fn attributes(node: &Node, has_whiteouts: bool) -> Vec<Attribute<'_>> {
    let mut all = Vec::new();
    match node.content {
        Content::Object { id, size } if size > 0 => {
            all.extend([Attribute::Metacopy(id), Attribute::Redirect(id)]);
        }
        _ if is_whiteout(node) => all.extend(WHITEOUT),
        _ if has_whiteouts => all.extend(HAS_WHITEOUTS),
        _ => {}
    }
    let marks = all.len();
    for (name, value) in &node.xattrs {
        let own = Attribute::Own(name, value);
        let is_taken = all.iter().take(marks).any(|mark| mark.name() == own.name());
        if !is_taken {
            all.push(own);
        }
    }
    all
}

impl Attribute<'_> {
    fn name(&self) -> Vec<u8> {
        match *self {
            Attribute::Metacopy(_) => METACOPY.to_vec(),
            Attribute::Redirect(_) => REDIRECT.to_vec(),
            Attribute::Mark(name, _) => name.to_vec(),
            Attribute::Own(name, _) => match name.strip_prefix(OVERLAY_PREFIX) {
                Some(rest) => [ESCAPED_PREFIX, rest].concat(),
                None => name.to_vec(),
            },
        }
    }

    fn value(&self) -> Vec<u8> {
        match *self {
            Attribute::Metacopy(id) => Metacopy::with(&id.0),
            Attribute::Redirect(id) => format!("/{}", id.path()).into_bytes(),
            Attribute::Mark(_, value) | Attribute::Own(_, value) => value.to_vec(),
        }
    }

    /// Whether it is a POSIX ACL.
    pub fn is_acl(&self) -> bool {
        matches!(self, Attribute::Own(name, _) if name.starts_with(b"system.posix_acl_"))
    }

    /// The entry of an index: number of the name's prefix, its rest, the value.
    pub fn entry(&self) -> Result<Vec<u8>> {
        let (name, value) = (self.name(), self.value());
        let of = || format!("attribute {:?}", String::from_utf8_lossy(&name));
        if name.is_empty() || name.contains(&0) {
            return Err(Error::new(Kind::Invalid, format!("{} has no valid name", of())));
        }
        let (number, rest) = prefix(&name);
        let (Ok(name_len), Ok(value_size)) = (u8::try_from(rest.len()), u16::try_from(value.len())) else {
            return Err(Error::new(Kind::Limit, format!("{} is longer than 255 or 65,535 bytes", of())));
        };
        let head = XattrEntry { name_len, name_index: number, value_size: value_size.into() };
        let mut entry = [head.as_bytes(), rest, &value].concat();
        entry.resize(entry.len().next_multiple_of(XATTR_ALIGN as usize), 0);
        Ok(entry)
    }
}

/// The number of the prefix that a name begins with, and the rest of it; 0 and
/// the whole name where none fits. Access control lists have no rest.
fn prefix(name: &[u8]) -> (u8, &[u8]) {
    for (number, prefix) in (0..).zip(XATTR_PREFIXES).skip(1) {
        match name.strip_prefix(prefix) {
            Some(rest) if prefix.ends_with(b".") || rest.is_empty() => return (number, rest),
            _ => {}
        }
    }
    (0, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn a_prefix_is_a_number() {
        assert_eq!(prefix(b"user.mime"), (1, &b"mime"[..]));
        assert_eq!(prefix(b"system.posix_acl_access"), (2, &b""[..]));
        assert_eq!(prefix(b"system.posix_acl_accessory"), (0, &b"system.posix_acl_accessory"[..]));
        assert_eq!(prefix(b"security.capability"), (6, &b"capability"[..]));
    }

    #[test]
    fn a_mark_goes_before_an_attribute_of_its_name() {
        let mut root = Tree::new().nodes.remove(0);
        root.xattrs.insert((*b"trusted.overlay.opaque").into(), (*b"y").into());
        root.xattrs.insert((*b"user.other").into(), (*b"1").into());
        let names: Vec<_> = attributes(&root, true).iter().map(|one| (one.name(), one.value())).collect();
        let opaque: Vec<_> =
            names.iter().filter(|(name, _)| name.ends_with(b"overlay.overlay.opaque")).collect();
        assert_eq!((names.len(), opaque.len()), (5, 1), "{names:?}");
        assert_eq!(opaque[0].1, b"x");
        assert_eq!(attributes(&root, false)[0].name(), b"trusted.overlay.overlay.opaque");
    }
}
