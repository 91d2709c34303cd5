//! `runion rename`.

use clap::Args;
use layerstore::store::Store;

use super::find;
use crate::container::Containers;
use crate::events;
use crate::failure::{Failure, Result};
use crate::network::{self, Networks};

/// Give a container another name
#[derive(Args)]
pub struct Rename {
    /// Its name or id
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// What it is to be called
    #[arg(value_name = "NAME")]
    name: String,
}

impl Rename {
    /// Renames it.
    pub fn run(self, store: &Store) -> Result<u8> {
        let containers = Containers::open(store.root())?;
        let (container, _) = find::container(store, &self.container)?;
        let locked = container.lock()?;
        let old = locked.read()?.name;
        if old == self.name {
            return Err(Failure::as_docker("Renaming a container with the same name as its current name"));
        }
        containers.take_name(&self.name, container.id())?;
        let record = locked.update(|record| record.name.clone_from(&self.name))?;
        network::rename(&Networks::open(store.root())?, container.id(), &self.name)?;
        containers.give_name_up(&old, container.id())?;
        events::of_container(store.root(), &record, "rename", &[("oldName", &format!("/{old}"))]);
        Ok(0)
    }
}
