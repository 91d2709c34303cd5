//! What a file of an image consists of: bytes of the image itself, or an object.

use rustix::io::Errno;

use super::format::{self, BadMetacopy, Metacopy};
use super::{Index, Inode, Kind, Nid, corrupt, unsupported};
use crate::error::Result;
use crate::verity::Digest;

/// Where a regular file's contents are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents<'a> {
    /// In the image.
    Inline(Data<'a>),
    /// In a file of the object pool.
    Object {
        /// Its path below the pool: no `/` at its beginning, no empty name, no
        /// `.` or `..` in it.
        path: &'a [u8],
        /// Its fs-verity SHA-256 digest, where the image says it.
        digest: Option<&'a Digest>,
        /// The length of the file.
        size: u64,
    },
    /// Nowhere: zeros.
    Hole {
        /// How many.
        size: u64,
    },
}

/// Bytes that lie in the image, in two pieces at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Data<'a> {
    blocks: &'a [u8],
    tail: &'a [u8],
}

impl<'a> Data<'a> {
    /// How many bytes.
    pub fn len(&self) -> usize {
        self.blocks.len() + self.tail.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.tail.is_empty()
    }

    /// The first bytes and those that follow them.
    pub fn pieces(&self) -> [&'a [u8]; 2] {
        [self.blocks, self.tail]
    }

    /// Copies what is there from `offset` on, as far as `buffer` reaches; gives
    /// the number of bytes, 0 at the end.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let Ok(mut skip) = usize::try_from(offset) else { return 0 };
        let mut read = 0;
        for piece in self.pieces() {
            let from = piece.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            let into = buffer.get_mut(read..).unwrap_or_default();
            let len = from.len().min(into.len());
            if let (Some(from), Some(into)) = (from.get(..len), into.get_mut(..len)) {
                into.copy_from_slice(from);
                read += len;
            }
        }
        read
    }

    /// A block of a directory, the last may be shorter; empty behind the last.
    pub(super) fn block(&self, number: usize, size: usize) -> &'a [u8] {
        let Some(at) = number.checked_mul(size) else { return &[] };
        if at >= self.blocks.len() {
            return if at == self.blocks.len() { self.tail } else { &[] };
        }
        let end = at.saturating_add(size).min(self.blocks.len());
        self.blocks.get(at..end).unwrap_or_default()
    }
}

impl Index {
    /// A regular file's contents. `EINVAL` for what is none.
    pub fn contents(&self, nid: Nid) -> Result<Contents<'_>> {
        let inode = self.inode(nid)?;
        if inode.attr.kind != Kind::File {
            return Err(Errno::INVAL.into());
        }
        let size = inode.attr.size;
        let (mut metacopy, mut redirect) = (None, None);
        for xattr in self.xattrs_of(nid, &inode)? {
            let xattr = xattr?;
            if xattr.is_named(format::METACOPY) {
                metacopy = Some(xattr.value);
            } else if xattr.is_named(format::REDIRECT) {
                redirect = Some(xattr.value);
            }
        }
        match (metacopy, redirect) {
            (Some(metacopy), Some(redirect)) => Ok(Contents::Object {
                path: object_path(redirect)
                    .ok_or_else(|| corrupt(format_args!("{nid} is redirected to no object")))?,
                digest: object_digest(nid, metacopy)?,
                size,
            }),
            (Some(_), None) => Err(unsupported(format_args!("{nid}, whose object is not named"))),
            _ if inode.layout() == format::LAYOUT_CHUNKED => self.hole(nid, &inode),
            _ => Ok(Contents::Inline(self.data(nid, &inode)?)),
        }
    }

    /// A symbolic link's target. `EINVAL` for what is none.
    pub fn readlink(&self, nid: Nid) -> Result<&[u8]> {
        let inode = self.inode(nid)?;
        if inode.attr.kind != Kind::Symlink {
            return Err(Errno::INVAL.into());
        }
        // A target has less than `PATH_MAX` bytes, hence one piece as a rule.
        let target = match self.data(nid, &inode)?.pieces() {
            [target, []] | [[], target] => target,
            _ => return Err(unsupported(format_args!("{nid}, a link whose target is in two pieces"))),
        };
        if target.is_empty() || target.len() > PATH_MAX || target.contains(&0) {
            return Err(corrupt(format_args!("{nid} has no valid target")));
        }
        Ok(target)
    }

    /// The bytes of a directory, a link or a file, where the image has them.
    pub(super) fn data(&self, nid: Nid, inode: &Inode) -> Result<Data<'_>> {
        let size = inode.attr.size;
        match inode.layout() {
            _ if size == 0 => Ok(Data { blocks: &[], tail: &[] }),
            format::LAYOUT_PLAIN => Ok(Data { blocks: self.get(self.block_at(inode.u), size)?, tail: &[] }),
            format::LAYOUT_INLINE => {
                // The last block, however full, is behind the inode.
                let last = (size - 1) >> self.block_bits << self.block_bits;
                let blocks = match last {
                    0 => &[],
                    len => self.get(self.block_at(inode.u), len)?,
                };
                let at = inode.tail_at();
                if (at & (self.block_size() - 1)) + (size - last) > self.block_size() {
                    return Err(corrupt(format_args!("{nid} has a tail in two blocks")));
                }
                Ok(Data { blocks, tail: self.get(at, size - last)? })
            }
            layout => Err(unsupported(format_args!("{nid} in layout {layout}"))),
        }
    }

    /// A file in chunks, all of which must be zeros: their addresses are in the
    /// image, so there are not more of them than it has bytes.
    fn hole(&self, nid: Nid, inode: &Inode) -> Result<Contents<'_>> {
        if inode.u & !(format::CHUNK_BITS_MASK | format::CHUNK_INDEXES) != 0 {
            return Err(unsupported(format_args!("{nid} in chunks of format {:#x}", inode.u)));
        }
        let size = inode.attr.size;
        let (unit, address): (u64, usize) =
            if inode.u & format::CHUNK_INDEXES == 0 { (4, 0) } else { (8, 4) };
        let chunks = match size {
            0 => 0,
            size => ((size - 1) >> (self.block_bits + (inode.u & format::CHUNK_BITS_MASK))) + 1,
        };
        let at = inode.tail_at().next_multiple_of(unit);
        for chunk in self.get(at, chunks.saturating_mul(unit))?.chunks_exact(unit as usize) {
            if chunk.get(address..) != Some(&format::NO_BLOCK.to_le_bytes()) {
                return Err(unsupported(format_args!("{nid} in chunks")));
            }
        }
        Ok(Contents::Hole { size })
    }
}

