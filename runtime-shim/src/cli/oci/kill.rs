//! `kill`: a signal for a container's process, or for all of its processes.

use clap::Args;
use rustix::process::{Signal, pidfd_send_signal};

use super::list::processes;
use super::state::Root;
use crate::failure::{Context, Failure, Result};

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

/// By number, or by name with or without SIG.
const NAMES: [(&str, i32); 33] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

fn parse(text: &str) -> Result<i32> {
    let unknown = || Failure::failed(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let from = |first: i32, offset: &str, sign: i32| {
        let offset = if offset.is_empty() { Some(0) } else { offset.get(1..)?.parse::<i32>().ok() };
        offset.map(|offset| first + sign * offset).filter(|number| (34..=64).contains(number))
    };
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(offset), _) => from(34, offset, 1),
        (_, Some(offset)) => from(64, offset, -1),
        _ => None,
    };
    real_time.ok_or_else(unknown)
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
