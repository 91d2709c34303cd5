//! Names moved.
//!
//! One renameat2 makes the move visible, whiteout included. A directory that
//! the lowers have a part in moves by a redirect written just before: until
//! the rename, the redirect leads where the directory is anyway.

use std::os::fd::AsFd;

use rustix::fs::{FileType, RenameFlags};
use rustix::io::Errno;

use super::ensure::Need;
use super::locate::link;
use super::lookup::Seen;
use super::owner::UPPER;
use super::remove::{Referred, is_dir, still_itself};
use super::{Names, Writable, creatable, dir_of};
use crate::Union;
use crate::config::RedirectDir;
use crate::copyup::metadata;
use crate::copyup::{Trust, staged::Staged};
use crate::error::Result;
use crate::inode::{Body, Dir, Inode, Link};
use crate::name::{Name, NameBuf};
use crate::ondisk::marks::{self, Mark, Marks};
use crate::stack::listing::Listing;
use crate::stack::names::{Merged, NameMap, Slot, UpperSlot};
use crate::stack::real::{Fd, RealDir};
use crate::sync::{Arc, MutexGuard, RwLockWriteGuard};
use crate::sys::at::{self, Target};

/// One end of a rename as asked for.
struct Wanted<'a> {
    parent: &'a Arc<Inode>,
    name: Name<'a>,
    seen: &'a Seen,
}

/// One end of a rename, its directory's names locked.
struct End<'a> {
    parent: Arc<Inode>,
    real: Arc<RealDir>,
    fd: Fd,
    name: Name<'a>,
    slot: Slot,
}

impl End<'_> {
    fn link(&self) -> Link {
        link(&self.parent, self.name)
    }
}

