//! `runion wait`.

use clap::Args;
use layerstore::store::Store;

use super::find;
use crate::failure::{Failure, Result};
use crate::{events, output, settle};

/// Wait until containers have ended, and print their exit codes
#[derive(Args)]
pub struct Wait {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Wait {
    /// Waits for each.
    pub fn run(self, store: &Store) -> Result<u8> {
        let mut code = 0;
        for text in &self.containers {
            match wait(store, text) {
                Ok(exit) => output::print(&format!("{exit}\n"))?,
                Err(failure) => code = code.max(failure.report()),
            }
        }
        Ok(code)
    }
}

fn wait(store: &Store, text: &str) -> Result<i32> {
    let (container, record) = find::container(store, text)?;
    if !record.state.status.is_up() {
        return Ok(record.state.exit_code);
    }
    container.await_end()?;
    match settle::read(&container) {
        Ok(record) => Ok(record.state.exit_code),
        // It was removed with its end; that was told.
        Err(_gone) => events::exit_code(store.root(), &record.id)?
            .ok_or_else(|| Failure::as_docker(format!("No such container: {text}"))),
    }
}
