//! A layer's tar stream into the pool and a framing file, in one pass.
//!
//! Two threads share the work: the caller's reads the stream (and so decompresses
//! it) and hashes it for the diff id; another parses, hashes contents and writes
//! them. Nothing refers to what it writes before its caller says so.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::Limits;
use super::entry::{Entry, EntryKind, Parser};
use super::framing::{Reference, Summary, Writer};
use crate::digest::{Digest, Hashing};
use crate::error::{Context, Error, Kind, Result};
use crate::pool::{Inserted, Pool};

/// Files up to this length are kept in the framing and the image's index. An
/// object costs a block and an inode, some 4.5 KiB: on a Debian system with
/// 113,000 files this saves one object in eight, for a tenth of their bytes.
pub const INLINE: u64 = 512;

/// Buffers of this length go from the reading thread to the parsing one …
const BUFFER: usize = 256 << 10;

/// … and so many wait between them.
const WAITING: usize = 4;

/// What became of a tar stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// What it was.
    pub summary: Summary,
    /// The objects it refers to, each once.
    pub objects: Vec<Reference>,
    /// The bytes of all files' contents, each time they occur.
    pub contents: u64,
    /// How many of the objects' bytes are new to the pool.
    pub new_bytes: u64,
}

/// Takes a stream apart: contents into the pool, everything else into a
/// framing file written to `framing`, which comes back. The stream is read to
/// its end, beyond the archive's.
pub fn unpack<W: Write + Send>(
    stream: impl Read,
    pool: &Pool,
    limits: &Limits,
    framing: W,
) -> Result<(Unpacked, W)> {
    let (sender, buffers) = sync_channel(WAITING);
    let (parsed, diff_id) = std::thread::scope(|scope| {
        let parsing = scope.spawn(move || {
            let source = Buffers { buffers, buffer: Vec::new(), at: 0 };
            let source = Keeping { source, kept: Vec::new(), keeps: true };
            // The source goes with an error, and so the reading ends.
            Unpacking { parser: Parser::new(source, *limits), pool, new_bytes: 0 }.run(framing)
        });
        let diff_id = read_ahead(stream, sender);
        (parsing.join(), diff_id)
    });
    let parsed = parsed.map_err(|_| Error::new(Kind::System, "the thread that parses a layer panicked"))?;
    let Parsed { framing: writer, size, entries, contents, new_bytes } =
        parsed.context(|| "unpack a layer")?;
    let summary = Summary { diff_id, size, entries };
    let (framing, objects) = writer.finish(summary)?;
    Ok((Unpacked { summary, objects, contents, new_bytes }, framing))
}

type Buffer = std::io::Result<Vec<u8>>;

/// Reads until the stream ends, fails, or nobody listens; the digest of what it read.
fn read_ahead(stream: impl Read, sender: SyncSender<Buffer>) -> Digest {
    let mut stream = Hashing::new(stream);
    loop {
        let mut buffer = Vec::with_capacity(BUFFER);
        let read = stream.by_ref().take(BUFFER as u64).read_to_end(&mut buffer);
        let ends = buffer.is_empty() || read.is_err();
        let goes_on = sender.send(read.map(|_| buffer)).is_ok();
        if ends || !goes_on {
            return stream.finish().1;
        }
    }
}

/// What the other thread has read.
struct Buffers {
    buffers: Receiver<Buffer>,
    buffer: Vec<u8>,
    at: usize,
}

impl Read for Buffers {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.buffer.len() {
            // Nobody sends any more: the stream has ended.
            self.buffer = self.buffers.recv().unwrap_or_else(|_| Ok(Vec::new()))?;
            self.at = 0;
        }
        let read = self.buffer.get(self.at..).unwrap_or_default().read(into)?;
        self.at += read;
        Ok(read)
    }
}

/// Keeps what passes, for the framing.
struct Keeping<R> {
    source: R,
    kept: Vec<u8>,
    keeps: bool,
}

impl<R: Read> Read for Keeping<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        if self.keeps {
            self.kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
        }
        Ok(read)
    }
}

/// What the parsing thread knows at the end.
struct Parsed<W: Write> {
    framing: Writer<W>,
    size: u64,
    entries: u64,
    contents: u64,
    new_bytes: u64,
}

struct Unpacking<'p, R> {
    parser: Parser<Keeping<R>>,
    pool: &'p Pool,
    new_bytes: u64,
}

impl<R: Read> Unpacking<'_, R> {
    /// The framing, the stream's length, its entries, and what is new in the pool.
    fn run<W: Write>(mut self, framing: W) -> Result<Parsed<W>> {
        let mut framing = Writer::new(framing)?;
        let mut buffer = vec![0; 64 << 10];
        while let Some(entry) = self.parser.next_entry()? {
            if entry.kind == EntryKind::File && entry.size > INLINE {
                self.keep(&mut framing)?;
                self.parser.source_mut().keeps = false;
                let inserted = self.insert(&entry, &mut buffer)?;
                self.parser.source_mut().keeps = true;
                self.new_bytes += if inserted.new { inserted.size } else { 0 };
                let object = Reference { id: inserted.id, size: inserted.size };
                match &entry.sparse {
                    Some(segments) => framing.sparse(object, segments)?,
                    None => framing.object(object)?,
                }
            } else {
                while self.parser.read_body(&mut buffer)? > 0 {
                    self.keep(&mut framing)?;
                }
                self.keep(&mut framing)?;
            }
        }
        loop {
            self.keep(&mut framing)?;
            if self.parser.read_trailer(&mut buffer)? == 0 {
                return Ok(Parsed {
                    framing,
                    size: self.parser.offset(),
                    entries: self.parser.entries(),
                    contents: self.parser.contents(),
                    new_bytes: self.new_bytes,
                });
            }
        }
    }

    /// What passed goes to the framing.
    fn keep<W: Write>(&mut self, framing: &mut Writer<W>) -> Result<()> {
        let kept = &mut self.parser.source_mut().kept;
        framing.inline(kept)?;
        kept.clear();
        Ok(())
    }

    fn insert(&mut self, entry: &Entry, buffer: &mut [u8]) -> Result<Inserted> {
        let mut insert = self.pool.insert();
        let Some(segments) = &entry.sparse else {
            loop {
                let read = self.parser.read_body(buffer)?;
                match buffer.get(..read) {
                    Some(bytes) if read > 0 => insert.data(bytes)?,
                    _ => return insert.finish(),
                }
            }
        };
        let mut at = 0;
        for segment in segments {
            insert.zeros(segment.offset - at)?;
            let mut left = segment.len;
            while left > 0 {
                let len = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let read = self.parser.read_body(buffer.get_mut(..len).unwrap_or_default())?;
                insert.data(buffer.get(..read).unwrap_or_default())?;
                left -= read as u64;
            }
            at = segment.offset + segment.len;
        }
        insert.zeros(entry.size - at)?;
        insert.finish()
    }
}
