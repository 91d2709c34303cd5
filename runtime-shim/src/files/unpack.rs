//! A tar stream into a tree of files.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use layerstore::layer::Limits;
use layerstore::layer::entry::{Entry, EntryKind, Parser};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Timestamps, openat, openat2, utimensat};
use rustix::io::Errno;

use super::crew::{Crew, Job};
use super::make::{Maker, Why, cannot_write, clear, times};
use super::{Held, Owners};
use crate::failure::{Context, Result};

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

/// Longer files are written while they are read.
const SMALL: u64 = 64 << 10;

/// Makes the files of a stream. Directories that are there are gone on with,
/// other files are replaced; neither takes the other's place.
///
/// Nothing is made outside of the place: no name leads up, and no symbolic link
/// is followed, be it older or from the stream itself.
///
/// Small files are made by a [crew](super::crew). The stream's order is what the outcome
/// shows: a path's last entry is what stays, and a link leads to what was before it. Only
/// where an entry cannot be made, some that come after it may be there already.
pub fn unpack(stream: impl Read, place: &Place<'_>, owners: &Owners) -> Result<()> {
    let maker = Maker { owners };
    let mut later = Vec::new();
    std::thread::scope(|scope| {
        let crew = Crew::new(scope, &maker);
        let buffer = vec![0; BUFFER];
        let mut unpack = Unpack { place, maker: &maker, crew, later: &mut later, buffer };
        let read = unpack.all(stream);
        unpack.crew.end(read)
    })?;
    finish(place, &later)
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

/// What a directory is to become once nothing is made in it any more: until then it must
/// be open to who writes, and its times change.
struct Later {
    path: Vec<u8>,
    mode: Mode,
    times: Timestamps,
}

struct Unpack<'a, 's, 'e> {
    place: &'a Place<'a>,
    maker: &'e Maker<'e>,
    crew: Crew<'s, 'e>,
    later: &'a mut Vec<Later>,
    buffer: Vec<u8>,
}

