//! The index of a container image: a whole tree's names, attributes, xattrs,
//! link targets and small files in one EROFS image, read where it is mapped.
//!
//! It follows composefs's conventions, so the kernel mounts the same file: a
//! regular file's contents lie in a pool of objects, and its inode says where
//! ([`Contents::Object`]). Images of `mkfs.erofs` without compression are read
//! as well; compression, fragments, further devices and 48-bit addresses are
//! refused in words.
//!
//! # Invariants
//! - Bytes are hostile: every offset is checked where it is used, no loop runs
//!   longer than the image is long, and what is wrong is `EUCLEAN` with a
//!   sentence. But a tree is what the image says: a directory may contain itself,
//!   so whoever walks one sets a limit.
//! - Looking up, attributes and entries allocate nothing.
//! - Names of attributes are as they are in the image. Names below
//!   `trusted.overlay.` are overlayfs's; those of the tree itself stand below
//!   `trusted.overlay.overlay.`, a whiteout of the tree is an empty regular file
//!   with `trusted.overlay.overlay.whiteout`, and its directory has
//!   `trusted.overlay.overlay.whiteouts`. To undo that is for who shows the tree.
//!   (Images of composefs's own tools also have whiteouts named `00` to `ff` in an
//!   opaque root: what hides the pool from kernels without data-only layers.)
//! - The superblock's checksum is not looked at: an image's digest says more.

mod data;
mod dir;
pub mod format;
mod xattr;

use std::fmt;
use std::os::fd::AsFd;

use rustix::io::Errno;
use zerocopy::FromBytes;

use crate::error::{Error, Result};
use crate::sys;

pub use data::{Contents, Data};
pub use dir::{Entries, Entry};
pub use xattr::{Xattr, Xattrs};

use format::{Compact, Extended, SLOT, Superblock};
use xattr::Prefix;

/// The number of an inode: its place in the image, and its `st_ino`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nid(pub u64);

impl fmt::Display for Nid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inode {}", self.0)
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// What `stat` says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// What it is.
    pub kind: Kind,
    /// The twelve permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// How many names it has.
    pub nlink: u32,
    /// Bytes of a file, a target or a directory.
    pub size: u64,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// And nanoseconds, below 1,000,000,000.
    pub mtime_nsec: u32,
    /// A device's numbers, (0, 0) of all else.
    pub rdev: (u32, u32),
    /// The nid.
    pub ino: u64,
}

/// An image index, mapped and checked as far as its superblock goes.
pub struct Index {
    bytes: Bytes,
    block_bits: u32,
    root: Nid,
    inodes: u64,
    uuid: [u8; 16],
    epoch: (i64, u32),
    /// Where nids count from, and shared attributes; in bytes.
    meta_at: u64,
    shared_at: u64,
    prefixes: Vec<Prefix>,
}

