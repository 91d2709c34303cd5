//! Merges a directory of the upper into one of the lower, name by name.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{FileType, RenameFlags};
use rustix::io::Errno;

use super::super::remove_tree;
use super::super::upper::{self, Below, Entry, EntryKind};
use super::moved::keeping_times;
use super::{Commit, Spot, id};
use crate::error::{Error, Result};
use crate::name::Name;
use crate::sys::at::{self, Stat, Target};

impl Commit {
    /// Applies everything in `upper` to the directory `lower`; `path` is where
    /// they are in the union.
    pub(super) fn merge(&mut self, upper: BorrowedFd<'_>, lower: &Rc<OwnedFd>, path: &Path) -> Result<()> {
        let context = |error: Error| error.context(format!("cannot apply {}", path.display()));
        let before = at::stat_fd(lower.as_fd()).map_err(|errno| context(errno.into()))?;
        for entry in upper::read(upper, self.namespace).map_err(context)? {
            let path = path.join(OsStr::from_bytes(entry.name.as_name().bytes()));
            self.entry(upper, lower, &entry, &path)?;
        }
        let made = at::stat_fd(upper).map_err(|errno| context(errno.into()))?;
        self.dress_directory(upper, &made, lower.as_fd(), &before).map_err(context)
    }

    fn entry(
        &mut self,
        upper: BorrowedFd<'_>,
        lower: &Rc<OwnedFd>,
        entry: &Entry,
        path: &Path,
    ) -> Result<()> {
        let context = |error: Error| error.context(format!("cannot apply {}", path.display()));
        let name = entry.name.as_name();
        let there = stat_if_there(lower.as_fd(), name).map_err(context)?;
        match &entry.kind {
            EntryKind::Whiteout => self.remove(lower, name, there.as_ref()).map_err(context),
            EntryKind::File(stat, data, birth) => {
                let to = Spot { dir: Rc::clone(lower), name: entry.name.clone() };
                let file = super::place::File { source: Target::At(upper, name), stat, data, birth };
                self.place(&file, &to, there.as_ref()).map_err(context)
            }
            EntryKind::Directory(stat, below) => {
                let from = upper::open_child(upper, name).map_err(|errno| context(errno.into()))?;
                let to = Spot { dir: Rc::clone(lower), name: entry.name.clone() };
                let is_directory = there.as_ref().is_some_and(|there| there.kind() == FileType::Directory);
                match below {
                    Below::Redirected(_) => match self.moved.directory(id(stat)).cloned() {
                        Some(moved) => {
                            self.swap_in(&moved, &to, there.as_ref()).map_err(context)?;
                            self.moved.is_placed(id(stat));
                            self.merge_existing(&from, lower, name, path)
                        }
                        // Moved by an earlier, interrupted application.
                        None if is_directory => self.merge_existing(&from, lower, name, path),
                        None => Err(context(Error::new(
                            Errno::NOENT,
                            "the directory it was renamed from is gone",
                        ))),
                    },
                    Below::SameName if is_directory => self.merge_existing(&from, lower, name, path),
                    Below::SameName | Below::Nothing => self.build(&from, &to, there.as_ref(), path),
                }
            }
        }
    }

    fn merge_existing(
        &mut self,
        from: &OwnedFd,
        lower: &Rc<OwnedFd>,
        name: Name<'_>,
        path: &Path,
    ) -> Result<()> {
        let directory = Rc::new(upper::open_child(lower.as_fd(), name)?);
        self.merge(from.as_fd(), &directory, path)
    }

    /// Makes a directory complete under a temporary name, then lets it show.
    fn build(&mut self, from: &OwnedFd, to: &Spot, there: Option<&Stat>, path: &Path) -> Result<()> {
        let new = Spot { dir: Rc::clone(&to.dir), name: self.temporary_name()? };
        at::mkdir(new.dir.as_fd(), new.name.as_name(), 0o700)?;
        let directory = Rc::new(upper::open_child(new.dir.as_fd(), new.name.as_name())?);
        let built = self.merge(from.as_fd(), &directory, path).and_then(|()| self.swap_in(&new, to, there));
        if built.is_err() {
            // The first error is the one to tell; the temporary name says the rest.
            discard(remove_tree(new.dir.as_fd(), &c_name(new.name.as_name())?));
        }
        built
    }

    /// Lets `new` show in the place of what is there, which is removed.
    pub(super) fn swap_in(&mut self, new: &Spot, to: &Spot, there: Option<&Stat>) -> Result<()> {
        let (from, from_name) = (new.dir.as_fd(), new.name.as_name());
        let rename = |flags| at::rename(from, from_name, to.dir.as_fd(), to.name.as_name(), flags);
        keeping_times(new, || match there {
            None => rename(RenameFlags::NOREPLACE),
            Some(_) => {
                rename(RenameFlags::EXCHANGE)?;
                remove_tree(from, &c_name(from_name)?)
            }
        })?;
        Ok(())
    }

    /// Removes a name at once, and what was below it after that.
    fn remove(&mut self, lower: &Rc<OwnedFd>, name: Name<'_>, there: Option<&Stat>) -> Result<()> {
        match there.map(Stat::kind) {
            None => Ok(()),
            Some(FileType::Directory) => {
                let aside = self.temporary_name()?;
                at::rename(lower.as_fd(), name, lower.as_fd(), aside.as_name(), RenameFlags::NOREPLACE)?;
                Ok(remove_tree(lower.as_fd(), &c_name(aside.as_name())?)?)
            }
            Some(_) => Ok(at::unlink(lower.as_fd(), name)?),
        }
    }

    /// Gives a directory the metadata it has in the upper.
    fn dress_directory(
        &self,
        from: BorrowedFd<'_>,
        made: &Stat,
        to: BorrowedFd<'_>,
        before: &Stat,
    ) -> Result<()> {
        let (from, to) = (Target::Fd(from), Target::Fd(to));
        // An ordinary user changed nothing about directories of others.
        if !self.is_root && before.uid != rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        if self.differs(from, made, to, before)? {
            self.dress(from, made, to, before)?;
        }
        Ok(at::copy_times(to, made)?)
    }
}

fn stat_if_there(dir: BorrowedFd<'_>, name: Name<'_>) -> Result<Option<Stat>> {
    match at::stat(Target::At(dir, name)) {
        Err(Errno::NOENT) => Ok(None),
        stat => Ok(Some(stat?)),
    }
}

fn c_name(name: Name<'_>) -> rustix::io::Result<CString> {
    // A name holds no NUL.
    CString::new(name.bytes()).map_err(|_| Errno::INVAL)
}

/// Lets a failure of tidying up after a failure pass.
fn discard(_tidied: rustix::io::Result<()>) {}
