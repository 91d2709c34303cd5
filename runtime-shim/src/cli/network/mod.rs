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
use crate::failure::{Result, say};
use crate::network::{Network, Networks, diagnosis};

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
        let networks = || Networks::open(store.root());
        if rustix::process::geteuid().is_root() {
            restore_filters(&networks()?)?;
        }
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

/// Packet filters that somebody flushed with his own come back, where bridges
/// are in this namespace.
fn restore_filters(networks: &Networks) -> Result<()> {
    for network in diagnosis::restore(networks)? {
        say(&format!("runion: the packet filters of network {} were gone: they are back", network.name));
    }
    Ok(())
}

/// Tells what happened to a network.
pub fn tell(store: &Path, network: &Network, action: &str, container: Option<&str>) {
    let mut attributes = vec![("name", network.name.as_str()), ("type", "bridge")];
    attributes.extend(container.map(|id| ("container", id)));
    events::note(store, events::Kind::Network, action, &network.id, &attributes);
}
