//! A layer: from its tar stream to objects, framing and files, and back.
//!
//! ```text
//! tar stream -> entry::Parser -> unpack -> pool (contents) + framing (everything else)
//!                                framing + pool -> the same tar stream, bit for bit
//!                                framing -> apply -> tree::Tree
//!                                tree::Tree + pool -> export -> write::TarWriter -> tar stream
//! ```
//! | module | what |
//! |---|---|
//! | [`entry`] | parses a tar stream, entry by entry |
//! | [`unpack`] | a tar stream into the pool and a framing file, in one pass |
//! | [`framing`] | what of a layer is no file's contents; gives the stream back |
//! | [`apply`] | a layer's entries onto an image's files: whiteouts, links, replacing |
//! | [`write`], [`export`] | files as a tar stream |

use crate::error::{Error, Kind, Result};

pub mod apply;
pub mod entry;
pub mod export;
pub mod framing;
mod header;
mod pax;
mod sparse;
pub mod unpack;
pub mod write;

/// What a layer may cost. Each has a name that errors say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the decompressed tar stream.
    pub stream: u64,
    /// Bytes of all files' contents, the holes of sparse files included.
    pub contents: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of a path or a link's target: the kernel's PATH_MAX.
    pub path: usize,
    /// Bytes of one component of a path: the kernel's NAME_MAX.
    pub name: usize,
    /// Directories above a file.
    pub depth: usize,
    /// Bytes of one PAX header.
    pub pax: u64,
    /// Bytes of one extended attribute's value: the kernel's XATTR_SIZE_MAX.
    pub xattr: usize,
    /// Bytes of one file's extended attributes, names and values.
    pub xattrs: usize,
    /// Pieces of data of one sparse file.
    pub segments: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            stream: 256 << 30,
            contents: 256 << 30,
            entries: 4_000_000,
            path: 4096,
            name: 255,
            depth: 1024,
            pax: 1 << 20,
            xattr: 64 << 10,
            xattrs: 256 << 10,
            segments: 1_000_000,
        }
    }
}

impl Limits {
    /// An error if there is more of something than the limit of this name.
    pub(crate) fn check(name: &str, limit: u64, found: u64) -> Result<()> {
        if found <= limit {
            return Ok(());
        }
        Err(Error::new(Kind::Limit, format!("more than the limit `{name}` allows: {found} of {limit}")))
    }
}

#[cfg(test)]
mod tests;
