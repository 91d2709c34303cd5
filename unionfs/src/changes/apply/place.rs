//! Puts one file of the upper in its place in the lower.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{FileType, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;

use super::super::marks::visible_attributes;
use super::super::upper::{Birth, Data};
use super::{Commit, Spot, id};
use crate::error::{Error, Result};
use crate::ondisk::origin::Origin;
use crate::sys::at::{self, Stat, Target};
use crate::sys::{copy, handle, xattr};

/// A file of the upper.
pub(super) struct File<'a> {
    pub source: Target<'a>,
    pub stat: &'a Stat,
    pub data: &'a Data,
    pub birth: &'a Birth,
}

impl Commit {
    /// Puts a file at `to`, where `there` is now.
    pub(super) fn place(&mut self, file: &File<'_>, to: &Spot, there: Option<&Stat>) -> Result<()> {
        let several = file.stat.nlink > 1;
        if let Some(first) = self.placed.get(&id(file.stat)).filter(|_| several).cloned() {
            return self.link(&first, to, there);
        }
        match there {
            Some(there) if is_in_place(file, to, there)? => self.rewrite(file, to, there)?,
            _ => self.replace(file, to, there)?,
        }
        if several {
            self.placed.insert(id(file.stat), to.clone());
        }
        Ok(())
    }

    /// One more name for a file that was placed.
    fn link(&mut self, first: &Spot, to: &Spot, there: Option<&Stat>) -> Result<()> {
        let placed = at::stat(Target::At(first.dir.as_fd(), first.name.as_name()))?;
        if there.is_some_and(|there| id(there) == id(&placed)) {
            return Ok(());
        }
        let new = Spot { dir: Rc::clone(&to.dir), name: self.temporary_name()? };
        at::link(Target::At(first.dir.as_fd(), first.name.as_name()), new.dir.as_fd(), new.name.as_name())?;
        self.show(&new, to, there)
    }

    /// Makes the file complete under a temporary name, then lets it show.
    fn replace(&mut self, file: &File<'_>, to: &Spot, there: Option<&Stat>) -> Result<()> {
        let new = Spot { dir: Rc::clone(&to.dir), name: self.temporary_name()? };
        let made = self.make(file, &new, to).and_then(|()| self.show(&new, to, there));
        if made.is_err() {
            // The first error is the one to tell.
            at::unlink(new.dir.as_fd(), new.name.as_name()).unwrap_or_default();
        }
        made
    }

    fn show(&mut self, new: &Spot, to: &Spot, there: Option<&Stat>) -> Result<()> {
        let is_directory = there.is_some_and(|there| there.kind() == FileType::Directory);
        if is_directory {
            return self.swap_in(new, to, there);
        }
        let (dir, name) = (new.dir.as_fd(), new.name.as_name());
        at::rename(dir, name, to.dir.as_fd(), to.name.as_name(), RenameFlags::empty())?;
        Ok(())
    }

    fn make(&self, file: &File<'_>, new: &Spot, to: &Spot) -> Result<()> {
        let (dir, name, stat) = (new.dir.as_fd(), new.name.as_name(), file.stat);
        match stat.kind() {
            FileType::RegularFile => {
                let made = at::create(dir, name, 0o600)?;
                let from = self.open_data(file, to)?;
                copy::copy_data(from.as_fd(), made.as_fd(), stat.size)?;
            }
            FileType::Symlink => at::symlink(&at::read_link(file.source)?, dir, name)?,
            kind => at::mknod(dir, name, kind, 0o600, stat.rdev)?,
        }
        let target = Target::At(dir, name);
        let now = at::stat(target)?;
        self.dress(file.source, stat, target, &now)?;
        Ok(at::copy_times(target, stat)?)
    }

    /// Opens the file that has the data: itself, or one of the lower.
    fn open_data(&self, file: &File<'_>, to: &Spot) -> Result<OwnedFd> {
        let source = match (file.data, self.moved.data(id(file.stat))) {
            (Data::Own, _) => file.source,
            (Data::Lower(_), Some(moved)) => Target::At(moved.dir.as_fd(), moved.name.as_name()),
            (Data::Lower(None), None) => Target::At(to.dir.as_fd(), to.name.as_name()),
            (Data::Lower(Some(_)), None) => {
                return Err(Error::new(Errno::NOENT, "the file that has its data is gone"));
            }
        };
        Ok(at::open_file(source, OFlags::RDONLY)?)
    }
}

/// Whether a file is changed where it is: only its metadata changed, or it is
/// the copy of a file with names that the upper does not know of.
fn is_in_place(file: &File<'_>, to: &Spot, there: &Stat) -> Result<bool> {
    if there.kind() != FileType::RegularFile || file.stat.kind() != FileType::RegularFile {
        return Ok(false);
    }
    match (file.data, file.birth) {
        (Data::Lower(None), _) => Ok(true),
        (Data::Own, Birth::Copied(Origin::Handle { handle, .. })) if there.nlink > 1 => {
            Ok(handle::of(to.dir.as_fd(), Some(to.name.as_name()))?.as_ref() == Some(handle))
        }
        (Data::Own | Data::Lower(Some(_)), _) => Ok(false),
    }
}

impl Commit {
    /// Changes a file where it is.
    fn rewrite(&self, file: &File<'_>, to: &Spot, there: &Stat) -> Result<()> {
        let target = Target::At(to.dir.as_fd(), to.name.as_name());
        if *file.data == Data::Own {
            let from = at::open_file(file.source, OFlags::RDONLY)?;
            let into = at::open_file(target, OFlags::WRONLY | OFlags::TRUNC)?;
            copy::copy_data(from.as_fd(), into.as_fd(), file.stat.size)?;
        }
        self.dress(file.source, file.stat, target, there)?;
        Ok(at::copy_times(target, file.stat)?)
    }

    /// Whether owner, mode or attributes differ.
    pub(super) fn differs(&self, from: Target<'_>, made: &Stat, to: Target<'_>, now: &Stat) -> Result<bool> {
        let of = |stat: &Stat| (stat.mode, stat.uid, stat.gid);
        Ok(of(made) != of(now)
            || visible_attributes(from, self.namespace)? != visible_attributes(to, self.namespace)?)
    }

    /// Gives a file the owner, attributes and mode of another, in this order:
    /// changing the owner clears set-id bits and capabilities, an ACL changes the
    /// mode.
    pub(super) fn dress(&self, from: Target<'_>, made: &Stat, to: Target<'_>, now: &Stat) -> Result<()> {
        if (made.uid, made.gid) != (now.uid, now.gid) {
            at::chown(to, Some(made.uid), Some(made.gid))?;
        }
        let wanted = visible_attributes(from, self.namespace)?;
        for (name, _) in visible_attributes(to, self.namespace)? {
            if wanted.iter().all(|(kept, _)| *kept != name) {
                xattr::remove(to, &name)?;
            }
        }
        for (name, value) in &wanted {
            xattr::set(to, name, value, XattrFlags::empty())?;
        }
        if made.kind() != FileType::Symlink {
            at::chmod(to, made.mode)?;
        }
        Ok(())
    }
}
