//! Writes framing files.

use std::collections::HashMap;
use std::io::Write;

use super::{FOOTER_HASHED, MAGIC, OBJECT, Reference, SEGMENTS, Summary, VERSION};
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::layer::sparse::Segment;
use crate::object::ObjectId;

/// Fast, and headers shrink to a twentieth; higher levels gain a few percent.
const LEVEL: i32 = 3;

/// Inline bytes are gathered up to this length.
const GATHERED: usize = 64 << 10;

/// A framing file being written. Dropped before [`Writer::finish`], it is none.
pub struct Writer<W: Write> {
    records: zstd::Encoder<'static, Counting<W>>,
    inline: Vec<u8>,
    objects: Vec<Reference>,
    known: HashMap<ObjectId, u32>,
}

impl<W: Write> Writer<W> {
    /// Nothing is written yet.
    pub fn new(out: W) -> Result<Writer<W>> {
        let start = |out| {
            let mut records = zstd::Encoder::new(Counting { out, len: 0 }, LEVEL)?;
            records.include_checksum(true)?;
            Ok::<_, std::io::Error>(records)
        };
        let records = start(out).context(action)?;
        Ok(Writer { records, inline: Vec::new(), objects: Vec::new(), known: HashMap::new() })
    }

    /// The next bytes of the stream, as they are.
    pub fn inline(&mut self, bytes: &[u8]) -> Result<()> {
        self.inline.extend_from_slice(bytes);
        if self.inline.len() >= GATHERED { self.flush_inline() } else { Ok(()) }
    }

    /// The next bytes of the stream are an object.
    pub fn object(&mut self, object: Reference) -> Result<()> {
        let index = self.index(object)?;
        self.record(&[&[1], &index.to_le_bytes()])
    }

    /// The next bytes of the stream are pieces of an object; there may be none.
    pub fn sparse(&mut self, object: Reference, segments: &[Segment]) -> Result<()> {
        let index = self.index(object)?;
        let count = u32::try_from(segments.len()).ok().filter(|_| segments.len() <= SEGMENTS);
        let count = count.ok_or_else(|| Error::new(Kind::Limit, "a sparse file of too many pieces"))?;
        self.record(&[&[2], &index.to_le_bytes(), &count.to_le_bytes()])?;
        for segment in segments {
            let numbers = [segment.offset, segment.len].map(u64::to_le_bytes);
            self.records.write_all(numbers.as_flattened()).context(action)?;
        }
        Ok(())
    }

    /// All of the stream has passed: the file is whole.
    pub fn finish(mut self, summary: Summary) -> Result<(W, Vec<Reference>)> {
        self.flush_inline()?;
        let Counting { mut out, len } = self.records.finish().context(action)?;
        let mut tail = Vec::with_capacity(self.objects.len() * OBJECT + FOOTER_HASHED + 32);
        for object in &self.objects {
            tail.extend_from_slice(&object.id.0);
            tail.extend_from_slice(&object.size.to_le_bytes());
        }
        tail.extend_from_slice(&MAGIC);
        tail.extend_from_slice(&VERSION.to_le_bytes());
        tail.extend_from_slice(&(self.objects.len() as u32).to_le_bytes());
        tail.extend_from_slice(summary.diff_id.bytes());
        tail.extend_from_slice(&[summary.size, summary.entries, len].map(u64::to_le_bytes).concat());
        let hash = Digest::of(&tail);
        tail.extend_from_slice(hash.bytes());
        out.write_all(&tail).context(action)?;
        Ok((out, self.objects))
    }

    fn index(&mut self, object: Reference) -> Result<u32> {
        let next = u32::try_from(self.objects.len());
        let next = next.map_err(|_| Error::new(Kind::Limit, "a layer of too many objects"))?;
        let index = *self.known.entry(object.id).or_insert(next);
        if index == next {
            self.objects.push(object);
        }
        Ok(index)
    }

    fn record(&mut self, parts: &[&[u8]]) -> Result<()> {
        self.flush_inline()?;
        self.records.write_all(&parts.concat()).context(action)
    }

    fn flush_inline(&mut self) -> Result<()> {
        for bytes in self.inline.chunks(GATHERED) {
            let mut head = [0; 5];
            head[1..].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
            self.records.write_all(&head).and_then(|()| self.records.write_all(bytes)).context(action)?;
        }
        self.inline.clear();
        Ok(())
    }
}

fn action() -> &'static str {
    "write a layer's framing"
}

/// Knows how much was written.
struct Counting<W> {
    out: W,
    len: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
