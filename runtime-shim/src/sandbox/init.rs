//! The init: pid 1 of the command's namespaces.
//!
//! It makes the view its root, gives up what the command must not have, starts
//! the command, passes signals on and reaps; its end is the end of every
//! process in the namespace.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::setpgid;

use super::{Prepared, View, privileges, root, supervise};
use crate::failure::{CANNOT_RUN, Context, Failure, NOT_FOUND, OURS, Result};
use crate::sys::{self, Namespaces, Side};

/// Runs the command to its end and gives its exit code.
pub fn run(prepared: &Prepared<'_>, view: OwnedFd) -> u8 {
    contain(prepared, view).unwrap_or_else(|failure| failure.report())
}

fn contain(prepared: &Prepared<'_>, view: OwnedFd) -> Result<u8> {
    root::enter(view, &prepared.state.mount_point())?;
    // The caller's directory need not exist in a view of other directories.
    if std::env::set_current_dir(&prepared.directory).is_err() {
        std::env::set_current_dir("/").context(|| "cannot enter the view's root".to_string())?;
    }
    // Not left to exec: /proc/1/fd of this process is in the command's reach.
    sys::close_others().context(|| "cannot close descriptors".to_string())?;
    privileges::confine().context(|| "cannot give capabilities up".to_string())?;
    match sys::clone(Namespaces::NONE) {
        Ok(Side::Child) => std::process::exit(i32::from(execute(prepared).report())),
        Ok(Side::Parent(command)) => {
            privileges::hide_from_tracers().context(|| "cannot hide the init".to_string())?;
            let ended = supervise::wait_for(command).context(|| "cannot wait for the command".to_string())?;
            Ok(ended.code)
        }
        Err(error) => Err(Failure::new(format!("cannot start the command: {error}"))),
    }
}

/// Becomes the command; comes back only with the reason why not.
fn execute(prepared: &Prepared<'_>) -> Failure {
    let mut words = prepared.trial.command.iter();
    let Some(program) = words.next() else {
        return Failure::new("no command was given").code(OURS);
    };
    if let Err(failure) = lead_a_group() {
        return failure;
    }
    if let Err(error) = prepared.signals.restore() {
        return Failure::new(format!("cannot unblock signals: {error}"));
    }
    let error = Command::new(program).args(words).exec();
    refusal(program, &error, &prepared.trial.view)
}

/// Makes the command the leader of a process group, so that what it sends to
/// its group stays in the view.
///
/// Not on a terminal: there the keys that stop, continue and interrupt must
/// reach `runion` and the command alike, as one job of the caller's shell.
fn lead_a_group() -> Result<()> {
    let terminal = open("/dev/tty", OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
    match terminal {
        Ok(_terminal) => Ok(()),
        Err(_none) => setpgid(None, None).context(|| "cannot make a process group".to_string()),
    }
}

fn refusal(program: &OsString, error: &io::Error, view: &View) -> Failure {
    let name = Path::new(program).display();
    if error.kind() != io::ErrorKind::NotFound {
        return Failure::new(format!("cannot run {name}: {error}")).code(CANNOT_RUN);
    }
    let failure =
        Failure::new(format!("cannot run {name}: not found in the view, or its interpreter is not"));
    match view {
        View::HostRoot => failure.code(NOT_FOUND),
        View::Union(_) => failure.code(NOT_FOUND).hint(
            "with --lower the command itself must lie in those directories, with its libraries; \
             add a root file system as the last --lower",
        ),
    }
}
