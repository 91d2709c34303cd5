//! The commands about containers: one verb a file, in docker's words.
//!
//! Exit codes: 0, 1 for a failure, 125 for a command line that means nothing;
//! those of `run`, `start -a`, `attach` and `exec` are the command's.

mod attach;
pub mod changes;
mod commit;
mod copy;
mod create;
mod exec;
pub mod export;
mod find;
pub mod inspect;
mod kill;
pub mod list;
mod logs;
mod make;
mod network;
mod pause;
pub mod prune;
mod remove;
mod rename;
mod restart;
mod run;
mod start;
mod stats;
mod stop;
mod top;
mod update;
mod wait;

pub use network::names as network_names;

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::Subcommand;

use super::image::{self, open_store};
use crate::failure::Result;
use crate::launch::protect::protect_self;

/// The commands as they are called alone: `runion ps`, `runion stop`.
#[derive(Subcommand)]
pub enum Alone {
    Run(Box<run::Run>),
    Create(Box<create::Create>),
    Start(start::Start),
    Stop(stop::Stop),
    Restart(restart::Restart),
    Kill(kill::Kill),
    Pause(pause::Pause),
    Unpause(pause::Unpause),
    Rm(remove::Remove),
    Ps(list::List),
    Logs(logs::Logs),
    Attach(attach::Attach),
    Exec(exec::Exec),
    Commit(commit::Commit),
    Cp(copy::Copy),
    Wait(wait::Wait),
    Rename(rename::Rename),
    Top(top::Top),
    Stats(stats::Stats),
    Update(update::Update),
    Port(network::Port),
}

/// Manage containers; each command can be called alone as well
#[derive(Subcommand)]
pub enum Grouped {
    Run(Box<run::Run>),
    Create(Box<create::Create>),
    Start(start::Start),
    Stop(stop::Stop),
    Restart(restart::Restart),
    Kill(kill::Kill),
    Pause(pause::Pause),
    Unpause(pause::Unpause),
    #[command(visible_alias = "remove")]
    Rm(remove::Remove),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(list::List),
    Logs(logs::Logs),
    Attach(attach::Attach),
    Exec(exec::Exec),
    Commit(commit::Commit),
    Cp(copy::Copy),
    Diff(image::diff::Diff),
    Export(image::export::Export),
    Wait(wait::Wait),
    Rename(rename::Rename),
    Top(top::Top),
    Stats(stats::Stats),
    Update(update::Update),
    Port(network::Port),
    Inspect(super::inspect::OfKind),
    Prune(prune::Prune),
}

/// Whether a word of the command line may be a verb that makes or enters
/// containers.
pub fn is_protected(word: &OsStr) -> bool {
    ["run", "start", "restart", "exec"].iter().any(|verb| word == *verb)
}

impl Alone {
    /// Runs the command over the containers of the store in `root`, or the
    /// user's own.
    pub fn run(self, root: Option<PathBuf>) -> Result<u8> {
        let makes_or_enters =
            matches!(self, Alone::Run(_) | Alone::Start(_) | Alone::Restart(_) | Alone::Exec(_));
        if makes_or_enters {
            protect_self()?;
        }
        match self {
            Alone::Run(arguments) => arguments.run(root),
            Alone::Create(arguments) => arguments.run(&open_store(root)?),
            Alone::Start(arguments) => arguments.run(&open_store(root)?),
            Alone::Stop(arguments) => arguments.run(&open_store(root)?),
            Alone::Restart(arguments) => arguments.run(&open_store(root)?),
            Alone::Kill(arguments) => arguments.run(&open_store(root)?),
            Alone::Pause(arguments) => arguments.run(&open_store(root)?),
            Alone::Unpause(arguments) => arguments.run(&open_store(root)?),
            Alone::Rm(arguments) => arguments.run(&open_store(root)?),
            Alone::Ps(arguments) => arguments.run(&open_store(root)?),
            Alone::Logs(arguments) => arguments.run(&open_store(root)?),
            Alone::Exec(arguments) => arguments.run(&open_store(root)?),
            Alone::Attach(arguments) => arguments.run(&open_store(root)?),
            Alone::Commit(arguments) => arguments.run(&open_store(root)?),
            Alone::Cp(arguments) => arguments.run(&open_store(root)?),
            Alone::Wait(arguments) => arguments.run(&open_store(root)?),
            Alone::Rename(arguments) => arguments.run(&open_store(root)?),
            Alone::Top(arguments) => arguments.run(&open_store(root)?),
            Alone::Stats(arguments) => arguments.run(&open_store(root)?),
            Alone::Update(arguments) => arguments.run(&open_store(root)?),
            Alone::Port(arguments) => arguments.run(&open_store(root)?),
        }
    }
}

impl Grouped {
    /// As [`Alone::run`].
    pub fn run(self, root: Option<PathBuf>) -> Result<u8> {
        let alone = match self {
            Grouped::Run(arguments) => Alone::Run(arguments),
            Grouped::Create(arguments) => Alone::Create(arguments),
            Grouped::Start(arguments) => Alone::Start(arguments),
            Grouped::Stop(arguments) => Alone::Stop(arguments),
            Grouped::Restart(arguments) => Alone::Restart(arguments),
            Grouped::Kill(arguments) => Alone::Kill(arguments),
            Grouped::Pause(arguments) => Alone::Pause(arguments),
            Grouped::Unpause(arguments) => Alone::Unpause(arguments),
            Grouped::Rm(arguments) => Alone::Rm(arguments),
            Grouped::Ls(arguments) => Alone::Ps(arguments),
            Grouped::Logs(arguments) => Alone::Logs(arguments),
            Grouped::Exec(arguments) => Alone::Exec(arguments),
            Grouped::Attach(arguments) => Alone::Attach(arguments),
            Grouped::Commit(arguments) => Alone::Commit(arguments),
            Grouped::Cp(arguments) => Alone::Cp(arguments),
            Grouped::Diff(arguments) => return arguments.run(&open_store(root)?),
            Grouped::Export(arguments) => return arguments.run(&open_store(root)?),
            Grouped::Wait(arguments) => Alone::Wait(arguments),
            Grouped::Rename(arguments) => Alone::Rename(arguments),
            Grouped::Top(arguments) => Alone::Top(arguments),
            Grouped::Stats(arguments) => Alone::Stats(arguments),
            Grouped::Update(arguments) => Alone::Update(arguments),
            Grouped::Port(arguments) => Alone::Port(arguments),
            Grouped::Inspect(arguments) => {
                return arguments.run(&open_store(root)?, super::inspect::Kind::Container);
            }
            Grouped::Prune(arguments) => return arguments.run(&open_store(root)?),
        };
        alone.run(root)
    }
}
