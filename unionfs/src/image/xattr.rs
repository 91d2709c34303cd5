//! Extended attributes of an image: behind their inode, or in one place for all
//! inodes that share one; names begin with a prefix that is a number.

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::format::{self, XattrEntry, XattrHeader};
use super::{Index, Inode, Nid, corrupt};
use crate::error::Result;

/// An attribute. Its name is in three pieces, nothing having been copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xattr<'a> {
    prefix: &'static [u8],
    infix: &'a [u8],
    suffix: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

impl Xattr<'_> {
    /// Whether this is its name.
    pub fn is_named(&self, name: &[u8]) -> bool {
        let rest = name.strip_prefix(self.prefix).and_then(|rest| rest.strip_prefix(self.infix));
        rest == Some(self.suffix)
    }

    /// Its name, as the image has it.
    pub fn name(&self) -> Vec<u8> {
        [self.prefix, self.infix, self.suffix].concat()
    }
}

/// A prefix of the image's own: one of the fixed ones, and bytes of the image.
#[derive(Clone, Copy)]
pub(super) struct Prefix {
    base: &'static [u8],
    at: u64,
    len: u64,
}

/// The attributes of an inode, the shared ones first.
pub struct Xattrs<'a> {
    index: &'a Index,
    nid: Nid,
    shared: &'a [U32],
    own: &'a [u8],
}

impl Index {
    /// The attributes of an inode, as the image names them.
    pub fn xattrs(&self, nid: Nid) -> Result<Xattrs<'_>> {
        self.xattrs_of(nid, &self.inode(nid)?)
    }

    /// The value of one attribute, named as the image names it.
    pub fn xattr(&self, nid: Nid, name: &[u8]) -> Result<Option<&[u8]>> {
        for xattr in self.xattrs(nid)? {
            let xattr = xattr?;
            if xattr.is_named(name) {
                return Ok(Some(xattr.value));
            }
        }
        Ok(None)
    }

    pub(super) fn xattrs_of(&self, nid: Nid, inode: &Inode) -> Result<Xattrs<'_>> {
        if inode.xattrs_len == 0 {
            return Ok(Xattrs { index: self, nid, shared: &[], own: &[] });
        }
        let bytes = self.get(inode.xattrs_at, inode.xattrs_len)?;
        let parts = || {
            let (header, rest) = XattrHeader::ref_from_prefix(bytes).ok()?;
            <[U32]>::ref_from_prefix_with_elems(rest, header.shared_count.into()).ok()
        };
        match parts() {
            Some((shared, own)) => Ok(Xattrs { index: self, nid, shared, own }),
            None => Err(broken(nid)),
        }
    }

    /// The table of prefixes: a length of two bytes, the number of a fixed prefix
    /// and what follows it, filled up to four bytes (`erofs_xattr_prefixes_init`).
    pub(super) fn read_prefixes(&self, count: u8, mut at: u64) -> Result<Vec<Prefix>> {
        let mut prefixes = Vec::with_capacity(count.into());
        for _ in 0..count {
            let (len, base) = match self.get(at, 3)? {
                &[low, high, base] => (u64::from(u16::from_le_bytes([low, high])), base),
                _ => return Err(corrupt("the prefixes of attributes")),
            };
            let base = format::XATTR_PREFIXES.get(usize::from(base)).copied();
            let (Some(base), 1..=256) = (base, len) else {
                return Err(corrupt("the prefixes of attributes"));
            };
            let prefix = Prefix { base, at: at + 3, len: len - 1 };
            self.get(prefix.at, prefix.len)?;
            prefixes.push(prefix);
            at = (at + 2 + len).next_multiple_of(format::XATTR_ALIGN);
        }
        Ok(prefixes)
    }

    /// The number of a name's beginning, as bytes.
    fn prefix(&self, nid: Nid, number: u8) -> Result<(&'static [u8], &[u8])> {
        if number & format::XATTR_LONG_PREFIX == 0 {
            let fixed = format::XATTR_PREFIXES.get(usize::from(number));
            return fixed.map(|&prefix| (prefix, &[][..])).ok_or_else(|| broken(nid));
        }
        let own = self.prefixes.get(usize::from(number & !format::XATTR_LONG_PREFIX));
        let Some(prefix) = own else { return Err(broken(nid)) };
        Ok((prefix.base, self.get(prefix.at, prefix.len)?))
    }
}

impl<'a> Iterator for Xattrs<'a> {
    type Item = Result<Xattr<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let xattr = self.advance().transpose()?;
        if xattr.is_err() {
            // What is broken is told once.
            (self.shared, self.own) = (&[], &[]);
        }
        Some(xattr)
    }
}

impl<'a> Xattrs<'a> {
    fn advance(&mut self) -> Result<Option<Xattr<'a>>> {
        if let Some((number, rest)) = self.shared.split_first() {
            self.shared = rest;
            let at = self.index.shared_at + u64::from(number.get()) * format::XATTR_ALIGN;
            let head = self.index.get(at, size_of::<XattrEntry>() as u64)?;
            let head = XattrEntry::ref_from_bytes(head).map_err(|_| broken(self.nid))?;
            let entry = self.index.get(at, entry_len(head) as u64)?;
            return Ok(Some(self.entry(head, entry)?));
        }
        if self.own.is_empty() {
            return Ok(None);
        }
        let (head, _) = XattrEntry::ref_from_prefix(self.own).map_err(|_| broken(self.nid))?;
        let entry = self.own.get(..entry_len(head)).ok_or_else(|| broken(self.nid))?;
        let end = entry.len().next_multiple_of(format::XATTR_ALIGN as usize);
        self.own = self.own.get(end..).unwrap_or_default();
        Ok(Some(self.entry(head, entry)?))
    }

    fn entry(&self, head: &XattrEntry, entry: &'a [u8]) -> Result<Xattr<'a>> {
        let (prefix, infix) = self.index.prefix(self.nid, head.name_index)?;
        let rest = entry.get(size_of::<XattrEntry>()..).unwrap_or_default();
        match rest.split_at_checked(head.name_len.into()) {
            Some((suffix, value)) => Ok(Xattr { prefix, infix, suffix, value }),
            None => Err(broken(self.nid)),
        }
    }
}

fn entry_len(head: &XattrEntry) -> usize {
    size_of::<XattrEntry>() + usize::from(head.name_len) + usize::from(head.value_size.get())
}

#[cold]
fn broken(nid: Nid) -> crate::Error {
    corrupt(format_args!("the attributes of {nid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_three_pieces() {
        let xattr = Xattr { prefix: b"trusted.", infix: b"overlay.", suffix: b"opaque", value: b"y" };
        assert!(xattr.is_named(b"trusted.overlay.opaque"));
        assert_eq!(xattr.name(), b"trusted.overlay.opaque");
        for other in
            [&b"trusted.overlay.opaqu"[..], b"trusted.overlay.opaquer", b"trusted.opaque", b"opaque", b""]
        {
            assert!(!xattr.is_named(other));
        }
    }
}
