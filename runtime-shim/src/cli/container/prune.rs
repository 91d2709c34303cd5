//! `runion container prune`.

use clap::Args;
use layerstore::store::Store;

use crate::cli::{ask, space};
use crate::container::{Containers, Record};
use crate::failure::{Failure, Result};
use crate::output::{self, size, time};
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
        let filters = filters(&self.filter)?;
        if !self.force && !ask::whether("all stopped containers")? {
            return output::print("Total reclaimed space: 0B\n").map(|()| 0);
        }
        let (said, bytes) = prune(store, &filters)?;
        output::print(&format!("{said}Total reclaimed space: {}\n", size::human_sum(bytes)))?;
        Ok(0)
    }
}

/// Removes what does not run, and what killed commands left. Gives docker's words
/// about it, and its bytes.
pub fn prune(store: &Store, filters: &[Filter]) -> Result<(String, u64)> {
    let containers = Containers::open(store.root())?;
    let (mut said, mut bytes) = (String::new(), 0);
    for container in containers.all()? {
        let record = match settle::read(&container) {
            Ok(record) => record,
            Err(_gone) if !container.dir().exists() => continue,
            Err(failure) => return Err(failure),
        };
        if record.state.status.is_up() || !filters.iter().all(|filter| filter.holds(&record)) {
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

/// What was written as filters of containers to prune.
pub fn filters(written: &[String]) -> Result<Vec<Filter>> {
    let now = time::now();
    written
        .iter()
        .map(|filter| match filter.split_once('=') {
            Some(("until", moment)) => Ok(Filter::Until(time::moment(moment, now)?)),
            Some(("label", label)) => Ok(Filter::Label { label: label.to_owned(), wanted: true }),
            Some(("label!", label)) => Ok(Filter::Label { label: label.to_owned(), wanted: false }),
            _ => Err(Failure::as_docker(format!("Invalid filter '{filter}'"))),
        })
        .collect()
}

/// A condition.
pub enum Filter {
    /// Made before this second.
    Until(i64),
    /// With such a label, or without.
    Label {
        /// `KEY` or `KEY=VALUE`.
        label: String,
        /// Whether it has to be there.
        wanted: bool,
    },
}

impl Filter {
    fn holds(&self, record: &Record) -> bool {
        match self {
            Filter::Until(moment) => {
                time::parse(Some(&record.created)).is_some_and(|created| created < *moment)
            }
            Filter::Label { label, wanted } => {
                let labels = &record.config.labels;
                let has = match label.split_once('=') {
                    Some((key, value)) => labels.get(key).is_some_and(|known| known == value),
                    None => labels.contains_key(label),
                };
                has == *wanted
            }
        }
    }
}
