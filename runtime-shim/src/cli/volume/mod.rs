//! The commands about volumes: one verb a file, in docker's words.
//!
//! Exit codes: 0, 1 for a failure, 125 for a command line that means nothing.

mod create;
mod filter;
pub mod inspect;
mod list;
pub mod prune;
mod remove;

use std::path::PathBuf;

use clap::Subcommand;

use super::image::open_store;
use crate::failure::Result;

/// Manage volumes
#[derive(Subcommand)]
pub enum Volumes {
    Create(create::Create),
    Inspect(super::inspect::OfKind),
    #[command(visible_alias = "list")]
    Ls(list::List),
    Prune(prune::Prune),
    #[command(visible_alias = "remove")]
    Rm(remove::Remove),
}

impl Volumes {
    /// Runs the command over the volumes of the store in `root`, or the user's
    /// own.
    pub fn run(self, root: Option<PathBuf>) -> Result<u8> {
        let store = open_store(root)?;
        let volumes = crate::volume::Volumes::open(store.root());
        match self {
            Volumes::Create(arguments) => arguments.run(&volumes),
            Volumes::Inspect(arguments) => arguments.run(&store, super::inspect::Kind::Volume),
            Volumes::Ls(arguments) => arguments.run(&volumes),
            Volumes::Prune(arguments) => arguments.run(&volumes),
            Volumes::Rm(arguments) => arguments.run(&volumes),
        }
    }
}
