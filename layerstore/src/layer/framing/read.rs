//! Reads framing files: as the tar stream they came from, and as its entries.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

use super::{Framing, Reference, SEGMENTS, WINDOW_LOG_MAX, corrupt};
use crate::digest::Hashing;
use crate::error::{Context, Error, Kind, Result};
use crate::layer::Limits;
use crate::layer::entry::{Contents, Entry, EntryKind, Parser};
use crate::layer::sparse::Segment;
use crate::layer::unpack::INLINE;
use crate::pool::Pool;

/// Reads a part of a file, wherever others read.
struct Part<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let read = self.file.read_at(buffer.get_mut(..len).unwrap_or_default(), self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// One record.
enum Record {
    /// So many bytes of the stream follow.
    Inline(u64),
    /// All of an object.
    Object(Reference),
    /// Pieces of an object.
    Sparse(Reference, Vec<Segment>),
}

/// The records of a framing file, one by one.
struct Records<'a> {
    decoder: BufReader<zstd::Decoder<'static, BufReader<Part<'a>>>>,
    objects: &'a [Reference],
    /// Bytes of the stream that no record has brought yet.
    left: u64,
}

impl<'a> Records<'a> {
    fn new(framing: &'a Framing) -> Result<Records<'a>> {
        let part = Part { file: &framing.file, offset: 0, end: framing.records_len };
        let mut decoder = zstd::Decoder::new(part).context(|| "read a layer's framing")?.single_frame();
        decoder.window_log_max(WINDOW_LOG_MAX).context(|| "read a layer's framing")?;
        Ok(Records {
            decoder: BufReader::with_capacity(1 << 16, decoder),
            objects: &framing.objects,
            left: framing.summary.size,
        })
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.decoder.read_exact(&mut bytes).map_err(broken)?;
        Ok(bytes)
    }

    fn next(&mut self) -> Result<Option<Record>> {
        if self.decoder.fill_buf().map_err(broken)?.is_empty() {
            return if self.left == 0 {
                Ok(None)
            } else {
                Err(corrupt("it is shorter than its footer says"))
            };
        }
        let [kind] = self.bytes()?;
        let number = u32::from_le_bytes(self.bytes()?);
        let (record, len) = match kind {
            0 => (Record::Inline(number.into()), number.into()),
            1 => {
                let object = self.object(number)?;
                (Record::Object(object), object.size)
            }
            2 => self.sparse(number)?,
            _ => return Err(corrupt("it has a record of an unknown kind")),
        };
        let left = self.left.checked_sub(len);
        self.left = left.ok_or_else(|| corrupt("it is longer than its footer says"))?;
        Ok(Some(record))
    }

    fn object(&self, index: u32) -> Result<Reference> {
        self.objects
            .get(index as usize)
            .copied()
            .ok_or_else(|| corrupt("it refers to an object it does not list"))
    }

    fn sparse(&mut self, index: u32) -> Result<(Record, u64)> {
        let object = self.object(index)?;
        let mut segments = Vec::new();
        let mut len = 0_u64;
        let count = u32::from_le_bytes(self.bytes()?) as usize;
        if count > SEGMENTS {
            return Err(corrupt("it has a sparse file of too many pieces"));
        }
        for _ in 0..count {
            let segment =
                Segment { offset: u64::from_le_bytes(self.bytes()?), len: u64::from_le_bytes(self.bytes()?) };
            let end = segment.offset.checked_add(segment.len).filter(|&end| end <= object.size);
            let sum = end.and_then(|_| len.checked_add(segment.len)).filter(|&len| len <= self.left);
            len = sum.ok_or_else(|| corrupt("it refers to more of an object than there is"))?;
            segments.push(segment);
        }
        Ok((Record::Sparse(object, segments), len))
    }
}

/// An error of the decompressor is one of the file.
fn broken(error: std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(_) => error.into(),
        None => corrupt(&error.to_string()),
    }
}

/// The tar stream of a layer.
pub struct Stream<'a>(Hashing<Pieces<'a>>, &'a Framing);

impl<'a> Stream<'a> {
    pub(super) fn new(framing: &'a Framing, pool: &'a Pool) -> Result<Stream<'a>> {
        let pieces = Pieces { records: Records::new(framing)?, pool, now: Piece::Done };
        Ok(Stream(Hashing::new(pieces), framing))
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            let found = self.0.digest();
            let told = self.1.summary.diff_id;
            if found != told {
                let text =
                    format!("the layer {told} comes out as {found}: an object or its framing is broken");
                return Err(Error::new(Kind::Corrupt, text).into());
            }
        }
        Ok(read)
    }
}

struct Pieces<'a> {
    records: Records<'a>,
    pool: &'a Pool,
    now: Piece,
}

/// What of the current record is not read yet.
enum Piece {
    Done,
    Inline(u64),
    /// The segments in reverse.
    Object(File, Reference, Vec<Segment>),
}

