//! `runion prune`.

use std::io::{BufRead, Write};

use clap::Args;
use layerstore::error::Kind;
use layerstore::store::Store;

use super::filter::{Filter, Known};
use super::remove::names_of;
use crate::failure::{Failure, Result};
use crate::output::{self, size};

/// Remove images without a name, and what no image needs
#[derive(Args)]
#[command(after_help = "Filters: until=MOMENT (24h, 2024-05-06, …), label=KEY[=VALUE], label!=KEY[=VALUE]")]
pub struct Prune {
    /// Remove all images that nothing uses, with their names
    #[arg(long, short)]
    all: bool,

    /// Do not ask
    #[arg(long, short)]
    force: bool,

    /// Remove only images of which this is true
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

impl Prune {
    /// Asks, removes, and says what.
    pub fn run(self, store: &Store) -> Result<u8> {
        let filter = Filter::parse(store, &self.filter, &["until", "label", "label!"])?;
        if !self.force && !self.ask()? {
            return output::print("Total reclaimed space: 0B\n").map(|()| 0);
        }
        let mut said = String::new();
        let unused = Known::all(store)?.into_iter().filter(|known| self.all || known.image.names.is_empty());
        for known in unused.filter_map(|known| filter.apply(known)) {
            match store.remove_image(known.image.id()) {
                Ok(()) => {
                    said.extend(names_of(&known.image).iter().map(|name| format!("untagged: {name}\n")));
                    said.push_str(&format!("deleted: {}\n", known.image.id()));
                }
                // In use, or gone by itself: neither is anybody's mistake.
                Err(error) if matches!(error.kind(), Kind::InUse | Kind::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let collected = store.collect()?;
        said.extend(collected.layers.iter().map(|layer| format!("deleted: {layer}\n")));
        if !said.is_empty() {
            output::print(&format!("Deleted Images:\n{said}\n"))?;
        }
        output::print(&format!("Total reclaimed space: {}\n", size::human_sum(collected.bytes)))?;
        Ok(0)
    }

    fn ask(&self) -> Result<bool> {
        let what = match self.all {
            true => "all images that nothing uses",
            false => "all dangling images",
        };
        let asking = |error| Failure::failed(format!("cannot ask: {error}"));
        let mut screen = std::io::stdout();
        write!(screen, "WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] ")
            .and_then(|()| screen.flush())
            .map_err(output::unwritten)?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map_err(asking)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}
