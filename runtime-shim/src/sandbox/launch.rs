//! Makes a process in new namespaces that begins once its ids are mapped.
//!
//! The maps of a user namespace are written from outside, so the new process
//! waits at a gate: a pipe that its maker opens by a byte, or closes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::Identity;
use super::identity::{self, Plan};
use crate::failure::{Context, OURS, Result};
use crate::sys::{self, Namespaces, Side};

/// The new process's side.
pub struct Gate(OwnedFd);

impl Gate {
    /// Waits; false if the maker failed or died.
    pub fn opened(self) -> bool {
        File::from(self.0).read_exact(&mut [0]).is_ok()
    }
}

/// Runs `child` in a new process; its value is the exit code.
pub fn launch(plan: &Plan, namespaces: Namespaces, child: impl FnOnce(Gate) -> u8) -> Result<Pid> {
    let (gate, opener) = pipe_with(PipeFlags::CLOEXEC).context(|| "cannot make a pipe".to_string())?;
    let namespaces = match plan {
        Plan::Own(_) => namespaces,
        Plan::Mapped(_) => namespaces.and(Namespaces::USER),
    };
    let pid = match sys::clone(namespaces).map_err(|error| identity::cannot_make_namespaces(&error))? {
        Side::Child => {
            drop(opener);
            std::process::exit(i32::from(child(Gate(gate))));
        }
        Side::Parent(pid) => pid,
    };
    drop(gate);
    let mut opener = File::from(opener);
    let opened = plan
        .write_maps(pid)
        .and_then(|()| opener.write_all(b"!").context(|| "cannot start a process".to_string()));
    if opened.is_err() {
        // It sees the gate close, and ends before it did anything.
        drop(opener);
        waitpid(Some(pid), WaitOptions::empty()).context(|| "cannot wait for a process".to_string())?;
    }
    opened.map(|()| pid)
}

/// Runs `child` in a new process, in the caller's namespaces; its value is the
/// exit code.
pub fn fork(child: impl FnOnce() -> u8) -> Result<Pid> {
    match sys::clone(Namespaces::NONE).context(|| "cannot make a process".to_string())? {
        Side::Child => std::process::exit(i32::from(child())),
        Side::Parent(pid) => Ok(pid),
    }
}

/// Does something with the rights over files that a try of the caller has, for
/// what it kept may belong to subordinate ids; says whether it was done. Why
/// not was then reported.
pub fn with_ids_of_a_try(work: impl FnOnce() -> Result<()>) -> Result<bool> {
    // Root's map has every id that a file can have come to belong to.
    let plan = Plan::new(Identity::Root)?;
    let pid = launch(&plan, Namespaces::NONE, |gate| {
        if !gate.opened() {
            return OURS;
        }
        work().map_or_else(|failure| failure.report(), |()| 0)
    })?;
    let ended =
        waitpid(Some(pid), WaitOptions::empty()).context(|| "cannot wait for a process".to_string())?;
    Ok(ended.is_some_and(|(_, status)| status.exit_status() == Some(0)))
}
