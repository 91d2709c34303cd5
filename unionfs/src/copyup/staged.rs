//! Something finished, or being finished, in the work directory: published by
//! one system call, or gone when dropped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, RenameFlags};
use rustix::io::Errno;

use crate::error::Result;
use crate::name::{Name, NameBuf};
use crate::stack::upper::Upper;
use crate::sys::at::{self, Stat, Target};
use crate::sys::owned;

/// A file that nobody sees yet.
#[must_use = "what is not published vanishes"]
pub struct Staged<'u> {
    upper: &'u Upper,
    /// Its descriptor, of regular files.
    file: Option<OwnedFd>,
    /// Its attributes as it was made, of regular files without a name.
    born: Option<Stat>,
    /// Its name in the work directory, unless it has none.
    name: Option<NameBuf>,
}

impl<'u> Staged<'u> {
    /// An empty regular file, without a name and with these permission bits where
    /// the file system can.
    ///
    /// # Errors
    /// What creating it gave.
    pub fn file(upper: &'u Upper, mode: u32) -> Result<Self> {
        if !upper.has_unnamed() {
            return Self::named_file(upper);
        }
        let file = at::tmpfile(upper.work(), mode)?;
        let born = Some(at::stat_fd(&file)?);
        Ok(Staged { upper, file: Some(file), born, name: None })
    }

    /// An empty regular file that can take the place of another entry.
    ///
    /// # Errors
    /// What creating it gave.
    pub fn named_file(upper: &'u Upper) -> Result<Self> {
        let name = upper.temporary()?;
        let file = at::create(upper.work(), name.as_name(), 0o600)?;
        Ok(Staged { upper, file: Some(file), born: None, name: Some(name) })
    }

    /// An empty directory.
    ///
    /// # Errors
    /// What creating it gave.
    pub fn dir(upper: &'u Upper) -> Result<Self> {
        let name = upper.temporary()?;
        at::mkdir(upper.work(), name.as_name(), 0o700)?;
        Ok(Staged { upper, file: None, born: None, name: Some(name) })
    }

    /// A symlink.
    ///
    /// # Errors
    /// What creating it gave.
    pub fn symlink(upper: &'u Upper, target: &[u8]) -> Result<Self> {
        let name = upper.temporary()?;
        at::symlink(target, upper.work(), name.as_name())?;
        Ok(Staged { upper, file: None, born: None, name: Some(name) })
    }

    /// A fifo, socket or device node.
    ///
    /// # Errors
    /// What creating it gave.
    pub fn node(upper: &'u Upper, kind: FileType, rdev: u64) -> Result<Self> {
        let name = upper.temporary()?;
        at::mknod(upper.work(), name.as_name(), kind, 0o600, rdev)?;
        Ok(Staged { upper, file: None, born: None, name: Some(name) })
    }

    /// One more name of a file that is in the upper already.
    ///
    /// # Errors
    /// What linking it gave.
    pub fn link(upper: &'u Upper, from: Target<'_>) -> Result<Self> {
        let name = upper.temporary()?;
        at::link(from, upper.work(), name.as_name())?;
        Ok(Staged { upper, file: None, born: None, name: Some(name) })
    }

    /// As a system call names it.
    pub fn target(&self) -> Target<'_> {
        match (&self.file, &self.name) {
            (Some(file), _) => Target::Fd(file.as_fd()),
            (None, Some(name)) => Target::At(self.upper.work(), name.as_name()),
            // A staged thing has a name or a descriptor from its constructor on.
            (None, None) => Target::Fd(self.upper.work()),
        }
    }

    /// The descriptor of a regular file.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(|fd| fd.as_fd())
    }

    /// Its attributes as it was made, where they are known without asking.
    pub fn born(&self) -> Option<&Stat> {
        self.born.as_ref()
    }

    /// What tells it from all others: its attributes now, or when it was made.
    ///
    /// # Errors
    /// What the system call gave.
    pub fn identity(&self) -> Result<Stat> {
        match self.born {
            Some(born) => Ok(born),
            None => Ok(at::stat(self.target())?),
        }
    }

    /// Makes it visible where nothing is.
    ///
    /// # Errors
    /// `EEXIST` if something is, else what the system call gave; it then has
    /// vanished.
    pub fn publish(mut self, dir: BorrowedFd<'_>, name: Name<'_>) -> Result<Option<OwnedFd>> {
        match &self.name {
            Some(staged) => {
                let enter = || self.enter(staged, dir, name);
                owned::despite_mode(Target::Fd(dir), enter)?
            }
            None => owned::despite_mode(Target::Fd(dir), || at::link(self.target(), dir, name))?,
        }
        self.name = None;
        Ok(self.file.take())
    }

    /// Moves it where nothing is. A directory that moves is written itself: its
    /// parent is another.
    fn enter(&self, staged: &NameBuf, dir: BorrowedFd<'_>, name: Name<'_>) -> rustix::io::Result<()> {
        let work = self.upper.work();
        let enter = || at::rename(work, staged.as_name(), dir, name, RenameFlags::NOREPLACE);
        match enter() {
            Err(Errno::ACCESS) => {
                let held = at::open_path(work, staged.as_name())?;
                owned::despite_mode(Target::Fd(held.as_fd()), enter)
            }
            result => result,
        }
    }

    /// Makes it visible in the place of a whiteout or another file.
    ///
    /// # Errors
    /// What the system call gave; it then has vanished.
    pub fn publish_over(mut self, dir: BorrowedFd<'_>, name: Name<'_>) -> Result<Option<OwnedFd>> {
        let Some(staged) = self.name.take() else { return self.publish_over_unnamed(dir, name) };
        let work = self.upper.work();
        match at::rename(work, staged.as_name(), dir, name, RenameFlags::empty()) {
            Ok(()) => return Ok(self.file.take()),
            // A directory does not replace a whiteout in one step; they change
            // places, and the whiteout is discarded.
            Err(Errno::NOTDIR | Errno::ISDIR) => {}
            Err(errno) => {
                self.upper.discard(staged.as_name());
                return Err(errno.into());
            }
        }
        self.name = Some(staged);
        self.publish_in_exchange(dir, name)?;
        Ok(None)
    }

    /// Changes places with an entry, which is then disposed of with all that is
    /// in it.
    ///
    /// # Errors
    /// What the system call gave; it then has vanished.
    pub fn publish_in_exchange(mut self, dir: BorrowedFd<'_>, name: Name<'_>) -> Result<()> {
        let Some(staged) = self.name.take() else { return Err(Errno::INVAL.into()) };
        let exchanged = at::rename(self.upper.work(), staged.as_name(), dir, name, RenameFlags::EXCHANGE);
        self.upper.discard(staged.as_name());
        Ok(exchanged?)
    }

    fn publish_over_unnamed(mut self, dir: BorrowedFd<'_>, name: Name<'_>) -> Result<Option<OwnedFd>> {
        let staged = self.upper.temporary()?;
        at::link(self.target(), self.upper.work(), staged.as_name())?;
        self.name = Some(staged);
        self.publish_over(dir, name)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            self.upper.discard(name.as_name());
        }
    }
}
