//! A container's root into a tar stream, by the union's own code in this process:
//! no mount, no server, no request for each file.
//!
//! What is read is what lies on disk. As in [`super::pack`], sockets are left
//! out, and what goes away meanwhile was not there.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;

use layerstore::layer::entry::{Entry, EntryKind};
use layerstore::layer::write::TarWriter;
use layerstore::tree::{Device, Meta, Xattrs};
use rustix::fs::FileType;
use rustix::io::Errno;
use unionfs::Union;
use unionfs::inode::{NodeId, ROOT};
use unionfs::ops::{Attr, Caller, OpenFor};

use super::DEEPEST;
use super::pack::{BUFFER, LONGEST, Packed, Watched};
use crate::failure::{Context, Failure, Result};

/// Writes a union's file, or a directory and all below it, under the name `shown`: `.`,
/// or a name of one part; with none, what is in the directory has its own.
pub fn pack_union(union: &Union, top: NodeId, shown: &[u8], out: impl Write) -> Result<Packed> {
    let mut out = Watched::new(out);
    let mut buffered = BufWriter::with_capacity(BUFFER, &mut out);
    let packed = Pack { union, out: TarWriter::new(&mut buffered), linked: HashMap::new() }
        .all(top, shown)
        .and_then(|()| buffered.flush().context(|| "cannot write an archive".to_owned()));
    drop(buffered.into_parts());
    out.outcome(packed)
}

/// The directory that a path leads to, by names alone; none where there is none, or a
/// link is on the way.
pub fn dir_in_union(union: &Union, path: &[u8]) -> Result<Option<NodeId>> {
    let mut here = ROOT;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        here = match union.lookup(here, OsStr::from_bytes(name)) {
            Ok(found) if found.attr.kind == FileType::Directory => found.id,
            Ok(_) => return Ok(None),
            Err(error) if error.errno() == Errno::NOENT => return Ok(None),
            Err(error) => {
                return Err(error).context(|| format!("cannot find {}", String::from_utf8_lossy(path)));
            }
        };
    }
    Ok(Some(here))
}

/// Root, who sees everything.
const ROOT_USER: Caller = Caller { uid: 0, gid: 0, umask: 0 };

/// A directory that is gone through.
struct Level {
    id: NodeId,
    path: Vec<u8>,
    /// What is left of it, the last first.
    names: Vec<Vec<u8>>,
}

struct Pack<'a, W: Write> {
    union: &'a Union,
    out: TarWriter<W>,
    /// First paths of files with several names, by number.
    linked: HashMap<u64, Vec<u8>>,
}

impl<W: Write> Pack<'_, W> {
    fn all(mut self, top: NodeId, shown: &[u8]) -> Result<()> {
        let attr = self.union.getattr(top).context(|| "cannot look at it".to_owned())?;
        self.one(top, &attr, if shown.is_empty() { b"." } else { shown })?;
        let mut open = Vec::new();
        if attr.kind == FileType::Directory {
            open.push(self.level(top, shown.to_vec())?);
        }
        while let Some(level) = open.last_mut() {
            let Some(name) = level.names.pop() else {
                if level.id != top {
                    self.union.forget(level.id, 1);
                }
                open.pop();
                continue;
            };
            let path = match &level.path[..] {
                [] => name.clone(),
                dir => [dir, b"/", &name].concat(),
            };
            let context = || format!("cannot read {}", String::from_utf8_lossy(&path));
            let found = match self.union.lookup(level.id, OsStr::from_bytes(&name)) {
                Err(error) if error.errno() == Errno::NOENT => continue,
                found => found.context(context)?,
            };
            self.one(found.id, &found.attr, &path)?;
            if found.attr.kind != FileType::Directory {
                self.union.forget(found.id, 1);
                continue;
            }
            if open.len() > DEEPEST {
                return Err(Failure::new(format!("more than {DEEPEST} directories lie in each other")));
            }
            open.push(self.level(found.id, path)?);
        }
        self.out.finish()?;
        Ok(())
    }

    fn level(&self, id: NodeId, path: Vec<u8>) -> Result<Level> {
        let listed =
            self.union.list(id).context(|| format!("cannot list {}", String::from_utf8_lossy(&path)))?;
        let names = listed.from_offset(0).map(|entry| entry.name.to_vec());
        let mut names: Vec<Vec<u8>> = names.filter(|name| name != b"." && name != b"..").collect();
        names.sort_unstable_by(|one, other| other.cmp(one));
        Ok(Level { id, path, names })
    }

    fn one(&mut self, id: NodeId, attr: &Attr, path: &[u8]) -> Result<()> {
        let context = || format!("cannot read {}", String::from_utf8_lossy(path));
        let mut entry = Entry {
            path: path.to_vec(),
            kind: EntryKind::File,
            meta: Meta {
                mode: (attr.perm & 0o7777) as u16,
                uid: attr.uid,
                gid: attr.gid,
                mtime: attr.mtime.sec,
                mtime_nsec: attr.mtime.nsec,
            },
            xattrs: Xattrs::new(),
            size: 0,
            stored: 0,
            sparse: None,
        };
        if attr.kind != FileType::Directory && attr.nlink > 1 {
            if let Some(first) = self.linked.get(&attr.ino) {
                entry.kind = EntryKind::HardLink(first.clone());
                return Ok(self.out.entry(&entry, std::io::empty())?);
            }
            self.linked.insert(attr.ino, path.to_vec());
        }
        entry.xattrs = self.attributes(id).context(context)?;
        let device = || Device { major: rustix::fs::major(attr.rdev), minor: rustix::fs::minor(attr.rdev) };
        entry.kind = match attr.kind {
            FileType::RegularFile => {
                entry.size = attr.size;
                self.union.open_file(id, OpenFor::Reading, ROOT_USER).context(context)?;
                let contents = Contents { union: self.union, id, offset: 0 };
                // As long as it was: somebody may be writing to it.
                let written = self.out.entry(&entry, contents.chain(std::io::repeat(0)).take(entry.size));
                self.union.release(id);
                return Ok(written?);
            }
            FileType::Directory => {
                entry.path.push(b'/');
                EntryKind::Dir
            }
            FileType::Symlink => EntryKind::Symlink(self.union.readlink(id).context(context)?),
            FileType::CharacterDevice => EntryKind::Char(device()),
            FileType::BlockDevice => EntryKind::Block(device()),
            FileType::Fifo => EntryKind::Fifo,
            _ => return Ok(()),
        };
        Ok(self.out.entry(&entry, std::io::empty())?)
    }

    fn attributes(&self, id: NodeId) -> unionfs::Result<Xattrs> {
        let mut found = Xattrs::new();
        let names = self.union.listxattr(id, ROOT_USER)?;
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; LONGEST];
            match self.union.getxattr(id, OsStr::from_bytes(name), &mut value) {
                Ok(length) => value.truncate(length),
                // It is gone, or nobody's to read.
                Err(error) if matches!(error.errno(), Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {
                    continue;
                }
                Err(error) => return Err(error),
            }
            found.insert(name.into(), value.into());
        }
        Ok(found)
    }
}

/// What a file consists of.
struct Contents<'a> {
    union: &'a Union,
    id: NodeId,
    offset: u64,
}

impl Read for Contents<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.union.read(self.id, self.offset, buffer).map_err(|error| error.errno())?;
        self.offset += read as u64;
        Ok(read)
    }
}
