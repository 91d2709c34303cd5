//! Waits for a child while passing signals on to it and reaping everything
//! else: the whole duty of an init, and of each process above it.

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use crate::sys::{Origin, SignalSet, kill};

/// Signals that are meant for the command.
const PASSED_ON: [i32; 6] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

fn signals() -> SignalSet {
    let mut all = PASSED_ON.to_vec();
    all.push(libc::SIGCHLD);
    SignalSet::of(&all)
}

/// Queues signals from here on, so that none is lost before [`wait_for`] is
/// called. Gives what was blocked before: every program we execute is to begin
/// with that, for exec(2) keeps the mask.
pub fn block_signals() -> io::Result<SignalSet> {
    signals().block()
}

/// How a child ended, and what else did until then.
pub struct Ended {
    /// Its exit code, or 128 + its signal.
    pub code: u8,
    /// How many other processes ended until then, and not with exit code 0.
    pub failed_others: usize,
}

/// Waits for `child` to end.
pub fn wait_for(child: Pid) -> io::Result<Ended> {
    let signals = signals();
    let mut failed_others = 0;
    loop {
        while let Some((ended, status)) = reap()? {
            if ended == child {
                return Ok(Ended { code: exit_code(status), failed_others });
            }
            failed_others += usize::from(exit_code(status) != 0);
        }
        let taken = match signals.wait() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            taken => taken?,
        };
        // A key pressed on the terminal has reached the command by itself.
        if taken.signal != libc::SIGCHLD && taken.origin == Origin::Process {
            pass_on(child, taken.signal)?;
        }
    }
}

/// Sends a signal to a child that may just have ended.
fn pass_on(child: Pid, signal: i32) -> io::Result<()> {
    match kill(child.as_raw_nonzero().get(), signal) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        sent => sent,
    }
}

/// One child that has ended, if any.
fn reap() -> io::Result<Option<(Pid, WaitStatus)>> {
    match wait(WaitOptions::NOHANG) {
        Err(Errno::CHILD) => Ok(None),
        reaped => Ok(reaped?),
    }
}

/// As shells give it: an exit code, or 128 + a signal.
pub fn exit_code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => i32::from(crate::failure::OURS),
    };
    u8::try_from(code).unwrap_or(crate::failure::OURS)
}
