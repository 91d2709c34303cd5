//! `runion system …`: about the host rather than about images or containers.

mod check;

use clap::Subcommand;

use crate::failure::Result;

/// Look at what containers need of this host
#[derive(Subcommand)]
pub enum System {
    Check(check::Check),
}

impl System {
    /// Runs it.
    pub fn run(self) -> Result<u8> {
        match self {
            System::Check(arguments) => arguments.run(),
        }
    }
}
