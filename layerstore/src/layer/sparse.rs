//! Sparse files: the archive holds their data only, and a map of where it goes.
//! GNU tar's formats ("Storing Sparse Files" in its manual): the old one in
//! header blocks, and 0.0, 0.1 and 1.0 with PAX headers.

use super::header::{BLOCK, Field, Header, number};
use super::pax::decimal;

/// A piece of data between holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file.
    pub offset: u64,
    /// How long it is.
    pub len: u64,
}

/// Why a map is malformed.
type Reason = &'static str;

/// What PAX headers say of sparse files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    major: Option<u64>,
    minor: Option<u64>,
    /// The file's path; the entry's own is made up.
    pub name: Option<Vec<u8>>,
    /// The file's length, holes included.
    pub size: Option<u64>,
    /// Offsets and lengths in turn.
    map: Vec<u64>,
}

/// Where the map of a sparse file is.
pub enum Map {
    /// In the headers.
    Here(Vec<Segment>),
    /// Before the data.
    InData,
}

impl Records {
    /// One record.
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Reason> {
        let number = || decimal(value).ok_or("a malformed number of a sparse file");
        match key {
            b"GNU.sparse.major" => self.major = Some(number()?),
            b"GNU.sparse.minor" => self.minor = Some(number()?),
            b"GNU.sparse.name" if value.contains(&0) => return Err("a sparse file's path with a NUL"),
            b"GNU.sparse.name" => self.name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.size = Some(number()?),
            b"GNU.sparse.offset" if self.map.len().is_multiple_of(2) => self.map.push(number()?),
            b"GNU.sparse.numbytes" if self.map.len() % 2 == 1 => self.map.push(number()?),
            b"GNU.sparse.map" => {
                let numbers = value.split(|&byte| byte == b',').filter(|_| !value.is_empty());
                self.map = numbers.map(decimal).collect::<Option<_>>().ok_or("a malformed sparse map")?;
            }
            // Redundant: how many pieces there are.
            b"GNU.sparse.numblocks" => {}
            _ => return Err("an unknown record of a sparse file"),
        }
        Ok(())
    }

    /// Where the map is, if these are of a sparse file.
    pub fn map(&self) -> Result<Option<Map>, Reason> {
        match (self.major, self.minor) {
            (None, None) if self.size.is_none() && self.map.is_empty() => Ok(None),
            (None | Some(0), None | Some(0 | 1)) => Ok(Some(Map::Here(pairs(&self.map)?))),
            (Some(1), Some(0)) => Ok(Some(Map::InData)),
            _ => Err("an unknown format of sparse files"),
        }
    }
}

fn pairs(numbers: &[u64]) -> Result<Vec<Segment>, Reason> {
    let pairs = numbers.chunks(2).map(|pair| match *pair {
        [offset, len] => Some(Segment { offset, len }),
        _ => None,
    });
    pairs.collect::<Option<_>>().ok_or("half a piece in a sparse map")
}

/// The map that stands before the data in format 1.0: decimal lines, how many
/// pieces and then offset and length of each, padded to whole blocks.
#[derive(Default)]
pub struct MapReader {
    line: Vec<u8>,
    count: Option<u64>,
    numbers: Vec<u64>,
}

impl MapReader {
    /// How many pieces it has seen.
    pub fn segments(&self) -> usize {
        self.numbers.len() / 2
    }

    /// One more block; the map once it is whole.
    pub fn block(&mut self, block: &[u8; BLOCK]) -> Result<Option<Vec<Segment>>, Reason> {
        for &byte in block {
            if byte != b'\n' {
                // No number has more digits.
                if self.line.len() > 20 {
                    return Err("a malformed sparse map");
                }
                self.line.push(byte);
                continue;
            }
            let number = decimal(&self.line).ok_or("a malformed sparse map")?;
            self.line.clear();
            match self.count {
                None => self.count = Some(number),
                Some(_) => self.numbers.push(number),
            }
            if self.count.is_some_and(|count| count.checked_mul(2) == Some(self.numbers.len() as u64)) {
                return pairs(&self.numbers).map(Some);
            }
        }
        Ok(None)
    }
}

/// The pieces in an old GNU header, and whether blocks of more follow.
pub fn old_header(header: &Header) -> Result<(Vec<Segment>, bool), Reason> {
    let segments = old_segments(header.field(Field::GNU_SPARSE))?;
    Ok((segments, header.field(Field::GNU_EXTENDED) != [0]))
}

/// The pieces in a block of more, and whether another one follows.
pub fn old_extension(block: &[u8; BLOCK]) -> Result<(Vec<Segment>, bool), Reason> {
    let (segments, rest) = block.split_at(21 * 24);
    Ok((old_segments(segments)?, rest.first() != Some(&0)))
}

/// Pairs of numbers, 12 bytes each, up to the first that is empty.
fn old_segments(bytes: &[u8]) -> Result<Vec<Segment>, Reason> {
    let pairs = bytes
        .chunks_exact(24)
        .map(|pair| pair.split_at(12))
        .take_while(|(offset, _)| offset.first() != Some(&0));
    let value =
        |field| number(field).and_then(|value| u64::try_from(value).ok()).ok_or("a malformed sparse map");
    pairs.map(|(offset, len)| Ok(Segment { offset: value(offset)?, len: value(len)? })).collect()
}

/// A map is in order, within the file, and of as much data as the archive holds.
pub fn check(segments: &[Segment], size: u64, stored: u64) -> Result<(), Reason> {
    let mut end = 0;
    let mut data = 0;
    for segment in segments {
        let after = segment.offset.checked_add(segment.len).filter(|&after| after <= size);
        let (true, Some(after)) = (segment.offset >= end, after) else {
            return Err("a sparse map out of order or beyond its file");
        };
        end = after;
        data += segment.len;
    }
    if data == stored { Ok(()) } else { Err("a sparse map of other data than follows") }
}
