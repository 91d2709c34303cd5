//! `kill`: a signal for a container's process, or for all of its processes.

use clap::Args;
use rustix::process::{Signal, pidfd_send_signal};

use super::list::processes;
use super::state::Root;
use crate::failure::{Context, Failure, Result};
use crate::signal;

/// Send a signal to a container's first process
#[derive(Args)]
pub struct Kill {
    /// To all of its processes
    #[arg(long, short)]
    all: bool,

    /// The container
    id: String,

    /// Its name or number
    #[arg(default_value = "TERM")]
    signal: String,
}

impl Kill {
    /// Sends it.
    pub fn run(self, root: &Root) -> Result<u8> {
        let signal = parse(&self.signal)?;
        let container = root.find(&self.id)?;
        let process = container.process()?;
        let context = || format!("cannot send signal {} to {}", self.signal, self.id);
        if self.all {
            for pid in processes(&container)? {
                match crate::sys::kill(pid, signal) {
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    sent => sent.context(context)?,
                }
            }
            return Ok(0);
        }
        let Some((pid, pidfd)) = process else {
            return Err(Failure::failed(format!("container not running: {}", self.id)));
        };
        match Signal::from_named_raw(signal) {
            Some(named) => pidfd_send_signal(&pidfd, named).context(context)?,
            // One of real time, or the question whether it is there.
            None => crate::sys::kill(pid.as_raw_nonzero().get(), signal).context(context)?,
        }
        Ok(0)
    }
}

/// As everywhere; and 0, which asks whether it is there.
fn parse(text: &str) -> Result<i32> {
    match text {
        "0" => Ok(0),
        text => signal::parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("0", 0),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in ["", "SIG", "65", "-1", "RTMIN+40", "NOPE"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
