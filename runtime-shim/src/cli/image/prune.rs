//! `runion prune`.

use clap::Args;
use layerstore::error::Kind;
use layerstore::store::Store;

use super::filter::{Filter, Known};
use super::remove::names_of;
use super::tell;
use super::users::Users;
use crate::cli::ask;
use crate::failure::Result;
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
        let filter = filter(store, &self.filter)?;
        let what = match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        };
        if !self.force && !ask::whether(what)? {
            return output::print("Total reclaimed space: 0B\n").map(|()| 0);
        }
        let (said, bytes) = prune(store, &filter, self.all)?;
        output::print(&format!("{said}Total reclaimed space: {}\n", size::human_sum(bytes)))?;
        Ok(0)
    }
}

/// What was written as filters of images to prune.
pub fn filter(store: &Store, written: &[String]) -> Result<Filter> {
    Filter::parse(store, written, &["until", "label", "label!"])
}

/// Removes images that no container is of: those without a name, or all; and
/// what no image needs. Gives docker's words about them, and their bytes.
pub fn prune(store: &Store, filter: &Filter, all: bool) -> Result<(String, u64)> {
    let users = Users::find(store)?;
    let mut said = String::new();
    let unused = Known::all(store)?
        .into_iter()
        .filter(|known| (all || known.image.names.is_empty()) && users.count(&known.image.id()) == 0);
    for known in unused.filter_map(|known| filter.apply(known)) {
        let id = known.image.id();
        match store.remove_unchanged(&known.image, || users.has_grown(store, &id)) {
            Ok(true) => {
                tell(store, "delete", &known.image.id(), None);
                said.extend(names_of(&known.image).iter().map(|name| format!("untagged: {name}\n")));
                said.push_str(&format!("deleted: {}\n", known.image.id()));
            }
            // Called something else by now: it is not what was to go.
            Ok(false) => {}
            // In use, or gone by itself: neither is anybody's mistake.
            Err(error) if matches!(error.kind(), Kind::InUse | Kind::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let collected = store.collect()?;
    said.extend(collected.layers.iter().map(|layer| format!("deleted: {layer}\n")));
    if !said.is_empty() {
        said = format!("Deleted Images:\n{said}\n");
    }
    Ok((said, collected.bytes))
}
