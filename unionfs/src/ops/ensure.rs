//! Copy-up as the operations ask for it: parents first, one inode's lock held
//! at a time, the new place noted once it is visible.

use std::os::fd::AsFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Writable, dir_of, file_of};
use crate::Union;
use crate::config::{Squash, Verity};
use crate::copyup::{self, Content, Owner, Source, Trust};
use crate::error::{Absent, Result};
use crate::inode::table::Side;
use crate::inode::{Access, Body, Data, Dir, FileState, Inode, Link, Place, Trait};
use crate::name::NameBuf;
use crate::ondisk::marks::{self, Mark};
use crate::ondisk::origin::{self, Nlink};
use crate::stack::names::{Merged, UpperSlot};
use crate::stack::real::{RealDir, Spot};
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::sys::at::{self, Stat, Target};

/// How much of a file must be in the upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Its owner, mode, times and attributes.
    Metadata,
    /// Its data too.
    Data,
    /// Its data, which is about to be thrown away.
    Empty,
}

impl Union {
    /// Puts a node in the upper, to the extent that is needed.
    ///
    /// # Errors
    /// What copying gave; the node then is where it was.
    pub(super) fn ensure_upper(&self, upper: Writable<'_>, inode: &Arc<Inode>, need: Need) -> Result<()> {
        match &inode.body {
            Body::Dir(_) => self.ensure_upper_dir(upper, inode),
            Body::File(file) => {
                if !needs_copy(&file.state.read(), need) {
                    return Ok(());
                }
                self.ensure_parent(upper, inode)?;
                let _lock = inode.lock.lock();
                self.copy_up_locked(upper, inode, need)
            }
        }
    }

    /// Puts the directory a lower file would be copied into in the upper.
    pub(super) fn ensure_parent(&self, upper: Writable<'_>, inode: &Arc<Inode>) -> Result<()> {
        let parent = file_of(inode)?.state.read().first_link().map(|link| link.parent.clone());
        match parent {
            Some(parent) => self.ensure_upper_dir(upper, &parent),
            None => Ok(()),
        }
    }

    /// Puts a directory and all above it in the upper.
    ///
    /// # Errors
    /// `ENOENT` for a directory that was removed; what copying gave.
    pub(super) fn ensure_upper_dir(&self, upper: Writable<'_>, inode: &Arc<Inode>) -> Result<()> {
        let mut todo = Vec::new();
        let mut next = inode.clone();
        while dir_of(&next)?.merged().upper.is_none() {
            let parent = match &*dir_of(&next)?.link.read() {
                Some(link) => link.parent.clone(),
                None => return Err(Errno::NOENT.into()),
            };
            todo.push(std::mem::replace(&mut next, parent));
        }
        for dir in todo.iter().rev() {
            let _lock = dir.lock.lock();
            self.copy_up_dir(upper, dir)?;
        }
        Ok(())
    }

