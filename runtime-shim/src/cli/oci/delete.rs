//! `delete`: what is kept of a container goes.

use std::fs;
use std::io;
use std::time::Duration;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use super::log::Log;
use super::state::{Container, Root};
use crate::failure::{Context, Failure, Result};
use crate::launch;
use crate::launch::hooks::Status;

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Remove a container that has stopped
#[derive(Args)]
pub struct Delete {
    /// Kill it if it has not; one that is not there is removed
    #[arg(long, short)]
    force: bool,

    /// The container
    id: String,
}

impl Delete {
    /// Removes it.
    pub fn run(self, root: &Root, log: &Log) -> Result<u8> {
        let container = match root.find(&self.id) {
            Ok(container) => container,
            Err(_) if self.force => {
                if let Some(dir) = root.half_made(&self.id) {
                    fs::remove_dir_all(&dir).context(|| format!("cannot remove {}", dir.display()))?;
                }
                return Ok(0);
            }
            Err(failure) => return Err(failure),
        };
        match container.status()? {
            Status::Stopped => {}
            // It has run nothing yet.
            Status::Created => end(&container)?,
            _ if self.force => end(&container)?,
            _ => {
                return Err(Failure::failed(format!(
                    "cannot delete container {:?} that is not stopped: running",
                    self.id
                )));
            }
        }
        remove(&container, log)?;
        Ok(0)
    }
}

/// Kills its first process, with which all others of its namespace end.
fn end(container: &Container) -> Result<()> {
    let context = || format!("cannot end {}", container.record.id);
    let Some((_, pidfd)) = container.process()? else { return Ok(()) };
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(errno).context(context),
    }
    // What is stopped dies once it goes on.
    if container.status()? == Status::Paused {
        container.cgroup()?.resume()?;
    }
    let patience = Timespec::try_from(PATIENCE).ok();
    match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], patience.as_ref()).context(context)? {
        0 => Err(Failure::failed(format!("{}: it does not die", context()))),
        _ => Ok(()),
    }
}

/// Forgets one that has stopped.
pub fn remove(container: &Container, log: &Log) -> Result<()> {
    let record = &container.record;
    let spec = container.spec();
    if let Some(cgroup) = &record.cgroup {
        cgroup.kill_all()?;
        cgroup.remove()?;
    }
    match fs::remove_dir_all(&container.dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed.context(|| format!("cannot remove {}", container.dir.display()))?,
    }
    for warning in launch::run_poststop_hooks(&record.id, &spec?, &record.bundle) {
        log.warn(&warning);
    }
    Ok(())
}
