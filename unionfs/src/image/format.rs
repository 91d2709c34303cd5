//! What an image index looks like in bytes: EROFS, with composefs's header
//! before it. Shared by who reads and who writes one.
//!
//! Sources: `fs/erofs/erofs_fs.h` of Linux 6.18 and
//! <https://erofs.docs.kernel.org/en/latest/core_ondisk.html>; for the header,
//! `lcfs-erofs.h` of composefs 1.0.8; for [`Metacopy`], `fs/overlayfs/overlayfs.h`.
//! All numbers are little-endian; no structure needs alignment.

#![allow(missing_docs, reason = "fields bear the kernel's names, and are explained where it does not")]

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::verity::Digest;

/// `LCFS_EROFS_MAGIC`: a composefs image begins with it.
pub const COMPOSEFS_MAGIC: u32 = 0xd078_629a;
/// `LCFS_EROFS_VERSION`: the format of the image.
pub const COMPOSEFS_FORMAT: u32 = 1;
/// `LCFS_VERSION_MAX`: whiteouts are escaped by `overlay.opaque=x` too.
pub const COMPOSEFS_VERSION: u32 = 1;
/// `LCFS_EROFS_FLAGS_HAS_ACL`: some file has a POSIX ACL.
pub const COMPOSEFS_HAS_ACL: u32 = 1;

/// `struct lcfs_erofs_header_s`, at the very beginning.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub magic: U32,
    pub version: U32,
    pub flags: U32,
    pub composefs_version: U32,
    pub unused: [U32; 4],
}

/// `EROFS_SUPER_OFFSET`.
pub const SUPERBLOCK_AT: u64 = 1024;
/// `EROFS_SUPER_MAGIC_V1`.
pub const EROFS_MAGIC: u32 = 0xe0f5_e1e2;
/// `EROFS_FEATURE_COMPAT_MTIME`: the times in inodes are of modification.
pub const COMPAT_MTIME: u32 = 0x2;
/// `EROFS_FEATURE_INCOMPAT_ZERO_PADDING`: about compressed files; `mkfs.erofs`
/// says it of every image.
pub const INCOMPAT_ZERO_PADDING: u32 = 0x1;
/// `EROFS_FEATURE_INCOMPAT_CHUNKED_FILE`: [`LAYOUT_CHUNKED`] occurs.
pub const INCOMPAT_CHUNKED_FILE: u32 = 0x4;
/// `EROFS_FEATURE_INCOMPAT_XATTR_PREFIXES`: there is a table of long prefixes.
pub const INCOMPAT_XATTR_PREFIXES: u32 = 0x40;

/// `struct erofs_super_block`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Superblock {
    pub magic: U32,
    pub checksum: U32,
    pub feature_compat: U32,
    /// A block has two to this many bytes.
    pub blkszbits: u8,
    pub sb_extslots: u8,
    pub root_nid: U16,
    /// How many inodes there are.
    pub inos: U64,
    /// The time of compact inodes.
    pub build_time: U64,
    pub build_time_nsec: U32,
    /// How many blocks the image has.
    pub blocks: U32,
    /// The block that nids count from.
    pub meta_blkaddr: U32,
    /// The block that shared xattrs count from.
    pub xattr_blkaddr: U32,
    pub uuid: [u8; 16],
    pub volume_name: [u8; 16],
    pub feature_incompat: U32,
    pub available_compr_algs: U16,
    /// More devices than this image.
    pub extra_devices: U16,
    pub devt_slotoff: U16,
    /// A directory's block is two to this many blocks.
    pub dirblkbits: u8,
    pub xattr_prefix_count: u8,
    /// In units of four bytes.
    pub xattr_prefix_start: U32,
    pub packed_nid: U64,
    pub xattr_filter_reserved: u8,
    pub reserved: [u8; 23],
}

/// `sizeof(struct erofs_inode_compact)`: nids count in these.
pub const SLOT: u64 = 32;

/// `EROFS_I_VERSION_MASK`: set for [`Extended`].
pub const EXTENDED: u16 = 0x1;
/// `EROFS_I_DATALAYOUT_BIT`.
pub const LAYOUT_SHIFT: u32 = 1;
/// `EROFS_I_DATALAYOUT_MASK`.
pub const LAYOUT_MASK: u16 = 0x7;
/// `EROFS_I_ALL`, without the bits that `EROFS_FEATURE_INCOMPAT_48BIT` brought.
pub const FORMAT_MASK: u16 = 0xf;
/// `EROFS_INODE_FLAT_PLAIN`: contents in consecutive blocks.
pub const LAYOUT_PLAIN: u16 = 0;
/// `EROFS_INODE_FLAT_INLINE`: the last block's contents behind the inode.
pub const LAYOUT_INLINE: u16 = 2;
/// `EROFS_INODE_CHUNK_BASED`: the addresses of chunks behind the inode.
pub const LAYOUT_CHUNKED: u16 = 4;

/// `EROFS_CHUNK_FORMAT_BLKBITS_MASK`: a chunk is two to this many blocks.
pub const CHUNK_BITS_MASK: u32 = 0x1f;
/// `EROFS_CHUNK_FORMAT_INDEXES`: eight bytes a chunk, not four.
pub const CHUNK_INDEXES: u32 = 0x20;
/// `EROFS_NULL_ADDR`: a chunk of zeros.
pub const NO_BLOCK: u32 = u32::MAX;

