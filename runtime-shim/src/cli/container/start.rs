//! `runion start`.

use clap::Args;
use layerstore::store::Store;

use super::find;
use crate::attach::{self, Ended, Keys};
use crate::container::{Container, Lifetime, Stdin};
use crate::failure::{Failure, Result};
use crate::monitor;
use crate::settle;

/// Start containers that do not run
#[derive(Args)]
pub struct Start {
    /// Stay attached to it, and take its exit code
    #[arg(long, short)]
    attach: bool,

    /// Let it read stdin
    #[arg(long, short)]
    interactive: bool,

    /// Keys by which one leaves a container with a terminal
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,

    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Start {
    /// Starts each.
    pub fn run(self, store: &Store) -> Result<u8> {
        let keys = Keys::parse(self.detach_keys.as_deref())?;
        let signals = attach::block_signals()?;
        if !self.attach && !self.interactive {
            return find::each(&self.containers, |text| {
                let (container, _) = find::container(store, text)?;
                let (locked, record) = settle::lock(&container)?;
                if record.state.status.is_up() {
                    return Ok(());
                }
                monitor::start(&container, locked, monitor::Attach::No, signals).map(|_none| ())
            });
        }
        let [text] = self.containers.as_slice() else {
            return Err(Failure::as_docker("you cannot start and attach multiple containers at once"));
        };
        let (container, _) = find::container(store, text)?;
        let (locked, record) = settle::lock(&container)?;
        if record.state.status.is_up() {
            return Err(Failure::as_docker(format!("container {text} is running already"))
                .hint(format!("runion attach {text}")));
        }
        let socket = monitor::start(&container, locked, monitor::Attach::FromTheStart, signals)?;
        let Some(socket) = socket else { return Ok(0) };
        let wanted = attach::Wanted {
            input: self.interactive && record.config.stdin != Stdin::Closed,
            terminal: record.config.terminal,
            signals: true,
            keys,
        };
        outcome(&container, record.config.lifetime, attach::attach(socket, wanted)?)
    }
}

/// The exit code of whoever was attached.
pub fn outcome(container: &Container, lifetime: Lifetime, ended: Ended) -> Result<u8> {
    match ended {
        Ended::Exit(code) => Ok(code),
        Ended::Detached => Ok(0),
        Ended::Lost => {
            // It undoes what is left.
            container.await_end()?;
            match lifetime {
                Lifetime::Removed => drop(crate::settle::read(container)),
                Lifetime::Stays => drop(crate::settle::read(container)?),
            }
            Err(Failure::new("the container's monitor was killed"))
        }
    }
}
