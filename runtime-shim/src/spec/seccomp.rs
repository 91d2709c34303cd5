//! Which system calls a container may make.

use crate::bundle::Seccomp;
use crate::container::Config;
use crate::failure::{Context, Result};
use crate::launch;

/// Docker's profile, a file's, or none.
pub fn of(config: &Config) -> Result<Option<Seccomp>> {
    match config.seccomp.as_deref() {
        Some("unconfined") => Ok(None),
        None if config.privileged => Ok(None),
        None => Ok(Some(launch::docker_default(&config.capabilities.bounding))),
        Some(file) => {
            let context = || format!("cannot read the seccomp profile {file}");
            let text = std::fs::read(file).context(context)?;
            serde_json::from_slice(&text).context(context).map(Some)
        }
    }
}
