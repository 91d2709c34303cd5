//! Names to nodes.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::locate::link;
use super::{Entry, dir_of};
use crate::Union;
use crate::error::{Absent, Result};
use crate::inode::number::Numbers;
use crate::inode::table::{Key, Side};
use crate::inode::{Body, Dir, FileState, Inode, NodeId, Place, Trait, Traits};
use crate::name::Name;
use crate::object::Object;
use crate::ondisk::marks::{Marks, Opacity};
use crate::stack::asking::{self, Answer};
use crate::stack::names::{LowerSlot, Merged, NameMap, Slot, UpperSlot};
use crate::stack::real::{LayerId, RealDir, Spot};
use crate::stack::resolve::{self, Resolver, Way};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, RwLock};
use crate::sys::at::{self, Stat, Target};

/// A node with its attributes on disk, and one more reference to it.
pub(super) struct Child {
    pub inode: Arc<Inode>,
    pub stat: Stat,
}

/// What was known of a name when its directory had been changed so many times.
pub(super) struct Seen {
    slot: Slot,
    changes: u32,
}

/// A name about to be resolved, with what its directory knows of it.
struct Asked<'a> {
    parent: &'a Arc<Inode>,
    merged: &'a Merged,
    name: Name<'a>,
    slot: &'a Slot,
    stat: Option<Stat>,
    /// How many copies there had been before anything was read.
    copies: u64,
}

/// What was read of a file may not be so any more.
struct TooLate;

/// What looking at a name came to.
enum Made {
    /// A node, found or made.
    Child(Child),
    /// It is not there.
    Absent,
    /// What was read of the file may not be so any more: some file was copied
    /// meanwhile, perhaps this one, and forgotten since.
    TooLate,
}

impl Asked<'_> {
    /// The attributes of what has the name in one of the real directories.
    fn stat(&self, file: Object<'_>) -> Result<Option<Stat>> {
        match self.stat {
            Some(stat) => Ok(Some(stat)),
            None => file.stat().absent(),
        }
    }
}

impl Union {
    /// Finds `name` in a directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENAMETOOLONG`, or what the layers gave.
    pub fn lookup(&self, parent: NodeId, name: &OsStr) -> Result<Entry> {
        let parent = self.inode(parent)?;
        let name = Name::from_os(name)?;
        let child = self.child(&parent, name)?.ok_or(Errno::NOENT)?;
        self.entry(&child)
    }

    /// A found or made node as it is reported.
    pub(super) fn entry(&self, child: &Child) -> Result<Entry> {
        match self.attr_from(&child.inode, &child.stat) {
            Ok(attr) => Ok(Entry { id: child.inode.id, attr }),
            Err(error) => {
                self.table.forget(child.inode.id, 1);
                Err(error)
            }
        }
    }

    /// Finds `name` in a directory, if it is there.
    ///
    /// # Errors
    /// `ENOTDIR`, or what the layers gave.
    pub(super) fn child(&self, parent: &Arc<Inode>, name: Name<'_>) -> Result<Option<Child>> {
        Ok(self.child_seen(parent, name)?.1)
    }

    /// As [`Union::child`], and what [`Union::slot_since`] can make use of.
    ///
    /// # Errors
    /// As [`Union::child`].
    pub(super) fn child_seen(&self, parent: &Arc<Inode>, name: Name<'_>) -> Result<(Seen, Option<Child>)> {
        let dir = dir_of(parent)?;
        let mut known = self.names_to_look_in(dir)?;
        loop {
            let changes = dir.names.changes();
            let copies = self.copies.load(Ordering::Acquire);
            let Some(Answer { slot, stat }) = self.look(&known.merged, &known.names, name)? else {
                drop(known);
                known = self.read_names(dir)?;
                continue;
            };
            let asked = Asked { parent, merged: &known.merged, name, slot: &slot, stat, copies };
            let made = match (slot.visible(), &slot) {
                (None, _) => Made::Absent,
                (Some(FileType::Directory), _) => self.child_dir(&asked)?,
                (Some(_), Slot { upper: UpperSlot::Entry(_), .. }) => self.child_upper(&asked)?,
                (Some(_), Slot { lower: LowerSlot::File(layer, _), .. }) => {
                    self.child_lower(&asked, *layer)?
                }
                (Some(_), _) => Made::Absent,
            };
            let child = match made {
                Made::Child(child) => Some(child),
                Made::Absent => None,
                Made::TooLate => continue,
            };
            return Ok((Seen { slot, changes }, child));
        }
    }

