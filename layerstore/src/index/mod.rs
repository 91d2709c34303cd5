//! The index of an image: its tree as one EROFS image of metadata, with
//! composefs's conventions, that `unionfs` maps and the kernel mounts.
//!
//! ```text
//! 0      header of composefs       1024  superblock
//! 1152   inodes in breadth-first order, the root first; behind each its xattrs
//!        and, where that is short, its last block (a directory's entries, a
//!        target, a small file)
//!        xattrs that several inodes have
//! 4096n  whole blocks: directories, then whatever else did not fit
//! ```
//!
//! - A file in the pool is an inode of its true size without contents, with
//!   `trusted.overlay.metacopy` (its digest) and `trusted.overlay.redirect`
//!   (`/ab/cdef…`): mounted over the pool as a data-only layer, overlayfs shows
//!   the file.
//! - What overlayfs would take for its own is escaped: `trusted.overlay.*` of the
//!   tree is `trusted.overlay.overlay.*`; a character device 0/0 is an empty file
//!   with marks that overlayfs shows as a whiteout to an overlay above it.
//! - Unlike composefs, no `00` to `ff` are hidden in the root: a data-only layer
//!   shows no names (Linux 6.5). There is no filter of xattr names either: a file
//!   has none or two.
//!
//! The same tree gives the same bytes. Two passes: [`plan`] says where all is,
//! [`emit`] writes it, of which no more than one file is in memory at a time.

mod attribute;
mod emit;
mod plan;

use std::io::Write;

use crate::error::Result;
use crate::tree::Tree;

/// Writes the index of a tree. By `uuid` unions tell it from other images when
/// they look for the file that a copy was made of.
///
/// # Errors
/// `Invalid` for a tree that is none: a directory with two names, a name with a
/// slash, a target that is empty; `Limit` for what the format cannot hold: a name
/// over 255 bytes, attributes of 64 KiB, a device number over 32 bits. And
/// whatever writing gives.
pub fn write(tree: &Tree, uuid: [u8; 16], to: impl Write) -> Result<()> {
    emit::emit(&plan::Plan::new(tree)?, uuid, to)
}
