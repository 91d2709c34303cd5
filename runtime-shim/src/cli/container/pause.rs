//! `runion pause`, `runion unpause`.

use clap::Args;
use layerstore::store::Store;

use super::find;
use crate::cgroup::Group;
use crate::container::{Container, Record, Status};
use crate::events;
use crate::failure::{Failure, Result};

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
            hold(&container)
        })
    }
}

/// Holds one.
pub fn hold(container: &Container) -> Result<()> {
    let locked = container.lock()?;
    let record = locked.read()?;
    match record.state.status {
        Status::Running => {}
        Status::Paused => {
            return Err(Failure::as_docker(format!("Container {} is already paused", record.id)));
        }
        _ => return Err(find::not_running(&record)),
    }
    group(&record)?.pause()?;
    let record = locked.update(|record| record.state.status = Status::Paused)?;
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
    let locked = container.lock()?;
    let record = locked.read()?;
    if record.state.status != Status::Paused {
        return Ok(());
    }
    group(&record)?.resume()?;
    let record = locked.update(|record| record.state.status = Status::Running)?;
    events::of_container(container.store(), &record, "unpause", &[]);
    Ok(())
}

fn group(record: &Record) -> Result<Group> {
    let group = record.state.cgroup.clone().and_then(|group| serde_json::from_value(group).ok());
    group.ok_or_else(|| {
        Failure::failed(format!("cannot hold the container {}: it has no cgroup", record.id))
            .hint("runion system check says which cgroups this host lets you have")
    })
}
