//! Directory listings: the merged names, as they were when it was opened.
//!
//! Positions are hashes of the names. The kernel caches listings, and goes on
//! from a position with a handle that has listed nothing yet, perhaps after
//! names went away (`rm -r` does it): counting would skip as many others.

use std::hash::BuildHasher;
use std::os::fd::AsFd;

use foldhash::quality::FixedState;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::lookup::Child;
use super::{Entry, dir_of};
use crate::Union;
use crate::error::Result;
use crate::inode::number::Numbers;
use crate::inode::{Dir, Inode, NodeId, ROOT, Trait};
use crate::name::{Name, NameBuf};
use crate::stack::names::{LowerSlot, Slot, UpperSlot};
use crate::stack::real::RealDir;
use crate::sync::Arc;
use crate::sys::at;

/// One name of a listing.
pub struct ListedEntry {
    /// The name; `.` and `..` are the first two.
    pub name: Box<[u8]>,
    /// Its type.
    pub kind: FileType,
    /// Its inode number, the same that stat gives.
    pub ino: u64,
    /// Its position: reading goes on behind it with this offset.
    pub position: u64,
}

/// The positions of `.` and `..`; what is in the directory comes after.
const DOTS: [u64; 2] = [1, 2];

impl ListedEntry {
    fn new(name: &[u8], kind: FileType, ino: u64) -> ListedEntry {
        // 62 bits: positions are signed for the callers, and some add to them.
        let hash = FixedState::default().hash_one(name) >> 2;
        let position = match name {
            b"." => DOTS[0],
            b".." => DOTS[1],
            _ => hash.max(DOTS[1] + 1),
        };
        ListedEntry { name: name.into(), kind, ino, position }
    }
}

/// A directory's names at one moment.
pub struct Entries(Vec<ListedEntry>);

impl Entries {
    fn new(mut entries: Vec<ListedEntry>) -> Entries {
        entries.sort_unstable_by(|a, b| (a.position, &a.name).cmp(&(b.position, &b.name)));
        let mut last = 0;
        for entry in &mut entries {
            // Two names with one hash: as unlikely as it is harmless.
            entry.position = entry.position.max(last + 1);
            last = entry.position;
        }
        Entries(entries)
    }

    /// What comes behind a position, 0 being the start.
    pub fn from_offset(&self, offset: u64) -> &[ListedEntry] {
        let start = self.0.partition_point(|entry| entry.position <= offset);
        self.0.get(start..).unwrap_or_default()
    }
}

impl Union {
    /// Lists a directory.
    ///
    /// # Errors
    /// `ENOTDIR`, or what the layers gave.
    pub fn list(&self, id: NodeId) -> Result<Entries> {
        let inode = self.inode(id)?;
        let dir = dir_of(&inode)?;
        let (own, above) = self.own_and_parent(&inode)?;
        let mut entries = vec![
            ListedEntry::new(b".", FileType::Directory, own),
            ListedEntry::new(b"..", FileType::Directory, above),
        ];
        let names = self.read_names(dir)?;
        let merged = dir.merged();
        match (&*names, merged.top()) {
            (Some(map), _) => {
                let shown = map.iter().filter_map(|(name, slot)| Some((name, slot, slot.visible()?)));
                for (name, slot, kind) in shown {
                    entries.push(ListedEntry::new(name.bytes(), kind, layer_of(slot)));
                }
                drop(names);
                self.number_entries(&inode, dir, &mut entries)?;
            }
            (None, Some(only)) => {
                drop(names);
                self.list_only(&inode, only, &mut entries)?;
            }
            (None, None) => return Err(Errno::NOENT.into()),
        }
        Ok(Entries::new(entries))
    }

    fn own_and_parent(&self, inode: &Arc<Inode>) -> Result<(u64, u64)> {
        let ino = |inode: &Inode| match inode.id {
            ROOT => Ok(self.number(&self.stat(inode)?)),
            id => Ok::<_, crate::Error>(id),
        };
        let parent = dir_of(inode)?.link.read().as_ref().map(|link| link.parent.clone());
        Ok((ino(inode)?, ino(parent.as_ref().unwrap_or(inode))?))
    }

