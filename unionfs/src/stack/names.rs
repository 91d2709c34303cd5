//! The names of one merged directory, and which layers have them.
//!
//! Built by listing each layer's directory once, so that afterwards absence
//! costs no system call and presence one statx of the winner. Whiteouts and
//! `.wh.` names are learnt here and nowhere else.

use std::collections::HashMap;
use std::os::fd::AsFd;

use foldhash::fast::RandomState;
use rustix::fs::FileType;
use smallvec::SmallVec;

use super::layer::Layers;
use super::real::{LayerId, RealDir, borrowed};
use crate::config::Namespace;
use crate::error::{Error, Result};
use crate::name::{Name, NameBuf};
use crate::ondisk::marks::{Marks, Opacity};
use crate::ondisk::whiteout::{self, NameMeaning};
use crate::sync::Arc;
use crate::sys::at::{self, Target};

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
#[derive(Default)]
pub struct NameMap {
    slots: HashMap<NameBuf, Slot, RandomState>,
}

impl NameMap {
    /// Lists every real directory of a merged one. An opaque file found in one
    /// of them ends the merge there: `merged` is cut short.
    ///
    /// # Errors
    /// What opening or listing a directory gave.
    pub fn build(merged: &mut Merged, layers: &Layers) -> Result<NameMap> {
        let mut map = NameMap::default();
        if let Some(upper) = &merged.upper {
            let listing = Listing::read(upper, layers)?;
            let ends = listing.opaque;
            map.add_upper(listing);
            if ends {
                merged.lowers.clear();
            }
        }
        let mut hidden = NameMap::default();
        for index in 0..merged.lowers.len() {
            let layer = merged.lowers[index].layer;
            let listing = Listing::read(&merged.lowers[index], layers)?;
            let ends = listing.opaque;
            map.add_lower(layer, listing, &mut hidden);
            if ends {
                merged.lowers.truncate(index + 1);
                break;
            }
        }
        Ok(map)
    }

    /// What is known of a name.
    pub fn get(&self, name: Name<'_>) -> Slot {
        self.slots.get(name.bytes()).cloned().unwrap_or(Slot::ABSENT)
    }

    /// Notes what the upper has under a name from now on.
    pub fn set_upper(&mut self, name: Name<'_>, upper: UpperSlot) {
        match self.slots.get_mut(name.bytes()) {
            Some(slot) => {
                slot.upper = upper;
                if *slot == Slot::ABSENT {
                    self.slots.remove(name.bytes());
                }
            }
            None if upper == UpperSlot::Absent => {}
            None => {
                self.slots.insert(name.to_buf(), Slot { upper, lower: LowerSlot::Absent });
            }
        }
    }

    /// Every name with what is known of it, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Name<'_>, &Slot)> {
        self.slots.iter().map(|(name, slot)| (name.as_name(), slot))
    }

    fn add_upper(&mut self, listing: Listing) {
        for (name, kind) in listing.entries {
            self.slots.insert(name, Slot { upper: UpperSlot::Entry(kind), lower: LowerSlot::Absent });
        }
        for name in listing.whiteouts {
            // An entry beside its own `.wh.` name stays: it is of this layer.
            self.slots.entry(name).or_insert(Slot { upper: UpperSlot::Whiteout, lower: LowerSlot::Absent });
        }
    }

    /// Adds one lower below those already added. `hidden` holds the names that
    /// a layer above put an end to.
    fn add_lower(&mut self, layer: LayerId, listing: Listing, hidden: &mut NameMap) {
        for (name, kind) in listing.entries {
            if hidden.slots.contains_key(&name) {
                continue;
            }
            let slot = self.slots.entry(name.clone()).or_insert(Slot::ABSENT);
            match (&mut slot.lower, kind) {
                (LowerSlot::Absent, FileType::Directory) => {
                    slot.lower = LowerSlot::Dir(SmallVec::from_elem(layer, 1));
                    continue;
                }
                (LowerSlot::Dir(layers), FileType::Directory) => {
                    layers.push(layer);
                    continue;
                }
                (LowerSlot::Absent, _) => slot.lower = LowerSlot::File(layer, kind),
                (LowerSlot::Dir(_) | LowerSlot::File(..), _) => {}
            }
            hidden.slots.insert(name, Slot::ABSENT);
        }
        for name in listing.whiteouts {
            // `.wh.NAME` beside NAME hides the layers below only.
            hidden.slots.insert(name, Slot::ABSENT);
        }
    }
}

