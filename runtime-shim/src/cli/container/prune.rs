//! `runion container prune`.

use clap::Args;
use layerstore::store::Store;

use crate::cli::ask;
use crate::container::{Containers, Record};
use crate::failure::{Context, Failure, Result};
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
        let filters = self.filters()?;
        if !self.force && !ask::whether("all stopped containers")? {
            return output::print("Total reclaimed space: 0B\n").map(|()| 0);
        }
        let containers = Containers::open(store.root())?;
        let (mut said, mut bytes) = (String::new(), 0);
        for container in containers.all()? {
            let record = settle::read(&container)?;
            if record.state.status.is_up() || !filters.iter().all(|filter| filter.holds(&record)) {
                continue;
            }
            let locked = container.lock()?;
            let record = locked.read()?;
            // Started meanwhile, or about to be.
            if record.state.status.is_up() || container.is_alive()? {
                continue;
            }
            bytes += space(container.dir())?;
            removal::remove(&locked, &record)?;
            said.push_str(&format!("{}\n", record.id));
        }
        for dir in containers.abandoned()? {
            bytes += space(&dir)?;
            removal::remove_directory(&dir)?;
        }
        if !said.is_empty() {
            output::print(&format!("Deleted Containers:\n{said}\n"))?;
        }
        output::print(&format!("Total reclaimed space: {}\n", size::human_sum(bytes)))?;
        Ok(0)
    }

    fn filters(&self) -> Result<Vec<Filter>> {
        let now = time::now();
        self.filter
            .iter()
            .map(|filter| match filter.split_once('=') {
                Some(("until", moment)) => Ok(Filter::Until(time::moment(moment, now)?)),
                Some(("label", label)) => Ok(Filter::Label { label: label.to_owned(), wanted: true }),
                Some(("label!", label)) => Ok(Filter::Label { label: label.to_owned(), wanted: false }),
                _ => Err(Failure::as_docker(format!("Invalid filter '{filter}'"))),
            })
            .collect()
    }
}

/// A condition.
enum Filter {
    Until(i64),
    Label { label: String, wanted: bool },
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

/// Bytes of all files of a directory.
fn space(dir: &std::path::Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let context = || format!("cannot look at {}", dir.display());
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).context(context)? {
        let entry = entry.context(context)?;
        let Ok(stat) = entry.metadata() else { continue };
        bytes += stat.blocks() * 512;
        // What another user's container keeps to itself is not counted.
        if stat.is_dir() {
            bytes += space(&entry.path()).unwrap_or(0);
        }
    }
    Ok(bytes)
}
