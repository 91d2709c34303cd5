//! Parses a tar stream, entry by entry: v7, ustar, GNU and PAX.
//!
//! A parser of our own, because every byte that is not a file's contents must
//! be kept as it was, and of the crates, `tar` hides those bytes and `tar-core`
//! is in its first version.
//!
//! It reads what Go's archive/tar (docker, containerd) reads, in the same way,
//! and is stricter where readers differ: what is malformed, and what it does
//! not know, is an error and never skipped. The PAX size is the size, wherever
//! an entry's end matters (CVE-2025-62518). Memory is bounded by [`Limits`].

use std::collections::BTreeMap;
use std::io::Read;

use super::Limits;
use super::header::{BLOCK, Field, Format, Header, number};
use super::pax::Pax;
use super::sparse::{self, Map};
use crate::error::{Error, Kind, Result};
use crate::object::ObjectId;
use crate::tree::{Device, Meta};

pub use super::sparse::Segment;

/// More headers than this before one entry have no use.
const HEADERS_OF_AN_ENTRY: usize = 16;

/// An entry, as all its headers together give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As it is written: perhaps absolute, perhaps with `..`, a `/` at its end.
    pub path: Vec<u8>,
    /// What it makes.
    pub kind: EntryKind,
    /// Owner, mode, time.
    pub meta: Meta,
    /// Extended attributes by their full names.
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// The length of a file's contents, holes included.
    pub size: u64,
    /// How many bytes of them the archive holds.
    pub stored: u64,
    /// Where in a sparse file these bytes go.
    pub sparse: Option<Vec<Segment>>,
}

/// What an entry makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// Another name of the file with this path.
    HardLink(Vec<u8>),
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A character device.
    Char(Device),
    /// A block device.
    Block(Device),
    /// A named pipe.
    Fifo,
}

/// Where an entry's contents are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// It has none: it is no regular file.
    None,
    /// Here: they are short.
    Inline(Box<[u8]>),
    /// In the pool.
    Object {
        /// Their name there.
        id: ObjectId,
        /// Their length.
        size: u64,
    },
}

impl Entry {
    /// The contents that these stored bytes are, holes filled.
    pub(super) fn expand(&self, stored: Vec<u8>) -> Box<[u8]> {
        let Some(segments) = &self.sparse else { return stored.into() };
        let mut contents = vec![0; self.size as usize];
        let mut rest = &stored[..];
        for segment in segments {
            let (now, after) = rest.split_at_checked(segment.len as usize).unwrap_or((rest, &[]));
            let place =
                contents.get_mut(segment.offset as usize..).and_then(|tail| tail.get_mut(..now.len()));
            if let Some(place) = place {
                place.copy_from_slice(now);
            }
            rest = after;
        }
        contents.into()
    }
}

/// Pulls entries out of a tar stream.
pub struct Parser<R> {
    source: R,
    limits: Limits,
    /// Bytes read so far.
    offset: u64,
    /// Bytes of the current entry's contents that are not read yet.
    body: u64,
    /// Zeros after them.
    padding: u64,
    global: Pax,
    entries: u64,
    contents: u64,
    ended: bool,
}

/// The headers before an entry's own.
#[derive(Default)]
struct Extensions {
    pax: Pax,
    gnu_path: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
}

impl<R: Read> Parser<R> {
    /// Nothing is read yet.
    pub fn new(source: R, limits: Limits) -> Parser<R> {
        Parser {
            source,
            limits,
            offset: 0,
            body: 0,
            padding: 0,
            global: Pax::default(),
            entries: 0,
            contents: 0,
            ended: false,
        }
    }

