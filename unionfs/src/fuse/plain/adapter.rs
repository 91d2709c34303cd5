//! One request, one operation, one reply.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, Notifier, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{FallocateFlags, FileType};

use super::convert::{absent, entry_attr, file_attr, file_type, lifetime, set_time};
use crate::error::{Error, Result};
use crate::fuse::listings::Listings;
use crate::fuse::reply::decode_device;
use crate::ops::{Caller, Entry, Make, Names, OpenFor, Seek, SetAttr, SetId, SetMode, Sync};
use crate::sync::atomic::Ordering;
use crate::sys::creds;
use crate::{Union, log};

/// Read-ahead that the kernel may do, bytes.
const READ_AHEAD: u32 = 1 << 20;
/// Bytes in one WRITE, the most this kernel sends.
const MAX_WRITE: u32 = 1 << 20;
/// Node ids are never reused while the kernel knows them.
const GENERATION: Generation = Generation(0);
/// Files need no handle: the node is the file.
const NO_HANDLE: FileHandle = FileHandle(0);

thread_local! {
    /// What a READ or GETXATTR is answered from.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Whether this thread has been readied to act as callers.
    static READY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// The protocol crate's view of a union.
pub struct Adapter {
    union: Arc<Union>,
    listings: Listings,
    lifetime: Duration,
    /// Known once the session is.
    notifier: Arc<OnceLock<Notifier>>,
}

impl Adapter {
    /// Serves a union.
    pub fn new(union: Arc<Union>, notifier: Arc<OnceLock<Notifier>>) -> Adapter {
        let lifetime = lifetime(union.config().timeout);
        Adapter { union, listings: Listings::default(), lifetime, notifier }
    }

    /// Makes the kernel ask again for what an operation changed on its way,
    /// before the operation is answered.
    fn told<T>(&self, result: T) -> T {
        for node in self.union.take_changed() {
            let Some(notifier) = self.notifier.get() else { continue };
            match notifier.inval_inode(INodeNo(node), -1, 0) {
                Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                    log::warn(format_args!("cannot invalidate attributes: {error}"));
                }
                // What the kernel does not know it need not forget.
                _ => {}
            }
        }
        result
    }

    fn count(&self, opcode: usize) {
        self.union.stats().request(opcode);
    }

    fn caller(&self, request: &Request, umask: u32) -> Caller {
        if !READY.replace(true) {
            if let Err(errno) = creds::keep_capabilities() {
                log::warn(format_args!("cannot act as callers: {errno}"));
            }
        }
        Caller { uid: request.uid(), gid: request.gid(), umask }
    }

    fn entry(&self, reply: ReplyEntry, result: Result<Entry>) {
        match result {
            Ok(entry) => reply.entry(&self.lifetime, &entry_attr(&entry), GENERATION),
            Err(error) => reply.error(errno(&error)),
        }
    }
}

/// An error's errno for the kernel; its sentence, if it has one, for the log.
fn errno(error: &Error) -> fuser::Errno {
    if let Some(cause) = error.cause() {
        log::warn(format_args!("{cause}"));
    }
    fuser::Errno::from_i32(error.errno().raw_os_error())
}