/// `struct erofs_inode_compact`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Compact {
    pub format: U16,
    pub xattr_icount: U16,
    pub mode: U16,
    pub nlink: U16,
    pub size: U32,
    /// Seconds after the superblock's time; reserved, and 0, before Linux 6.15.
    pub mtime: U32,
    /// First block, device number or chunk format.
    pub u: U32,
    pub ino: U32,
    pub uid: U16,
    pub gid: U16,
    pub reserved: U32,
}

/// `struct erofs_inode_extended`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Extended {
    pub format: U16,
    pub xattr_icount: U16,
    pub mode: U16,
    pub reserved: U16,
    pub size: U64,
    /// First block, device number or chunk format.
    pub u: U32,
    pub ino: U32,
    pub uid: U32,
    pub gid: U32,
    pub mtime: U64,
    pub mtime_nsec: U32,
    pub nlink: U32,
    pub reserved2: [u8; 16],
}

/// `struct erofs_xattr_ibody_header`, behind an inode whose `xattr_icount` is
/// not 0; then `shared_count` numbers of shared attributes, then entries.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct XattrHeader {
    /// Means nothing without `EROFS_FEATURE_COMPAT_XATTR_FILTER`.
    pub name_filter: U32,
    pub shared_count: u8,
    pub reserved: [u8; 7],
}

/// `struct erofs_xattr_entry`; the name without its prefix and the value follow,
/// filled up to [`XATTR_ALIGN`].
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct XattrEntry {
    pub name_len: u8,
    pub name_index: u8,
    pub value_size: U16,
}

/// `sizeof(struct erofs_xattr_entry)`; numbers of shared attributes count in it.
pub const XATTR_ALIGN: u64 = 4;
/// `EROFS_XATTR_LONG_PREFIX`: the index is one of the image's own table.
pub const XATTR_LONG_PREFIX: u8 = 0x80;

/// What `name_index` stands for, `EROFS_XATTR_INDEX_*`; 0 is what composefs
/// writes for every other name, and the kernel does not show.
pub const XATTR_PREFIXES: [&[u8]; 7] = [
    b"",
    b"user.",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"trusted.",
    b"lustre.",
    b"security.",
];

/// `struct erofs_dirent`: as many as a block has, then their names.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Dirent {
    pub nid: U64,
    pub nameoff: U16,
    /// `FT_*` of `include/linux/fs_types.h`.
    pub file_type: u8,
    pub reserved: u8,
}

/// `EROFS_NAME_LEN`.
pub const NAME_MAX: usize = 255;

/// `struct ovl_metacopy`, the value of `trusted.overlay.metacopy`; the digest
/// follows.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Metacopy {
    /// 0.
    pub version: u8,
    /// Of this structure and the digest.
    pub len: u8,
    /// 0.
    pub flags: u8,
    pub digest_algo: u8,
}

/// `FS_VERITY_HASH_ALG_SHA256`.
pub const VERITY_SHA256: u8 = 1;

/// What is wrong with the value of a metacopy attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadMetacopy {
    /// It is none.
    Malformed,
    /// Its digest is of this algorithm.
    Algorithm(u8),
}

impl Metacopy {
    /// The value with a digest.
    pub fn with(digest: &Digest) -> Vec<u8> {
        let len = (size_of::<Metacopy>() + digest.len()) as u8;
        let head = Metacopy { len, digest_algo: VERITY_SHA256, ..Metacopy::default() };
        [head.as_bytes(), digest].concat()
    }

    /// The digest in a value, which may be empty and may have none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn digest(value: &[u8]) -> Result<Option<&Digest>, BadMetacopy> {
        if value.is_empty() {
            return Ok(None);
        }
        let (head, digest) = Metacopy::ref_from_prefix(value).map_err(|_| BadMetacopy::Malformed)?;
        if head.version != 0 || head.flags != 0 || usize::from(head.len) != value.len() {
            return Err(BadMetacopy::Malformed);
        }
        match (head.digest_algo, digest.try_into()) {
            (VERITY_SHA256, Ok(digest)) => Ok(Some(digest)),
            (0, _) if digest.is_empty() => Ok(None),
            (algorithm, _) => Err(BadMetacopy::Algorithm(algorithm)),
        }
    }
}

/// The attribute of a file whose contents lie elsewhere: [`Metacopy`].
pub const METACOPY: &[u8] = b"trusted.overlay.metacopy";
/// Where they lie: a path from the root of the data layers.
pub const REDIRECT: &[u8] = b"trusted.overlay.redirect";
/// What overlayfs keeps for itself.
pub const OVERLAY_PREFIX: &[u8] = b"trusted.overlay.";
/// What it shows as [`OVERLAY_PREFIX`] (Linux 6.7).
pub const ESCAPED_PREFIX: &[u8] = b"trusted.overlay.overlay.";

const _: () = {
    assert!(size_of::<Header>() == 32 && size_of::<Superblock>() == 128);
    assert!(size_of::<Compact>() == 32 && size_of::<Extended>() == 64);
    assert!(size_of::<XattrHeader>() == 12 && size_of::<XattrEntry>() == 4);
    assert!(size_of::<Dirent>() == 12 && size_of::<Metacopy>() == 4);
};
