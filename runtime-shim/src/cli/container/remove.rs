//! `runion rm`.

use clap::Args;
use layerstore::store::Store;

use super::{find, stop};
use crate::container::{Container, Containers, Record, Status};
use crate::failure::{Failure, Result};
use crate::removal;

/// Remove containers, and what they changed
#[derive(Args)]
pub struct Remove {
    /// Kill those that run; do not mind what is not there
    #[arg(long, short)]
    force: bool,

    /// Remove their anonymous volumes too
    #[arg(long, short)]
    volumes: bool,

    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Remove {
    /// Removes each.
    pub fn run(self, store: &Store) -> Result<u8> {
        let containers = Containers::open(store.root())?;
        find::each(&self.containers, |text| {
            let Some(container) = containers.present(text)? else {
                return match self.force {
                    true => Ok(()),
                    false => Err(Failure::as_docker(format!("No such container: {text}"))),
                };
            };
            match self.remove(&container) {
                Ok(record) if self.volumes => removal::remove_volumes(store.root(), &record),
                Ok(_) => Ok(()),
                // It went with its end.
                Err(_) if !container.dir().exists() => Ok(()),
                Err(failure) => Err(failure),
            }
        })
    }

    /// Removes one, once nobody starts it, runs it or tidies up after it.
    fn remove(&self, container: &Container) -> Result<Record> {
        loop {
            let (locked, record) = crate::settle::lock(container)?;
            if record.is_over() && !container.is_alive()? {
                removal::remove(&locked, &record)?;
                return Ok(record);
            }
            if record.state.status.is_up() && !self.force {
                let what = match record.state.status {
                    Status::Paused => "paused",
                    Status::Restarting => "restarting",
                    _ => "running",
                };
                return Err(Failure::as_docker(format!(
                    "You cannot remove a {what} container {}. Stop the container before attempting removal or force \
                     remove",
                    record.id
                )));
            }
            drop(locked);
            if record.state.status.is_up() {
                stop::stop(container, Some("KILL"), Some(-1))?;
            }
            container.await_end()?;
        }
    }
}
