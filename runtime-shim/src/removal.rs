//! Removing containers, and undoing what killed ones left.

use std::fs;
use std::path::Path;

use crate::container::{Containers, Locked, Record, Wish, absent_is_fine};
use crate::failure::{Context, Result};
use crate::state;
use crate::volume::Volumes;

/// Removes a container that does not run: its record first, with which it is
/// gone for everybody, its name last.
pub fn remove(locked: &Locked<'_>, record: &Record) -> Result<()> {
    let container = locked.container();
    let context = || format!("cannot remove the container {}", record.id);
    let containers = Containers::open(container.store())?;
    // What is left of it if this is interrupted has no record and goes with the
    // next prune.
    absent_is_fine(fs::remove_file(container.dir().join("state.json"))).context(context)?;
    containers.give_name_up(&record.name, &record.id)?;
    remove_directory(container.dir())
}

/// Removes its anonymous volumes, as far as nobody else uses them.
pub fn remove_volumes(store: &Path, record: &Record) -> Result<()> {
    let volumes = Volumes::open(store);
    for wish in &record.config.mounts {
        let Wish::Volume { name, anonymous: true, .. } = wish else { continue };
        if volumes.present(name)?.is_some() {
            volumes.remove(name)?;
        }
    }
    Ok(())
}

/// Removes a container's directory. Files may belong to ids that only a user
/// namespace of the caller's has.
pub fn remove_directory(dir: &Path) -> Result<()> {
    let is_mapped = !rustix::process::geteuid().is_root();
    match is_mapped {
        false => state::remove(dir),
        true => crate::sandbox::with_ids_of_a_try(|| state::remove(dir)).map(|_done| ()),
    }
}
