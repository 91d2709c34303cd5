//! A directory's names, locked: for one of them to be looked for, for all to be
//! shown, or for some to be changed. Here it is decided when all are listed.

use crate::Union;
use crate::error::Result;
use crate::inode::Dir;
use crate::inode::number::Numbers;
use crate::ondisk::marks::Opacity;
use crate::stack::listing::lower_opacity;
#[cfg(doc)]
use crate::stack::maps::KeptNames;
use crate::stack::names::{Merged, NameMap};
use crate::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};

/// A directory's names, and the directories they are of, at one moment.
pub(super) struct Known<'d> {
    /// The map, of a merged one.
    pub names: RwLockReadGuard<'d, Option<NameMap>>,
    /// What it is made of.
    pub merged: Arc<Merged>,
}

impl Union {
    /// A directory's names, read-locked, for one of them to be looked for: the map
    /// of a merged one is built if it is worth it.
    pub(super) fn names_to_look_in<'d>(&self, dir: &'d Dir) -> Result<Known<'d>> {
        let names = dir.names.read();
        let merged = dir.merged();
        if names.is_some() || !self.needs_map(&merged)? {
            return Ok(Known { names, merged });
        }
        drop(names);
        if !merged.is_merged() {
            return self.read_names(dir);
        }
        let worth = self.worth_listing(dir);
        if worth > 0 {
            self.list_names(dir, &mut dir.names.write(), worth)?;
        }
        let names = dir.names.read();
        let merged = dir.merged();
        Ok(Known { names, merged })
    }

    /// A directory's names, read-locked; merged ones have their map built. A
    /// copy-up that makes it a merged one meanwhile adds nothing to what shows.
    pub(super) fn read_names<'d>(&self, dir: &'d Dir) -> Result<Known<'d>> {
        loop {
            let names = dir.names.read();
            let merged = dir.merged();
            if names.is_some() || !self.needs_map(&merged)? {
                return Ok(Known { names, merged });
            }
            drop(names);
            self.list_names(dir, &mut dir.names.write(), usize::MAX)?;
        }
    }

    /// A directory's names, write-locked, for a few of them to be changed: the
    /// map of a merged one is built if it is worth it.
    pub(super) fn write_names<'d>(&self, dir: &'d Dir) -> Result<RwLockWriteGuard<'d, Option<NameMap>>> {
        let mut names = dir.names.write();
        let merged = dir.merged();
        if names.is_none() && self.needs_map(&merged)? {
            let worth = if merged.is_merged() { self.worth_listing(dir) } else { usize::MAX };
            self.list_names(dir, &mut names, worth)?;
        }
        Ok(names)
    }

    /// See [`KeptNames::worth_listing`]; more than is kept of all directories never
    /// is.
    fn worth_listing(&self, dir: &Dir) -> usize {
        dir.names.worth_listing().min(self.layers.maps.limit())
    }

    /// Builds the map of a directory that needs one, if it has at most so many
    /// names.
    fn list_names(&self, dir: &Dir, names: &mut Option<NameMap>, most: usize) -> Result<()> {
        let merged = dir.merged();
        if names.is_some() || most == 0 || !self.needs_map(&merged)? {
            return Ok(());
        }
        let mut merged = (*merged).clone();
        let before = merged.lowers.len();
        *names = NameMap::build(&mut merged, &self.layers, most, Numbers::of)?;
        if names.is_none() {
            return Ok(());
        }
        if merged.lowers.len() < before {
            // An opaque file was met; the upper may have come meanwhile.
            let mut now = dir.merged.write();
            let upper = now.upper.clone();
            *now = Arc::new(Merged { upper, lowers: merged.lowers });
        }
        dir.names.listed();
        self.layers.maps.built(&dir.names);
        Ok(())
    }

    /// Whether a directory's names are more than one layer's listing: it is
    /// merged, or a lower's that may hold xattr whiteouts, which look like files.
    fn needs_map(&self, merged: &Merged) -> Result<bool> {
        match merged.lowers.first().filter(|_| !merged.is_merged()) {
            Some(only) => Ok(lower_opacity(only, &self.layers)? == Opacity::XattrWhiteouts),
            None => Ok(merged.is_merged()),
        }
    }
}
