//! The framing of a layer: all of its tar stream that is no file's contents,
//! and references to the objects that are. With the pool it gives the stream
//! back bit for bit; without, it gives the entries.
//!
//! ```text
//! records   one zstd frame with a checksum, of
//!             0, length u32, bytes                     as they stand in the stream
//!             1, object u32                            all of an object
//!             2, object u32, count u32, count × (offset u64, length u64)
//!                                                      pieces of an object: a sparse file
//! objects   count × (id [32], length u64)              each once
//! footer    magic [8], version u32, objects u32, diff id [32], stream's length u64,
//!           entries u64, records' length u64, SHA-256 [32] of objects and footer up to here
//! ```
//! Numbers are little-endian. The footer stands last because a layer is
//! written in one pass, and what it is called is known at its end; the objects
//! stand apart so that a collector of garbage reads nothing else.
//!
//! A framing file is not trusted: whatever it says is checked against its
//! length and its footer, and is [`Kind::Corrupt`] otherwise.

mod read;
mod write;

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::Limits;
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::object::ObjectId;
use crate::pool::Pool;

pub use read::{Entries, Stream};
pub use write::Writer;

const MAGIC: [u8; 8] = *b"runionfl";
const VERSION: u32 = 1;
const FOOTER: usize = 104;
const FOOTER_HASHED: usize = FOOTER - 32;
const OBJECT: usize = 40;

/// The files this module writes have a window of at most 2^21 bytes.
const WINDOW_LOG_MAX: u32 = 23;

/// One sparse file is of at most so many pieces, whoever wrote the framing.
const SEGMENTS: usize = 1 << 20;

/// What a layer is, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The digest of its tar stream.
    pub diff_id: Digest,
    /// The length of its tar stream.
    pub size: u64,
    /// How many entries it has.
    pub entries: u64,
}

/// An object a layer refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its name in the pool.
    pub id: ObjectId,
    /// Its length.
    pub size: u64,
}

/// A framing file, its footer and its objects read and checked.
#[derive(Debug)]
pub struct Framing {
    file: File,
    summary: Summary,
    objects: Vec<Reference>,
    records_len: u64,
}

impl Framing {
    /// Reads the footer and the list of objects; the records stay on the disk.
    pub fn open(file: File) -> Result<Framing> {
        Framing::read(file).context(|| "read a layer's framing")
    }

    fn read(file: File) -> Result<Framing> {
        let len = file.metadata()?.len();
        let mut footer = [0; FOOTER];
        let before = len.checked_sub(FOOTER as u64).ok_or_else(|| corrupt("it is too short"))?;
        file.read_exact_at(&mut footer, before)?;
        let mut fields = Fields(&footer);
        if fields.bytes()? != MAGIC {
            return Err(corrupt("it is no framing file"));
        }
        let version = fields.u32()?;
        if version != VERSION {
            return Err(corrupt(&format!("its format is {version}, this program knows {VERSION}")));
        }
        let count = u64::from(fields.u32()?);
        let diff_id = Digest::from(fields.bytes()?);
        let summary = Summary { diff_id, size: fields.u64()?, entries: fields.u64()? };
        let records_len = fields.u64()?;
        let objects_len = count * OBJECT as u64;
        if records_len.checked_add(objects_len) != Some(before) {
            return Err(corrupt("its length is not what its footer says"));
        }
        let mut objects = vec![0; objects_len as usize];
        file.read_exact_at(&mut objects, records_len)?;
        let told: [u8; 32] = fields.bytes()?;
        objects.extend_from_slice(footer.get(..FOOTER_HASHED).unwrap_or_default());
        if Digest::of(&objects) != Digest::from(told) {
            return Err(corrupt("its list of objects is not what its footer says"));
        }
        let objects = objects.chunks_exact(OBJECT).take(count as usize).map(|object| {
            let mut fields = Fields(object);
            Ok(Reference { id: ObjectId(fields.bytes()?), size: fields.u64()? })
        });
        Ok(Framing { summary, objects: objects.collect::<Result<_>>()?, records_len, file })
    }

    /// What the layer is.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// The objects it refers to, each once.
    pub fn objects(&self) -> &[Reference] {
        &self.objects
    }

    /// The layer's tar stream, as it came. At its end the reader fails with
    /// [`Kind::Corrupt`] if it was another one than the diff id says.
    pub fn stream<'a>(&'a self, pool: &'a Pool) -> Result<Stream<'a>> {
        Stream::new(self, pool)
    }

    /// The layer's entries; no object is read.
    pub fn entries(&self, limits: &Limits) -> Result<Entries<'_>> {
        Entries::new(self, limits)
    }
}

/// Takes numbers off the front of bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or_else(|| corrupt("it is too short"))?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }
}

fn corrupt(reason: &str) -> Error {
    Error::new(Kind::Corrupt, format!("the framing is broken: {reason}"))
}
