//! `runion restart`.

use clap::Args;
use layerstore::store::Store;

use super::{find, stop};
use crate::failure::Result;
use crate::{attach, events, monitor};

/// Stop containers, and start them again
#[derive(Args)]
pub struct Restart {
    /// Seconds until one is killed; its own, or 10
    #[arg(long, short, visible_alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,

    /// The signal that asks; its own, or SIGTERM
    #[arg(long, short, value_name = "SIGNAL")]
    signal: Option<String>,

    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Restart {
    /// Restarts each.
    pub fn run(self, store: &Store) -> Result<u8> {
        let signals = attach::block_signals()?;
        find::each(&self.containers, |text| {
            let (container, record) = find::container(store, text)?;
            stop::stop(&container, self.signal.as_deref(), self.time)?;
            monitor::start(&container, container.lock()?, monitor::Attach::No, signals)?;
            events::of_container(store.root(), &record, "restart", &[]);
            Ok(())
        })
    }
}