    /// Lists a directory of one layer: its numbers come with the names.
    fn list_only(
        &self,
        inode: &Arc<Inode>,
        only: &Arc<RealDir>,
        entries: &mut Vec<ListedEntry>,
    ) -> Result<()> {
        let fd = only.fd(&self.layers.fds)?;
        let device = self.layers.device(&at::stat_fd(&fd)?);
        let is_impure = only.layer == 0 && self.traits(inode)?.has(Trait::Impure);
        let mut suspects = Vec::new();
        at::list(fd.as_fd(), |entry| -> Result<()> {
            use crate::ondisk::whiteout::{self, NameMeaning};
            if whiteout::meaning(entry.name) != NameMeaning::Entry {
                return Ok(());
            }
            let is_clear = !whiteout::is_suspect(entry.kind)
                && entry.kind != FileType::Unknown
                && !is_impure
                && !self.layers.must_look_up(entry.kind);
            match Numbers::of(device, entry.ino).filter(|_| is_clear) {
                Some(ino) => {
                    entries.push(ListedEntry::new(entry.name, entry.kind, ino));
                }
                None => suspects.push(Name::new(entry.name)?.to_buf()),
            }
            Ok(())
        })?;
        self.look_up_all(inode, suspects, entries)
    }

    /// Numbers the entries of a merged directory. What is a directory or came
    /// from a lower must be looked up to know its number; the rest is found by
    /// listing the layers once more.
    fn number_entries(&self, inode: &Arc<Inode>, dir: &Dir, entries: &mut Vec<ListedEntry>) -> Result<()> {
        let merged = dir.merged();
        let is_impure = merged.upper.is_some() && self.traits(inode)?.has(Trait::Impure);
        let mut numbers = std::collections::HashMap::new();
        for real in merged.upper.iter().chain(&merged.lowers) {
            let fd = real.fd(&self.layers.fds)?;
            let device = self.layers.device(&at::stat_fd(&fd)?);
            at::list(fd.as_fd(), |entry| -> Result<()> {
                numbers.insert((u64::from(real.layer), Box::from(entry.name)), (device, entry.ino));
                Ok(())
            })?;
        }
        let mut suspects = Vec::new();
        entries.retain_mut(|entry| {
            if matches!(&*entry.name, b"." | b"..") {
                return true;
            }
            let layer = entry.ino;
            let must_look = layer == 0 && (is_impure || entry.kind == FileType::Directory)
                || self.layers.must_look_up(entry.kind);
            let found = numbers.get(&(layer, entry.name.clone())).filter(|_| !must_look);
            match found.and_then(|(device, ino)| Numbers::of(*device, *ino)) {
                Some(ino) => {
                    entry.ino = ino;
                    true
                }
                None => {
                    suspects.extend(Name::new(&entry.name).map(Name::to_buf));
                    false
                }
            }
        });
        self.look_up_all(inode, suspects, entries)
    }

    fn look_up_all(
        &self,
        inode: &Arc<Inode>,
        names: Vec<NameBuf>,
        entries: &mut Vec<ListedEntry>,
    ) -> Result<()> {
        for name in names {
            if let Some(child) = self.referred(inode, name.as_name())? {
                entries.push(ListedEntry::new(name.as_name().bytes(), child.inode.kind, child.inode.id));
            }
        }
        Ok(())
    }

    /// Looks up a listed entry, for a listing with attributes; `None` if it is
    /// gone. The kernel then refers to the node.
    ///
    /// # Errors
    /// What the layers gave.
    pub fn lookup_listed(&self, parent: NodeId, entry: &ListedEntry) -> Result<Option<Entry>> {
        let parent = self.inode(parent)?;
        let Ok(name) = Name::new(&entry.name) else { return Ok(None) };
        let child: Option<Child> = self.child(&parent, name)?;
        child.map(|child| self.entry(&child)).transpose()
    }
}

/// The layer whose entry shows.
fn layer_of(slot: &Slot) -> u64 {
    match (&slot.upper, &slot.lower) {
        (UpperSlot::Entry(_), _) => 0,
        (_, LowerSlot::File(layer, _)) => u64::from(*layer),
        (_, LowerSlot::Dir(layers)) => layers.first().copied().map(u64::from).unwrap_or(0),
        (_, LowerSlot::Absent) => 0,
    }
}
