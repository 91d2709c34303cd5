//! `pause`, `resume` and `update`: what a container's cgroups do with it.

use std::path::PathBuf;

use clap::Args;

use super::state::{Container, Root};
use crate::failure::{Failure, Result};

/// Stop all of a container's processes where they are
#[derive(Args)]
pub struct Pause {
    /// The container
    id: String,
}

/// Let a paused container go on
#[derive(Args)]
pub struct Resume {
    /// The container
    id: String,
}

/// Change what a container may use up
#[derive(Args)]
pub struct Update {
    /// A file of `linux.resources`; - for stdin
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,

    /// The container
    id: String,
}

impl Pause {
    /// Pauses it.
    pub fn run(self, root: &Root) -> Result<u8> {
        Err(without_cgroups("pause", &root.find(&self.id)?))
    }
}

impl Resume {
    /// Resumes it.
    pub fn run(self, root: &Root) -> Result<u8> {
        Err(without_cgroups("resume", &root.find(&self.id)?))
    }
}

impl Update {
    /// Changes it.
    pub fn run(self, root: &Root) -> Result<u8> {
        Err(without_cgroups("update", &root.find(&self.id)?))
    }
}

fn without_cgroups(what: &str, container: &Container) -> Failure {
    Failure::failed(format!("cannot {what} {}: it has no cgroups of its own", container.record.id))
}
