//! A tree of files into a tar stream.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use layerstore::layer::entry::{Entry, EntryKind};
use layerstore::layer::write::TarWriter;
use layerstore::tree::{Device, Meta, Xattrs};
use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, fstatfs, openat};
use rustix::io::Errno;

use super::{DEEPEST, Held, Owners, magic_path};
use crate::failure::{Context, Failure, Result};

/// Where a tree ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Borders {
    /// Nowhere: whatever is mounted belongs to it.
    None,
    /// Where something else is mounted: of that, the mount point alone is told.
    Mounts,
    /// Where the kernel tells of itself (/proc and its like) or a temporary
    /// file system is mounted; whatever else is mounted belongs to it.
    Volumes,
}

/// Of linux/magic.h: file systems that hold no files of anybody's, and the
/// temporary ones.
const KERNELS_OWN: [i64; 17] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6e73_6673, // nsfs
    0xcafe_4a11, // bpf
    0x7472_6163, // tracefs
    0x6462_6720, // debugfs
    0x7363_6673, // securityfs
    0x6265_6570, // configfs
    0x6573_5543, // fusectl
    0x4249_4e4d, // binfmt_misc
    0xde5e_81e4, // efivarfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
];

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// It is whole.
    Whole,
    /// Whoever read it has gone, and knows why.
    Unread,
}

/// Writes a file, or a directory and all below it, under the name `shown`: `.`,
/// or a name of one part; with none, what is in the directory has its own. The
/// top is open, by `O_PATH` at least.
///
/// Sockets are left out: an archive cannot hold them, and without their process
/// they are nothing. What goes away meanwhile was not there.
pub fn pack(
    top: OwnedFd,
    shown: &[u8],
    owners: &Owners,
    borders: Borders,
    out: impl Write,
) -> Result<Packed> {
    let mut out = Watched::new(out);
    let mut buffered = BufWriter::with_capacity(BUFFER, &mut out);
    let packed = Pack { owners, out: TarWriter::new(&mut buffered), linked: HashMap::new() }
        .all(top, shown, borders)
        .and_then(|()| buffered.flush().context(|| "cannot write an archive".to_owned()));
    // What is left in the buffer of a stream that failed is nothing.
    drop(buffered.into_parts());
    out.outcome(packed)
}

/// How much is written at once.
pub(super) const BUFFER: usize = 128 << 10;

/// Remembers that nobody reads.
pub(super) struct Watched<W> {
    inner: W,
    is_unread: bool,
}

impl<W> Watched<W> {
    pub(super) fn new(inner: W) -> Watched<W> {
        Watched { inner, is_unread: false }
    }

