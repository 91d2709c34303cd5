//! `runion create`.

use clap::Args;
use layerstore::store::Store;

use super::make::{Starter, Words};
use crate::failure::{Failure, Result};
use crate::output;

/// Make a container, and do not start it
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct Create {
    #[command(flatten)]
    words: Words,
}

impl Create {
    /// Makes it and prints its id.
    pub fn run(self, store: &Store) -> Result<u8> {
        let container = self.words.make(store, Starter::Stays).map_err(Failure::before_a_command)?;
        output::print(&format!("{}\n", container.id()))?;
        Ok(0)
    }
}
