//! Where a file's metadata and data are.
//!
//! Most files the kernel knows are lower ones that nobody uses: what only the
//! others have is elsewhere, so that such a file is small.

use std::os::fd::OwnedFd;

use super::{Inode, Link, NodeId};
use crate::name::{Name, NameBuf};
use crate::stack::real::{Fd, RealDir, Spot};
use crate::sync::{Arc, RwLock};
use crate::sys::fuse::Backing;

/// A file that is not a directory.
pub struct File {
    /// Where it is.
    pub state: RwLock<FileState>,
}

/// Where a file's metadata and data are, now.
pub struct FileState {
    place: Place,
    /// The name copy-up puts it under, and others follow in `rare`.
    first: Option<Link>,
    rare: Option<Box<Rare>>,
    /// The descriptor all its opens share, and how many they are.
    pub open: Option<Box<Open>>,
}

/// What few files have.
#[derive(Default)]
struct Rare {
    /// The names after the first.
    others: Vec<Link>,
    /// Where its data is, if elsewhere: a metacopy's.
    data: Option<Spot>,
    /// How the link count shown differs from the one on disk.
    nlink: Option<i32>,
    /// The inode number shown, if the node has another.
    number: Option<NodeId>,
    /// Whether a file of the upper came from a lower layer.
    has_origin: bool,
    /// Whether the kernel's pages may be older than the file, which was written
    /// past them.
    is_stale: bool,
}

/// Where a file's metadata is.
pub enum Place {
    /// In this directory of a lower layer, under the name of its first link.
    Lower(Arc<RealDir>),
    /// In a lower layer, where the union shows it no more, or under another
    /// name only.
    Hidden(Box<Spot>),
    /// In the upper, under its first link.
    Upper,
    /// In the index, with no link known in the upper.
    Index(Box<NameBuf>),
    /// Removed from every place known: only a descriptor is left.
    Held(Fd),
    /// Wherever this other node is: see [`super::table::Table::succeed`].
    Succeeded(Arc<Inode>),
}

/// The one descriptor behind all opens of a file.
pub struct Open {
    /// How many opens there are.
    pub count: u64,
    /// The descriptor.
    pub data: Arc<Data>,
    /// The file as the kernel knows it, if it reads and writes it by itself.
    pub backing: Option<Backing>,
    /// Whether it is a lower's file that the kernel reads.
    pub is_lowers: bool,
}

impl Open {
    /// Opens of a file through the server.
    pub fn new(count: u64, data: Arc<Data>) -> Box<Open> {
        Box::new(Open { count, data, backing: None, is_lowers: false })
    }
}

/// A file's data, open.
pub struct Data {
    /// The descriptor.
    pub fd: OwnedFd,
    /// What it may be used for.
    pub access: Access,
    /// Whether it is a lower's file, or was before the file was copied up.
    pub is_lowers: bool,
}

/// What a descriptor may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

impl File {
    /// Gives up the descriptor of a file that nobody has open.
    pub fn close_if_idle(&self) {
        let mut state = self.state.write();
        if state.open.as_ref().is_some_and(|open| open.count == 0) {
            // Closed outside of the lock: it may be the end of a large file.
            let last = state.open.take();
            drop(state);
            drop(last);
        }
    }
}

impl FileState {
    /// A file of a lower layer's directory, which has it under `link`'s name.
    pub fn lower(link: Link, dir: Arc<RealDir>, data: Option<Spot>) -> FileState {
        let mut state = FileState::at(Place::Lower(dir));
        state.first = Some(link);
        state.set_data(data);
        state
    }

    /// A file of the upper, under its first link.
    pub fn upper(link: Link) -> FileState {
        let mut state = FileState::at(Place::Upper);
        state.first = Some(link);
        state
    }

    /// A file without a name.
    pub fn at(place: Place) -> FileState {
        FileState { place, first: None, rare: None, open: None }
    }

    /// Where its metadata is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Notes that it is elsewhere now, and not in a lower layer.
    pub fn set_place(&mut self, place: Place) {
        if self.is_lower() {
            self.note_origin();
        }
        self.place = place;
    }

    /// Whether the file came from a lower layer, now or before copy-up.
    pub fn has_origin(&self) -> bool {
        self.is_lower() || self.rare.as_ref().is_some_and(|rare| rare.has_origin)
    }

    /// Notes that a file of the upper came from a lower layer.
    pub fn note_origin(&mut self) {
        self.rare().has_origin = true;
    }

    /// Notes that the file is written past the kernel's pages of it.
    pub fn note_stale(&mut self) {
        self.rare().is_stale = true;
    }

