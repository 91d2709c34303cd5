//! `runion volume prune`.

use std::io::{BufRead, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use clap::Args;

use super::filter::Filter;
use crate::failure::{Failure, Result};
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
        let filter = Filter::parse(&self.filter, &["label", "label!"])?;
        if !self.force && !self.ask()? {
            return output::print("Total reclaimed space: 0B\n").map(|()| 0);
        }
        let (mut said, mut bytes) = (String::new(), 0);
        let users = volumes.users()?;
        for volume in volumes.all()? {
            let is_meant = self.all || volume.anonymous;
            if !is_meant || users.contains_key(&volume.name) || !filter.means(&volume, false) {
                continue;
            }
            let used = used(&volumes.data(&volume.name));
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
            output::print(&format!("Deleted Volumes:\n{said}\n"))?;
        }
        output::print(&format!("Total reclaimed space: {}\n", size::human_sum(bytes)))?;
        Ok(0)
    }

    fn ask(&self) -> Result<bool> {
        let what = match self.all {
            true => "all local volumes not used by at least one container",
            false => "anonymous local volumes not used by at least one container",
        };
        let mut screen = std::io::stdout();
        write!(screen, "WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] ")
            .and_then(|()| screen.flush())
            .map_err(output::unwritten)?;
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.map_err(|error| Failure::failed(format!("cannot ask: {error}")))?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

/// Bytes of files; what cannot be looked at counts nothing.
fn used(dir: &Path) -> u64 {
    let (mut bytes, mut todo) = (0, vec![dir.to_owned()]);
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(stat) if stat.is_dir() => todo.push(entry.path()),
                Ok(stat) => bytes += stat.size(),
                Err(_unreadable) => {}
            }
        }
    }
    bytes
}
