//! The commands about networks: one verb a file, in docker's words.
//!
//! Exit codes: 0, 1 for a failure, 125 for a command line that means nothing.

mod connect;
mod create;
pub mod inspect;
mod list;
pub mod prune;
mod remove;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::image::open_store;
use crate::events;
use crate::failure::Result;
use crate::network::Network;

/// Manage networks
#[derive(Subcommand)]
pub enum Grouped {
    Connect(connect::Connect),
    Create(create::Create),
    Disconnect(connect::Disconnect),
    Inspect(super::inspect::OfKind),
    #[command(visible_alias = "list")]
    Ls(list::List),
    Prune(prune::Prune),
    #[command(visible_alias = "remove")]
    Rm(remove::Remove),
}

impl Grouped {
    /// Runs the command over the networks of the store in `root`, or the user's
    /// own.
    pub fn run(self, root: Option<PathBuf>) -> Result<u8> {
        let store = open_store(root)?;
        let networks = || crate::network::Networks::open(store.root());
        match self {
            Grouped::Connect(arguments) => arguments.run(&store),
            Grouped::Create(arguments) => arguments.run(&store),
            Grouped::Disconnect(arguments) => arguments.run(&store),
            Grouped::Inspect(arguments) => arguments.run(&store, super::inspect::Kind::Network),
            Grouped::Ls(arguments) => arguments.run(&networks()?),
            Grouped::Prune(arguments) => arguments.run(&store),
            Grouped::Rm(arguments) => arguments.run(&store),
        }
    }
}

/// Tells what happened to a network.
pub fn tell(store: &Path, network: &Network, action: &str, container: Option<&str>) {
    let mut attributes = vec![("name", network.name.as_str()), ("type", "bridge")];
    attributes.extend(container.map(|id| ("container", id)));
    events::note(store, events::Kind::Network, action, &network.id, &attributes);
}
