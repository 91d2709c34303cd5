//! The names of one merged directory, and which layers have them.
//!
//! Built by listing each layer's directory once, so that afterwards absence
//! costs no system call and presence one statx of the winner. The listing's
//! inode numbers are kept: showing the names costs nothing more.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use rustix::fs::FileType;
use smallvec::SmallVec;

use super::layer::Layers;
use super::listing::{Listed, Listing};
use super::maps::{Maps, Total};
use super::real::{LayerId, RealDir};
use crate::error::Result;
use crate::name::{Name, NameBuf};
use crate::sync::Arc;

/// The real directories one merged directory is made of.
#[derive(Clone, Default)]
pub struct Merged {
    /// The upper's, where it exists.
    pub upper: Option<Arc<RealDir>>,
    /// The lowers', topmost first.
    pub lowers: Vec<Arc<RealDir>>,
}

impl Merged {
    /// The directory whose attributes are shown.
    pub fn top(&self) -> Option<&Arc<RealDir>> {
        self.upper.as_ref().or(self.lowers.first())
    }

    /// Whether more than one layer contributes.
    pub fn is_merged(&self) -> bool {
        usize::from(self.upper.is_some()) + self.lowers.len() > 1
    }

    /// The lower directory of a layer.
    pub fn lower(&self, layer: LayerId) -> Option<&Arc<RealDir>> {
        self.lowers.iter().find(|dir| dir.layer == layer)
    }
}

/// What the upper has under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpperSlot {
    /// Nothing.
    Absent,
    /// A mark that hides the lowers.
    Whiteout,
    /// A file of this type.
    Entry(FileType),
}

/// What the lowers together show under a name, were there no upper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LowerSlot {
    /// Nothing.
    Absent,
    /// A file that is not a directory, in this layer.
    File(LayerId, FileType),
    /// A directory, in these layers, topmost first.
    Dir(SmallVec<[LayerId; 4]>),
}

/// Everything known about one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// In the upper.
    pub upper: UpperSlot,
    /// Below it.
    pub lower: LowerSlot,
}

impl Slot {
    /// Nothing anywhere.
    pub const ABSENT: Slot = Slot { upper: UpperSlot::Absent, lower: LowerSlot::Absent };

    /// The type of what shows under the name, if anything does.
    pub fn visible(&self) -> Option<FileType> {
        match (&self.upper, &self.lower) {
            (UpperSlot::Entry(kind), _) => Some(*kind),
            (UpperSlot::Whiteout, _) | (UpperSlot::Absent, LowerSlot::Absent) => None,
            (UpperSlot::Absent, LowerSlot::File(_, kind)) => Some(*kind),
            (UpperSlot::Absent, LowerSlot::Dir(_)) => Some(FileType::Directory),
        }
    }

    /// Whether removing the upper's entry would let something show.
    pub fn lower_shows(&self) -> bool {
        self.lower != LowerSlot::Absent
    }
}

/// Name → layers, of one merged directory.
pub struct NameMap(Box<Names>);

#[derive(Default)]
struct Names {
    entries: Vec<Entry>,
    /// Where in `entries` a name is.
    index: HashTable<u32>,
    hasher: RandomState,
    sets: LayerSets,
    total: Total,
}

/// What is known of one name. Large trees have millions: the layers of a
/// directory are a number in `sets`, those of a file its one layer.
struct Entry {
    name: NameBuf,
    /// The inode number of what shows; 0 where only a lookup tells.
    number: u64,
    layers: u32,
    upper: UpperSlot,
    lower: Option<FileType>,
}

/// A name that shows.
pub struct Shown<'a> {
    /// The name.
    pub name: Name<'a>,
    /// The type of what shows.
    pub kind: FileType,
    /// Its inode number, if listing alone told it.
    pub number: Option<u64>,
}