    /// What is known of a name: from the map, or by asking the layers.
    pub(super) fn slot(&self, merged: &Merged, names: &Option<NameMap>, name: Name<'_>) -> Result<Slot> {
        match self.look(merged, names, name)? {
            Some(answer) => Ok(answer.slot),
            None => {
                let map = NameMap::build(&mut merged.clone(), &self.layers, usize::MAX, Numbers::of)?;
                Ok(map.map_or(Slot::ABSENT, |map| map.get(name)))
            }
        }
    }

    /// As [`Union::slot`], of a directory whose names the caller has just
    /// write-locked: where nobody else had since a name was seen, it need not be
    /// asked for again.
    pub(super) fn slot_since(
        &self,
        dir: &Dir,
        names: &Option<NameMap>,
        name: Name<'_>,
        seen: &Seen,
    ) -> Result<Slot> {
        let is_unchanged = dir.names.changes() == seen.changes.wrapping_add(1);
        match names.is_none() && is_unchanged {
            true => Ok(seen.slot.clone()),
            false => self.slot(&dir.merged(), names, name),
        }
    }

    /// What is known of a name, and its attributes where finding out gave them;
    /// `None` where only a map tells.
    fn look(&self, merged: &Merged, names: &Option<NameMap>, name: Name<'_>) -> Result<Option<Answer>> {
        if let Some(map) = names {
            return Ok(Some(Answer { slot: map.get(name), stat: None }));
        }
        asking::ask(merged, &self.layers, name)
    }

