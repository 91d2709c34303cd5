//! `runion attach`.

use clap::Args;
use layerstore::store::Store;

use super::{find, start};
use crate::attach::{self, Keys, Wanted};
use crate::container::{Status, Stdin};
use crate::events;
use crate::failure::{Failure, Result};
use crate::monitor;

/// Attach to a container that runs
#[derive(Args)]
pub struct Attach {
    /// Do not let it read stdin
    #[arg(long)]
    no_stdin: bool,

    /// Do not pass signals on
    #[arg(long = "sig-proxy", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,

    /// Keys by which one leaves a container with a terminal
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,

    /// Its name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Attach {
    /// Attaches to it until it ends, and gives its exit code.
    pub fn run(self, store: &Store) -> Result<u8> {
        let keys = Keys::parse(self.detach_keys.as_deref())?;
        let (container, record) = find::container(store, &self.container)?;
        match record.state.status {
            Status::Running => {}
            Status::Paused => {
                return Err(Failure::as_docker("You cannot attach to a paused container, unpause it first"));
            }
            _ => {
                return Err(Failure::as_docker("You cannot attach to a stopped container, start it first"));
            }
        }
        attach::block_signals()?;
        let socket = monitor::connect(&container)?;
        events::of_container(store.root(), &record, "attach", &[]);
        let wanted = Wanted {
            input: !self.no_stdin && record.config.stdin != Stdin::Closed,
            terminal: record.config.terminal,
            signals: self.sig_proxy,
            keys,
        };
        start::outcome(&container, record.config.lifetime, attach::attach(socket, wanted)?)
    }
}
