//! `runion kill`.

use clap::Args;
use layerstore::store::Store;

use super::{find, stop};
use crate::container::Status;
use crate::failure::{Failure, Result};
use crate::signal;

/// Send a signal to containers that run
#[derive(Args)]
pub struct Kill {
    /// The signal
    #[arg(long, short, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,

    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Kill {
    /// Signals each; back, after SIGKILL, when it has ended.
    pub fn run(self, store: &Store) -> Result<u8> {
        let number = signal::parse(&self.signal)?;
        find::each(&self.containers, |text| {
            let (container, record) = find::container(store, text)?;
            if !record.state.status.is_up() {
                return Err(Failure::as_docker(format!(
                    "Cannot kill container: {text}: Container {} is not running",
                    record.id
                )));
            }
            if number == libc::SIGKILL {
                let locked = container.lock()?;
                locked.update(|record| record.state.stopped = true)?;
                locked.unlock()?;
            }
            stop::send(&record, number)?;
            stop::killed(&container, &record, number);
            if number == libc::SIGKILL {
                if record.state.status == Status::Paused {
                    super::pause::resume(&container)?;
                }
                container.await_end()?;
            }
            Ok(())
        })
    }
}