enum Bytes {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl Index {
    /// Maps an image. Nobody may shorten the file while the index lives; it may
    /// be removed, or another renamed over it.
    ///
    /// # Errors
    /// `EINVAL` for what is no regular file; `EUCLEAN` for what is no EROFS image,
    /// `EOPNOTSUPP` for one that needs what this reader does not have.
    pub fn open(file: impl AsFd) -> Result<Index> {
        let file = file.as_fd();
        let stat = rustix::fs::fstat(file)?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(Error::new(Errno::INVAL, "the image index is not a regular file"));
        }
        let map = sys::memory::map(file).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            Error::from(errno).context("the image index cannot be mapped")
        })?;
        Index::new(Bytes::Mapped(map))
    }

    /// An image in memory.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Index> {
        Index::new(Bytes::Owned(bytes))
    }

    fn new(bytes: Bytes) -> Result<Index> {
        let mut index = Index {
            bytes,
            block_bits: 0,
            root: Nid(0),
            inodes: 0,
            uuid: [0; 16],
            epoch: (0, 0),
            meta_at: 0,
            shared_at: 0,
            prefixes: Vec::new(),
        };
        let superblock = Superblock::read_from_bytes(index.get(format::SUPERBLOCK_AT, 128)?)
            .map_err(|_| corrupt("the superblock"))?;
        if superblock.magic.get() != format::EROFS_MAGIC {
            return Err(corrupt("this is no erofs image"));
        }
        supported(&superblock)?;
        let nsec = superblock.build_time_nsec.get();
        if nsec >= NSEC_END {
            return Err(corrupt("the superblock's time"));
        }
        index.block_bits = superblock.blkszbits.into();
        index.root = Nid(superblock.root_nid.get().into());
        index.inodes = superblock.inos.get();
        index.uuid = superblock.uuid;
        index.epoch = (superblock.build_time.get() as i64, nsec);
        index.meta_at = index.block_at(superblock.meta_blkaddr.get());
        index.shared_at = index.block_at(superblock.xattr_blkaddr.get());
        if superblock.feature_incompat.get() & format::INCOMPAT_XATTR_PREFIXES != 0 {
            index.prefixes = index.read_prefixes(
                superblock.xattr_prefix_count,
                u64::from(superblock.xattr_prefix_start.get()) * format::XATTR_ALIGN,
            )?;
        }
        if index.attr(index.root)?.kind != Kind::Dir {
            return Err(corrupt("the root is not a directory"));
        }
        Ok(index)
    }

    /// The root directory.
    pub fn root(&self) -> Nid {
        self.root
    }

    /// What tells the image from others; zeros where its maker gave it none.
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// How many inodes the image says it has.
    pub fn inodes(&self) -> u64 {
        self.inodes
    }

    /// What `stat` says of an inode.
    pub fn attr(&self, nid: Nid) -> Result<Attr> {
        Ok(self.inode(nid)?.attr)
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }

    /// So many bytes from there on.
    fn get(&self, at: u64, len: u64) -> Result<&[u8]> {
        let range = || Some(usize::try_from(at).ok()?..usize::try_from(at.checked_add(len)?).ok()?);
        match range().and_then(|range| self.bytes().get(range)) {
            Some(bytes) => Ok(bytes),
            None => Err(corrupt(format_args!("{len} bytes at {at} are not in the image"))),
        }
    }

    fn block_size(&self) -> u64 {
        1 << self.block_bits
    }

    /// Where a block begins. At most 16 bits of shift: nothing is lost.
    fn block_at(&self, block: u32) -> u64 {
        u64::from(block) << self.block_bits
    }

    fn inode(&self, nid: Nid) -> Result<Inode> {
        let at = nid.0.checked_mul(SLOT).and_then(|offset| offset.checked_add(self.meta_at));
        let at = at.ok_or_else(|| corrupt(format_args!("{nid} is not in the image")))?;
        let compact = self.get(at, SLOT)?;
        let compact = Compact::ref_from_bytes(compact).map_err(|_| corrupt(nid))?;
        let inode = if compact.format.get() & format::EXTENDED == 0 {
            self.compact(nid, at, compact)
        } else {
            let extended = self.get(at, size_of::<Extended>() as u64)?;
            Extended::ref_from_bytes(extended).ok().and_then(|extended| Inode::extended(nid, at, extended))
        };
        let inode = inode.ok_or_else(|| corrupt(format_args!("{nid} is malformed")))?;
        if inode.format & !format::FORMAT_MASK != 0 {
            return Err(unsupported(format_args!("{nid} has format {:#x}", inode.format)));
        }
        Ok(inode)
    }

    fn compact(&self, nid: Nid, at: u64, raw: &Compact) -> Option<Inode> {
        let kind = kind_of(raw.mode.get())?;
        Some(Inode {
            attr: Attr {
                kind,
                mode: raw.mode.get() & 0o7777,
                uid: raw.uid.get().into(),
                gid: raw.gid.get().into(),
                nlink: raw.nlink.get().into(),
                size: raw.size.get().into(),
                mtime: self.epoch.0.checked_add(raw.mtime.get().into())?,
                mtime_nsec: self.epoch.1,
                rdev: device(kind, raw.u.get()),
                ino: nid.0,
            },
            format: raw.format.get(),
            u: raw.u.get(),
            xattrs_at: at.checked_add(size_of::<Compact>() as u64)?,
            xattrs_len: xattrs_len(raw.xattr_icount.get()),
        })
    }

    /// An inode that is a directory; `ENOTDIR` for all else.
    fn directory(&self, nid: Nid) -> Result<Inode> {
        let inode = self.inode(nid)?;
        match inode.attr.kind {
            Kind::Dir => Ok(inode),
            _ => Err(Errno::NOTDIR.into()),
        }
    }
}

/// An inode, its two forms being one.
struct Inode {
    attr: Attr,
    format: u16,
    /// First block, device number or chunk format.
    u: u32,
    xattrs_at: u64,
    xattrs_len: u64,
}

