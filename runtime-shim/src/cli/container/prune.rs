//! `runion container prune`.

use clap::Args;
use layerstore::store::Store;

use crate::cli::filter::Pruned;
use crate::cli::{ask, space};
use crate::container::Containers;
use crate::failure::Result;
use crate::output::{self, size};
use crate::{removal, settle};

/// Remove all containers that do not run, and what killed commands left
#[derive(Args)]
#[command(after_help = "Filters: until=MOMENT (24h, 2024-05-06, …), label=KEY[=VALUE], label!=KEY[=VALUE]")]
pub struct Prune {
    /// Do not ask
    #[arg(long, short)]
    force: bool,

    /// Remove only containers of which this is true
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

impl Prune {
    /// Asks, removes, and says what.
    pub fn run(self, store: &Store) -> Result<u8> {
        let filter = Pruned::parse(&self.filter)?;
        if !self.force && !ask::whether("all stopped containers")? {
            return output::print("Total reclaimed space: 0B\n").map(|()| 0);
        }
        let (said, bytes) = prune(store, &filter)?;
        output::print(&format!("{said}Total reclaimed space: {}\n", size::human_sum(bytes)))?;
        Ok(0)
    }
}

/// Removes what does not run, and what killed commands left. Gives docker's words
/// about it, and its bytes.
pub fn prune(store: &Store, filter: &Pruned) -> Result<(String, u64)> {
    let containers = Containers::open(store.root())?;
    let (mut said, mut bytes) = (String::new(), 0);
    for container in containers.all()? {
        let record = match settle::read(&container) {
            Ok(record) => record,
            Err(_gone) if !container.dir().exists() => continue,
            Err(failure) => return Err(failure),
        };
        if record.state.status.is_up() || !filter.means(&record.created, &record.config.labels) {
            continue;
        }
        let locked = container.lock()?;
        let record = locked.read()?;
        // Started meanwhile, or about to be.
        if !record.is_over() || container.is_alive()? {
            continue;
        }
        bytes += space::on_disk(container.dir());
        removal::remove(&locked, &record)?;
        said.push_str(&format!("{}\n", record.id));
    }
    for dir in containers.abandoned()? {
        bytes += space::on_disk(&dir);
        removal::remove_directory(&dir)?;
    }
    if !said.is_empty() {
        said = format!("Deleted Containers:\n{said}\n");
    }
    Ok((said, bytes))
}
