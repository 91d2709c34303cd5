//! `runion run`: a container made, started, and watched to its end.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use layerstore::store::Store;

use super::make::{Starter, Words};
use super::start;
use crate::attach::{self, Keys};
use crate::cli::image::open_store;
use crate::container::Lifetime;
use crate::failure::{Failure, Result};
use crate::monitor::{self, Attach};
use crate::{output, removal};

/// Run a command in a new container
///
/// The command sees the image's files and may change them; what it changed
/// stays with the container, until that is removed.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct Run {
    /// Leave the container to itself, and print its id
    #[arg(long, short)]
    detach: bool,

    /// Keys by which one leaves a container with a terminal
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,

    /// Do not pass signals on
    #[arg(long = "sig-proxy", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,

    #[command(flatten)]
    words: Words,
}

impl Run {
    /// Runs it; to its end, and gives its exit code, unless it is left to itself.
    pub fn run(self, root: Option<PathBuf>) -> Result<u8> {
        self.outcome(root).map_err(Failure::before_a_command)
    }

    fn outcome(self, root: Option<PathBuf>) -> Result<u8> {
        let flags = &self.words.flags;
        if flags.tty && flags.interactive && !self.detach && !std::io::stdin().is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let keys = Keys::parse(self.detach_keys.as_deref())?;
        let store = open_store(root)?;
        match self.detach {
            true => self.leave(&store),
            false => self.stay(&store, keys),
        }
    }

    fn leave(&self, store: &Store) -> Result<u8> {
        let container = self.words.make(store, Starter::Leaves)?;
        let signals = attach::block_signals()?;
        let locked = container.lock()?;
        monitor::start(&container, locked, Attach::No, signals)?;
        output::print(&format!("{}\n", container.id()))?;
        Ok(0)
    }

    fn stay(&self, store: &Store, keys: Keys) -> Result<u8> {
        let flags = &self.words.flags;
        let container = self.words.make(store, Starter::Stays)?;
        let signals = attach::block_signals()?;
        let locked = container.lock()?;
        // The monitor removes it, if there was one that came so far.
        let removed_by_us = |failure: Failure| {
            if flags.rm && container.dir().exists() {
                if let Err(second) = removal::discard(&container) {
                    second.report();
                }
            }
            failure
        };
        let socket =
            monitor::start(&container, locked, Attach::FromTheStart, signals).map_err(removed_by_us)?;
        let Some(socket) = socket else { return Ok(0) };
        let wanted =
            attach::Wanted { input: flags.interactive, terminal: flags.tty, signals: self.sig_proxy, keys };
        let lifetime = if flags.rm { Lifetime::Removed } else { Lifetime::Stays };
        start::outcome(&container, lifetime, attach::attach(socket, wanted)?)
    }
}