    /// Copies one directory up; its lock is held, its parent is in the upper.
    fn copy_up_dir(&self, upper: Writable<'_>, inode: &Arc<Inode>) -> Result<()> {
        let dir = dir_of(inode)?;
        let merged = dir.merged();
        if merged.upper.is_some() {
            return Ok(());
        }
        let link = dir.link.read().clone().ok_or(Errno::NOENT)?;
        let lower = merged.lowers.first().ok_or(Errno::NOENT)?;
        let held = lower.hold(&self.layers.fds)?;
        let stat = held.object().stat()?;
        let stat = self.meant(lower.layer, held.object(), &stat)?;
        let origin = self.dir_origin(lower)?;
        let staged = copyup::stage(
            &upper,
            &Source {
                metadata: held.object(),
                stat: &stat,
                origin: Some(&origin),
                content: Content::Empty,
                trust: self.trust(lower.layer),
                owner: self.owner(),
                override_stat: self.kept_in(stat.kind()),
            },
        )?;
        let parent = self.upper_dir(&link.parent)?;
        let parent_fd = parent.fd(&self.layers.fds)?;
        self.note_impure(upper, &link.parent)?;
        let mut names = self.write_names(dir_of(&link.parent)?)?;
        let before = at::stat_fd(&parent_fd)?;
        staged.publish(parent_fd.as_fd(), link.name.as_name())?;
        self.keep_times(&parent_fd, &before);
        if let Some(map) = &mut *names {
            map.set_upper(link.name.as_name(), UpperSlot::Entry(FileType::Directory));
        }
        let real = RealDir::new(&parent, link.name.as_name());
        let now = at::stat(Target::At(parent_fd.as_fd(), link.name.as_name()))?;
        self.set_upper_dir(dir, real);
        dir.traits.clear();
        inode.learnt.forget();
        self.table.add_key(inode, self.key(Side::Upper, &now));
        self.changed.lock().push(inode.id);
        self.stats.copy_ups.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn set_upper_dir(&self, dir: &Dir, real: Arc<RealDir>) {
        let mut merged = dir.merged.write();
        *merged = Arc::new(Merged { upper: Some(real), lowers: merged.lowers.clone() });
    }

    fn dir_origin(&self, lower: &Arc<RealDir>) -> Result<Vec<u8>> {
        let Some(handle) = lower.hold(&self.layers.fds)?.handle(None)? else { return Ok(Vec::new()) };
        let uuid = self.layers.get(lower.layer).map(|layer| layer.uuid).unwrap_or_default();
        Ok(origin::encode(&handle, &uuid, origin::Side::Lower))
    }

    /// Copying up changes a directory that nobody changed: it keeps its times.
    fn keep_times(&self, dir: &crate::stack::real::Fd, before: &Stat) {
        at::copy_times(Target::Fd(dir.as_fd()), before).unwrap_or_else(|errno| {
            crate::log::warn(format_args!("cannot keep a directory's times: {errno}"));
        });
    }

    /// Marks a directory as holding entries that came from a lower.
    pub(super) fn note_impure(&self, upper: Writable<'_>, dir: &Inode) -> Result<()> {
        let traits = self.traits(dir)?;
        if traits.has(Trait::Impure) {
            return Ok(());
        }
        let fd = self.upper_fd(dir)?;
        marks::set_if_possible(Target::Fd(fd.as_fd()), upper.namespace, Mark::Impure, b"y")?;
        traits.set(Trait::Impure);
        Ok(())
    }

    /// Whether copies keep their owner at any price.
    fn owner(&self) -> Owner {
        let kept_elsewhere = self.kept_in(FileType::RegularFile).is_some();
        match self.config.squash {
            Squash::None if !kept_elsewhere => Owner::Kept,
            _ => Owner::Squashed,
        }
    }

    fn trust(&self, layer: crate::stack::real::LayerId) -> Trust {
        match self.layers.get(layer).is_some_and(|layer| layer.nosuid) && self.config.suid {
            true => Trust::NoSetId,
            false => Trust::Full,
        }
    }

    /// Copies a file up; its lock is held, its parent is in the upper.
    pub(super) fn copy_up_locked(&self, upper: Writable<'_>, inode: &Arc<Inode>, need: Need) -> Result<()> {
        let file = file_of(inode)?;
        let (spot, link, data) = {
            let state = file.state.read();
            if !needs_copy(&state, need) {
                return Ok(());
            }
            let data = state.data().cloned();
            match state.as_lower() {
                Some((dir, name)) => {
                    let spot = Spot { dir: dir.clone(), name: name.to_buf() };
                    (spot, state.first_link().cloned(), data)
                }
                None => {
                    drop(state);
                    return self.fill_metacopy(upper, inode, need);
                }
            }
        };
        let dir = spot.dir.hold(&self.layers.fds)?;
        let lower = dir.at(spot.name.as_name())?;
        let stat = lower.stat().absent()?.ok_or_else(copyup::vanished)?;
        let stat = self.meant(spot.dir.layer, lower, &stat)?;
        let is_linked = stat.nlink > 1;
        let to_index = is_linked && self.is_indexing(stat.kind());
        let origin = match !is_linked || to_index {
            true => Some(self.origin_of(&spot)?.unwrap_or_default()),
            false => None,
        };
        let later = need == Need::Metadata && self.config.metacopy && upper.has_marks();
        let later = later && stat.kind() == FileType::RegularFile && stat.size > 0;
        let digest = if later { self.digest_to_keep(inode)? } else { None };
        // Where none is known that must be, the data comes along.
        let later = later && (digest.is_some() || self.config.verity != Verity::Require);
        // An empty file need not be opened: a daemon that may not read root's
        // lock files can still copy them.
        let has_data = stat.kind() == FileType::RegularFile && stat.size > 0;
        let source_fd = match has_data && !later && need != Need::Empty {
            true => Some(self.open_data(inode, Access::Read)?),
            false => None,
        };
        let content = match (&source_fd, later) {
            (Some(fd), _) => Content::Copy(fd.as_fd()),
            (None, true) => Content::Later(digest),
            (None, false) => Content::Empty,
        };
        let source = Source {
            metadata: lower,
            stat: &stat,
            origin: origin.as_deref(),
            content,
            trust: self.trust(spot.dir.layer),
            owner: self.owner(),
            override_stat: self.kept_in(stat.kind()),
        };
        let staged = copyup::stage(&upper, &source)?;
        let index = match (to_index, origin.as_deref()) {
            (true, Some(origin)) if !origin.is_empty() => Some(origin::index_name(origin)?),
            _ => None,
        };
        let is_indexed = index.is_some();
        let data = later.then(|| data.unwrap_or_else(|| spot.clone()));
        let published = Published { inode, staged, link: link.as_ref(), lower: &stat, index, data };
        let file_fd = self.publish(upper, published)?;
        inode.learnt.forget();
        if !later {
            self.switch_open(&mut file.state.write(), file_fd)?;
        }
        // Last: if this fails, the file is whole all the same.
        if let Some(link) = link.as_ref().filter(|_| is_indexed) {
            self.ensure_alias_locked(upper, inode, link)?;
        }
        self.stats.copy_ups.fetch_add(1, Ordering::Relaxed);
        if source_fd.is_some() {
            self.stats.copied_bytes.fetch_add(stat.size, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes a staged copy visible and notes the file's new place, and with it
    /// where its data is: with the one and not the other it would read as zeros.
    fn publish(&self, upper: Writable<'_>, copy: Published<'_, '_>) -> Result<Option<std::os::fd::OwnedFd>> {
        let file = file_of(copy.inode)?;
        let fd = match (&copy.index, copy.link) {
            (Some(name), _) => {
                let more = Nlink::Lower(0).format();
                marks::set_if_possible(copy.staged.target(), upper.namespace, Mark::Nlink, more.as_bytes())?;
                let index = self.index()?.fd(&self.layers.fds)?;
                // Who looks up another of its names finds it in the index from
                // its publication on: then it must lead to this node already, and
                // the node wait for its new state.
                let key = self.key(Side::Upper, &copy.staged.identity()?);
                let mut state = file.state.write();
                self.table.add_key(copy.inode, key);
                let fd = copy
                    .staged
                    .publish(index.as_fd(), name.as_name())
                    .inspect_err(|_| self.table.remove_key(copy.inode, key))?;
                let now = at::stat(Target::At(index.as_fd(), name.as_name()))?;
                state.set_place(Place::Index(Box::new(name.clone())));
                state.set_data(copy.data);
                state.set_nlink(i32::try_from(i64::from(copy.lower.nlink) - i64::from(now.nlink)).ok());
                self.note_copy();
                fd
            }
            (None, Some(link)) => {
                let parent = self.upper_fd(&link.parent)?;
                self.note_impure(upper, &link.parent)?;
                let mut names = self.write_names(dir_of(&link.parent)?)?;
                let before = at::stat_fd(&parent)?;
                let key = self.key(Side::Upper, &copy.staged.identity()?);
                let fd = copy.staged.publish(parent.as_fd(), link.name.as_name())?;
                self.keep_times(&parent, &before);
                if let Some(map) = &mut *names {
                    map.set_upper(link.name.as_name(), UpperSlot::Entry(copy.inode.kind));
                }
                let mut state = file.state.write();
                state.set_place(Place::Upper);
                state.set_data(copy.data);
                drop(state);
                self.table.add_key(copy.inode, key);
                fd
            }
            (None, None) => return self.publish_nowhere(upper, copy),
        };
        Ok(fd)
    }

    /// A file that has no name any more is copied to one that has none either.
    fn publish_nowhere(
        &self,
        upper: Writable<'_>,
        copy: Published<'_, '_>,
    ) -> Result<Option<std::os::fd::OwnedFd>> {
        let name = upper.temporary()?;
        let fd = copy.staged.publish(upper.work(), name.as_name())?;
        let held = Arc::new(at::open_path(upper.work(), name.as_name())?);
        at::unlink(upper.work(), name.as_name())?;
        let mut state = file_of(copy.inode)?.state.write();
        state.set_place(Place::Held(held));
        state.set_data(copy.data);
        // The copy's own link count is right: it has none.
        state.set_nlink(None);
        drop(state);
        Ok(fd)
    }

    /// Gives an indexed file a name in the upper that so far only the lowers
    /// have; its lock is held and the name's directory is in the upper.
    ///
    /// # Errors
    /// What linking gave. Nothing shows of it: the file had the name before.
    pub(super) fn ensure_alias_locked(
        &self,
        upper: Writable<'_>,
        inode: &Arc<Inode>,
        link: &Link,
    ) -> Result<()> {
        let dir = dir_of(&link.parent)?;
        let parent = self.upper_fd(&link.parent)?;
        self.note_impure(upper, &link.parent)?;
        let mut names = self.write_names(dir)?;
        let slot = self.slot(&dir.merged(), &names, link.name.as_name())?;
        if slot.upper != UpperSlot::Absent {
            return Ok(());
        }
        let before = at::stat_fd(&parent)?;
        let state = &mut *file_of(inode)?.state.write();
        let shown = self.with_place(state, |file| {
            let file = file.target()?;
            let shown = i64::from(at::stat(file)?.nlink) + i64::from(state.nlink().unwrap_or(0));
            at::link(file, parent.as_fd(), link.name.as_name())?;
            Ok(shown)
        })?;
        self.keep_times(&parent, &before);
        if let Some(map) = &mut *names {
            map.set_upper(link.name.as_name(), UpperSlot::Entry(inode.kind));
        }
        let now = self.with_place(state, |file| Ok(file.stat()?.nlink))?;
        self.record_nlink(upper, state, shown - i64::from(now))
    }

    /// Records how many more links an indexed file shows than it has.
    pub(super) fn record_nlink(&self, upper: Writable<'_>, state: &mut FileState, more: i64) -> Result<()> {
        let more = i32::try_from(more).map_err(|_| Errno::OVERFLOW)?;
        state.set_nlink(Some(more));
        self.with_place(state, |file| {
            let value = Nlink::Upper(more).format();
            marks::set_if_possible(file.target()?, upper.namespace, Mark::Nlink, value.as_bytes())
        })
        .inspect(|()| self.note_copy())
    }

    /// Says that what is on disk of some file has changed, though not the
    /// directory it may be looked up in at this moment: who has read it before
    /// must read it again, unless the file still has its node. Called while it
    /// has, after the change.
    fn note_copy(&self) {
        self.copies.fetch_add(1, Ordering::Release);
    }

    /// Gives a metacopy its data.
    fn fill_metacopy(&self, upper: Writable<'_>, inode: &Arc<Inode>, need: Need) -> Result<()> {
        let file = file_of(inode)?;
        let from = self.open_data(inode, Access::Read)?;
        let (to, stat) = {
            let state = file.state.read();
            self.with_place(&state, |file| {
                let target = file.target()?;
                let mut stat = at::stat(target)?;
                if need == Need::Empty {
                    stat.size = 0;
                }
                Ok((at::open_file(target, rustix::fs::OFlags::RDWR)?, stat))
            })?
        };
        if need == Need::Empty {
            rustix::fs::ftruncate(&to, 0)?;
        }
        let filled = copyup::fill(&upper, &to, &from, &stat);
        // For a moment it may have been without its capability.
        inode.learnt.forget();
        filled?;
        let mut state = file.state.write();
        state.set_data(None);
        self.note_copy();
        self.switch_open(&mut state, Some(to))?;
        self.stats.copied_bytes.fetch_add(stat.size, Ordering::Relaxed);
        Ok(())
    }

    /// Lets every open of the file see the upper's data from now on.
    fn switch_open(&self, state: &mut FileState, fd: Option<std::os::fd::OwnedFd>) -> Result<()> {
        if state.open.is_none() {
            return Ok(());
        }
        let fd = match fd {
            Some(fd) => fd,
            None => {
                self.with_place(state, |file| Ok(at::open_file(file.target()?, rustix::fs::OFlags::RDWR)?))?
            }
        };
        if let Some(open) = &mut state.open {
            open.data = Arc::new(Data { fd, access: Access::Write, is_lowers: false });
        }
        Ok(())
    }
}

/// A staged copy on its way.
struct Published<'a, 'u> {
    inode: &'a Arc<Inode>,
    staged: copyup::staged::Staged<'u>,
    link: Option<&'a Link>,
    lower: &'a Stat,
    /// Its name in the index, if it belongs there.
    index: Option<NameBuf>,
    /// Where its data stays, if it is not copied.
    data: Option<Spot>,
}

fn needs_copy(state: &FileState, need: Need) -> bool {
    state.is_lower() || need != Need::Metadata && state.data().is_some()
}
