//! `runion volume prune`.

use clap::Args;

use super::filter::Filter;
use crate::cli::{ask, space};
use crate::failure::Result;
use crate::output::{self, size};
use crate::volume::Volumes;

/// Remove volumes that nobody named and no container has
#[derive(Args)]
#[command(after_help = "Filters: label=KEY[=VALUE], label!=KEY[=VALUE]")]
pub struct Prune {
    /// Remove those too that have a name
    #[arg(long, short)]
    all: bool,

    /// Remove only volumes of which this is true
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,

    /// Do not ask
    #[arg(long, short)]
    force: bool,
}

impl Prune {
    /// Asks, removes, and says what.
    pub fn run(self, volumes: &Volumes) -> Result<u8> {
        let filter = filter(&self.filter)?;
        let what = match self.all {
            true => "all local volumes not used by at least one container",
            false => "anonymous local volumes not used by at least one container",
        };
        if !self.force && !ask::whether(what)? {
            return output::print("Total reclaimed space: 0B\n").map(|()| 0);
        }
        let (said, bytes) = prune(volumes, &filter, self.all)?;
        output::print(&format!("{said}Total reclaimed space: {}\n", size::human_sum(bytes)))?;
        Ok(0)
    }
}

/// What was written as filters of volumes to prune.
pub fn filter(written: &[String]) -> Result<Filter> {
    Filter::parse(written, &["label", "label!"])
}

/// Removes volumes that no container has: those without a name, or all. Gives
/// docker's words about them, and their bytes.
pub fn prune(volumes: &Volumes, filter: &Filter, all: bool) -> Result<(String, u64)> {
    let (mut said, mut bytes) = (String::new(), 0);
    let users = volumes.users()?;
    for volume in volumes.all()? {
        let is_meant = all || volume.anonymous;
        if !is_meant || users.contains_key(&volume.name) || !filter.means(&volume, false) {
            continue;
        }
        let used = space::of(&volumes.data(&volume.name));
        // A container may just have come to have it.
        match volumes.remove(&volume.name) {
            Ok(()) => {
                bytes += used;
                said.push_str(&format!("{}\n", volume.name));
            }
            Err(_) if volumes.users()?.contains_key(&volume.name) => {}
            Err(failure) => return Err(failure),
        }
    }
    if !said.is_empty() {
        said = format!("Deleted Volumes:\n{said}\n");
    }
    Ok((said, bytes))
}
