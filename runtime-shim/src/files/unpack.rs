//! A tar stream into a tree of files.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use layerstore::layer::Limits;
use layerstore::layer::entry::{Entry, EntryKind, Parser};
use layerstore::tree::Device;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat,
    linkat, mkdirat, mknodat, openat, openat2, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::{Held, Owners};
use crate::failure::{Context, Failure, Result};

/// Where a stream's files go.
pub enum Place<'a> {
    /// Below a directory; that stays as it is, whatever the stream says of it.
    Into(BorrowedFd<'a>),
    /// Below a directory that becomes as the stream says.
    Over(BorrowedFd<'a>),
    /// What the stream calls `.` becomes this name in a directory.
    As(BorrowedFd<'a>, &'a [u8]),
}

/// How much is read and written at once; so much of nothing but zeros is a hole.
const BUFFER: usize = 128 << 10;

/// Makes the files of a stream. Directories that are there are gone on with,
/// other files are replaced; neither takes the other's place.
///
/// Nothing is made outside of the place: no name leads up, and no symbolic link
/// is followed, be it older or from the stream itself.
pub fn unpack(stream: impl Read, place: &Place<'_>, owners: &Owners) -> Result<()> {
    let mut unpack = Unpack { place, owners, later: Vec::new(), buffer: vec![0; BUFFER] };
    let mut parser = Parser::new(stream, Limits::default());
    while let Some(entry) = parser.next_entry()? {
        let shown = || format!("cannot write {}", String::from_utf8_lossy(&entry.path));
        let path = names(&entry.path).context(shown)?;
        unpack.entry(&entry, &path, &mut parser)?;
    }
    // Whoever writes the stream is to see it read.
    while parser.read_trailer(&mut unpack.buffer)? > 0 {}
    unpack.finish()
}

/// Why an entry cannot be made; which one, its caller knows.
struct Why(String);

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
fn about(what: &str) -> impl FnOnce(Errno) -> Why {
    move |errno| Why(format!("{what}: {errno}"))
}

/// The parts of a path.
fn names(path: &[u8]) -> Result<Vec<&[u8]>, Why> {
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err("it leads up, by \"..\"".into()),
            name if name.contains(&0) => return Err("its name has a NUL".into()),
            name => names.push(name),
        }
    }
    Ok(names)
}

struct Unpack<'a> {
    place: &'a Place<'a>,
    owners: &'a Owners,
    /// What directories are to become once nothing is made in them any more:
    /// until then they must be open to who writes, and their times change.
    later: Vec<(Vec<u8>, Mode, Timestamps)>,
    buffer: Vec<u8>,
}

