//! `runion volume rm`.

use clap::Args;

use crate::failure::Result;
use crate::output;
use crate::volume::Volumes;

/// Remove volumes that no container has
#[derive(Args)]
pub struct Remove {
    /// Do not mind what is not there
    #[arg(long, short)]
    force: bool,

    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
}

impl Remove {
    /// Removes each, says its name, and goes on after a failure.
    pub fn run(self, volumes: &Volumes) -> Result<u8> {
        let mut code = 0;
        for name in &self.names {
            let is_missing = self.force && volumes.present(name)?.is_none();
            match if is_missing { Ok(()) } else { volumes.remove(name) } {
                Ok(()) => output::print(&format!("{name}\n"))?,
                Err(failure) => code = code.max(failure.report()),
            }
        }
        Ok(code)
    }
}
