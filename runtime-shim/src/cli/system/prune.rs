//! `runion system prune`.

use clap::Args;
use layerstore::store::Store;

use crate::cli::filter::Pruned;
use crate::cli::{ask, container, image, network, volume};
use crate::failure::{Failure, Result};
use crate::output::{self, size};
use crate::volume::Volumes;

/// Remove all that nothing uses: containers that do not run, networks, images
#[derive(Args)]
#[command(after_help = "Filters: until=MOMENT (24h, 2024-05-06, …), label=KEY[=VALUE], label!=KEY[=VALUE]")]
pub struct Prune {
    /// Images with a name too, if no container is of them
    #[arg(long, short)]
    all: bool,

    /// Remove only objects of which this is true
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,

    /// Do not ask
    #[arg(long, short)]
    force: bool,

    /// Anonymous volumes too
    #[arg(long)]
    volumes: bool,
}

impl Prune {
    /// Asks, removes, and says what.
    pub fn run(self, store: &Store) -> Result<u8> {
        if self.volumes && self.filter.iter().any(|filter| filter.starts_with("until=")) {
            return Err(Failure::as_docker("The \"until\" filter is not supported with \"--volumes\""));
        }
        let pruned = Pruned::parse(&self.filter)?;
        let of_images = image::prune::filter(store, &self.filter)?;
        if !self.force && !ask::whether_all(&self.what())? {
            return output::print("Total reclaimed space: 0B\n").map(|()| 0);
        }
        let (said, mut bytes) = container::prune::prune(store, &pruned)?;
        output::print(&said)?;
        output::print(&network::prune::prune(store, &pruned)?)?;
        if self.volumes {
            let filter = volume::prune::filter(&self.filter)?;
            let (said, more) = volume::prune::prune(&Volumes::open(store.root()), &filter, false)?;
            output::print(&said)?;
            bytes += more;
        }
        let (said, more) = image::prune::prune(store, &of_images, self.all)?;
        bytes += more;
        output::print(&format!("{said}Total reclaimed space: {}\n", size::human_sum(bytes)))?;
        Ok(0)
    }

    fn what(&self) -> Vec<&'static str> {
        let volumes = self.volumes.then_some("all anonymous volumes not used by at least one container");
        let images = match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        };
        let always = ["all stopped containers", "all networks not used by at least one container"];
        always.into_iter().chain(volumes).chain([images]).collect()
    }
}