impl Inode {
    fn extended(nid: Nid, at: u64, raw: &Extended) -> Option<Inode> {
        let kind = kind_of(raw.mode.get())?;
        let (size, mtime_nsec) = (raw.size.get(), raw.mtime_nsec.get());
        if i64::try_from(size).is_err() || mtime_nsec >= NSEC_END {
            return None;
        }
        Some(Inode {
            attr: Attr {
                kind,
                mode: raw.mode.get() & 0o7777,
                uid: raw.uid.get(),
                gid: raw.gid.get(),
                nlink: raw.nlink.get(),
                size,
                mtime: raw.mtime.get() as i64,
                mtime_nsec,
                rdev: device(kind, raw.u.get()),
                ino: nid.0,
            },
            format: raw.format.get(),
            u: raw.u.get(),
            xattrs_at: at.checked_add(size_of::<Extended>() as u64)?,
            xattrs_len: xattrs_len(raw.xattr_icount.get()),
        })
    }

    fn layout(&self) -> u16 {
        self.format >> format::LAYOUT_SHIFT & format::LAYOUT_MASK
    }

    /// Where its last block's contents are, or the addresses of its chunks.
    fn tail_at(&self) -> u64 {
        self.xattrs_at.saturating_add(self.xattrs_len)
    }
}

const NSEC_END: u32 = 1_000_000_000;

/// The first unit is the header, of three times its size (`erofs_xattr_ibody_size`).
fn xattrs_len(icount: u16) -> u64 {
    match u64::from(icount) {
        0 => 0,
        count => size_of::<format::XattrHeader>() as u64 + (count - 1) * format::XATTR_ALIGN,
    }
}

/// `S_IFMT` of a mode.
fn kind_of(mode: u16) -> Option<Kind> {
    Some(match mode & 0o170000 {
        0o100000 => Kind::File,
        0o040000 => Kind::Dir,
        0o120000 => Kind::Symlink,
        0o020000 => Kind::Char,
        0o060000 => Kind::Block,
        0o010000 => Kind::Fifo,
        0o140000 => Kind::Socket,
        _ => return None,
    })
}

/// `new_decode_dev` of `include/linux/kdev_t.h`.
fn device(kind: Kind, u: u32) -> (u32, u32) {
    match kind {
        Kind::Char | Kind::Block => (u >> 8 & 0xfff, u & 0xff | u >> 12 & 0xf_ff00),
        _ => (0, 0),
    }
}

/// What the image needs that others could have.
fn supported(superblock: &Superblock) -> Result<()> {
    const KNOWN: u32 =
        format::INCOMPAT_ZERO_PADDING | format::INCOMPAT_CHUNKED_FILE | format::INCOMPAT_XATTR_PREFIXES;
    // What `mkfs.erofs` can make, 512 bytes to 64 KiB.
    if !(9..=16).contains(&superblock.blkszbits) || superblock.dirblkbits != 0 {
        return Err(unsupported(format_args!("blocks of 2^{} bytes", superblock.blkszbits)));
    }
    let unknown = superblock.feature_incompat.get() & !KNOWN;
    if unknown != 0 {
        return Err(unsupported(format_args!(
            "compression, fragments or another feature that is not read here ({unknown:#x})"
        )));
    }
    if superblock.extra_devices.get() != 0 {
        return Err(unsupported("more than one device"));
    }
    Ok(())
}

#[cold]
fn corrupt(what: impl fmt::Display) -> Error {
    Error::new(Errno::UCLEAN, format!("broken image index: {what}"))
}

#[cold]
fn unsupported(what: impl fmt::Display) -> Error {
    Error::new(Errno::OPNOTSUPP, format!("the image index has {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_twelve_bits_and_twenty() {
        assert_eq!(device(Kind::Char, 0x0103), (1, 3));
        assert_eq!(device(Kind::Block, u32::MAX), (0xfff, 0xf_ffff));
        assert_eq!(device(Kind::Block, 0x1234_5678), (0x456, 0x1_2378));
        assert_eq!(device(Kind::File, 0x0103), (0, 0));
    }

    #[test]
    fn attributes_begin_with_a_header_of_one_unit() {
        assert_eq!([0, 1, 2, u16::MAX].map(xattrs_len), [0, 12, 16, 262_148]);
    }

    /// What an index is shared by.
    const fn is_shared<T: Send + Sync>() {}
    const _: () = is_shared::<Index>();

    #[test]
    fn any_bytes_are_an_error() {
        for len in [0, 1, 1023, 1024, 1151, 1152, 4096] {
            for byte in [0, 1, 0xff] {
                assert!(Index::from_bytes(vec![byte; len]).is_err(), "{len} bytes of {byte}");
            }
        }
    }
}
