//! New contents on their way into the pool.
//!
//! They are held in memory up to [`HELD`], so that small contents which are
//! there already never touch the disk. What is longer goes to a file nobody
//! sees, hashed as it goes, with holes for its long runs of zeros.
//! Dropped before [`Insert::finish`], nothing is left.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::Pool;
use crate::error::{Context, Result};
use crate::object::{ObjectId, VerityHash};

/// Contents up to this length are hashed before a file is made for them.
const HELD: usize = 256 << 10;

/// The unit of holes: so many zeros, at a multiple of it, are not written.
const HOLE: usize = 64 << 10;

/// Contents that are in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// Their name.
    pub id: ObjectId,
    /// Their length.
    pub size: u64,
    /// Whether they are new to the pool.
    pub new: bool,
}

/// Contents being put in.
#[must_use = "contents are not in the pool before `finish`"]
pub struct Insert<'p> {
    pool: &'p Pool,
    hash: VerityHash,
    /// What is not written yet; it begins at a multiple of [`HELD`] or [`HOLE`].
    held: Vec<u8>,
    /// Where it will be written.
    offset: u64,
    file: Option<Hidden<'p>>,
}

impl<'p> Insert<'p> {
    pub(super) fn new(pool: &'p Pool) -> Insert<'p> {
        Insert { pool, hash: VerityHash::new(), held: Vec::new(), offset: 0, file: None }
    }

    /// The next bytes.
    pub fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(HELD.saturating_sub(self.held.len())));
            self.held.extend_from_slice(now);
            bytes = rest;
            if !bytes.is_empty() {
                self.write_held()?;
            }
        }
        Ok(())
    }

    /// So many zeros next; what of them fills whole units of holes is neither
    /// kept nor written.
    pub fn zeros(&mut self, len: u64) -> Result<()> {
        self.hash.update_zeros(len);
        let space = HELD.saturating_sub(self.held.len()) as u64;
        if len <= space {
            self.held.resize(self.held.len() + len as usize, 0);
            return Ok(());
        }
        // Up to the next unit by hand, whole units by arithmetic, the rest by hand.
        let head = (HOLE - self.held.len() % HOLE) % HOLE;
        self.held.resize(self.held.len() + head, 0);
        self.write_held()?;
        let left = len - head as u64;
        let hole = left - left % HOLE as u64;
        self.offset += hole;
        self.held.resize((left - hole) as usize, 0);
        Ok(())
    }

    /// The contents are whole: they are in the pool under their name.
    pub fn finish(mut self) -> Result<Inserted> {
        let size = self.offset + self.held.len() as u64;
        let id = ObjectId(std::mem::take(&mut self.hash).finish());
        let path = id.path();
        let there = self.pool.stat(&path).context(|| self.action())?;
        if there == Some(size) {
            return Ok(Inserted { id, size, new: false });
        }
        self.write_held()?;
        let new = match &mut self.file {
            Some(file) => file.publish(&path, size),
            None => Ok(false),
        };
        Ok(Inserted { id, size, new: new.context(|| self.action())? })
    }

    fn action(&self) -> String {
        format!("write an object into the pool {}", self.pool.path.display())
    }

    fn write_held(&mut self) -> Result<()> {
        let action = || format!("write an object into the pool {}", self.pool.path.display());
        let hidden = match &mut self.file {
            Some(file) => file,
            none => none.insert(Hidden::create(self.pool).context(action)?),
        };
        // Neighbours that are no holes are written at once.
        let mut begin = 0;
        let mut end = 0;
        for unit in self.held.chunks(HOLE) {
            let is_hole = unit.len() == HOLE && is_zero(unit);
            if is_hole {
                hidden.write(&self.held, begin..end, self.offset).context(action)?;
                begin = end + unit.len();
            }
            end += unit.len();
        }
        hidden.write(&self.held, begin..end, self.offset).context(action)?;
        self.offset += self.held.len() as u64;
        self.held.clear();
        Ok(())
    }
}

/// A file that is not an object yet; dropped, it is gone.
pub(super) struct Hidden<'p> {
    pool: &'p Pool,
    file: File,
    /// Its name in `tmp`, where the file system knows no unnamed files.
    name: Option<String>,
}

impl<'p> Hidden<'p> {
    fn create(pool: &'p Pool) -> std::io::Result<Hidden<'p>> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(&pool.objects, ".", flags | OFlags::TMPFILE, MODE) {
            Ok(file) => return Hidden { pool, file: file.into(), name: None }.readable(),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        Hidden::create_named(pool)
    }

    pub(super) fn create_named(pool: &'p Pool) -> std::io::Result<Hidden<'p>> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
        loop {
            let name = temporary_name(pool);
            match rustix::fs::openat(&pool.tmp, &name, flags, MODE) {
                Ok(file) => return Hidden { pool, file: file.into(), name: Some(name) }.readable(),
                // A leftover of a process that had our number.
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Whatever the umask says.
    fn readable(self) -> std::io::Result<Hidden<'p>> {
        rustix::fs::fchmod(&self.file, MODE)?;
        Ok(self)
    }

    pub(super) fn write(&self, held: &[u8], range: std::ops::Range<usize>, base: u64) -> std::io::Result<()> {
        let offset = base + range.start as u64;
        match held.get(range) {
            Some(bytes) if !bytes.is_empty() => self.file.write_all_at(bytes, offset),
            _ => Ok(()),
        }
    }

    /// Gives it its name; false if somebody was faster.
    pub(super) fn publish(&mut self, path: &str, size: u64) -> std::io::Result<bool> {
        // A hole at the end has not made the file longer.
        if self.file.metadata()?.len() != size {
            self.file.set_len(size)?;
        }
        self.pool.seal(&mut self.file)?;
        match self.link(&self.pool.objects, path) {
            Ok(()) => return Ok(true),
            Err(Errno::NOENT) => {
                let dir = path.get(..2).unwrap_or(path);
                super::exists_or(rustix::fs::mkdirat(&self.pool.objects, dir, Mode::from_raw_mode(0o755)))?;
                match self.link(&self.pool.objects, path) {
                    Ok(()) => return Ok(true),
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        if self.pool.stat(path)? == Some(size) {
            return Ok(false);
        }
        // Torn by a power cut: see the head of `pool`.
        let name = match self.name.take() {
            Some(name) => name,
            None => {
                let name = temporary_name(self.pool);
                self.link(&self.pool.tmp, &name)?;
                name
            }
        };
        rustix::fs::renameat(&self.pool.tmp, &name, &self.pool.objects, path)?;
        Ok(true)
    }

    fn link(&self, dir: &std::os::fd::OwnedFd, path: &str) -> rustix::io::Result<()> {
        if let Some(name) = &self.name {
            return rustix::fs::linkat(&self.pool.tmp, name, dir, path, AtFlags::empty());
        }
        match rustix::fs::linkat(&self.file, "", dir, path, AtFlags::EMPTY_PATH) {
            // Before Linux 6.10 this takes a capability; /proc serves everybody.
            Err(Errno::NOENT) => {
                let fd = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(rustix::fs::CWD, fd, dir, path, AtFlags::SYMLINK_FOLLOW)
            }
            linked => linked,
        }
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What stays behind in `tmp` is garbage that `clear_tmp` owns.
            rustix::fs::unlinkat(&self.pool.tmp, name, AtFlags::empty()).ok();
        }
    }
}

const MODE: Mode = Mode::RUSR.union(Mode::RGRP).union(Mode::ROTH);

fn temporary_name(pool: &Pool) -> String {
    let number = pool.next_name.fetch_add(1, Ordering::Relaxed);
    format!("{}-{number}", std::process::id())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}