/// Of <linux/limits.h>, without the terminating zero.
const PATH_MAX: usize = 4095;

/// `/ab/cdef` as `ab/cdef`.
fn object_path(redirect: &[u8]) -> Option<&[u8]> {
    let path = redirect.strip_prefix(b"/")?;
    let valid = path.len() <= PATH_MAX
        && !path.contains(&0)
        && path.split(|&byte| byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
    valid.then_some(path)
}

/// What stands in a metacopy attribute, which may be empty.
fn object_digest(nid: Nid, value: &[u8]) -> Result<Option<&Digest>> {
    Metacopy::digest(value).map_err(|bad| match bad {
        BadMetacopy::Malformed => corrupt(format_args!("{nid} has a malformed metacopy attribute")),
        BadMetacopy::Algorithm(algorithm) => {
            unsupported(format_args!("{nid} with a digest of algorithm {algorithm}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pieces_read_as_one() {
        let data = Data { blocks: b"0123", tail: b"45" };
        for offset in 0..8 {
            for len in 0..8 {
                let mut buffer = vec![b'-'; len];
                let read = data.read_at(offset as u64, &mut buffer);
                let expected = &b"012345"[offset.min(6)..(offset + len).min(6).max(offset.min(6))];
                assert_eq!(&buffer[..read], expected, "{len} from {offset}");
                assert!(buffer[read..].iter().all(|&byte| byte == b'-'));
            }
        }
        assert_eq!(data.read_at(u64::MAX, &mut [0; 4]), 0);
    }

    #[test]
    fn blocks_are_cut_from_pieces() {
        let data = Data { blocks: b"01234567", tail: b"89" };
        assert_eq!(
            [0, 1, 2, 3, usize::MAX].map(|number| data.block(number, 4)),
            [&b"0123"[..], b"4567", b"89", b"", b""]
        );
        let plain = Data { blocks: b"012345", tail: b"" };
        assert_eq!([0, 1, 2].map(|number| plain.block(number, 4)), [&b"0123"[..], b"45", b""]);
    }

    #[test]
    fn a_redirect_stays_below_the_pool() {
        assert_eq!(object_path(b"/ab/cd"), Some(&b"ab/cd"[..]));
        for path in [&b""[..], b"/", b"ab/cd", b"//ab", b"/ab/", b"/ab//cd", b"/../ab", b"/ab/.", b"/a\0b"] {
            assert_eq!(object_path(path), None, "{}", path.escape_ascii());
        }
        assert_eq!(object_path(&[b"/", &[b'n'; 4096][..]].concat()), None);
    }

    #[test]
    fn a_digest_is_of_a_known_kind() {
        let digest =
            |head: &[u8], len| object_digest(Nid(1), &[head, &vec![7; len]].concat()).map(|d| d.copied());
        assert_eq!(digest(&[], 0).unwrap(), None);
        assert_eq!(digest(&[0, 4, 0, 0], 0).unwrap(), None);
        assert_eq!(digest(&[0, 36, 0, 1], 32).unwrap(), Some([7; 32]));
        assert_eq!(digest(&[0, 68, 0, 2], 64).unwrap_err().errno(), Errno::OPNOTSUPP);
        for (head, len) in
            [(&[0, 4][..], 0), (&[1, 36, 0, 1], 32), (&[0, 36, 1, 1], 32), (&[0, 35, 0, 1], 32)]
        {
            assert_eq!(digest(head, len).unwrap_err().errno(), Errno::UCLEAN, "{head:?}");
        }
    }
}
