//! What must go on while a container runs: names are answered, connections are
//! passed on. A process of its own does it, where there is anything to do.

use std::time::Duration;

use super::dns::{self, Resolver, Sockets};
use super::relay::Relay;
use crate::failure::Result;

/// The services of one container.
#[derive(Default)]
pub struct Services {
    /// Its server of names.
    pub names: Option<(Sockets, Resolver)>,
    /// Its ports whose connections are passed on.
    pub relays: Vec<Relay>,
}

impl Services {
    /// Whether there is anything to do.
    pub fn are_needed(&self) -> bool {
        self.names.is_some() || !self.relays.is_empty()
    }

    /// Does it for as long as the process lives; comes back only when that is
    /// no longer possible. It makes threads: nothing may be forked afterwards.
    pub fn run(self) -> Result<()> {
        for relay in self.relays {
            relay.start()?;
        }
        match self.names {
            Some((sockets, resolver)) => dns::serve(&sockets, &resolver),
            None => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
        }
    }
}
