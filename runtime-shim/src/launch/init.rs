//! A first process that is no command: it starts the command, passes signals on
//! to it, reaps whatever else ends, and ends as the command does. For commands
//! that would not reap.

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, getpid, setpgid, wait};
use rustix::termios::{isatty, tcsetpgrp};

use crate::failure::{Context, Result};
use crate::sys::process::{Relation, clone3};
use crate::sys::{Namespaces, Side, SignalSet, kill};

/// What a container's first process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstProcess {
    /// The command itself.
    Command,
    /// An init with the command as its child.
    Init,
}

/// Signals that a process has for itself, or that tell of its own faults.
const KEPT: [i32; 12] = [
    libc::SIGCHLD,
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Splits in two: comes back in the process that is to be the command; the
/// other one gives it to `watch`, which does not come back.
pub fn split(watch: impl FnOnce(Pid) -> i32) -> Result<()> {
    // None may be lost between the birth of the command and the first wait.
    let signals = passed_on();
    signals.block().context(|| "cannot block signals".to_string())?;
    match clone3(Namespaces::NONE, None, Relation::Child)
        .context(|| "cannot start the command".to_string())?
    {
        Side::Parent(command) => std::process::exit(watch(command)),
        Side::Child => lead().context(|| "cannot make a process group".to_string()),
    }
}

/// A group of its own, in the foreground of the terminal if there is one.
fn lead() -> rustix::io::Result<()> {
    setpgid(None, None)?;
    let stdin = std::io::stdin();
    if isatty(&stdin) {
        match tcsetpgrp(&stdin, getpid()) {
            // A terminal, but not this session's.
            Ok(()) | Err(Errno::NOTTY | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Watches over the command to its end; gives the exit code that says it.
pub fn watch(command: Pid) -> io::Result<i32> {
    let signals = passed_on();
    loop {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((ended, status))) if ended == command => {
                    let code = status.exit_status();
                    return Ok(code.or(status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(1));
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(Errno::CHILD) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        match signals.wait() {
            Ok(taken) if taken.signal != libc::SIGCHLD => {
                match kill(command.as_raw_nonzero().get(), taken.signal) {
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    sent => sent?,
                }
            }
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
    }
}

/// Those that are passed on, and SIGCHLD.
fn passed_on() -> SignalSet {
    let mut all: Vec<i32> = (1..=64).filter(|signal| !KEPT.contains(signal)).collect();
    all.extend([libc::SIGCHLD, libc::SIGTTOU, libc::SIGTTIN]);
    SignalSet::of(&all)
}