impl Unpack<'_, '_, '_> {
    fn all(&mut self, stream: impl Read) -> Result<()> {
        let mut parser = Parser::new(stream, Limits::default());
        while let Some(entry) = parser.next_entry()? {
            let path = entry.path.clone();
            let path = names(&path).context(|| cannot_write(&entry))?;
            self.entry(entry, &path, &mut parser)?;
        }
        // Whoever writes the stream is to see it read.
        while parser.read_trailer(&mut self.buffer)? > 0 {}
        Ok(())
    }

    fn entry<R: Read>(&mut self, entry: Entry, path: &[&[u8]], parser: &mut Parser<R>) -> Result<()> {
        let shown = || cannot_write(&entry);
        let (dir, name) = match (path.split_last(), self.place) {
            (Some((name, parents)), _) => (self.parent(parents, shown)?, *name),
            (None, Place::Into(_)) => return Ok(()),
            (None, Place::Over(dir)) => return self.top(*dir, &entry).context(shown),
            (None, Place::As(dir, name)) => (dir.try_clone_to_owned().context(shown)?, *name),
        };
        match &entry.kind {
            EntryKind::Dir => self.directory(dir.as_fd(), name, &entry, path),
            EntryKind::HardLink(target) => {
                let target = names(target).context(shown)?;
                self.crew.await_path(&target)?;
                self.crew.await_path(path)?;
                clear(dir.as_fd(), name, &entry)?;
                let (old, parents) = target.split_last().ok_or("a link to nothing").context(shown)?;
                let from = self.parent(parents, shown)?;
                self.maker.link((from.as_fd(), old), dir.as_fd(), name).context(shown)
            }
            EntryKind::File if entry.sparse.is_some() || entry.size > SMALL => {
                self.crew.await_path(path)?;
                let file = self.maker.file(dir.as_fd(), name, &entry)?;
                self.large(file, &entry, parser).context(shown)
            }
            _ => {
                let mut contents = vec![0; usize::try_from(entry.size).unwrap_or(0)];
                fill(parser, &mut contents).context(shown)?;
                self.crew.make(path, Job { dir, name: name.to_vec(), entry, contents })
            }
        }
    }

    fn directory(&mut self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry, path: &[&[u8]]) -> Result<()> {
        // Attributes say what files in it are made with from now on.
        if !entry.xattrs.is_empty() {
            self.crew.await_all()?;
        }
        clear(dir, name, entry)?;
        self.maker.directory(dir, name, entry).context(|| cannot_write(entry))?;
        self.finish_later(path, entry);
        Ok(())
    }

    fn finish_later(&mut self, path: &[&[u8]], entry: &Entry) {
        let mode = Mode::from_raw_mode(entry.meta.mode.into());
        self.later.push(Later { path: path.join(&b'/'), mode, times: times(entry) });
    }

    /// The directory that these names lead to; those that are missing are made.
    fn parent(&self, names: &[&[u8]], shown: impl Fn() -> String) -> Result<OwnedFd> {
        let mut here = top(self.place).context(&shown)?;
        if names.is_empty() {
            return Ok(here);
        }
        // All at once where they are there.
        if let Some(found) = beneath(&here, &names.join(&b'/')).context(&shown)? {
            return Ok(found);
        }
        // What is none may be on its way.
        self.crew.await_all()?;
        for name in names {
            self.maker.parent(here.as_fd(), name).context(&shown)?;
            here = child(here.as_fd(), name).context(&shown)?;
        }
        Ok(here)
    }

    fn large<R: Read>(&mut self, mut file: File, entry: &Entry, parser: &mut Parser<R>) -> Result<(), Why> {
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
        self.maker.finish(file, entry)
    }

    /// Writes what comes next, and gives its length; zeros become a hole.
    fn piece<R: Read>(&mut self, file: &mut File, parser: &mut Parser<R>, most: u64) -> Result<u64, Why> {
        let length = self.buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let filled = fill(parser, self.buffer.get_mut(..length).unwrap_or_default())?;
        let bytes = self.buffer.get(..filled).unwrap_or_default();
        match filled == BUFFER && bytes.iter().all(|byte| *byte == 0) {
            true => file.seek_relative(BUFFER as i64)?,
            false => file.write_all(bytes)?,
        }
        Ok(filled as u64)
    }

    /// What the stream says of the place itself.
    fn top(&mut self, dir: BorrowedFd<'_>, entry: &Entry) -> Result<(), Why> {
        if entry.kind != EntryKind::Dir {
            return Err("its place is a directory's".into());
        }
        self.maker.own(&Held::open(dir, b".")?, entry)?;
        self.finish_later(&[], entry);
        Ok(())
    }
}

/// Reads what comes next of an entry, as long as there is any; gives how much.
fn fill<R: Read>(parser: &mut Parser<R>, buffer: &mut [u8]) -> Result<usize, Why> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match parser.read_body(rest).map_err(|error| Why::from(error.message()))? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// What all paths begin at.
fn top(place: &Place<'_>) -> Result<OwnedFd, Why> {
    match place {
        Place::Into(dir) | Place::Over(dir) => Ok(dir.try_clone_to_owned()?),
        Place::As(dir, name) => child(*dir, name),
    }
}

/// The deepest first: a directory may be closed to its owner.
fn finish(place: &Place<'_>, later: &[Later]) -> Result<()> {
    let context = || "cannot finish a directory".to_owned();
    let top = later.first().map(|_| top(place)).transpose().context(context)?;
    let Some(top) = top else { return Ok(()) };
    for Later { path, mode, times } in later.iter().rev() {
        let found = match path.is_empty() {
            true => Some(top.try_clone().context(context)?),
            false => beneath(&top, path).context(context)?,
        };
        // Somebody may have taken it away again.
        let Some(dir) = found else { continue };
        let path = super::magic_path(dir.as_fd());
        rustix::fs::chmod(&*path, *mode).context(context)?;
        utimensat(CWD, &*path, times, rustix::fs::AtFlags::empty()).context(context)?;
    }
    Ok(())
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