impl Pieces<'_> {
    fn begin(&self, record: Record) -> Result<Piece> {
        let (object, mut segments) = match record {
            Record::Inline(len) => return Ok(Piece::Inline(len)),
            Record::Object(object) => (object, vec![Segment { offset: 0, len: object.size }]),
            Record::Sparse(object, segments) => (object, segments),
        };
        segments.reverse();
        let file = self.pool.get(&object.id)?;
        let found = file.metadata().context(|| format!("open object {}", object.id.hex()))?.len();
        if found != object.size {
            let text = format!("object {} has {found} bytes, not {}", object.id.hex(), object.size);
            return Err(Error::new(Kind::Corrupt, text));
        }
        Ok(Piece::Object(file, object, segments))
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.now {
                Piece::Inline(left) if *left > 0 => {
                    let read = self.records.decoder.by_ref().take(*left).read(buffer).map_err(broken)?;
                    if read == 0 {
                        return Err(corrupt("it ends early").into());
                    }
                    *left -= read as u64;
                    return Ok(read);
                }
                Piece::Object(file, object, segments) => {
                    let Some(segment) = segments.last_mut() else {
                        self.now = Piece::Done;
                        continue;
                    };
                    if segment.len == 0 {
                        segments.pop();
                        continue;
                    }
                    let mut part = Part { file, offset: segment.offset, end: segment.offset + segment.len };
                    let read = part.read(buffer)?;
                    if read == 0 {
                        let text =
                            format!("object {} is shorter than {} bytes", object.id.hex(), object.size);
                        return Err(Error::new(Kind::Corrupt, text).into());
                    }
                    segment.offset += read as u64;
                    segment.len -= read as u64;
                    return Ok(read);
                }
                Piece::Inline(_) | Piece::Done => match self.records.next()? {
                    Some(record) => self.now = self.begin(record)?,
                    None => return Ok(0),
                },
            }
        }
    }
}

/// The entries of a layer, and where their contents are.
pub struct Entries<'a> {
    parser: Parser<Headers<'a>>,
    framing: &'a Framing,
    ended: bool,
}

/// What a parser sees of the records: the bytes between the objects.
struct Headers<'a> {
    records: Records<'a>,
    inline: u64,
    /// An object that is next.
    object: Option<(Reference, u64)>,
}

impl Headers<'_> {
    /// Comes to where there are bytes, or to an object or the end.
    fn advance(&mut self) -> Result<()> {
        while self.inline == 0 && self.object.is_none() {
            match self.records.next()? {
                Some(Record::Inline(len)) => self.inline = len,
                Some(Record::Object(object)) => self.object = Some((object, object.size)),
                Some(Record::Sparse(object, segments)) => {
                    let stored = segments.iter().map(|segment| segment.len).sum();
                    self.object = Some((object, stored));
                }
                None => break,
            }
        }
        Ok(())
    }
}

impl Read for Headers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.advance()?;
        if self.object.is_some() {
            return Err(corrupt("an object stands where a header should").into());
        }
        let read = self.records.decoder.by_ref().take(self.inline).read(buffer).map_err(broken)?;
        if read == 0 && self.inline > 0 && !buffer.is_empty() {
            return Err(corrupt("it ends early").into());
        }
        self.inline -= read as u64;
        Ok(read)
    }
}

impl<'a> Entries<'a> {
    pub(super) fn new(framing: &'a Framing, limits: &Limits) -> Result<Entries<'a>> {
        let headers = Headers { records: Records::new(framing)?, inline: 0, object: None };
        Ok(Entries { parser: Parser::new(headers, *limits), framing, ended: false })
    }

    fn next_entry(&mut self) -> Result<Option<(Entry, Contents)>> {
        let Some(entry) = self.parser.next_entry()? else {
            let found = self.parser.entries();
            let told = self.framing.summary.entries;
            return if found == told {
                Ok(None)
            } else {
                Err(corrupt(&format!("it has {found} entries, not {told}")))
            };
        };
        if entry.kind != EntryKind::File {
            return Ok(Some((entry, Contents::None)));
        }
        if entry.size > INLINE {
            self.parser.source_mut().advance()?;
            let stored = self.parser.body_left();
            let object = self.parser.source_mut().object.take();
            let Some((Reference { id, size }, _)) =
                object.filter(|&(object, len)| object.size == entry.size && len == stored)
            else {
                return Err(corrupt("a file's contents are not where they should be"));
            };
            self.parser.body_is_elsewhere();
            return Ok(Some((entry, Contents::Object { id, size })));
        }
        let mut stored = vec![0; self.parser.body_left() as usize];
        let mut done = 0;
        while let Some(rest) = stored.get_mut(done..).filter(|rest| !rest.is_empty()) {
            done += self.parser.read_body(rest)?;
        }
        let contents = Contents::Inline(entry.expand(stored));
        Ok(Some((entry, contents)))
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(Entry, Contents)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.next_entry().context(|| format!("read the layer {}", self.framing.summary.diff_id));
        self.ended = !matches!(entry, Ok(Some(_)));
        entry.transpose()
    }
}