impl NameMap {
    /// Lists every real directory of a merged one. An opaque file found in one
    /// of them ends the merge there: `merged` is cut short. `number` gives the
    /// inode number of what was listed in a directory on a file system, where
    /// that is known. `None` where they have more than `most` names together.
    ///
    /// # Errors
    /// What opening or listing a directory gave.
    pub fn build(
        merged: &mut Merged,
        layers: &Layers,
        mut most: usize,
        number: impl Fn(u16, u64) -> Option<u64>,
    ) -> Result<Option<NameMap>> {
        let mut builder = Builder::default();
        let mut read = |dir: &Arc<RealDir>| -> Result<Option<Listing>> {
            let listing = Listing::read_at_most(dir, layers, most)?;
            most -= listing.as_ref().map_or(0, |listing| listing.entries.len() + listing.whiteouts.len());
            Ok(listing)
        };
        if let Some(upper) = &merged.upper {
            let Some(listing) = read(upper)? else { return Ok(None) };
            let (device, ends) = (listing.device, listing.opaque);
            builder.add_upper(listing, |ino| number(device, ino));
            if ends {
                merged.lowers.clear();
            }
        }
        for index in 0..merged.lowers.len() {
            let lower = &merged.lowers[index];
            let Some(listing) = read(lower)? else { return Ok(None) };
            let (device, ends) = (listing.device, listing.opaque);
            builder.add_lower(lower.layer, listing, |kind, ino| {
                number(device, ino).filter(|_| !layers.must_look_up(kind))
            });
            if ends {
                merged.lowers.truncate(index + 1);
                break;
            }
        }
        Ok(Some(builder.finish(&layers.maps)))
    }

    /// What is known of a name.
    pub fn get(&self, name: Name<'_>) -> Slot {
        let names = &self.0;
        let Some(entry) = names.find(name).and_then(|at| names.entries.get(at)) else { return Slot::ABSENT };
        let lower = match entry.lower {
            None => LowerSlot::Absent,
            Some(FileType::Directory) => LowerSlot::Dir(names.sets.layers(entry.layers)),
            Some(kind) => LowerSlot::File(entry.layers as LayerId, kind),
        };
        Slot { upper: entry.upper, lower }
    }

    /// Notes what the upper has under a name from now on.
    pub fn set_upper(&mut self, name: Name<'_>, upper: UpperSlot) {
        let names = &mut self.0;
        match names.find(name).and_then(|at| Some((at, names.entries.get_mut(at)?))) {
            Some((at, entry)) => {
                entry.upper = upper;
                entry.number = 0;
                if entry.upper == UpperSlot::Absent && entry.lower.is_none() {
                    names.remove(at);
                    names.total.take_one();
                }
            }
            None if upper == UpperSlot::Absent => {}
            None => {
                names.push(Entry { name: name.to_buf(), number: 0, layers: 0, upper, lower: None });
                names.total.add_one();
            }
        }
    }

    /// Notes the inode number of what shows under a name: of a file that was
    /// made in the upper, and is nothing else's copy.
    pub fn set_number(&mut self, name: Name<'_>, number: u64) {
        let names = &mut self.0;
        if let Some(entry) = names.find(name).and_then(|at| names.entries.get_mut(at)) {
            entry.number = number;
        }
    }

    /// Every name that shows, in no order.
    pub fn shown(&self) -> impl Iterator<Item = Shown<'_>> {
        self.0.entries.iter().filter_map(|entry| {
            let kind = match (entry.upper, entry.lower) {
                (UpperSlot::Entry(kind), _) | (UpperSlot::Absent, Some(kind)) => kind,
                (UpperSlot::Whiteout, _) | (UpperSlot::Absent, None) => return None,
            };
            let number = Some(entry.number).filter(|number| *number != 0);
            Some(Shown { name: entry.name.as_name(), kind, number })
        })
    }
}

impl Names {
    fn hash(&self, name: Name<'_>) -> u64 {
        self.hasher.hash_one(name.bytes())
    }

    fn find(&self, name: Name<'_>) -> Option<usize> {
        let is_it =
            |at: &u32| self.entries.get(*at as usize).is_some_and(|entry| entry.name.as_name() == name);
        self.index.find(self.hash(name), is_it).map(|at| *at as usize)
    }

    /// Adds a name that is not there.
    fn push(&mut self, entry: Entry) {
        let hash = self.hash(entry.name.as_name());
        let at = self.entries.len() as u32;
        self.entries.push(entry);
        let (entries, hasher) = (&self.entries, &self.hasher);
        let rehash = |at: &u32| match entries.get(*at as usize) {
            Some(entry) => hasher.hash_one(entry.name.as_name().bytes()),
            None => 0,
        };
        self.index.insert_unique(hash, at, rehash);
    }