impl Union {
    /// Moves a name, over another or in exchange for it.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST` (no replace), `ENOTDIR`, `EISDIR`, `ENOTEMPTY`,
    /// `EROFS`; `EINVAL` for RENAME_WHITEOUT and for a reserved name; `EXDEV`
    /// for a merged directory where redirects are off; what the upper gave.
    pub fn rename(&self, from: Names<'_>, to: Names<'_>, flags: RenameFlags) -> Result<()> {
        let upper = self.writable()?;
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(Errno::INVAL.into());
        }
        let is_exchange = flags.contains(RenameFlags::EXCHANGE);
        let (from_parent, to_parent) = (self.inode(from.parent)?, self.inode(to.parent)?);
        let (from_name, to_name) = (Name::from_os(from.name)?, creatable(Name::from_os(to.name)?)?);
        let (old_seen, old) = self.referred(&from_parent, from_name)?;
        let old = old.ok_or(Errno::NOENT)?;
        let (new_seen, new) = self.referred(&to_parent, to_name)?;
        match &new {
            Some(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Errno::EXIST.into()),
            Some(new) if Arc::ptr_eq(&new.inode, &old.inode) => return Ok(()),
            Some(new) if !is_exchange => check_types(&old.inode, &new.inode)?,
            None if is_exchange => return Err(Errno::NOENT.into()),
            _ => {}
        }
        check_no_loop(&old.inode, &to_parent, Errno::INVAL)?;
        if let Some(new) = &new {
            let errno = if is_exchange { Errno::INVAL } else { Errno::NOTEMPTY };
            check_no_loop(&new.inode, &from_parent, errno)?;
        }
        if let Some(new) = new.as_ref().filter(|new| !is_exchange && is_dir(&new.inode)) {
            // Before anything is copied up in vain; it counts again when locked.
            self.check_empty(dir_of(&new.inode)?)?;
        }
        self.check_movable(upper, &old.inode)?;
        self.ready(upper, &old.inode)?;
        self.ensure_upper_dir(upper, &from_parent)?;
        self.ensure_upper_dir(upper, &to_parent)?;
        match &new {
            Some(new) if is_exchange => {
                self.check_movable(upper, &new.inode)?;
                self.ready(upper, &new.inode)?;
            }
            Some(new) if !is_dir(&new.inode) => self.ready_to_lose_a_name(upper, new)?,
            _ => {}
        }
        let _locks = lock_in_order(&old, new.as_ref());
        still_itself(&old.inode)?;
        new.iter().try_for_each(|new| still_itself(&new.inode))?;
        self.ensure_alias(upper, &old.inode, &link(&from_parent, from_name))?;
        if let Some(new) = new.as_ref().filter(|_| is_exchange) {
            self.ensure_alias(upper, &new.inode, &link(&to_parent, to_name))?;
        }
        let from = Wanted { parent: &from_parent, name: from_name, seen: &old_seen };
        let to = Wanted { parent: &to_parent, name: to_name, seen: &new_seen };
        self.rename_locked(upper, (from, &old), (to, new.as_ref()), flags)
    }

    fn rename_locked(
        &self,
        upper: Writable<'_>,
        (from, old): (Wanted<'_>, &Referred<'_>),
        (to, new): (Wanted<'_>, Option<&Referred<'_>>),
        flags: RenameFlags,
    ) -> Result<()> {
        let is_exchange = flags.contains(RenameFlags::EXCHANGE);
        let mut names = self.lock_names(from.parent, to.parent)?;
        let from = self.end(&from, names.of(from.parent))?;
        let to = self.end(&to, names.of(to.parent))?;
        self.check_still(&from, &to, old, new)?;
        if let Some(new) = new.filter(|new| !is_exchange && is_dir(&new.inode)) {
            self.check_empty(dir_of(&new.inode)?)?;
            self.clear_whiteouts(upper, &new.inode, &to)?;
        }
        self.mark_for_move(upper, &old.inode, &from, &to)?;
        if let Some(new) = new.filter(|_| is_exchange) {
            self.mark_for_move(upper, &new.inode, &to, &from)?;
        }
        match new.filter(|_| is_exchange) {
            Some(new) => {
                self.moving(&old.inode, &to, || {
                    self.moving(&new.inode, &from, || rename_real(&from, &to, RenameFlags::EXCHANGE))
                })?;
                self.note_moved(&old.inode, &from, &to);
                self.note_moved(&new.inode, &to, &from);
                names.set(&from, UpperSlot::Entry(new.inode.kind));
            }
            None => {
                self.replace(upper, &old.inode, new.map(|new| &new.inode), &from, &to)?;
                let left = if from.slot.lower_shows() { UpperSlot::Whiteout } else { UpperSlot::Absent };
                names.set(&from, left);
            }
        }
        names.set(&to, UpperSlot::Entry(old.inode.kind));
        Ok(())
    }

    /// Moves `old` over what is at the other end, if anything is.
    fn replace(
        &self,
        upper: Writable<'_>,
        old: &Arc<Inode>,
        new: Option<&Arc<Inode>>,
        from: &End<'_>,
        to: &End<'_>,
    ) -> Result<()> {
        let over_whiteout = to.slot.upper == UpperSlot::Whiteout;
        let rename = || match (from.slot.lower_shows(), over_whiteout) {
            // The whiteout that was in the way covers the old name.
            (true, true) => rename_real(from, to, RenameFlags::EXCHANGE),
            (true, false) => {
                upper.move_leaving_whiteout((from.fd.as_fd(), from.name), (to.fd.as_fd(), to.name))
            }
            (false, true) if is_dir(old) => {
                rename_real(from, to, RenameFlags::EXCHANGE)?;
                // A crash here leaves a whiteout that hides nothing.
                Ok(at::unlink(from.fd.as_fd(), from.name)?)
            }
            (false, _) => rename_real(from, to, RenameFlags::empty()),
        };
        match new.map(|new| (&new.body, new)) {
            Some((Body::File(file), _)) => {
                let mut state = file.state.write();
                let losing = self.before_loss(&state, &to.link())?;
                self.moving(old, to, rename)?;
                self.after_loss(upper, &mut state, &to.link(), losing, &to.slot)?;
            }
            Some((Body::Dir(dir), _)) => {
                match &dir.merged().upper {
                    Some(real) => {
                        real.removed(&self.layers.fds, || self.moving(old, to, rename))?;
                    }
                    None => self.moving(old, to, rename)?,
                }
                *dir.link.write() = None;
            }
            None => self.moving(old, to, rename)?,
        }
        self.note_moved(old, from, to);
        Ok(())
    }

    /// Runs the rename of one node while nobody looks for it by its place.
    fn moving(&self, inode: &Inode, to: &End<'_>, rename: impl FnOnce() -> Result<()>) -> Result<()> {
        match &inode.body {
            Body::Dir(dir) => {
                let real = dir.merged().upper.clone().ok_or(Errno::STALE)?;
                real.moved(&to.real, to.name, rename)
            }
            Body::File(file) => {
                let mut state = file.state.write();
                rename()?;
                // First, so that it is where the file is looked for.
                state.put_first(to.link());
                Ok(())
            }
        }
    }

    fn note_moved(&self, inode: &Inode, from: &End<'_>, to: &End<'_>) {
        match &inode.body {
            Body::Dir(dir) => *dir.link.write() = Some(to.link()),
            Body::File(file) => file.state.write().drop_link(&from.link()),
        }
    }

    fn end<'n>(&self, wanted: &Wanted<'n>, names: &Option<NameMap>) -> Result<End<'n>> {
        let Wanted { parent, name, seen } = *wanted;
        let real = self.upper_dir(parent)?;
        let fd = real.fd(&self.layers.fds)?;
        let slot = self.slot_since(dir_of(parent)?, names, name, seen)?;
        Ok(End { parent: parent.clone(), real, fd, name, slot })
    }

    fn check_still(
        &self,
        from: &End<'_>,
        to: &End<'_>,
        old: &Referred<'_>,
        new: Option<&Referred<'_>>,
    ) -> Result<()> {
        let is_same =
            from.slot.visible() == Some(old.inode.kind) && to.slot.visible() == new.map(|new| new.inode.kind);
        if is_same { Ok(()) } else { Err(Errno::NOENT.into()) }
    }

    fn writes_redirects(&self, upper: Writable<'_>) -> bool {
        matches!(self.config.redirect_dir, RedirectDir::On | RedirectDir::Auto) && upper.has_marks()
    }

    /// Whether a directory may move: by redirect, or being of the upper alone.
    fn check_movable(&self, upper: Writable<'_>, inode: &Inode) -> Result<()> {
        let Some(dir) = inode.dir() else { return Ok(()) };
        let has_lowers = !dir.merged().lowers.is_empty();
        if has_lowers && !self.writes_redirects(upper) { Err(Errno::XDEV.into()) } else { Ok(()) }
    }

    /// Puts in the upper what is about to move. Where redirects are not
    /// written, a metacopy gets its data: it would not be found again.
    fn ready(&self, upper: Writable<'_>, inode: &Arc<Inode>) -> Result<()> {
        let need = if self.writes_redirects(upper) { Need::Metadata } else { Need::Data };
        self.ensure_upper(upper, inode, need)
    }

    /// Gives an indexed file the name in the upper that is about to move.
    fn ensure_alias(&self, upper: Writable<'_>, inode: &Arc<Inode>, link: &Link) -> Result<()> {
        let is_indexed = inode
            .file()
            .is_some_and(|file| matches!(file.state.read().place(), crate::inode::Place::Index(_)));
        if is_indexed { self.ensure_alias_locked(upper, inode, link) } else { Ok(()) }
    }

    /// An upper directory about to be replaced may hold whiteouts: an opaque
    /// empty one takes its place first, which changes nothing that shows.
    fn clear_whiteouts(&self, upper: Writable<'_>, inode: &Inode, at: &End<'_>) -> Result<()> {
        let dir = dir_of(inode)?;
        let Some(real) = dir.merged().upper.clone() else { return Ok(()) };
        let listing = Listing::read(&real, &self.layers)?;
        if listing.whiteouts.is_empty() && !listing.opaque {
            return Ok(());
        }
        let fd = real.fd(&self.layers.fds)?;
        let stat = self.meant(UPPER, Target::Fd(fd.as_fd()).into(), &at::stat_fd(&fd)?)?;
        let staged = Staged::dir(&upper)?;
        metadata::copy_attributes(
            Target::Fd(fd.as_fd()).into(),
            staged.target(),
            Trust::Full,
            upper.namespace,
        )?;
        self.own(staged.target(), Some(stat.uid), Some(stat.gid), Some(stat.mode))?;
        marks::set(staged.target(), upper.namespace, Mark::Opaque, b"y")?;
        at::copy_times(staged.target(), &stat)?;
        real.removed(&self.layers.fds, || staged.publish_in_exchange(at.fd.as_fd(), at.name))?;
        let cleared = Merged { upper: Some(RealDir::new(&at.real, at.name)), lowers: Vec::new() };
        *dir.merged.write() = Arc::new(cleared);
        Ok(())
    }

    /// Writes what the moved file needs to be whole at its new place.
    fn mark_for_move(
        &self,
        upper: Writable<'_>,
        inode: &Arc<Inode>,
        from: &End<'_>,
        to: &End<'_>,
    ) -> Result<()> {
        let is_same_dir = Arc::ptr_eq(&from.parent, &to.parent);
        let (has_origin, needs_redirect) = match &inode.body {
            Body::Dir(dir) => {
                let has_lowers = !dir.merged().lowers.is_empty();
                (has_lowers, has_lowers)
            }
            Body::File(file) => {
                let state = file.state.read();
                (state.has_origin(), state.data().is_some())
            }
        };
        if has_origin && !is_same_dir {
            self.note_impure(upper, &to.parent)?;
        }
        if needs_redirect {
            return self.write_redirect(upper, inode, from, reach(inode, is_same_dir));
        }
        if is_dir(inode) && to.slot.lower_shows() {
            let dir = self.upper_fd(inode)?;
            marks::set(Target::Fd(dir.as_fd()), upper.namespace, Mark::Opaque, b"y")?;
        }
        Ok(())
    }

    fn write_redirect(&self, upper: Writable<'_>, inode: &Inode, from: &End<'_>, reach: Reach) -> Result<()> {
        let known: Option<Box<[u8]>> = match &inode.body {
            Body::Dir(dir) => dir.redirect.read().clone(),
            Body::File(_) => self.with_metadata(inode, |file| {
                Ok(Marks::read(file, upper.namespace)?.redirect.map(Vec::into_boxed_slice))
            })?,
        };
        if known.as_ref().is_some_and(|known| reach == Reach::SameDirectory || known.starts_with(b"/")) {
            return Ok(());
        }
        let own = known.unwrap_or_else(|| from.name.bytes().into());
        let value = match reach {
            Reach::SameDirectory => own,
            Reach::Anywhere => path_below(&from.parent, &own)?,
        };
        self.with_metadata(inode, |file| {
            marks::set(file.target()?, upper.namespace, Mark::Redirect, &value)
        })?;
        if let Body::Dir(dir) = &inode.body {
            *dir.redirect.write() = Some(value);
        }
        Ok(())
    }

    fn lock_names<'d>(&self, a: &'d Arc<Inode>, b: &'d Arc<Inode>) -> Result<NamesOfTwo<'d>> {
        let (first, second) = if a.id <= b.id { (a, b) } else { (b, a) };
        let lock = |inode: &'d Arc<Inode>| -> Result<_> { Ok((inode.id, self.write_names(dir_of(inode)?)?)) };
        let first_guard = lock(first)?;
        let second_guard = if first.id == second.id { None } else { Some(lock(second)?) };
        Ok(NamesOfTwo { first: first_guard, second: second_guard })
    }
}

