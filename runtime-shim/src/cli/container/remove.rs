//! `runion rm`.

use clap::Args;
use layerstore::store::Store;

use super::{find, stop};
use crate::container::{Containers, Status};
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
            let record = crate::settle::read(&container)?;
            if record.state.status.is_up() {
                if !self.force {
                    let what = match record.state.status {
                        Status::Paused => "paused",
                        Status::Restarting => "restarting",
                        _ => "running",
                    };
                    return Err(Failure::as_docker(format!(
                        "You cannot remove a {what} container {}. Stop the container before attempting removal or \
                         force remove",
                        record.id
                    )));
                }
                stop::stop(&container, Some("KILL"), Some(-1))?;
            }
            let locked = match container.lock() {
                Ok(locked) => locked,
                // It went with its end.
                Err(_) if !container.dir().exists() => return Ok(()),
                Err(failure) => return Err(failure),
            };
            let record = locked.read()?;
            if record.state.status.is_up() {
                return Err(Failure::as_docker(format!("container {} was started again", record.id)));
            }
            removal::remove(&locked, &record)?;
            match self.volumes {
                true => removal::remove_volumes(store.root(), &record),
                false => Ok(()),
            }
        })
    }
}
