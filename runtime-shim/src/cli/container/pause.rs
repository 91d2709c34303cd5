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
            hold(&container, By::User)
        })
    }
}

/// Who holds a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A user, until he lets it go on.
    User,
    /// A command that has proven to be its [`Holder`](crate::container::Holder): should
    /// it be killed, the next one lets the container go on.
    Command,
}

/// Holds one.
pub fn hold(container: &Container, by: By) -> Result<()> {
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
        record.state.is_held = by == By::Command;
        // A command does not for long.
        if by == By::User {
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