impl Unpack<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, path: &[&[u8]], parser: &mut Parser<R>) -> Result<()> {
        let shown = || format!("cannot write {}", String::from_utf8_lossy(&entry.path));
        let (dir, name) = match (path.split_last(), self.place) {
            (Some((name, parents)), _) => (self.parent(parents).context(shown)?, *name),
            (None, Place::Into(_)) => return Ok(()),
            (None, Place::Over(dir)) => return self.top(*dir, entry).context(shown),
            (None, Place::As(dir, name)) => (dir.try_clone_to_owned().context(shown)?, *name),
        };
        if entry.kind == EntryKind::File {
            let file = match create(dir.as_fd(), name, entry) {
                Err(Errno::EXIST) => {
                    clear(dir.as_fd(), name, entry)?;
                    create(dir.as_fd(), name, entry)
                }
                created => created,
            };
            return self.file(file.context(shown)?, entry, parser).context(shown);
        }
        clear(dir.as_fd(), name, entry)?;
        self.other(dir.as_fd(), name, entry, path).context(shown)
    }

    /// Whether what this user cannot make is left out.
    fn may_lack(&self) -> bool {
        matches!(self.owners, Owners::Possible(_))
    }

    fn are_kept(&self) -> bool {
        matches!(self.owners, Owners::Kept(_) | Owners::Possible(_))
    }

    /// Anything but a regular file.
    fn other(&mut self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry, path: &[&[u8]]) -> Result<(), Why> {
        let private = Mode::RUSR | Mode::WUSR;
        let number = |device: &Device| rustix::fs::makedev(device.major, device.minor);
        let kind = match &entry.kind {
            EntryKind::File => return Ok(()),
            EntryKind::HardLink(target) => {
                let target = names(target)?;
                let (old, parents) = target.split_last().ok_or("a link to nothing")?;
                let from = self.parent(parents)?;
                return match linkat(&from, *old, dir, name, AtFlags::empty()) {
                    // Another name of a device that could not be made.
                    Err(Errno::NOENT) if self.may_lack() => Ok(()),
                    linked => Ok(linked?),
                };
            }
            EntryKind::Dir => {
                match mkdirat(dir, name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
                FileType::Directory
            }
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
        match kind {
            FileType::Directory => self.directory(&held, entry, path.join(&b'/')),
            _ => self.attributes(&held, entry),
        }
    }

    /// The directory that these names lead to; those that are missing are made.
    fn parent(&self, names: &[&[u8]]) -> Result<OwnedFd, Why> {
        let mut here = self.top_of_tree()?;
        if names.is_empty() {
            return Ok(here);
        }
        // All at once where they are there.
        if let Some(found) = beneath(&here, &names.join(&b'/'))? {
            return Ok(found);
        }
        for name in names {
            match mkdirat(&here, *name, Mode::from_raw_mode(0o755)) {
                Ok(()) => drop(self.give(&Held::open(here.as_fd(), name)?, 0, 0)?),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            here = child(here.as_fd(), name)?;
        }
        Ok(here)
    }

    /// What all paths begin at.
    fn top_of_tree(&self) -> Result<OwnedFd, Why> {
        match self.place {
            Place::Into(dir) | Place::Over(dir) => Ok(dir.try_clone_to_owned()?),
            Place::As(dir, name) => child(*dir, name),
        }
    }

    fn file<R: Read>(&mut self, mut file: File, entry: &Entry, parser: &mut Parser<R>) -> Result<(), Why> {
        match &entry.sparse {
            None => while self.piece(&mut file, parser, u64::MAX)? > 0 {},
            Some(segments) => {
                for segment in segments {
                    file.seek(SeekFrom::Start(segment.offset))?;
                    let mut left = segment.len;
                    while left > 0 {
                        left -= self.piece(&mut file, parser, left)?;
                    }
                }
            }
        }
        let mut stat = rustix::fs::fstat(&file)?;
        // A hole at its end is not written.
        if u64::try_from(stat.st_size) != Ok(entry.size) {
            file.set_len(entry.size)?;
            stat = rustix::fs::fstat(&file)?;
        }
        self.attributes(&Held { fd: file.into(), stat }, entry)
    }

    /// Writes what comes next, and gives its length; zeros become a hole.
    fn piece<R: Read>(&mut self, file: &mut File, parser: &mut Parser<R>, most: u64) -> Result<u64, Why> {
        let length = self.buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let mut filled = 0;
        while filled < length {
            let buffer = self.buffer.get_mut(filled..length).unwrap_or_default();
            match parser.read_body(buffer).map_err(|error| Why(error.message().to_owned()))? {
                0 => break,
                read => filled += read,
            }
        }
        let bytes = self.buffer.get(..filled).unwrap_or_default();
        match filled == BUFFER && bytes.iter().all(|byte| *byte == 0) {
            true => file.seek_relative(BUFFER as i64)?,
            false => file.write_all(bytes)?,
        }
        Ok(filled as u64)
    }

    /// What the stream says of the place itself.
    fn top(&mut self, dir: BorrowedFd<'_>, entry: &Entry) -> Result<(), Why> {
        match entry.kind {
            EntryKind::Dir => self.directory(&Held::open(dir, b".")?, entry, Vec::new()),
            _ => Err("its place is a directory's".into()),
        }
    }

    fn directory(&mut self, held: &Held, entry: &Entry, path: Vec<u8>) -> Result<(), Why> {
        self.give(held, entry.meta.uid, entry.meta.gid)?;
        self.xattrs(held, entry)?;
        self.later.push((path, Mode::from_raw_mode(entry.meta.mode.into()), times(entry)));
        Ok(())
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

    /// The deepest first: a directory may be closed to its owner.
    fn finish(&self) -> Result<()> {
        let context = || "cannot finish a directory".to_owned();
        let top = self.later.first().map(|_| self.top_of_tree()).transpose().context(context)?;
        let Some(top) = top else { return Ok(()) };
        for (path, mode, times) in self.later.iter().rev() {
            let found = match path.is_empty() {
                true => Some(top.try_clone().context(context)?),
                false => beneath(&top, path).context(context)?,
            };
            // Somebody may have taken it away again.
            let Some(dir) = found else { continue };
            let path = super::magic_path(dir.as_fd());
            rustix::fs::chmod(&*path, *mode).context(context)?;
            utimensat(CWD, &*path, times, AtFlags::empty()).context(context)?;
        }
        Ok(())
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
fn clear(dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<()> {
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

/// A directory below another, by no link; `None` where there is none.
fn beneath(dir: &OwnedFd, path: &[u8]) -> Result<Option<OwnedFd>, Why> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(dir, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        found => Ok(Some(found?)),
    }
}

/// A directory in another, by no link.
fn child(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Why> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP | Errno::NOTDIR => {
            Why(format!("{} on its way is no directory", String::from_utf8_lossy(name)))
        }
        errno => errno.into(),
    })
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.meta.mtime, tv_nsec: entry.meta.mtime_nsec.into() };
    Timestamps { last_access: time, last_modification: time }
}
