//! Removing containers, and undoing what killed ones left.

use std::fs;
use std::path::Path;

use crate::container::{Containers, Lifetime, Locked, Record, Wish, absent_is_fine};
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
    if record.config.lifetime == Lifetime::Removed {
        // What nobody named goes with who alone had it.
        remove_volumes(container.store(), record)?;
    }
    remove_directory(container.dir())
}

/// Removes its anonymous volumes, as far as nobody else uses them.
pub fn remove_volumes(store: &Path, record: &Record) -> Result<()> {
    let volumes = Volumes::open(store);
    let anonymous = |wish: &Wish| matches!(wish, Wish::Volume { anonymous: true, .. });
    if !record.config.mounts.iter().any(anonymous) {
        return Ok(());
    }
    let users = volumes.users()?;
    for wish in record.config.mounts.iter().filter(|wish| anonymous(wish)) {
        let Wish::Volume { name, .. } = wish else { continue };
        let is_used = users.get(name).is_some_and(|users| users.iter().any(|id| *id != record.id));
        if !is_used && volumes.present(name)?.is_some() {
            volumes.take_away(name)?;
        }
    }
    Ok(())
}

/// Removes a container's or a volume's directory. Files may belong to ids that only
/// a user
/// namespace of the caller's has.
pub fn remove_directory(dir: &Path) -> Result<()> {
    let is_mapped = !rustix::process::geteuid().is_root();
    match is_mapped {
        false => state::remove(dir),
        true => crate::sandbox::with_ids_of_a_try(|| state::remove(dir)).map(|_done| ()),
    }
}
