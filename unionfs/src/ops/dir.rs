//! Directory listings: the merged names, as they were when it was opened.
//!
//! Positions are hashes of the names. The kernel caches listings, and goes on
//! from a position with a handle that has listed nothing yet, perhaps after
//! names went away (`rm -r` does it): counting would skip as many others.

use std::hash::BuildHasher;

use foldhash::quality::FixedState;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::lookup::Child;
use super::{Entry, dir_of};
use crate::Union;
use crate::error::Result;
use crate::inode::number::Numbers;
use crate::inode::{Inode, NodeId, ROOT, Trait};
use crate::name::{Name, NameBuf};
use crate::stack::names::NameMap;
use crate::stack::real::RealDir;
use crate::sync::Arc;
use crate::sys::at::DirEntry;

/// One name of a listing.
#[derive(Clone, Copy, Debug)]
pub struct ListedEntry<'a> {
    /// The name; `.` and `..` are the first two.
    pub name: &'a [u8],
    /// Its type.
    pub kind: FileType,
    /// Its inode number, the same that stat gives.
    pub ino: u64,
    /// Its position: reading goes on behind it with this offset.
    pub position: u64,
}

/// The positions of `.` and `..`; what is in the directory comes after.
const DOTS: [u64; 2] = [1, 2];

/// A directory's names at one moment.
#[derive(Default)]
pub struct Entries {
    /// By position, once all are in.
    places: Vec<Place>,
    /// All names, one after the other.
    names: Vec<u8>,
}

/// An entry, and where its name is in all names.
struct Place {
    position: u64,
    ino: u64,
    start: u32,
    len: u8,
    kind: FileType,
}

impl Entries {
    fn push(&mut self, name: &[u8], kind: FileType, ino: u64) {
        // 62 bits: positions are signed for the callers, and some add to them.
        let hash = FixedState::default().hash_one(name) >> 2;
        let position = match name {
            b"." => DOTS[0],
            b".." => DOTS[1],
            _ => hash.max(DOTS[1] + 1),
        };
        // A listing has less than 4 GiB of names, each of 255 bytes at most.
        let (start, len) = (self.names.len() as u32, name.len() as u8);
        self.names.extend_from_slice(name);
        self.places.push(Place { position, ino, start, len, kind });
    }

    fn name(&self, place: &Place) -> &[u8] {
        let start = place.start as usize;
        self.names.get(start..start + usize::from(place.len)).unwrap_or_default()
    }

    /// Puts everything in order.
    fn sorted(mut self) -> Entries {
        let mut places = std::mem::take(&mut self.places);
        places.sort_unstable_by(|a, b| (a.position, self.name(a)).cmp(&(b.position, self.name(b))));
        let mut last = 0;
        for place in &mut places {
            // Two names with one hash: as unlikely as it is harmless.
            place.position = place.position.max(last + 1);
            last = place.position;
        }
        Entries { places, names: self.names }
    }

    /// What comes behind a position, 0 being the start.
    pub fn from_offset(&self, offset: u64) -> impl Iterator<Item = ListedEntry<'_>> {
        let start = self.places.partition_point(|place| place.position <= offset);
        self.places.get(start..).unwrap_or_default().iter().map(|place| ListedEntry {
            name: self.name(place),
            kind: place.kind,
            ino: place.ino,
            position: place.position,
        })
    }
}

impl Union {
    /// Lists a directory.
    ///
    /// # Errors
    /// `ENOTDIR`, or what the layers gave.
    pub fn list(&self, id: NodeId) -> Result<Entries> {
        let inode = self.inode(id)?;
        let (own, above) = self.own_and_parent(&inode)?;
        let mut entries = Entries::default();
        entries.push(b".", FileType::Directory, own);
        entries.push(b"..", FileType::Directory, above);
        // The names are locked as long as `known` lives.
        let known = self.read_names(dir_of(&inode)?)?;
        let unclear = match (&*known.names, known.merged.top().cloned()) {
            (Some(map), _) => {
                let unclear = list_map(map, &mut entries);
                drop(known);
                unclear
            }
            (None, Some(only)) => {
                drop(known);
                self.list_only(&inode, &only, &mut entries)?
            }
            (None, None) => return Err(Errno::NOENT.into()),
        };
        self.look_up_all(&inode, unclear, &mut entries)?;
        Ok(entries.sorted())
    }

    fn own_and_parent(&self, inode: &Arc<Inode>) -> Result<(u64, u64)> {
        let ino = |inode: &Inode| match inode.id {
            ROOT => Ok(self.number(&self.stat(inode)?)),
            id => Ok::<_, crate::Error>(id),
        };
        let parent = dir_of(inode)?.link.read().as_ref().map(|link| link.parent.clone());
        Ok((ino(inode)?, ino(parent.as_ref().unwrap_or(inode))?))
    }

    /// Lists a directory of one layer: its numbers come with the names. Those
    /// that do not are given back.
    fn list_only(
        &self,
        inode: &Arc<Inode>,
        only: &Arc<RealDir>,
        entries: &mut Entries,
    ) -> Result<Vec<NameBuf>> {
        let unlisted = only.unlisted(&self.layers.fds)?;
        let device = self.layers.device_in(only.layer, unlisted.held())?;
        let is_impure = only.layer == 0 && self.traits(inode)?.has(Trait::Impure);
        let mut unclear = Vec::new();
        let visit = |entry: DirEntry<'_>| -> Result<()> {
            use crate::ondisk::whiteout::{self, NameMeaning};
            if whiteout::meaning(entry.name) != NameMeaning::Entry {
                return Ok(());
            }
            let is_clear = !whiteout::is_suspect(entry.kind)
                && entry.kind != FileType::Unknown
                && !is_impure
                && !self.layers.must_look_up(entry.kind);
            match Numbers::of(device, entry.ino).filter(|_| is_clear) {
                Some(ino) => entries.push(entry.name, entry.kind, ino),
                None => unclear.push(Name::new(entry.name)?.to_buf()),
            }
            Ok(())
        };
        unlisted.list(&self.layers.fds, visit)?;
        Ok(unclear)
    }

    /// Adds entries whose number only a lookup tells: what is a directory of
    /// the upper, or may have come from a lower.
    fn look_up_all(&self, inode: &Arc<Inode>, names: Vec<NameBuf>, entries: &mut Entries) -> Result<()> {
        for name in names {
            if let (_, Some(child)) = self.referred(inode, name.as_name())? {
                entries.push(name.as_name().bytes(), child.inode.kind, child.inode.number());
            }
        }
        Ok(())
    }

    /// Looks up a listed entry, for a listing with attributes; `None` if it is
    /// gone. The kernel then refers to the node.
    ///
    /// # Errors
    /// What the layers gave.
    pub fn lookup_listed(&self, parent: NodeId, entry: &ListedEntry<'_>) -> Result<Option<Entry>> {
        let parent = self.inode(parent)?;
        let Ok(name) = Name::new(entry.name) else { return Ok(None) };
        let child: Option<Child> = self.child(&parent, name)?;
        child.map(|child| self.entry(&child)).transpose()
    }
}

/// Lists what a map knows the numbers of; the other names are given back.
fn list_map(map: &NameMap, entries: &mut Entries) -> Vec<NameBuf> {
    let mut unclear = Vec::new();
    for shown in map.shown() {
        match shown.number {
            Some(number) => entries.push(shown.name.bytes(), shown.kind, number),
            None => unclear.push(shown.name.to_buf()),
        }
    }
    unclear
}