    /// What became of a stream that was written so.
    pub(super) fn outcome(&self, packed: Result<()>) -> Result<Packed> {
        match packed {
            Err(_) if self.is_unread => Ok(Packed::Unread),
            packed => packed.map(|()| Packed::Whole),
        }
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let is_unread = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
        self.inner.write(bytes).inspect_err(|error| self.is_unread |= is_unread(error))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn crosses(dir: &OwnedFd, borders: Borders) -> rustix::io::Result<bool> {
    match borders {
        Borders::None => Ok(true),
        Borders::Mounts => Ok(false),
        Borders::Volumes => Ok(!KERNELS_OWN.contains(&{ fstatfs(dir)?.f_type })),
    }
}

/// A directory that is gone through.
struct Level {
    dir: OwnedFd,
    path: Vec<u8>,
    device: u64,
    /// What is left of it, the last first.
    names: Vec<Vec<u8>>,
}

impl Level {
    fn new(dir: OwnedFd, path: Vec<u8>, device: u64) -> Result<Level> {
        let context = || format!("cannot list {}", String::from_utf8_lossy(&path));
        let mut names = Vec::new();
        for entry in Dir::read_from(&dir).context(context)? {
            let entry = entry.context(context)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable_by(|one, other| other.cmp(one));
        Ok(Level { dir, path, device, names })
    }
}

struct Pack<'a, W: Write> {
    owners: &'a Owners,
    out: TarWriter<W>,
    /// First paths of files with several names, by device and number.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Pack<'_, W> {
    fn all(mut self, top: OwnedFd, shown: &[u8], borders: Borders) -> Result<()> {
        let stat = fstat(&top).context(|| "cannot look at it".to_owned())?;
        let device = stat.st_dev;
        let mut open = Vec::new();
        if let Some(top) = self.one(Held { fd: top, stat }, shown)? {
            open.push(Level::new(top, shown.to_vec(), device)?);
        }
        while let Some(level) = open.last_mut() {
            let Some(name) = level.names.pop() else {
                open.pop();
                continue;
            };
            let path = match &level.path[..] {
                [] => name.clone(),
                dir => [dir, b"/", &name].concat(),
            };
            let context = || format!("cannot read {}", String::from_utf8_lossy(&path));
            let Some(held) = Held::present(level.dir.as_fd(), &name).context(context)? else { continue };
            let (device, is_crossed) = (held.stat.st_dev, held.stat.st_dev != level.device);
            let Some(dir) = self.one(held, &path)? else { continue };
            if is_crossed && !crosses(&dir, borders).context(context)? {
                continue;
            }
            if open.len() > DEEPEST {
                return Err(Failure::new(format!("more than {DEEPEST} directories lie in each other")));
            }
            open.push(Level::new(dir, path, device)?);
        }
        self.out.finish()?;
        Ok(())
    }

    /// Writes one file; gives a directory, open to be listed.
    fn one(&mut self, held: Held, path: &[u8]) -> Result<Option<OwnedFd>> {
        let context = || format!("cannot read {}", String::from_utf8_lossy(path));
        let mut entry = self.entry(&held, path).context(context)?;
        if held.kind() != FileType::Directory && held.stat.st_nlink > 1 {
            let key = (held.stat.st_dev, held.stat.st_ino);
            if let Some(first) = self.linked.get(&key) {
                entry.kind = EntryKind::HardLink(first.clone());
                entry.xattrs.clear();
                return self.write(&entry, std::io::empty()).map(|()| None);
            }
            self.linked.insert(key, path.to_vec());
        }
        entry.kind = match held.kind() {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let dir = openat(&held.fd, c".", flags, Mode::empty()).context(context)?;
                entry.path.push(b'/');
                entry.kind = EntryKind::Dir;
                return self.write(&entry, std::io::empty()).map(|()| Some(dir));
            }
            FileType::RegularFile => {
                // It is a regular file for sure: what was looked at is what is opened.
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let file = File::from(openat(CWD, held.path(), flags, Mode::empty()).context(context)?);
                entry.size = fstat(&file).context(context)?.st_size.try_into().unwrap_or(0);
                // As long as it was: somebody may be writing to it.
                let contents = file.take(entry.size).chain(Zeros).take(entry.size);
                return self.write(&entry, contents).map(|()| None);
            }
            FileType::Symlink => EntryKind::Symlink(
                rustix::fs::readlinkat(&held.fd, c"", Vec::new()).context(context)?.into_bytes(),
            ),
            FileType::CharacterDevice => EntryKind::Char(device(&held)),
            FileType::BlockDevice => EntryKind::Block(device(&held)),
            FileType::Fifo => EntryKind::Fifo,
            _ => return Ok(None),
        };
        self.write(&entry, std::io::empty()).map(|()| None)
    }

    fn entry(&self, held: &Held, path: &[u8]) -> rustix::io::Result<Entry> {
        let stat = &held.stat;
        let mut mode = (stat.st_mode & 0o7777) as u16;
        let (mut uid, mut gid, mut xattrs) = (0, 0, Xattrs::new());
        match self.owners {
            Owners::Kept(maps) | Owners::Possible(maps) => {
                (uid, gid) = maps.inside(stat);
                xattrs = attributes(held)?;
            }
            Owners::Given(..) | Owners::Writers => {
                if held.kind() != FileType::Directory {
                    mode &= !0o6000;
                }
            }
        }
        let path = if path.is_empty() { b"." } else { path };
        let meta = Meta { mode, uid, gid, mtime: stat.st_mtime, mtime_nsec: stat.st_mtime_nsec as u32 };
        Ok(Entry {
            path: path.to_vec(),
            kind: EntryKind::File,
            meta,
            xattrs,
            size: 0,
            stored: 0,
            sparse: None,
        })
    }

    fn write(&mut self, entry: &Entry, contents: impl Read) -> Result<()> {
        Ok(self.out.entry(entry, contents)?)
    }
}

fn device(held: &Held) -> Device {
    let number = held.stat.st_rdev;
    Device { major: rustix::fs::major(number), minor: rustix::fs::minor(number) }
}

/// What is left of a file that grew shorter while it was read.
struct Zeros;

impl Read for Zeros {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        buffer.fill(0);
        Ok(buffer.len())
    }
}

/// All attributes that can be read, by their full names.
fn attributes(held: &Held) -> rustix::io::Result<Xattrs> {
    let mut found = Xattrs::new();
    let path = magic_path(held.fd.as_fd());
    let mut names = Vec::with_capacity(1024);
    while names.is_empty() {
        match rustix::fs::listxattr(&*path, spare_capacity(&mut names)) {
            Ok(0) | Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => return Ok(found),
            Err(Errno::RANGE) if names.capacity() < LONGEST => names = Vec::with_capacity(LONGEST),
            read => drop(read?),
        }
    }
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = Vec::with_capacity(LONGEST);
        match rustix::fs::getxattr(&*path, name, spare_capacity(&mut value)) {
            // It is gone, or nobody's to read.
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => continue,
            read => drop(read?),
        }
        found.insert(name.into(), value.into());
    }
    Ok(found)
}

/// XATTR_LIST_MAX and XATTR_SIZE_MAX of linux/limits.h.
pub(super) const LONGEST: usize = 64 << 10;