    /// Takes one out; the last one takes its place.
    fn remove(&mut self, at: usize) {
        let last = self.entries.len().saturating_sub(1);
        let hash = |entry: &Entry| self.hasher.hash_one(entry.name.as_name().bytes());
        let (Some(gone), Some(moved)) = (self.entries.get(at).map(hash), self.entries.last().map(hash))
        else {
            return;
        };
        if let Ok(found) = self.index.find_entry(gone, |known| *known as usize == at) {
            found.remove();
        }
        if let Some(known) = self.index.find_mut(moved, |known| *known as usize == last) {
            *known = at as u32;
        }
        self.entries.swap_remove(at);
    }
}

/// The layers that directories are in: each set is another one and a layer
/// below it. A directory's sets are few, however many names it has.
#[derive(Default)]
struct LayerSets(Vec<(Option<u32>, LayerId)>);

impl LayerSets {
    /// A set's layers, topmost first.
    fn layers(&self, set: u32) -> SmallVec<[LayerId; 4]> {
        let mut layers = SmallVec::new();
        let mut next = Some(set);
        while let Some((above, layer)) = next.and_then(|set| self.0.get(set as usize)) {
            layers.push(*layer);
            next = *above;
        }
        layers.reverse();
        layers
    }
}

/// A map on its way, layer by layer from the top.
#[derive(Default)]
struct Builder {
    names: Names,
    /// Names that a layer above put an end to, other than by showing a file.
    ended: HashSet<NameBuf, RandomState>,
    /// The sets there are, by what they are made of.
    sets: HashMap<(Option<u32>, LayerId), u32, RandomState>,
}

impl Builder {
    /// Adds the upper. What came from a lower, or may have, has the number that
    /// it had there.
    fn add_upper(&mut self, listing: Listing, number: impl Fn(u64) -> Option<u64>) {
        for Listed { name, kind, ino } in listing.entries {
            let is_clear = !listing.impure && kind != FileType::Directory;
            let number = number(ino).filter(|_| is_clear).unwrap_or(0);
            self.names.push(Entry { name, number, layers: 0, upper: UpperSlot::Entry(kind), lower: None });
        }
        for name in listing.whiteouts {
            // An entry beside its own `.wh.` name stays: it is of this layer.
            if self.names.find(name.as_name()).is_none() {
                self.names.push(Entry {
                    name,
                    number: 0,
                    layers: 0,
                    upper: UpperSlot::Whiteout,
                    lower: None,
                });
            }
        }
    }

    /// Adds one lower below those already added.
    fn add_lower(&mut self, layer: LayerId, listing: Listing, number: impl Fn(FileType, u64) -> Option<u64>) {
        for Listed { name, kind, ino } in listing.entries {
            if self.ended.contains(&name) {
                continue;
            }
            let at = self.names.find(name.as_name());
            let known = at.and_then(|at| self.names.entries.get(at)).map(|entry| (entry.lower, entry.layers));
            let layers = match (known, kind) {
                (Some((Some(FileType::Directory), set)), FileType::Directory) => self.set(Some(set), layer),
                (Some((Some(FileType::Directory), _)), _) => {
                    self.ended.insert(name);
                    continue;
                }
                // A file shows: nothing below it does.
                (Some((Some(_), _)), _) => continue,
                (_, FileType::Directory) => self.set(None, layer),
                (_, _) => layer.into(),
            };
            match at.and_then(|at| self.names.entries.get_mut(at)) {
                Some(entry) => {
                    entry.lower = Some(kind);
                    entry.layers = layers;
                }
                None => {
                    let number = number(kind, ino).unwrap_or(0);
                    let upper = UpperSlot::Absent;
                    self.names.push(Entry { name, number, layers, upper, lower: Some(kind) });
                }
            }
        }
        // `.wh.NAME` beside NAME hides the layers below only.
        self.ended.extend(listing.whiteouts);
    }

    fn set(&mut self, above: Option<u32>, layer: LayerId) -> u32 {
        let sets = &mut self.names.sets.0;
        *self.sets.entry((above, layer)).or_insert_with(|| {
            sets.push((above, layer));
            sets.len() as u32 - 1
        })
    }

    fn finish(self, maps: &Maps) -> NameMap {
        let mut names = self.names;
        names.entries.shrink_to_fit();
        names.sets.0.shrink_to_fit();
        names.total = maps.total(names.entries.len());
        NameMap(Box::new(names))
    }
}
