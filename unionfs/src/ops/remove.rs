//! Names taken away.
//!
//! What the lowers would show again is covered by a whiteout in the same step;
//! an upper entry goes to the work directory by one rename and is disposed of
//! there. A file that is still open, or only known to the kernel, keeps a
//! descriptor until it is forgotten.

use std::os::fd::AsFd;

use rustix::fs::{FileType, RenameFlags};
use rustix::io::Errno;

use super::ensure::Need;
use super::locate::link;
use super::lookup::Seen;
use super::{Names, Writable, dir_of, file_of};
use crate::Union;
use crate::error::Result;
use crate::inode::{Body, Dir, FileState, Inode, Link, Place};
use crate::name::{Name, NameBuf};
use crate::stack::listing::Listing;
use crate::stack::names::{NameMap, Slot, UpperSlot};
use crate::stack::real::Fd;
use crate::sync::Arc;
use crate::sys::at::{self, Stat};

/// A node with a reference that is returned when this goes.
pub(super) struct Referred<'u> {
    union: &'u Union,
    /// The node.
    pub inode: Arc<Inode>,
    /// Its attributes on disk, as it was found.
    stat: Stat,
}

impl Drop for Referred<'_> {
    fn drop(&mut self) {
        self.union.table.forget(self.inode.id, 1);
    }
}

impl Union {
    /// The node under a name, referred to for the length of an operation.
    pub(super) fn referred(
        &self,
        parent: &Arc<Inode>,
        name: Name<'_>,
    ) -> Result<(Seen, Option<Referred<'_>>)> {
        let (seen, child) = self.child_seen(parent, name)?;
        Ok((seen, child.map(|child| Referred { union: self, inode: child.inode, stat: child.stat })))
    }