    /// The next entry; none after the last. What of the contents before it was
    /// not read is passed over.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut passed = [0; 8192];
        while self.read_body(&mut passed)? > 0 {}
        self.pass_padding()?;
        if self.ended {
            return Ok(None);
        }
        let begin = self.offset;
        let entry = self.parse_entry();
        entry.map_err(|error| error.context(format_args!("tar entry at byte {begin}")))
    }

    /// Some writers (umoci's `insert`) end after the last contents, without even
    /// filling up the block: for Go's readers that is the end, too.
    fn pass_padding(&mut self) -> Result<()> {
        let mut padding = [0; BLOCK];
        while self.padding > 0 {
            let read = self.read(padding.get_mut(..self.padding as usize).unwrap_or_default())?;
            if read == 0 {
                self.ended = true;
                self.padding = 0;
            }
            self.padding -= read as u64;
        }
        Ok(())
    }

    /// The next bytes of the current entry's contents, as stored; 0 after the last.
    pub fn read_body(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let len = buffer.len().min(usize::try_from(self.body).unwrap_or(usize::MAX));
        let Some(buffer) = buffer.get_mut(..len).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let read = self.read(buffer)?;
        if read == 0 {
            return Err(self.truncated());
        }
        self.body -= read as u64;
        Ok(read)
    }

    /// How much of the current entry's contents is not read yet, as stored.
    pub fn body_left(&self) -> u64 {
        self.body
    }

    /// The current entry's contents come from elsewhere: the source goes on after them.
    pub(crate) fn body_is_elsewhere(&mut self) {
        self.offset += std::mem::take(&mut self.body);
    }

    /// What lies behind the last entry, if anything does; 0 at the end of the stream.
    pub fn read_trailer(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.read(buffer)
    }

    /// Where it reads from.
    pub fn source_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// How many bytes have been read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many entries there were so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The bytes of all files' contents so far, holes included.
    pub fn contents(&self) -> u64 {
        self.contents
    }

    /// Where it read from.
    pub fn into_source(self) -> R {
        self.source
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.source.read(buffer) {
                Ok(read) => {
                    self.offset += read as u64;
                    Limits::check("stream", self.limits.stream, self.offset)?;
                    return Ok(read);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn truncated(&self) -> Error {
        Error::new(
            Kind::Invalid,
            format!("the archive ends in the middle of an entry, at byte {}", self.offset),
        )
    }

    /// As many bytes as the buffer is long.
    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            let read = self.read(buffer)?;
            match buffer.get_mut(read..) {
                Some(rest) if read > 0 => buffer = rest,
                _ => return Err(self.truncated()),
            }
        }
        Ok(())
    }

    /// The next header; none if the archive or the stream ends here.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header([0; BLOCK]);
        let [first, rest @ ..] = &mut header.0;
        if self.read(std::slice::from_mut(first))? == 0 {
            return Ok(None);
        }
        self.fill(rest)?;
        if !header.is_zero() {
            return if header.checksum_is_right() {
                Ok(Some(header))
            } else {
                Err(invalid("its header's checksum is wrong: this is no tar archive, or a broken one"))
            };
        }
        // The end is two blocks of zeros; some writers leave out the second.
        let mut second = Header([0; BLOCK]);
        let [first, rest @ ..] = &mut second.0;
        if self.read(std::slice::from_mut(first))? > 0 {
            self.fill(rest)?;
            if !second.is_zero() {
                return Err(invalid("a single block of zeros before it"));
            }
        }
        Ok(None)
    }

    fn parse_entry(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        for headers in 0..HEADERS_OF_AN_ENTRY {
            let Some(header) = self.header()? else {
                self.ended = true;
                // A global header alone may end an archive, one of a missing entry may not.
                return if headers == 0 || extensions.is_empty() { Ok(None) } else { Err(self.truncated()) };
            };
            match header.flag() {
                b'x' => extensions.pax = Pax::parse(&self.extension(&header)?).map_err(invalid)?,
                b'g' => {
                    let pax = Pax::parse(&self.extension(&header)?).map_err(invalid)?;
                    if pax.is_of_one_entry() {
                        return Err(invalid("a global PAX header with a path, a size or a sparse map"));
                    }
                    self.global = pax.over(&self.global);
                }
                b'L' => extensions.gnu_path = Some(self.long_name(&header)?),
                b'K' => extensions.gnu_link = Some(self.long_name(&header)?),
                _ => {
                    self.entries += 1;
                    Limits::check("entries", self.limits.entries, self.entries)?;
                    let path = extensions.path(&header);
                    let named = |error: Error| error.context(shown(&path));
                    return self.finish_entry(&header, extensions, &path).map(Some).map_err(named);
                }
            }
        }
        Err(invalid("too many headers before it"))
    }

    /// The contents of a header that extends another one.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = unsigned(header, Field::SIZE, "size")?;
        Limits::check("pax", self.limits.pax, size)?;
        let mut bytes = vec![0; size as usize];
        self.fill(&mut bytes)?;
        let mut padding = [0; BLOCK];
        self.fill(padding.get_mut(..padding_after(size) as usize).unwrap_or_default())?;
        Ok(bytes)
    }

    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>> {
        let mut name = self.extension(header)?;
        name.truncate(super::header::text(&name).len());
        Ok(name)
    }

    fn finish_entry(&mut self, header: &Header, extensions: Extensions, path: &[u8]) -> Result<Entry> {
        let link = || {
            extensions.gnu_link.as_ref().or(extensions.pax.link.as_ref()).map_or(header.link(), |link| link)
        };
        let kind = match header.flag() {
            b'\0' if path.ends_with(b"/") => EntryKind::Dir,
            b'\0' | b'0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink(link().to_vec()),
            b'2' => EntryKind::Symlink(link().to_vec()),
            b'3' => EntryKind::Char(device(header)?),
            b'4' => EntryKind::Block(device(header)?),
            b'5' => EntryKind::Dir,
            b'6' => EntryKind::Fifo,
            other => return Err(invalid(format!("entries of type {:?} are unknown", char::from(other)))),
        };
        let pax = extensions.pax.over(&self.global);
        let told = unsigned(header, Field::SIZE, "size")?;
        // Links, devices and directories have no contents, whatever their size says.
        let has_body = matches!(header.flag(), b'\0' | b'0' | b'7' | b'S');
        let stored = if has_body { pax.size.unwrap_or(told) } else { 0 };
        let mut entry = Entry {
            path: path.to_vec(),
            meta: meta(header, &pax)?,
            size: if kind == EntryKind::File { stored } else { 0 },
            kind,
            stored,
            sparse: None,
            xattrs: pax.xattrs,
        };
        self.check_names(&entry)?;
        self.body = stored;
        self.padding = padding_after(stored);
        self.read_sparse_map(header, &pax.sparse, &mut entry)?;
        self.contents = self.contents.saturating_add(entry.size);
        Limits::check("contents", self.limits.contents, self.contents)?;
        Ok(entry)
    }

    fn check_names(&self, entry: &Entry) -> Result<()> {
        let limits = &self.limits;
        Limits::check("path", limits.path as u64, entry.path.len() as u64)?;
        for name in entry.path.split(|&byte| byte == b'/') {
            Limits::check("name", limits.name as u64, name.len() as u64)?;
        }
        if entry.path.is_empty() {
            return Err(invalid("an entry without a path"));
        }
        if let EntryKind::HardLink(target) | EntryKind::Symlink(target) = &entry.kind {
            Limits::check("path", limits.path as u64, target.len() as u64)?;
            if target.is_empty() {
                return Err(invalid("a link without a target"));
            }
        }
        let mut all = 0;
        for (name, value) in &entry.xattrs {
            Limits::check("name", limits.name as u64, name.len() as u64)?;
            Limits::check("xattr", limits.xattr as u64, value.len() as u64)?;
            all += name.len() + value.len();
        }
        Limits::check("xattrs", limits.xattrs as u64, all as u64)
    }

    fn read_sparse_map(
        &mut self,
        header: &Header,
        records: &sparse::Records,
        entry: &mut Entry,
    ) -> Result<()> {
        let map = records.map().map_err(invalid)?;
        let segments = match (header.flag(), map) {
            (b'S', None) if header.format() == Format::Gnu => {
                entry.size = unsigned(header, Field::GNU_REALSIZE, "length")?;
                self.read_old_map(header)?
            }
            (b'S', _) => return Err(invalid("a sparse file of two formats")),
            (_, None) => return Ok(()),
            (b'0' | b'\0', Some(map)) if entry.kind == EntryKind::File => {
                entry.size = records.size.ok_or_else(|| invalid("a sparse file without a length"))?;
                match map {
                    Map::Here(segments) => segments,
                    Map::InData => self.read_map_in_data()?,
                }
            }
            (_, Some(_)) => return Err(invalid("a sparse map of what is no file")),
        };
        Limits::check("segments", self.limits.segments as u64, segments.len() as u64)?;
        sparse::check(&segments, entry.size, self.body).map_err(invalid)?;
        entry.stored = self.body;
        entry.sparse = Some(segments);
        Ok(())
    }

    fn read_old_map(&mut self, header: &Header) -> Result<Vec<Segment>> {
        let (mut segments, mut more) = sparse::old_header(header).map_err(invalid)?;
        while more {
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            let (next, again) = sparse::old_extension(&block).map_err(invalid)?;
            // An empty block that announces another would go on for ever.
            if next.is_empty() && again {
                return Err(invalid("a sparse map with a gap"));
            }
            segments.extend(next);
            more = again;
            Limits::check("segments", self.limits.segments as u64, segments.len() as u64)?;
        }
        Ok(segments)
    }

    fn read_map_in_data(&mut self) -> Result<Vec<Segment>> {
        let mut map = sparse::MapReader::default();
        loop {
            let mut block = [0; BLOCK];
            if self.body < BLOCK as u64 {
                return Err(invalid("a sparse map longer than its entry"));
            }
            self.fill(&mut block)?;
            self.body -= BLOCK as u64;
            if let Some(segments) = map.block(&block).map_err(invalid)? {
                return Ok(segments);
            }
            Limits::check("segments", self.limits.segments as u64, map.segments() as u64)?;
        }
    }
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.pax == Pax::default() && self.gnu_path.is_none() && self.gnu_link.is_none()
    }

    fn path(&self, header: &Header) -> Vec<u8> {
        let named = self.pax.sparse.name.as_ref().or(self.gnu_path.as_ref()).or(self.pax.path.as_ref());
        named.cloned().unwrap_or_else(|| header.path())
    }
}