/// From where a redirect must be understood.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// From the directory in which it was written: a name will do.
    SameDirectory,
    /// From any: it takes a path.
    Anywhere,
}

/// The names of a hard-linked file share one redirect and may lie anywhere.
fn reach(inode: &Inode, is_same_dir: bool) -> Reach {
    let is_linked =
        inode.file().is_some_and(|file| matches!(file.state.read().place(), crate::inode::Place::Index(_)));
    if is_same_dir && !is_linked { Reach::SameDirectory } else { Reach::Anywhere }
}

type NamesGuard<'d> = RwLockWriteGuard<'d, Option<NameMap>>;

/// The names of one or two directories, write-locked.
struct NamesOfTwo<'d> {
    first: (u64, NamesGuard<'d>),
    second: Option<(u64, NamesGuard<'d>)>,
}

impl NamesOfTwo<'_> {
    fn of(&self, dir: &Inode) -> &Option<NameMap> {
        match &self.second {
            Some((id, names)) if *id == dir.id => names,
            _ => &self.first.1,
        }
    }

    fn set(&mut self, end: &End<'_>, slot: UpperSlot) {
        let names = match &mut self.second {
            Some((id, names)) if *id == end.parent.id => names,
            _ => &mut self.first.1,
        };
        if let Some(map) = &mut **names {
            map.set_upper(end.name, slot);
        }
    }
}