fn done(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

fn written(reply: ReplyWrite, result: Result<usize>) {
    match result {
        Ok(n) => reply.written(u32::try_from(n).unwrap_or(u32::MAX)),
        Err(error) => reply.error(errno(&error)),
    }
}

/// Runs `fill` on this thread's buffer, made `len` bytes long.
fn with_buffer<T>(len: u32, fill: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(buffer.len().max(len as usize), 0);
        fill(buffer.get_mut(..len as usize).unwrap_or_default())
    })
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let mut wanted = InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_DONT_MASK
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA
            // Node ids end with the session, and a file handle must not: none
            // are given out, as by kernel overlayfs without `nfs_export`.
            | InitFlags::FUSE_NO_EXPORT_SUPPORT;
        if self.union.config().acl {
            wanted |= InitFlags::FUSE_POSIX_ACL;
        }
        let offered = config.capabilities();
        // An older kernel goes without what it does not know.
        if config.add_capabilities(wanted & offered).is_err() {
            log::warn(format_args!("the kernel takes back features it offered"));
        }
        if let Err(nearest) =
            config.set_max_write(MAX_WRITE).and_then(|_| config.set_max_readahead(READ_AHEAD))
        {
            config.set_max_readahead(nearest).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        }
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.count(1);
        match self.union.lookup(parent.0, name) {
            Err(error) if error.errno() == rustix::io::Errno::NOENT && error.cause().is_none() => {
                reply.entry(&self.lifetime, &absent(), GENERATION);
            }
            result => self.entry(reply, result),
        }
    }

    fn forget(&self, _request: &Request, node: INodeNo, count: u64) {
        self.count(2);
        self.union.forget(node.0, count);
    }

    fn getattr(&self, _request: &Request, node: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        self.count(3);
        match self.union.getattr(node.0) {
            Ok(attr) => reply.attr(&self.lifetime, &file_attr(&attr)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.count(4);
        // With a handle it is ftruncate, which moves the time in any case; the
        // kernel leaves that to us.
        let is_ftruncate = size.is_some() && handle.is_some();
        let mtime = mtime.or(is_ftruncate.then_some(TimeOrNow::Now));
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        let set = SetAttr { mode, uid, gid, size, atime, mtime, set_id: SetId::ByCaller };
        match self.told(self.union.setattr(node.0, &set, self.caller(request, 0))) {
            Ok(attr) => reply.attr(&self.lifetime, &file_attr(&attr)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readlink(&self, _request: &Request, node: INodeNo, reply: ReplyData) {
        self.count(5);
        match self.union.readlink(node.0) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        self.count(8);
        let make = match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Make::File { mode },
            kind => Make::Node { kind, mode, rdev: decode_device(rdev) },
        };
        self.entry(reply, self.told(self.union.make(parent.0, name, make, self.caller(request, umask))));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        self.count(9);
        let made =
            self.told(self.union.make(parent.0, name, Make::Dir { mode }, self.caller(request, umask)));
        self.entry(reply, made);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.count(10);
        done(reply, self.told(self.union.unlink(Names { parent: parent.0, name })));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.count(11);
        done(reply, self.told(self.union.rmdir(Names { parent: parent.0, name })));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.count(6);
        let make = Make::Symlink(target.as_os_str().as_bytes());
        self.entry(reply, self.told(self.union.make(parent.0, name, make, self.caller(request, 0))));
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.count(if flags.is_empty() { 12 } else { 45 });
        let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        let from = Names { parent: parent.0, name };
        let to = Names { parent: new_parent.0, name: new_name };
        done(reply, self.told(self.union.rename(from, to, flags)));
    }

    fn link(&self, _request: &Request, node: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.count(13);
        self.entry(reply, self.told(self.union.link(node.0, Names { parent: parent.0, name })));
    }

    fn open(&self, request: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.count(14);
        let is_reading = flags.0 & libc::O_ACCMODE == libc::O_RDONLY;
        let purpose = match (flags.0 & libc::O_TRUNC != 0, is_reading) {
            (true, _) => OpenFor::Replacing(SetId::ByCaller),
            (false, true) => OpenFor::Reading,
            (false, false) => OpenFor::Writing,
        };
        match self.told(self.union.open_file(node.0, purpose, self.caller(request, 0))) {
            // Nothing is passed through to the kernel here.
            Ok(_) => reply.opened(NO_HANDLE, FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn read(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.count(15);
        with_buffer(size, |buffer| match self.union.read(node.0, offset, buffer) {
            Ok(n) => {
                self.union.stats().read_bytes.fetch_add(n as u64, Ordering::Relaxed);
                reply.data(buffer.get(..n).unwrap_or_default());
            }
            Err(error) => reply.error(errno(&error)),
        });
    }

    fn write(
        &self,
        request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.count(16);
        let set_id = match write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
            true => SetId::Drop,
            false => SetId::Keep,
        };
        let result = self.told(self.union.write(node.0, offset, data, set_id, self.caller(request, 0)));
        if let Ok(n) = result {
            self.union.stats().written_bytes.fetch_add(n as u64, Ordering::Relaxed);
        }
        written(reply, result);
    }

    fn flush(&self, _request: &Request, _node: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.count(25);
        // Nothing is kept back; the kernel does not ask again.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn release(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.count(18);
        self.union.release(node.0);
        reply.ok();
    }

    fn fsync(&self, _request: &Request, node: INodeNo, _: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.count(20);
        done(reply, self.union.fsync(node.0, if datasync { Sync::Data } else { Sync::Full }));
    }

    fn opendir(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.count(27);
        let flags = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        reply.opened(NO_HANDLE, flags);
    }

    fn readdir(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.count(28);
        let entries = match self.listings.entries(&self.union, node.0, offset) {
            Ok(entries) => entries,
            Err(error) => return reply.error(errno(&error)),
        };
        for entry in entries.from_offset(offset) {
            let name = OsStr::from_bytes(entry.name);
            if reply.add(INodeNo(entry.ino), entry.position, file_type(entry.kind), name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.count(44);
        let entries = match self.listings.entries(&self.union, node.0, offset) {
            Ok(entries) => entries,
            Err(error) => return reply.error(errno(&error)),
        };
        for entry in entries.from_offset(offset) {
            let name = OsStr::from_bytes(entry.name);
            let is_dot = matches!(entry.name, b"." | b"..");
            let found = match is_dot {
                true => None,
                // An entry that cannot be looked up is listed without
                // attributes: asking for them tells why.
                false => self.union.lookup_listed(node.0, &entry).unwrap_or(None),
            };
            let attr = match &found {
                Some(found) => entry_attr(found),
                // The crate takes `d_ino` from the attributes; the kernel takes
                // no reference to `.` and `..`.
                None if is_dot => {
                    fuser::FileAttr { ino: INodeNo(entry.ino), kind: file_type(entry.kind), ..absent() }
                }
                None => fuser::FileAttr { kind: file_type(entry.kind), ..absent() },
            };
            if reply.add(INodeNo(entry.ino), entry.position, name, &self.lifetime, &attr, GENERATION) {
                if let Some(found) = found {
                    self.union.forget(found.id, 1);
                }
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.count(29);
        reply.ok();
    }

    fn fsyncdir(&self, _request: &Request, node: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.count(30);
        done(reply, self.union.fsync(node.0, Sync::Full));
    }

    fn statfs(&self, _request: &Request, _node: INodeNo, reply: ReplyStatfs) {
        self.count(17);
        match self.union.statfs() {
            Ok(s) => reply.statfs(
                s.blocks,
                s.free,
                s.available,
                s.files,
                s.free_files,
                s.block_size,
                s.name_max,
                s.fragment_size,
            ),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn setxattr(
        &self,
        _request: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.count(21);
        let mode = match flags {
            libc::XATTR_CREATE => SetMode::Create,
            libc::XATTR_REPLACE => SetMode::Replace,
            _ => SetMode::Any,
        };
        done(reply, self.told(self.union.setxattr(node.0, name, value, mode)));
    }

    fn getxattr(&self, _request: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.count(22);
        with_buffer(size, |buffer| match self.union.getxattr(node.0, name, buffer) {
            Ok(n) if size == 0 => reply.size(u32::try_from(n).unwrap_or(u32::MAX)),
            Ok(n) => reply.data(buffer.get(..n).unwrap_or_default()),
            Err(error) => reply.error(errno(&error)),
        });
    }

    fn listxattr(&self, request: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        self.count(23);
        match self.union.listxattr(node.0, self.caller(request, 0)) {
            Ok(names) if size == 0 => reply.size(u32::try_from(names.len()).unwrap_or(u32::MAX)),
            Ok(names) if names.len() > size as usize => reply.error(fuser::Errno::ERANGE),
            Ok(names) => reply.data(&names),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn removexattr(&self, _request: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.count(24);
        done(reply, self.told(self.union.removexattr(node.0, name)));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        self.count(35);
        match self.told(self.union.create(parent.0, name, mode, self.caller(request, umask))) {
            Ok((entry, _)) => {
                let attr = entry_attr(&entry);
                reply.created(&self.lifetime, &attr, GENERATION, NO_HANDLE, FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn fallocate(
        &self,
        request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.count(43);
        let mode = FallocateFlags::from_bits_retain(mode as u32);
        done(reply, self.told(self.union.fallocate(node.0, mode, offset, length, self.caller(request, 0))));
    }

    fn lseek(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.count(46);
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            // The kernel answers the others itself.
            _ => return reply.error(fuser::Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(fuser::Errno::ENXIO) };
        match self.union.seek(node.0, offset, what) {
            Ok(found) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        _from_handle: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _to_handle: FileHandle,
        to_offset: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        self.count(47);
        // What is left, the caller asks for again.
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(1 << 30);
        let caller = self.caller(request, 0);
        let result =
            self.told(self.union.copy_file_range((from.0, from_offset), (to.0, to_offset), len, caller));
        written(reply, result);
    }
}