    /// Whether the kernel's pages may be older than the file; said once.
    pub fn take_stale(&mut self) -> bool {
        let is_stale = self.rare.as_mut().is_some_and(|rare| std::mem::take(&mut rare.is_stale));
        self.tidy();
        is_stale
    }

    /// The lower file, where that is its place: its directory and its name.
    pub fn as_lower(&self) -> Option<(&Arc<RealDir>, Name<'_>)> {
        match &self.place {
            Place::Lower(dir) => Some((dir, self.first.as_ref()?.name.as_name())),
            Place::Hidden(spot) => Some((&spot.dir, spot.name.as_name())),
            Place::Upper | Place::Index(_) | Place::Held(_) | Place::Succeeded(_) => None,
        }
    }

    /// Whether metadata changes need a copy-up first.
    pub fn is_lower(&self) -> bool {
        matches!(self.place, Place::Lower(_) | Place::Hidden(_))
    }

    /// The name copy-up puts it under.
    pub fn first_link(&self) -> Option<&Link> {
        self.first.as_ref()
    }

    /// The names it is known under.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.first.iter().chain(self.rare.iter().flat_map(|rare| &rare.others))
    }

    /// Whether the file is known under a name.
    pub fn has_link(&self, link: &Link) -> bool {
        self.links().any(|known| known.is(link))
    }

    /// Notes one more name.
    pub fn add_link(&mut self, link: Link) {
        if self.first.is_none() {
            self.put_first(link);
        } else if !self.has_link(&link) {
            self.rare().others.push(link);
        }
    }

    /// Notes a name, by which the file is looked for from now on.
    pub fn put_first(&mut self, link: Link) {
        self.drop_link(&link);
        self.keep_lower_name();
        if let Some(second) = self.first.replace(link) {
            self.rare().others.insert(0, second);
        }
    }

    /// Forgets a name.
    pub fn drop_link(&mut self, link: &Link) {
        if let Some(rare) = &mut self.rare {
            rare.others.retain(|known| !known.is(link));
        }
        if self.first.as_ref().is_some_and(|first| first.is(link)) {
            self.keep_lower_name();
            let others = self.rare.as_mut().map(|rare| &mut rare.others).filter(|others| !others.is_empty());
            self.first = others.map(|others| others.remove(0));
        }
        self.tidy();
    }

    /// Forgets all names.
    pub fn drop_links(&mut self) {
        self.keep_lower_name();
        self.first = None;
        if let Some(rare) = &mut self.rare {
            rare.others.clear();
        }
        self.tidy();
    }

    /// Before the first link changes: a lower file keeps its name in the layer.
    fn keep_lower_name(&mut self) {
        if let (Place::Lower(dir), Some(first)) = (&self.place, &self.first) {
            self.place = Place::Hidden(Box::new(Spot { dir: dir.clone(), name: first.name.clone() }));
        }
    }

    /// Where its data is, if elsewhere: a metacopy's.
    pub fn data(&self) -> Option<&Spot> {
        self.rare.as_ref()?.data.as_ref()
    }

    /// Notes where its data is.
    pub fn set_data(&mut self, data: Option<Spot>) {
        if data.is_some() || self.rare.is_some() {
            self.rare().data = data;
            self.tidy();
        }
    }

    /// How many more links the union shows than the file has: of files kept in
    /// the index, and of lower ones that lost a name.
    pub fn nlink(&self) -> Option<i32> {
        self.rare.as_ref()?.nlink
    }

    /// Notes how many more links are shown.
    pub fn set_nlink(&mut self, more: Option<i32>) {
        if more.is_some() || self.rare.is_some() {
            self.rare().nlink = more;
            self.tidy();
        }
    }

    /// The inode number shown, if the node's id is another.
    pub fn number(&self) -> Option<NodeId> {
        self.rare.as_ref()?.number
    }

    /// Whether the kernel reads a lower's file by itself, and would not see a copy.
    pub fn is_read_below(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.is_lowers && open.backing.is_some())
    }

    /// Takes everything out, for the node that succeeds this one and goes on
    /// showing `number`. What is open here stays here.
    pub fn succeed(&mut self, number: NodeId) -> FileState {
        let mut state = FileState::at(Place::Upper);
        std::mem::swap(&mut state.place, &mut self.place);
        state.first = self.first.take();
        state.rare = self.rare.take();
        state.rare().number.get_or_insert(number);
        state
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn tidy(&mut self) {
        let is_empty = |rare: &Rare| {
            let is_marked = rare.has_origin || rare.is_stale;
            let has_numbers = rare.nlink.is_some() || rare.number.is_some();
            rare.others.is_empty() && rare.data.is_none() && !has_numbers && !is_marked
        };
        if self.rare.as_deref().is_some_and(is_empty) {
            self.rare = None;
        }
    }
}