/// One real directory's entries, with its whiteouts told apart.
pub struct Listing {
    /// What is there, with its type.
    pub entries: Vec<(NameBuf, FileType)>,
    /// What is hidden below.
    pub whiteouts: Vec<NameBuf>,
    /// Whether a file in here says that nothing below shows.
    pub opaque: bool,
}

impl Listing {
    /// Lists a directory.
    ///
    /// # Errors
    /// What opening or reading it gave.
    pub fn read(dir: &Arc<RealDir>, layers: &Layers) -> Result<Listing> {
        let fd = dir.fd(&layers.fds)?;
        let mut listing = Listing { entries: Vec::new(), whiteouts: Vec::new(), opaque: false };
        let mut suspects = Vec::new();
        at::list(fd.as_fd(), |entry| -> Result<()> {
            match whiteout::meaning(entry.name) {
                NameMeaning::Opaque => listing.opaque = true,
                NameMeaning::Reserved => {}
                NameMeaning::Whiteout(name) => listing.whiteouts.push(name.to_buf()),
                NameMeaning::Entry => {
                    let name = Name::new(entry.name)?;
                    let may_be_hidden = dir.layer > 0 && layers.hides() && entry.kind == FileType::Directory;
                    let is_unclear = entry.kind == FileType::Unknown || whiteout::is_suspect(entry.kind);
                    if is_unclear || may_be_hidden {
                        suspects.push(name.to_buf());
                    } else {
                        listing.entries.push((name.to_buf(), entry.kind));
                    }
                }
            }
            Ok(())
        })
        .map_err(|error: Error| error.context("cannot list a layer's directory"))?;
        for name in suspects {
            listing.look_at(layers, borrowed(&fd), name)?;
        }
        listing.take_xattr_whiteouts(borrowed(&fd), layers.namespace)?;
        Ok(listing)
    }

    fn look_at(&mut self, layers: &Layers, dir: std::os::fd::BorrowedFd<'_>, name: NameBuf) -> Result<()> {
        let stat = at::stat(Target::At(dir, name.as_name()))?;
        if layers.is_hidden(&stat) {
            return Ok(());
        }
        if stat.is_whiteout_device() {
            self.whiteouts.push(name);
        } else {
            self.entries.push((name, stat.kind()));
        }
        Ok(())
    }

    /// In a directory that says it may hold them, empty regular files with the
    /// whiteout attribute are whiteouts.
    fn take_xattr_whiteouts(&mut self, dir: std::os::fd::BorrowedFd<'_>, namespace: Namespace) -> Result<()> {
        let no_files = !self.entries.iter().any(|(_, kind)| *kind == FileType::RegularFile);
        if no_files || Marks::read(Target::Fd(dir), namespace)?.opacity != Opacity::XattrWhiteouts {
            return Ok(());
        }
        let mut kept = Vec::with_capacity(self.entries.len());
        for (name, kind) in self.entries.drain(..) {
            let target = Target::At(dir, name.as_name());
            let is_whiteout = kind == FileType::RegularFile
                && Marks::read(target, namespace)?.whiteout
                && at::stat(target)?.size == 0;
            if is_whiteout {
                self.whiteouts.push(name);
            } else {
                kept.push((name, kind));
            }
        }
        self.entries = kept;
        Ok(())
    }
}
