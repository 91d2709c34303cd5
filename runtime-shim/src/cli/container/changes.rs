//! What a container changed: `runion diff CONTAINER`, and what `commit` reads.
//!
//! The upper alone is read, and of the image what the upper names; of the driver
//! `dir` the whole copy.

use layerstore::store::{Image, InUse, Store};
use layerstore::upper::{self, Form, Upper};

use super::find;
use crate::container::{Container, Driver, Locked, Record};
use crate::failure::{Context, FAILED, Failure, Result};
use crate::output;
use crate::reach;
use crate::rootfs::copy;
use crate::sandbox::identity::Plan;
use crate::sandbox::{Identity, with_ids_of_a_try};

/// A container's changes, while nobody starts or removes it.
pub struct Changes<'c> {
    /// Where they are.
    pub upper: Upper,
    _locked: Option<Locked<'c>>,
}

impl<'c> Changes<'c> {
    /// All of them, on disk. Of a container that runs they may go on changing.
    pub fn of(container: &'c Container, record: &Record) -> Result<Changes<'c>> {
        let plan = Plan::new(Identity::Root)?;
        let locked = match record.state.status.is_up() {
            true => {
                reach::flush(container)?;
                None
            }
            false => Some(container.lock()?),
        };
        let copied = match record.config.driver {
            Driver::Dir => copy::form(container, record, &plan)?,
            Driver::Fuse | Driver::Kernel => None,
        };
        let form = copied.unwrap_or_else(|| Form::Union(plan.marks()));
        Ok(Changes { upper: Upper { path: container.upper(), form }, _locked: locked })
    }
}

/// The image of a container; nobody removes it meanwhile.
pub fn image(store: &Store, record: &Record) -> Result<Option<(Image, InUse)>> {
    let Some(image) = &record.config.image else { return Ok(None) };
    let image = store.find(&image.id)?;
    let held = store.hold(image.id())?;
    Ok(Some((image, held)))
}

/// With the rights over files that the container has: to an ordinary user some
/// are closed that belong to its ids.
pub fn with_its_ids(work: impl FnOnce() -> Result<()>) -> Result<u8> {
    let work = || work().map_err(|failure| failure.code(FAILED));
    if rustix::process::geteuid().is_root() {
        return work().map(|()| 0);
    }
    // It says itself what goes wrong.
    with_ids_of_a_try(work).map(|done| if done { 0 } else { FAILED })
}

/// Prints the changes of the container that is meant.
pub fn print(store: &Store, text: &str) -> Result<u8> {
    let (container, record) = find::container(store, text)?;
    let changes = Changes::of(&container, &record)?;
    let image = image(store, &record)?;
    with_its_ids(|| {
        let text = match (&image, &record.config.rootfs) {
            (Some((image, _)), _) => {
                let tree = store.tree(&image.record.layers)?;
                let mut text = Vec::new();
                for change in upper::changes(&changes.upper, &tree)? {
                    text.extend([change.kind.letter() as u8, b' ']);
                    text.extend(change.path);
                    text.push(b'\n');
                }
                text
            }
            (None, Some(dir)) => {
                let lowers = std::slice::from_ref(dir);
                let found =
                    unionfs::changes::list(&changes.upper.path, lowers, Plan::new(Identity::Root)?.marks());
                crate::commit::list(&found.context(|| "cannot list the changes".to_owned())?)
            }
            (None, None) => return Err(Failure::new("the container has neither an image nor a directory")),
        };
        output::print_bytes(&text)
    })
}