    fn resolver(&self) -> Resolver<'_> {
        Resolver { layers: &self.layers, redirects: self.config.redirect_dir, metacopy: self.config.metacopy }
    }

    /// The physical identity of a file.
    pub(super) fn key(&self, side: Side, stat: &Stat) -> Key {
        Key { side, device: self.layers.device(stat), ino: stat.ino }
    }

    fn child_dir(&self, asked: &Asked<'_>) -> Result<Made> {
        let upper = match (&asked.slot.upper, &asked.merged.upper) {
            (UpperSlot::Entry(_), Some(upper)) => Some(upper),
            _ => None,
        };
        let listed = match &asked.slot.lower {
            LowerSlot::Dir(layers) => layers.clone(),
            _ => Default::default(),
        };
        let (side, parent) = match (upper, listed.first()) {
            (Some(upper), _) => (Side::Upper, upper),
            (None, Some(layer)) => (Side::Lower, asked.merged.lower(*layer).ok_or(Errno::STALE)?),
            (None, None) => return Ok(Made::Absent),
        };
        let parent = parent.hold(&self.layers.fds)?;
        let file = parent.at(asked.name)?;
        let Some(stat) = asked.stat(file)? else { return Ok(Made::Absent) };
        let key = self.key(side, &stat);
        if let Some(inode) = self.table.find(&key) {
            self.note_dir_link(&inode, asked);
            return Ok(Made::Child(Child { inode, stat }));
        }
        let marks =
            if upper.is_some() { Marks::read(file, self.config.namespace)? } else { Marks::default() };
        let way = match &marks.redirect {
            Some(redirect) => self.resolver().follow(redirect, 0, &Way::Sibling(asked.name.to_buf()))?,
            None => Way::Listed(listed),
        };
        let lowers = match marks.opacity {
            Opacity::Opaque => Vec::new(),
            _ => self.resolver().lower_dirs(asked.merged, asked.name, way)?,
        };
        let number = match lowers.first() {
            Some(lower) if upper.is_some() => self.number(&lower.hold(&self.layers.fds)?.object().stat()?),
            _ => self.number(&stat),
        };
        let merged = Merged { upper: upper.map(|upper| RealDir::new(upper, asked.name)), lowers };
        let redirect = marks.redirect.clone().map(Vec::into_boxed_slice);
        let traits = Traits::default();
        if upper.is_some() {
            note_traits(&traits, &marks);
        }
        let body = || {
            Body::Dir(Box::new(Dir {
                link: RwLock::new(Some(link(asked.parent, asked.name))),
                merged: RwLock::new(Arc::new(merged)),
                names: Arc::default(),
                redirect: RwLock::new(redirect),
                traits,
            }))
        };
        let private = || self.numbers.private();
        let (inode, _) = self.table.find_or_insert(Some(key), FileType::Directory, number, private, body);
        Ok(Made::Child(Child { inode, stat }))
    }

    /// A directory found under another name than it was known by: the layers
    /// changed under us, or two redirects lead to one directory.
    fn note_dir_link(&self, inode: &Inode, asked: &Asked<'_>) {
        let Some(dir) = inode.dir() else { return };
        let asked = link(asked.parent, asked.name);
        let is_known = dir.link.read().as_ref().is_some_and(|known| known.is(&asked));
        if !is_known {
            *dir.link.write() = Some(asked);
        }
    }

    /// A file of the upper.
    fn child_upper(&self, asked: &Asked<'_>) -> Result<Made> {
        let Some(upper) = &asked.merged.upper else { return Ok(Made::Absent) };
        let dir = upper.hold(&self.layers.fds)?;
        let file = dir.at(asked.name)?;
        let Some(stat) = asked.stat(file)? else { return Ok(Made::Absent) };
        let key = self.key(Side::Upper, &stat);
        let link = link(asked.parent, asked.name);
        if let Some(inode) = self.table.find(&key) {
            note_file_link(&inode, link);
            return Ok(Made::Child(Child { inode, stat }));
        }
        let traits = self.traits(asked.parent)?;
        let may_have_marks = traits.has(Trait::Impure)
            || asked.slot.lower_shows()
            || stat.nlink > 1
            || resolve::may_be_metacopy(&stat);
        let marks = if may_have_marks { Marks::read(file, self.config.namespace)? } else { Marks::default() };
        let mut state = FileState::upper(link.clone());
        if marks.metacopy && stat.kind() == FileType::RegularFile {
            let data = self.resolver().data_of(asked.merged, asked.name, 0, &marks)?;
            state.set_data(Some(data));
        }
        let beside = match &asked.slot.lower {
            LowerSlot::File(layer, _) => asked.merged.lower(*layer),
            _ => None,
        };
        let beside = beside.map(|dir| Spot { dir: dir.clone(), name: asked.name.to_buf() });
        let number = self.take_origin(&mut state, &marks, &stat, beside.as_ref())?;
        Ok(self.insert_file(asked, Some(key), stat, number, state))
    }

    /// A file of a lower layer, or the upper copy that the index has of it.
    fn child_lower(&self, asked: &Asked<'_>, layer: LayerId) -> Result<Made> {
        let Some(lower) = asked.merged.lower(layer) else { return Ok(Made::Absent) };
        let dir = lower.hold(&self.layers.fds)?;
        let file = dir.at(asked.name)?;
        let Some(stat) = asked.stat(file)? else { return Ok(Made::Absent) };
        let is_linked = stat.nlink > 1 && self.upper.is_some();
        if is_linked && self.is_indexing(stat.kind()) {
            let spot = Spot { dir: lower.clone(), name: asked.name.to_buf() };
            match self.child_indexed(asked, &spot, &stat)? {
                Made::Absent => {}
                made => return Ok(made),
            }
        }
        // Without an index, copying one name up breaks it from the others: each
        // is a node of its own from the start.
        let key = (!is_linked || self.is_indexing(stat.kind())).then(|| self.key(Side::Lower, &stat));
        let link = link(asked.parent, asked.name);
        if let Some(inode) = key.and_then(|key| self.table.find(&key)) {
            let is_lower = inode.file().is_some_and(|file| file.state.read().is_lower());
            note_file_link(&inode, link);
            let stat = if is_lower { stat } else { self.stat(&inode)? };
            return Ok(Made::Child(Child { inode, stat }));
        }
        let mut data = None;
        let is_lowest = self.layers.is_bottom(layer) && self.layers.data_only().is_empty();
        // Of an empty file there is no data to look for.
        if !is_lowest && stat.size > 0 && resolve::may_be_metacopy(&stat) {
            let marks = Marks::read(file, self.config.namespace)?;
            if marks.metacopy {
                data = Some(self.resolver().data_of(asked.merged, asked.name, layer, &marks)?);
            }
        }
        let number = self.number(&stat);
        let state = FileState::lower(link.clone(), lower.clone(), data);
        Ok(self.insert_file(asked, key, stat, number, state))
    }

    /// The upper copy of a hard-linked lower file, found by its file handle.
    fn child_indexed(&self, asked: &Asked<'_>, spot: &Spot, lower: &Stat) -> Result<Made> {
        let Some(origin) = self.origin_of(spot)? else { return Ok(Made::Absent) };
        let name = crate::ondisk::origin::index_name(&origin)?;
        let index = self.index()?.fd(&self.layers.fds)?;
        let target = Target::At(index.as_fd(), name.as_name());
        let Some(stat) = at::stat(target).absent()? else { return Ok(Made::Absent) };
        if stat.kind() != lower.kind() {
            return Ok(Made::Absent);
        }
        let key = self.key(Side::Upper, &stat);
        let link = link(asked.parent, asked.name);
        if let Some(inode) = self.table.find(&key) {
            note_file_link(&inode, link);
            return Ok(Made::Child(Child { inode, stat }));
        }
        let marks = Marks::read(target, self.config.namespace)?;
        let mut state = FileState::upper(link.clone());
        state.set_place(Place::Index(Box::new(name)));
        if marks.metacopy && stat.kind() == FileType::RegularFile {
            state.set_data(Some(spot.clone()));
        }
        let number = self.take_origin(&mut state, &marks, &stat, Some(spot))?;
        Ok(self.insert_file(asked, Some(key), stat, number, state))
    }

    fn insert_file(
        &self,
        asked: &Asked<'_>,
        key: Option<Key>,
        stat: Stat,
        number: NodeId,
        state: FileState,
    ) -> Made {
        let body = || {
            let is_so = self.copies.load(Ordering::Acquire) == asked.copies;
            match is_so {
                true => Ok(Body::File(crate::inode::File { state: RwLock::new(state) })),
                false => Err(TooLate),
            }
        };
        let private = || self.numbers.private();
        let (inode, found) = match self.table.find_or_try_insert(key, stat.kind(), number, private, body) {
            Ok(made) => made,
            Err(TooLate) => return Made::TooLate,
        };
        if found == crate::inode::table::Found::Before {
            note_file_link(&inode, link(asked.parent, asked.name));
        }
        Made::Child(Child { inode, stat })
    }

    /// The number a file has of its own.
    pub(super) fn number(&self, stat: &Stat) -> NodeId {
        self.numbers.compose(self.layers.device(stat), stat.ino)
    }

    /// What creation in a directory must know of it, learnt once.
    pub(super) fn traits<'d>(&self, dir: &'d Inode) -> Result<&'d Traits> {
        let dir = dir_of(dir)?;
        if !dir.traits.has(Trait::Known) {
            let marks = match &dir.merged().upper {
                Some(upper) => {
                    let fd = upper.fd(&self.layers.fds)?;
                    Marks::read(Target::Fd(fd.as_fd()), self.config.namespace)?
                }
                None => Marks::default(),
            };
            if dir.merged().upper.is_some() {
                note_traits(&dir.traits, &marks);
            }
        }
        Ok(&dir.traits)
    }
}

fn note_traits(traits: &Traits, marks: &Marks) {
    if marks.impure {
        traits.set(Trait::Impure);
    }
    if marks.default_acl {
        traits.set(Trait::DefaultAcl);
    }
    traits.set(Trait::Known);
}

fn note_file_link(inode: &Inode, link: crate::inode::Link) {
    let Some(file) = inode.file() else { return };
    let is_known = file.state.read().has_link(&link);
    if !is_known {
        file.state.write().add_link(link);
    }
}
