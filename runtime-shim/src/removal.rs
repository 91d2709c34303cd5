//! Removing containers, and undoing what killed ones left.

use std::fs;
use std::path::Path;

use crate::container::{
    Container, Containers, FILE as RECORD, Lifetime, Locked, Record, Status, Wish, absent_is_fine,
};
use crate::events;
use crate::failure::{Context, Failure, Result};
use crate::state;
use crate::volume::Volumes;

/// Removes a container that is over ([`Record::is_over`]).
///
/// Its record goes last: whoever finds one that says so goes on with the
/// removal ([`crate::settle`]).
pub fn remove(locked: &Locked<'_>, record: &Record) -> Result<()> {
    let container = locked.container();
    let context = || format!("cannot remove the container {}", record.id);
    locked.update(|record| record.state.status = Status::Removing)?;
    Containers::open(container.store())?.give_name_up(&record.name, &record.id)?;
    if record.config.lifetime == Lifetime::Removed {
        // What nobody named goes with who alone had it.
        remove_volumes(container.store(), record)?;
    }
    let mut parts = Vec::new();
    for entry in fs::read_dir(container.dir()).context(context)? {
        let entry = entry.context(context)?;
        if entry.file_name() != RECORD && entry.file_name() != "lock" {
            parts.push(entry.path());
        }
    }
    with_all_ids(|| parts.iter().try_for_each(|part| state::remove(part)), context)?;
    absent_is_fine(fs::remove_file(container.dir().join(RECORD))).context(context)?;
    events::of_container(container.store(), record, "destroy", &[]);
    remove_directory(container.dir())
}

/// Removes a container that was made for one start which failed; what that
/// left is undone first.
pub fn discard(container: &Container) -> Result<()> {
    loop {
        match crate::settle::lock(container) {
            Ok((locked, record)) if record.is_over() => return remove(&locked, &record),
            // Its monitor is ending at this moment.
            Ok(_) => {}
            // It is gone by now.
            Err(_) if !container.dir().exists() => return Ok(()),
            Err(failure) => return Err(failure),
        }
        container.await_end()?;
    }
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

/// Removes a container's or a volume's directory.
pub fn remove_directory(dir: &Path) -> Result<()> {
    with_all_ids(|| state::remove(dir), || format!("cannot remove {}", dir.display()))
}

/// Does something to files that may belong to ids which only a user namespace of
/// the caller's has.
fn with_all_ids(work: impl FnOnce() -> Result<()>, context: impl Fn() -> String) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return work();
    }
    match crate::sandbox::with_ids_of_a_try(work)? {
        true => Ok(()),
        false => Err(Failure::failed(context())),
    }
}
