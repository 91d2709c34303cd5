//! A process that does one thing as long as its monitor wants it.

use std::os::fd::BorrowedFd;

use rustix::process::{Pid, Signal, WaitOptions, set_parent_process_death_signal, waitpid};

use super::words;
use crate::container::Container;
use crate::failure::{Context, OURS, Result, say};
use crate::sys::{self, Namespaces, Side};

/// Such a process; it ends with this.
pub struct Servant(Pid);

impl Servant {
    /// Makes one for some work that does not end; it dies with its maker, and what it has
    /// to say goes where its maker's words go.
    pub fn start(container: &Container, work: impl FnOnce() -> Result<()>) -> Result<Servant> {
        let context = || "cannot make a servant".to_owned();
        match sys::clone(Namespaces::NONE).context(context)? {
            Side::Parent(pid) => Ok(Servant(pid)),
            Side::Child => {
                words::to_file(container);
                let tied = set_parent_process_death_signal(Some(Signal::KILL)).context(context);
                if let Err(failure) = tied.and_then(|()| work()) {
                    say(&failure.to_string());
                }
                std::process::exit(OURS.into());
            }
        }
    }
}

/// The container's pipes and the monitor's locks are none of a servant's.
pub fn keep_only(fds: &[BorrowedFd<'_>]) -> Result<()> {
    sys::close_all_but(fds).context(|| "cannot close descriptors".to_owned())
}

impl Drop for Servant {
    fn drop(&mut self) {
        // It may have ended by itself; whoever else reaps it is as good.
        rustix::process::kill_process(self.0, Signal::KILL).unwrap_or_default();
        waitpid(Some(self.0), WaitOptions::empty()).map(drop).unwrap_or_default();
    }
}
