//! How one file of a stream is made.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

use layerstore::layer::entry::{Entry, EntryKind};
use layerstore::tree::Device;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, linkat,
    mkdirat, mknodat, openat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::crew::Job;
use super::{Held, Owners};
use crate::failure::{Context, Failure, Result};

/// Why an entry cannot be made; which one, its caller knows.
pub(super) struct Why(pub String);

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Errno> for Why {
    fn from(errno: Errno) -> Why {
        Why(errno.to_string())
    }
}

impl From<std::io::Error> for Why {
    fn from(error: std::io::Error) -> Why {
        Why(error.to_string())
    }
}

impl From<&str> for Why {
    fn from(text: &str) -> Why {
        Why(text.to_owned())
    }
}

/// What about it, in front of an error.
pub(super) fn about(what: &str) -> impl FnOnce(Errno) -> Why {
    move |errno| Why(format!("{what}: {errno}"))
}

/// Makes files, whose they are to be.
pub(super) struct Maker<'a> {
    pub owners: &'a Owners,
}

impl Maker<'_> {
    /// A file with its contents, or what has none.
    pub fn job(&self, Job { dir, name, entry, contents }: &Job) -> Result<()> {
        let shown = || cannot_write(entry);
        if entry.kind == EntryKind::File {
            let mut file = self.file(dir.as_fd(), name, entry)?;
            file.write_all(contents).context(shown)?;
            return self.finish(file, entry).context(shown);
        }
        clear(dir.as_fd(), name, entry)?;
        self.special(dir.as_fd(), name, entry).context(shown)
    }

    /// A new file that has nothing yet.
    pub fn file(&self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<File> {
        let file = match create(dir, name, entry) {
            Err(Errno::EXIST) => {
                clear(dir, name, entry)?;
                create(dir, name, entry)
            }
            created => created,
        };
        file.context(|| cannot_write(entry))
    }

    /// What a file is to be, once all is in it.
    pub fn finish(&self, file: File, entry: &Entry) -> Result<(), Why> {
        let mut stat = rustix::fs::fstat(&file)?;
        // A hole at its end is not written.
        if u64::try_from(stat.st_size) != Ok(entry.size) {
            file.set_len(entry.size)?;
            stat = rustix::fs::fstat(&file)?;
        }
        self.attributes(&Held { fd: file.into(), stat }, entry)
    }

    /// Another name of a file that is there.
    pub fn link(&self, old: (BorrowedFd<'_>, &[u8]), dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Why> {
        match linkat(old.0, old.1, dir, name, AtFlags::empty()) {
            // Another name of a device that could not be made.
            Err(Errno::NOENT) if self.may_lack() => Ok(()),
            linked => Ok(linked?),
        }
    }

    /// A directory, open to its user alone.
    pub fn directory(&self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), Why> {
        match mkdirat(dir, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let held = Held::open(dir, name)?;
        match held.kind() {
            FileType::Directory => self.own(&held, entry),
            _ => Err("it was replaced meanwhile".into()),
        }
    }

    /// One that no entry told of.
    pub fn parent(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Why> {
        match mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.give(&Held::open(dir, name)?, 0, 0).map(drop),
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whose a directory is, and what else is known of it but its mode and its times.
    pub fn own(&self, held: &Held, entry: &Entry) -> Result<(), Why> {
        self.give(held, entry.meta.uid, entry.meta.gid)?;
        self.xattrs(held, entry)
    }

    /// Whether what this user cannot make is left out.
    fn may_lack(&self) -> bool {
        matches!(self.owners, Owners::Possible(_))
    }

    fn are_kept(&self) -> bool {
        matches!(self.owners, Owners::Kept(_) | Owners::Possible(_))
    }

    /// What is neither a file, nor another name of one, nor a directory.
    fn special(&self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), Why> {
        let private = Mode::RUSR | Mode::WUSR;
        let number = |device: &Device| rustix::fs::makedev(device.major, device.minor);
        let kind = match &entry.kind {
            EntryKind::File | EntryKind::HardLink(_) | EntryKind::Dir => return Ok(()),
            EntryKind::Symlink(target) => {
                symlinkat(&target[..], dir, name)?;
                FileType::Symlink
            }
            EntryKind::Char(device) | EntryKind::Block(device) => {
                let kind = match entry.kind {
                    EntryKind::Char(_) => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                match mknodat(dir, name, kind, private, number(device)) {
                    Err(Errno::PERM) if self.may_lack() => return Ok(()),
                    made => made?,
                }
                kind
            }
            EntryKind::Fifo => {
                mknodat(dir, name, FileType::Fifo, private, 0)?;
                FileType::Fifo
            }
        };
        let held = Held::open(dir, name)?;
        if held.kind() != kind {
            return Err("it was replaced meanwhile".into());
        }
        self.attributes(&held, entry)
    }

    /// Owner, attributes, mode, times: in this order, for a new owner takes bits
    /// of the mode away, and whatever is set changes a time.
    fn attributes(&self, held: &Held, entry: &Entry) -> Result<(), Why> {
        let path = held.path();
        let is_given = self.give(held, entry.meta.uid, entry.meta.gid)?;
        self.xattrs(held, entry)?;
        let mut mode = u32::from(entry.meta.mode);
        if !self.are_kept() {
            mode &= !0o6000;
        }
        // An access list, or a new owner, may have changed it.
        let is_there =
            is_given == Given::Before && entry.xattrs.is_empty() && held.stat.st_mode & 0o7777 == mode;
        if !is_there && !matches!(entry.kind, EntryKind::Symlink(_)) {
            rustix::fs::chmod(&*path, Mode::from_raw_mode(mode)).map_err(about("its mode"))?;
        }
        utimensat(CWD, &*path, &times(entry), AtFlags::empty()).map_err(about("its times"))
    }

    fn xattrs(&self, held: &Held, entry: &Entry) -> Result<(), Why> {
        if !self.are_kept() {
            return Ok(());
        }
        for (name, value) in &entry.xattrs {
            match rustix::fs::setxattr(&*held.path(), &**name, value, XattrFlags::empty()) {
                // Not of this file system's, or not for this user to give.
                Err(Errno::OPNOTSUPP) => {}
                Err(Errno::PERM | Errno::ACCESS) if !name.starts_with(b"user.") => {}
                set => set.map_err(about(&format!("its attribute {}", String::from_utf8_lossy(name))))?,
            }
        }
        Ok(())
    }

    fn give(&self, held: &Held, uid: u32, gid: u32) -> Result<Given, Why> {
        let (uid, gid) = match self.owners {
            Owners::Kept(maps) | Owners::Possible(maps) => maps.outside(uid, gid),
            Owners::Given(uid, gid) => (*uid, *gid),
            Owners::Writers => return Ok(Given::Before),
        };
        if (held.stat.st_uid, held.stat.st_gid) == (uid, gid) {
            return Ok(Given::Before);
        }
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let given = chownat(CWD, held.path(), uid, gid, AtFlags::empty());
        if self.may_lack() && matches!(given, Err(Errno::PERM | Errno::INVAL)) {
            return Ok(Given::Now);
        }
        given.map(|()| Given::Now).map_err(|errno| match errno {
            Errno::PERM => "its owner: only root gives files away".into(),
            errno => about("its owner")(errno),
        })
    }
}

/// When a file became its owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// It was made so.
    Before,
    /// Just now, as far as that could be.
    Now,
}

/// Makes a file: new, so nobody else's. Most are made with the mode that they are to
/// have, which spares a call; but until a file is whole and its owner's, what not
/// everybody may read nobody may, and it makes no program more than that.
fn create(dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut mode = Mode::RUSR | Mode::WUSR;
    let wanted = Mode::from_raw_mode(entry.meta.mode.into());
    if wanted.contains(Mode::ROTH) {
        mode |= wanted & Mode::from_raw_mode(0o755);
    }
    openat(dir, name, flags, mode).map(File::from)
}

/// Makes room for an entry.
pub(super) fn clear(dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<()> {
    let shown = String::from_utf8_lossy(name);
    let context = || format!("cannot replace {shown}");
    let Some(there) = Held::present(dir, name).context(context)? else { return Ok(()) };
    match (there.kind() == FileType::Directory, entry.kind == EntryKind::Dir) {
        (true, true) => Ok(()),
        (true, false) => Err(Failure::as_docker(format!(
            "cannot overwrite directory \"{shown}\" with non-directory \"{shown}\""
        ))),
        (false, true) => Err(Failure::as_docker(format!(
            "cannot overwrite non-directory \"{shown}\" with directory \"{shown}\""
        ))),
        (false, false) => match unlinkat(dir, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            unlinked => unlinked.context(context),
        },
    }
}

pub(super) fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.meta.mtime, tv_nsec: entry.meta.mtime_nsec.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// In front of an error.
pub(super) fn cannot_write(entry: &Entry) -> String {
    format!("cannot write {}", String::from_utf8_lossy(&entry.path))
}