fn meta(header: &Header, pax: &Pax) -> Result<Meta> {
    let owner = |field, name| {
        let id = u32::try_from(unsigned(header, field, name)?);
        id.map_err(|_| invalid(format!("its {name} is no number of 32 bits")))
    };
    // What a PAX header overrides need not be well-formed beside it.
    let mtime = || number(header.field(Field::MTIME)).ok_or_else(|| invalid("its time is malformed"));
    let (mtime, mtime_nsec) = pax.mtime.map_or_else(|| Ok((mtime()?, 0)), Ok::<_, Error>)?;
    Ok(Meta {
        mode: (unsigned(header, Field::MODE, "mode")? & 0o7777) as u16,
        uid: pax.uid.map_or_else(|| owner(Field::UID, "uid"), Ok)?,
        gid: pax.gid.map_or_else(|| owner(Field::GID, "gid"), Ok)?,
        mtime,
        mtime_nsec,
    })
}

fn device(header: &Header) -> Result<Device> {
    let part = |field| {
        let part = unsigned(header, field, "device number")?;
        u32::try_from(part).map_err(|_| invalid("its device number is no number of 32 bits"))
    };
    if header.format() == Format::V7 {
        return Ok(Device::default());
    }
    Ok(Device { major: part(Field::MAJOR)?, minor: part(Field::MINOR)? })
}

fn unsigned(header: &Header, field: Field, name: &str) -> Result<u64> {
    let value = number(header.field(field)).and_then(|value| u64::try_from(value).ok());
    value.ok_or_else(|| invalid(format!("its {name} is malformed")))
}

fn padding_after(len: u64) -> u64 {
    len.wrapping_neg() % BLOCK as u64
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, reason)
}

/// A path for people: of a long one its two ends.
fn shown(path: &[u8]) -> String {
    const END: usize = 80;
    match (path.get(..END), path.len().checked_sub(END).and_then(|at| path.get(at..))) {
        (Some(head), Some(tail)) if path.len() > 4 * END => {
            format!("{:?}…{:?}", String::from_utf8_lossy(head), String::from_utf8_lossy(tail))
        }
        _ => format!("{:?}", String::from_utf8_lossy(path)),
    }
}