    /// Removes a name that is not a directory's.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EROFS`, or what the upper gave.
    pub fn unlink(&self, at: Names<'_>) -> Result<()> {
        let upper = self.writable()?;
        let parent = self.inode(at.parent)?;
        let name = Name::from_os(at.name)?;
        let (seen, victim) = self.referred(&parent, name)?;
        let victim = victim.ok_or(Errno::NOENT)?;
        if victim.inode.kind == FileType::Directory {
            return Err(Errno::ISDIR.into());
        }
        self.ensure_upper_dir(upper, &parent)?;
        self.ready_to_lose_a_name(upper, &victim)?;
        let _lock = victim.inode.lock.lock();
        still_itself(&victim.inode)?;
        let out = {
            let mut names = self.write_names(dir_of(&parent)?)?;
            let slot = self.slot_of(&parent, &names, name, (&seen, victim.inode.kind))?;
            let mut state = file_of(&victim.inode)?.state.write();
            let link = link(&parent, name);
            let losing = self.before_loss(&state, &link)?;
            let dir = self.upper_fd(&parent)?;
            let out = match (&slot.upper, slot.lower_shows()) {
                (UpperSlot::Entry(_), true) => Some(upper.whiteout_over(dir.as_fd(), name)?),
                (UpperSlot::Entry(_), false) => {
                    at::unlink(dir.as_fd(), name)?;
                    None
                }
                _ => {
                    upper.whiteout(dir.as_fd(), name)?;
                    None
                }
            };
            note_removed(&mut names, name, &slot);
            self.after_loss(upper, &mut state, &link, losing, &slot)?;
            out
        };
        if let Some(out) = out {
            upper.discard(out.as_name());
        }
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EROFS`, or what the upper gave.
    pub fn rmdir(&self, at: Names<'_>) -> Result<()> {
        let upper = self.writable()?;
        let parent = self.inode(at.parent)?;
        let name = Name::from_os(at.name)?;
        let (seen, victim) = self.referred(&parent, name)?;
        let victim = victim.ok_or(Errno::NOENT)?;
        let dir = dir_of(&victim.inode)?;
        self.ensure_upper_dir(upper, &parent)?;
        let _lock = victim.inode.lock.lock();
        let out = {
            // The parent's id is not always the smaller one, but the kernel
            // lets nobody into a directory that is being removed.
            let mut names = self.write_names(dir_of(&parent)?)?;
            let slot = self.slot_of(&parent, &names, name, (&seen, FileType::Directory))?;
            let out = self.take_dir(upper, dir, &self.upper_fd(&parent)?, name, &slot)?;
            note_removed(&mut names, name, &slot);
            *dir.link.write() = None;
            out
        };
        if let Some(out) = out {
            upper.discard(out.as_name());
        }
        Ok(())
    }

    /// Takes an empty directory's name away; what is to be disposed of is returned
    /// by its name in the work directory.
    fn take_dir(
        &self,
        upper: Writable<'_>,
        dir: &Dir,
        parent: &Fd,
        name: Name<'_>,
        slot: &Slot,
    ) -> Result<Option<NameBuf>> {
        let merged = dir.merged();
        if let Some(real) = merged.upper.as_ref().filter(|_| merged.lowers.is_empty() && !slot.lower_shows())
        {
            // The file system tells whether it is empty, but for whiteouts.
            let removed = real.removed(&self.layers.fds, || Ok(at::rmdir(parent.as_fd(), name)?));
            match removed {
                Err(error) if matches!(error.errno(), Errno::NOTEMPTY | Errno::EXIST) => {}
                removed => return removed.map(|()| None),
            }
        }
        self.check_empty(dir)?;
        let remove = || self.remove_dir_entry(upper, parent, name, slot);
        match &merged.upper {
            Some(real) => real.removed(&self.layers.fds, remove),
            None => remove(),
        }
    }

    /// Takes the name away of a directory that shows nothing, as
    /// [`Union::take_dir`] does.
    fn remove_dir_entry(
        &self,
        upper: Writable<'_>,
        parent: &Fd,
        name: Name<'_>,
        slot: &Slot,
    ) -> Result<Option<NameBuf>> {
        match (&slot.upper, slot.lower_shows()) {
            (UpperSlot::Entry(_), true) => Ok(Some(upper.whiteout_over(parent.as_fd(), name)?)),
            (UpperSlot::Entry(_), false) => match at::rmdir(parent.as_fd(), name) {
                Ok(()) => Ok(None),
                // Only whiteouts are in it.
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    let out = upper.temporary()?;
                    let flags = RenameFlags::NOREPLACE;
                    at::rename(parent.as_fd(), name, upper.work(), out.as_name(), flags)?;
                    Ok(Some(out))
                }
                Err(errno) => Err(errno.into()),
            },
            _ => {
                upper.whiteout(parent.as_fd(), name)?;
                Ok(None)
            }
        }
    }

    /// What is known of a name that was just found to be of a type.
    ///
    /// # Errors
    /// `ENOENT` if it has changed since.
    pub(super) fn slot_of(
        &self,
        parent: &Inode,
        names: &Option<NameMap>,
        name: Name<'_>,
        (seen, kind): (&Seen, FileType),
    ) -> Result<Slot> {
        let slot = self.slot_since(dir_of(parent)?, names, name, seen)?;
        match slot.visible() {
            Some(now) if now == kind => Ok(slot),
            _ => Err(Errno::NOENT.into()),
        }
    }

    /// Whether nothing shows in a directory.
    ///
    /// # Errors
    /// `ENOTEMPTY` if something does.
    pub(super) fn check_empty(&self, dir: &Dir) -> Result<()> {
        let known = self.read_names(dir)?;
        let is_empty = match (&*known.names, known.merged.top()) {
            (Some(map), _) => map.shown().next().is_none(),
            (None, Some(only)) => Listing::read(only, &self.layers)?.entries.is_empty(),
            (None, None) => true,
        };
        if is_empty { Ok(()) } else { Err(Errno::NOTEMPTY.into()) }
    }

    /// Before one of several names of a lower file is hidden, the file goes to
    /// the index, where the count of those that are left is kept.
    pub(super) fn ready_to_lose_a_name(&self, upper: Writable<'_>, victim: &Referred<'_>) -> Result<()> {
        let inode = &victim.inode;
        let is_lower = file_of(inode)?.state.read().is_lower();
        // What is in a lower now was there when it was found, and does not change.
        if is_lower && victim.stat.nlink > 1 && self.is_indexing(inode.kind) {
            self.ensure_upper(upper, inode, Need::Metadata)?;
        }
        Ok(())
    }

    /// What must be had before a name goes: a descriptor, if it is the last one
    /// the file can be reached by.
    pub(super) fn before_loss(&self, state: &FileState, link: &Link) -> Result<Losing> {
        let others = state.links().any(|known| !known.is(link));
        let shown = match (state.place(), state.nlink()) {
            (Place::Index(_), Some(more)) => {
                let stat = self.with_place(state, |file| Ok(file.stat()?))?;
                Some(i64::from(stat.nlink) + i64::from(more))
            }
            _ => None,
        };
        let is_last = match state.place() {
            Place::Upper => !others,
            Place::Index(_) => shown.is_some_and(|shown| shown <= 1),
            Place::Lower(_) | Place::Hidden(_) | Place::Held(_) | Place::Succeeded(_) => false,
        };
        let held = if is_last { Some(self.hold(state)?) } else { None };
        Ok(Losing { held, shown })
    }

    /// Notes that a name is gone.
    pub(super) fn after_loss(
        &self,
        upper: Writable<'_>,
        state: &mut FileState,
        link: &Link,
        losing: Losing,
        slot: &Slot,
    ) -> Result<()> {
        state.drop_link(link);
        if state.is_lower() {
            state.set_nlink(Some(state.nlink().unwrap_or(0) - 1));
        }
        let was_in_upper = matches!(slot.upper, UpperSlot::Entry(_));
        match (state.place(), losing.held, losing.shown) {
            (Place::Index(name), Some(held), _) => {
                let index = self.index()?.fd(&self.layers.fds)?;
                at::unlink(index.as_fd(), name.as_name())?;
                state.set_place(Place::Held(held));
                state.set_nlink(None);
            }
            (Place::Index(_), None, Some(shown)) if !was_in_upper => {
                let now = self.with_place(state, |file| Ok(file.stat()?.nlink))?;
                self.record_nlink(upper, state, shown - 1 - i64::from(now))?;
            }
            (Place::Upper, Some(held), _) => state.set_place(Place::Held(held)),
            _ => {}
        }
        Ok(())
    }
}

/// What was had of a file before it lost a name.
pub(super) struct Losing {
    held: Option<Fd>,
    /// Its links as shown, if it is indexed.
    shown: Option<i64>,
}

/// Notes in a map that a name is gone.
pub(super) fn note_removed(names: &mut Option<NameMap>, name: Name<'_>, slot: &Slot) {
    if let Some(map) = names {
        let now = if slot.lower_shows() { UpperSlot::Whiteout } else { UpperSlot::Absent };
        map.set_upper(name, now);
    }
}

/// Whether a node is a directory.
pub(super) fn is_dir(inode: &Inode) -> bool {
    matches!(inode.body, Body::Dir(_))
}

/// Checks, under a node's lock, that no other has taken its place since it was
/// found.
///
/// # Errors
/// `ESTALE`: the kernel looks the name up again, unnoticed by its user.
pub(super) fn still_itself(inode: &Inode) -> Result<()> {
    if inode.is_succeeded() { Err(Errno::STALE.into()) } else { Ok(()) }
}
