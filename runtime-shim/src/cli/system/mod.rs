//! `runion system …`: about the host and the whole store rather than about one
//! image or container.

mod check;
mod df;
mod events;
mod info;
mod prune;
mod version;

use std::path::PathBuf;

use clap::Subcommand;

use super::image::{open_store, place_of_store};
use crate::failure::Result;

/// Look at this host and at the store as a whole
#[derive(Subcommand)]
pub enum System {
    Check(check::Check),
    Df(df::Df),
    Events(events::Events),
    Info(info::Info),
    Prune(prune::Prune),
    Version(version::Version),
}

/// Those of them that are called alone too.
#[derive(Subcommand)]
pub enum Alone {
    Events(events::Events),
    Info(info::Info),
    Version(version::Version),
}

impl System {
    /// Runs it, over the store in `root` or the user's own.
    pub fn run(self, root: Option<PathBuf>) -> Result<u8> {
        let alone = match self {
            System::Check(arguments) => return arguments.run(&place_of_store(root)?),
            System::Df(arguments) => return arguments.run(&open_store(root)?),
            System::Prune(arguments) => return arguments.run(&open_store(root)?),
            System::Events(arguments) => Alone::Events(arguments),
            System::Info(arguments) => Alone::Info(arguments),
            System::Version(arguments) => Alone::Version(arguments),
        };
        alone.run(root)
    }
}

impl Alone {
    /// As [`System::run`].
    pub fn run(self, root: Option<PathBuf>) -> Result<u8> {
        match self {
            Alone::Events(arguments) => arguments.run(&open_store(root)?),
            Alone::Info(arguments) => arguments.run(&open_store(root)?),
            Alone::Version(arguments) => arguments.run(),
        }
    }
}
