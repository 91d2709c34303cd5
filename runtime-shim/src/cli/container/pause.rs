//! `runion pause`, `runion unpause`.

use clap::Args;
use layerstore::store::Store;

use super::find;
use crate::container::{Container, Status};
use crate::failure::{Failure, Result};
use crate::{events, settle};

/// Hold all processes of containers
#[derive(Args)]
pub struct Pause {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Let processes of held containers go on
#[derive(Args)]
pub struct Unpause {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Pause {
    /// Holds each.
    pub fn run(self, store: &Store) -> Result<u8> {
        find::each(&self.containers, |text| {
            let (container, _) = find::container(store, text)?;
            hold(&container, None)
        })
    }
}

/// Holds one, for a user or for a command while it lasts: should that be killed,
/// the next one lets the container go on.
pub fn hold(container: &Container, holder: Option<(i32, u64)>) -> Result<()> {
    let locked = container.lock()?;
    let record = locked.read()?;
    match record.state.status {
        Status::Running => {}
        Status::Paused => {
            return Err(Failure::as_docker(format!("Container {} is already paused", record.id)));
        }
        _ => return Err(find::not_running(&record)),
    }
    let group = settle::group(&record)?;
    let record = locked.update(|record| {
        record.state.status = Status::Paused;
        record.state.holder = holder;
        // What a command holds, it does not for long.
        if holder.is_none() {
            record.state.unwatched();
        }
    })?;
    if let Err(failure) = group.pause() {
        locked.update(|record| record.state.status = Status::Running)?;
        return Err(failure);
    }
    events::of_container(container.store(), &record, "pause", &[]);
    Ok(())
}

impl Unpause {
    /// Lets each go on.
    pub fn run(self, store: &Store) -> Result<u8> {
        find::each(&self.containers, |text| {
            let (container, record) = find::container(store, text)?;
            match record.state.status {
                Status::Paused => resume(&container),
                _ => Err(Failure::as_docker(format!("Container {} is not paused", record.id))),
            }
        })
    }
}

/// Lets one go on.
pub fn resume(container: &Container) -> Result<()> {
    settle::resume(&container.lock()?)
}