fn lock_in_order<'a>(
    old: &'a Referred<'_>,
    new: Option<&'a Referred<'_>>,
) -> [Option<MutexGuard<'a, ()>>; 2] {
    match new {
        Some(new) if new.inode.id < old.inode.id => {
            let first = new.inode.lock.lock();
            [Some(first), Some(old.inode.lock.lock())]
        }
        Some(new) => {
            let first = old.inode.lock.lock();
            [Some(first), Some(new.inode.lock.lock())]
        }
        None => [Some(old.inode.lock.lock()), None],
    }
}

fn check_types(old: &Inode, new: &Inode) -> Result<()> {
    match (old.kind == FileType::Directory, new.kind == FileType::Directory) {
        (true, false) => Err(Errno::NOTDIR.into()),
        (false, true) => Err(Errno::ISDIR.into()),
        _ => Ok(()),
    }
}

/// Refuses to move a directory below itself, or over one that it is in.
fn check_no_loop(moved: &Arc<Inode>, below: &Arc<Inode>, errno: Errno) -> Result<()> {
    let mut next = Some(below.clone());
    while let Some(dir) = next {
        if Arc::ptr_eq(&dir, moved) {
            return Err(errno.into());
        }
        next = dir_of(&dir)?.link.read().as_ref().map(|link| link.parent.clone());
    }
    Ok(())
}

fn rename_real(from: &End<'_>, to: &End<'_>, flags: RenameFlags) -> Result<()> {
    Ok(at::rename(from.fd.as_fd(), from.name, to.fd.as_fd(), to.name, flags)?)
}

/// The path by which the lowers know `last` in `parent`: the names of the
/// directories above, or their redirects where they have moved themselves.
fn path_below(parent: &Arc<Inode>, last: &[u8]) -> Result<Box<[u8]>> {
    let mut parts: Vec<Box<[u8]>> = vec![last.into()];
    let mut next = parent.clone();
    loop {
        let dir: &Dir = dir_of(&next)?;
        let Some(link) = dir.link.read().clone() else { break };
        let redirect = dir.redirect.read().clone();
        let is_absolute = redirect.as_ref().is_some_and(|redirect| redirect.starts_with(b"/"));
        parts.push(redirect.unwrap_or_else(|| name_bytes(&link.name)));
        if is_absolute {
            break;
        }
        next = link.parent;
    }
    let mut path = Vec::new();
    for part in parts.iter().rev() {
        if !part.starts_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    Ok(path.into_boxed_slice())
}

fn name_bytes(name: &NameBuf) -> Box<[u8]> {
    name.as_name().bytes().into()
}
