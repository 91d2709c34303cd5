//! Directories of an image: blocks of entries, sorted by name within a block
//! and from block to block, so that a name is found by halving.

use std::cmp::Ordering;

use zerocopy::FromBytes;

use super::format::{self, Dirent};
use super::{Data, Index, Kind, Nid, corrupt};
use crate::error::Result;

/// An entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Neither empty nor `.` nor `..`, no `/` and no zero in it, 255 bytes at most.
    pub name: &'a [u8],
    /// What it leads to.
    pub nid: Nid,
    /// And what that is.
    pub kind: Kind,
    /// Where to go on behind it, for [`Index::entries`].
    pub next: u64,
}

/// The entries of a directory, in the order of their names' bytes.
pub struct Entries<'a> {
    index: &'a Index,
    dir: Nid,
    data: Data<'a>,
    block: Option<Block<'a>>,
    number: usize,
    entry: usize,
}

impl Index {
    /// What a name leads to; `.` and `..` are names like others. `ENOTDIR` where
    /// `dir` is none.
    pub fn lookup(&self, dir: Nid, name: &[u8]) -> Result<Option<Nid>> {
        let inode = self.directory(dir)?;
        let data = self.data(dir, &inode)?;
        // Below `low` blocks begin before the name, from `high` on behind it.
        let (mut low, mut high) = (0, data.len().div_ceil(self.block_len()));
        let mut candidate = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let block = self.block(dir, &data, middle)?;
            match block.name(0)?.cmp(name) {
                Ordering::Equal => return Ok(Some(block.nid(0)?)),
                Ordering::Greater => high = middle,
                Ordering::Less => {
                    low = middle + 1;
                    candidate = Some(block);
                }
            }
        }
        match candidate {
            Some(block) => block.find(name),
            None => Ok(None),
        }
    }

    /// The entries of a directory without `.` and `..`, from the beginning (0) or
    /// from behind an entry on ([`Entry::next`]). `ENOTDIR` where `dir` is none.
    pub fn entries(&self, dir: Nid, from: u64) -> Result<Entries<'_>> {
        let inode = self.directory(dir)?;
        let data = self.data(dir, &inode)?;
        let number = usize::try_from(from >> BLOCK_SHIFT).unwrap_or(usize::MAX);
        let entry = (from & ((1 << BLOCK_SHIFT) - 1)) as usize;
        Ok(Entries { index: self, dir, data, block: None, number, entry })
    }

    fn block_len(&self) -> usize {
        1 << self.block_bits
    }

    fn block<'a>(&self, dir: Nid, data: &Data<'a>, number: usize) -> Result<Block<'a>> {
        Block::new(dir, data.block(number, self.block_len()))
    }
}

/// A position is a block's number and an entry's in it: a block of 64 KiB has
/// fewer than 2^13.
const BLOCK_SHIFT: u32 = 16;

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.advance().transpose()?;
        if entry.is_err() {
            // What is broken is told once.
            (self.data, self.block) = (Data::default(), None);
        }
        Some(entry)
    }
}

impl<'a> Entries<'a> {
    fn advance(&mut self) -> Result<Option<Entry<'a>>> {
        loop {
            let block = match self.block {
                Some(block) => block,
                None if self.number >= self.data.len().div_ceil(self.index.block_len()) => return Ok(None),
                None => *self.block.insert(self.index.block(self.dir, &self.data, self.number)?),
            };
            if self.entry >= block.dirents.len() {
                (self.number, self.entry, self.block) = (self.number + 1, 0, None);
                continue;
            }
            let name = block.name(self.entry)?;
            let dirent = block.dirent(self.entry)?;
            self.entry += 1;
            if matches!(name, b"." | b"..") {
                continue;
            }
            // To the end, whatever is found: many bytes at once that way.
            if name.iter().fold(false, |bad, byte| bad | matches!(byte, 0 | b'/')) {
                return Err(corrupt(format_args!("{} has a name that is none", self.dir)));
            }
            let nid = Nid(dirent.nid.get());
            let kind = match kind_of(dirent.file_type) {
                Some(kind) => kind,
                None => self.index.attr(nid)?.kind,
            };
            let next = (self.number as u64) << BLOCK_SHIFT | self.entry as u64;
            return Ok(Some(Entry { name, nid, kind, next }));
        }
    }
}

/// `FT_*` of `include/linux/fs_types.h`; 0 says that one has to look.
fn kind_of(file_type: u8) -> Option<Kind> {
    Some(match file_type {
        1 => Kind::File,
        2 => Kind::Dir,
        3 => Kind::Char,
        4 => Kind::Block,
        5 => Kind::Fifo,
        6 => Kind::Socket,
        7 => Kind::Symlink,
        _ => return None,
    })
}

/// A block of a directory: entries, then their names without gaps.
#[derive(Clone, Copy)]
struct Block<'a> {
    dir: Nid,
    bytes: &'a [u8],
    /// At least one.
    dirents: &'a [Dirent],
}

impl<'a> Block<'a> {
    fn new(dir: Nid, bytes: &'a [u8]) -> Result<Block<'a>> {
        let dirents = || {
            let (first, _) = Dirent::ref_from_prefix(bytes).ok()?;
            let len = usize::from(first.nameoff.get());
            if len == 0 || len % size_of::<Dirent>() != 0 {
                return None;
            }
            <[Dirent]>::ref_from_bytes(bytes.get(..len)?).ok()
        };
        match dirents() {
            Some(dirents) => Ok(Block { dir, bytes, dirents }),
            None => Err(Block { dir, bytes, dirents: &[] }.broken()),
        }
    }

    #[cold]
    fn broken(&self) -> crate::Error {
        corrupt(format_args!("the entries of {}", self.dir))
    }

    fn dirent(&self, number: usize) -> Result<&'a Dirent> {
        self.dirents.get(number).ok_or_else(|| self.broken())
    }

    fn nid(&self, number: usize) -> Result<Nid> {
        Ok(Nid(self.dirent(number)?.nid.get()))
    }

    /// A name ends where the next begins, the last with a zero or the block.
    fn name(&self, number: usize) -> Result<&'a [u8]> {
        let start = usize::from(self.dirent(number)?.nameoff.get());
        let name = match self.dirents.get(number + 1) {
            Some(next) => self.bytes.get(start..next.nameoff.get().into()),
            None => self.bytes.get(start..).and_then(|rest| rest.split(|&byte| byte == 0).next()),
        };
        match name {
            Some(name)
                if !name.is_empty()
                    && name.len() <= format::NAME_MAX
                    && start >= size_of_val(self.dirents) =>
            {
                Ok(name)
            }
            _ => Err(self.broken()),
        }
    }

    fn find(&self, name: &[u8]) -> Result<Option<Nid>> {
        let (mut low, mut high) = (0, self.dirents.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle)?.cmp(name) {
                Ordering::Equal => return Ok(Some(self.nid(middle)?)),
                Ordering::Greater => high = middle,
                Ordering::Less => low = middle + 1,
            }
        }
        Ok(None)
    }
}
