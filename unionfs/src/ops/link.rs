//! Hard links.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::io::Errno;

use super::ensure::Need;
use super::lookup::Child;
use super::remove::still_itself;
use super::{Entry, creatable, dir_of, file_of, locate};
use crate::Union;
use crate::copyup::staged::Staged;
use crate::error::Result;
use crate::inode::{FileState, Link, NodeId, Place};
use crate::name::Name;
use crate::stack::names::{Slot, UpperSlot};
use crate::sys::at;

/// A directory entry, as requests name it.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The directory.
    pub parent: NodeId,
    /// The name in it.
    pub name: &'a OsStr,
}

impl Union {
    /// Gives a file one more name.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `EPERM` for a directory, `EINVAL` for a reserved
    /// name, `ENOENT` for a file that has no name left, or what the upper gave.
    pub fn link(&self, id: NodeId, to: Names<'_>) -> Result<Entry> {
        let upper = self.writable()?;
        let inode = self.inode(id)?;
        let file = file_of(&inode).map_err(|_| Errno::PERM)?;
        let parent = self.inode(to.parent)?;
        let name = creatable(Name::from_os(to.name)?)?;
        // A metacopy's data is found by its name: with a second one, it must be
        // here.
        self.ensure_upper(upper, &inode, Need::Data)?;
        self.ensure_upper_dir(upper, &parent)?;
        let _lock = inode.lock.lock();
        still_itself(&inode)?;
        let dir = self.upper_fd(&parent)?;
        if file.state.read().has_origin() {
            self.note_impure(upper, &parent)?;
        }
        let mut names = self.write_names(dir_of(&parent)?)?;
        let merged = dir_of(&parent)?.merged();
        // Where no map tells, linking does.
        let is_told = names.is_none() && merged.lowers.is_empty();
        let slot = if is_told { Slot::ABSENT } else { self.free_slot(&merged, &names, name)? };
        let mut state = file.state.write();
        if let Some(more) = state.nlink() {
            // Counted from the upper's links, one more of those counts by itself.
            self.record_nlink(upper, &mut state, more.into())?;
        }
        let link = |slot: Slot| {
            self.with_place(&state, |from| match slot.upper {
                UpperSlot::Whiteout => {
                    Staged::link(&upper, from.target()?)?.publish_over(dir.as_fd(), name)?;
                    Ok(())
                }
                _ => Ok(at::link(from.target()?, dir.as_fd(), name)?),
            })
        };
        match link(slot) {
            Err(error) if is_told && error.errno() == Errno::EXIST => {
                link(self.free_slot(&merged, &names, name)?)?;
            }
            linked => linked?,
        }
        if let Some(map) = &mut *names {
            map.set_upper(name, UpperSlot::Entry(inode.kind));
        }
        drop(names);
        add_upper_link(&mut state, locate::link(&parent, name));
        let stat = self.with_place(&state, |file| Ok(file.stat()?))?;
        drop(state);
        self.table.refer(&inode);
        self.entry(&Child { inode: inode.clone(), stat })
    }
}

/// Notes a name that exists in the upper; a file that had none there has now.
fn add_upper_link(state: &mut FileState, link: Link) {
    if let Place::Held(_) = state.place() {
        state.drop_links();
        state.set_place(Place::Upper);
    }
    state.add_link(link);
}
