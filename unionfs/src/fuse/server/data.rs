//! Requests about file data, and the opens that go before.

use std::ffi::OsStr;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{Opens, Server};
use crate::error::Result;
use crate::fuse::abi::{self, fopen};
use crate::fuse::reply::Room;
use crate::ops::{Caller, Entry, OpenFor, Opened, Seek, SetId, Sync};
use crate::sync::atomic::Ordering;

/// The most one copy_file_range moves, bytes: what is left, the caller asks for
/// again.
const COPY_AT_ONCE: u64 = 1 << 30;

impl Server {
    pub(super) fn open(
        &self,
        node: u64,
        open: &abi::OpenIn,
        caller: Caller,
        room: &mut Room<'_>,
    ) -> Result<()> {
        if self.opens == Opens::Spared {
            return Err(Errno::NOSYS.into());
        }
        let flags = open.flags as i32;
        let is_reading = flags & libc::O_ACCMODE == libc::O_RDONLY;
        let set_id = if open.open_flags & abi::OPEN_KILL_SUIDGID != 0 { SetId::Drop } else { SetId::Keep };
        let purpose = match (flags & libc::O_TRUNC != 0, is_reading) {
            (true, _) => OpenFor::Replacing(set_id),
            (false, true) => OpenFor::Reading,
            (false, false) => OpenFor::Writing,
        };
        let opened = self.told(self.union.open_file(node, purpose, caller))?;
        room.put(&open_out(opened))
    }

    pub(super) fn create(
        &self,
        parent: u64,
        name: &OsStr,
        file: &abi::CreateIn,
        caller: Caller,
        room: &mut Room<'_>,
    ) -> Result<()> {
        let created = self.told(self.union.create(parent, name, file.mode, caller));
        self.put_created(created?, room)
    }

    pub(super) fn tmpfile(
        &self,
        parent: u64,
        file: &abi::CreateIn,
        caller: Caller,
        room: &mut Room<'_>,
    ) -> Result<()> {
        let created = self.told(self.union.tmpfile(parent, file.mode, caller));
        self.put_created(created?, room)
    }

    fn put_created(&self, (entry, opened): (Entry, Opened), room: &mut Room<'_>) -> Result<()> {
        room.put(&abi::CreateOut { entry: self.lifetime.entry(&entry), open: open_out(opened) })
    }

    pub(super) fn read(&self, node: u64, at: &abi::ReadIn, room: &mut Room<'_>) -> Result<()> {
        let before = room.used();
        room.fill(at.size as usize, |buffer| self.union.read(node, at.offset, buffer))?;
        self.union.stats().read_bytes.fetch_add((room.used() - before) as u64, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn write(
        &self,
        node: u64,
        at: &abi::WriteIn,
        data: &[u8],
        caller: Caller,
        room: &mut Room<'_>,
    ) -> Result<()> {
        let set_id = match at.write_flags & abi::WRITE_KILL_SUIDGID != 0 {
            true => SetId::Drop,
            false => SetId::Keep,
        };
        let written = self.told(self.union.write(node, at.offset, data, set_id, caller))?;
        self.union.stats().written_bytes.fetch_add(written as u64, Ordering::Relaxed);
        room.put(&abi::WriteOut { size: written as u32, padding: 0 })
    }

    pub(super) fn fsync(&self, node: u64, data_only: bool) -> Result<()> {
        self.union.fsync(node, if data_only { Sync::Data } else { Sync::Full })
    }

    pub(super) fn fallocate(&self, node: u64, range: &abi::FallocateIn, caller: Caller) -> Result<()> {
        let mode = FallocateFlags::from_bits_retain(range.mode);
        self.told(self.union.fallocate(node, mode, range.offset, range.length, caller))
    }

    pub(super) fn lseek(&self, node: u64, from: &abi::LseekIn, room: &mut Room<'_>) -> Result<()> {
        let what = match from.whence as i32 {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            // The kernel answers the others itself.
            _ => return Err(Errno::INVAL.into()),
        };
        if from.offset > i64::MAX as u64 {
            return Err(Errno::NXIO.into());
        }
        let offset = self.union.seek(node, from.offset, what)?;
        room.put(&abi::LseekOut { offset })
    }

    pub(super) fn copy_file_range(&self, node: u64, copy: &abi::CopyIn, caller: Caller) -> Result<usize> {
        let len = copy.len.min(COPY_AT_ONCE) as usize;
        let (from, to) = ((node, copy.off_in), (copy.nodeid_out, copy.off_out));
        self.told(self.union.copy_file_range(from, to, len, caller))
    }
}

/// How the kernel is to treat an open file. There are no handles: the node is
/// the file.
fn open_out(opened: Opened) -> abi::OpenOut {
    match opened {
        Opened::Cached => abi::OpenOut { open_flags: fopen::KEEP_CACHE, ..Default::default() },
        Opened::CachedAnew => abi::OpenOut::default(),
        Opened::Passthrough(backing_id) => abi::OpenOut { fh: 0, open_flags: fopen::PASSTHROUGH, backing_id },
    }
}
