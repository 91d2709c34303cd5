//! `runion network prune`.

use clap::Args;
use layerstore::store::Store;

use super::tell;
use crate::cli::ask;
use crate::cli::filter::Pruned;
use crate::container::Containers;
use crate::failure::Result;
use crate::monitor::where_bridges_are;
use crate::network::{self, Network, Networks};
use crate::output;
use crate::settle;

/// Remove all networks that no container is on
#[derive(Args)]
#[command(after_help = "Filters: until=MOMENT (24h, 2024-05-06, …), label=KEY[=VALUE], label!=KEY[=VALUE]")]
pub struct Prune {
    /// Do not ask
    #[arg(long, short)]
    force: bool,

    /// Remove only networks of which this is true
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

impl Prune {
    /// Asks, removes, and says what.
    pub fn run(self, store: &Store) -> Result<u8> {
        let filter = Pruned::parse(&self.filter)?;
        if !self.force && !ask::whether("all custom networks not used by at least one container")? {
            return Ok(0);
        }
        output::print(&prune(store, &filter)?)?;
        Ok(0)
    }
}

/// Removes networks that no container is on; gives docker's words about them.
pub fn prune(store: &Store, filter: &Pruned) -> Result<String> {
    let networks = Networks::open(store.root())?;
    sweep(store, &networks)?;
    let chosen = |network: &Network| filter.means(&network.created, &network.labels);
    let before = networks.existing()?;
    where_bridges_are(&networks, || networks.prune(&chosen).map(drop))?;
    let after = networks.existing()?;
    let removed: Vec<_> = before.into_iter().filter(|network| !after.contains(network)).collect();
    for network in &removed {
        tell(store.root(), network, "destroy", None);
    }
    // An ordinary user's networks are held by a process, which nobody needs now.
    let mut is_used = false;
    for network in &after {
        is_used |= !networks.leases(network)?.is_empty();
    }
    match is_used {
        true => {}
        false => network::holder::stop(&networks)?,
    }
    let names: String = removed.iter().map(|network| format!("{}\n", network.name)).collect();
    Ok(match names.is_empty() {
        true => names,
        false => format!("Deleted Networks:\n{names}\n"),
    })
}

/// Takes containers that are gone off their networks.
pub fn sweep(store: &Store, networks: &Networks) -> Result<()> {
    let containers = Containers::open(store.root())?;
    let is_alive = |id: &str| match containers.present(id) {
        Ok(Some(container)) => {
            // What a killed monitor left is undone by the reading.
            let is_up = settle::read(&container).is_ok_and(|record| record.state.status.is_up());
            // One that is just being started has a monitor.
            is_up || container.is_alive().unwrap_or(true)
        }
        Ok(None) => false,
        Err(_) => true,
    };
    // Nothing to do is the rule, and for an ordinary user it takes a process.
    let mut is_left = false;
    for network in networks.existing()? {
        is_left |= networks.leases(&network)?.iter().any(|lease| !is_alive(&lease.container));
    }
    match is_left {
        true => where_bridges_are(networks, || network::sweep(networks, &is_alive).map(drop)),
        false => Ok(()),
    }
}
