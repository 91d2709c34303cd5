//! Trials in a process of its own, in namespaces that end with it.

use std::io;

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{WaitOptions, getegid, geteuid, waitpid};

use super::Caller;
use crate::sys::{self, Namespaces, Side};

/// What is tried. The process ends with it; what it found besides is a few bits.
pub type Trial = fn() -> rustix::io::Result<Bits>;

/// Up to five of them.
pub type Bits = u8;

/// Exit codes from here on are bits, and those below it errors of system calls.
const WELL: i32 = 192;

/// Why a trial failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are no such namespaces for this caller.
    Namespaces(Option<Errno>),
    /// What was tried in them.
    Trial(Errno),
}

/// Tries something in new namespaces, and in a user namespace as well where the
/// caller needs one.
pub fn try_in(namespaces: Namespaces, caller: Caller, trial: Trial) -> Result<Bits, Refused> {
    match caller {
        Caller::Root => try_mapped(namespaces, None, trial),
        Caller::Ordinary => try_as_root_of_its_own(namespaces, trial),
    }
}

/// The same in a user namespace, whoever the caller is.
pub fn try_as_root_of_its_own(namespaces: Namespaces, trial: Trial) -> Result<Bits, Refused> {
    let ids = (geteuid().as_raw(), getegid().as_raw());
    try_mapped(namespaces.and(Namespaces::USER), Some(ids), trial)
}

fn try_mapped(namespaces: Namespaces, ids: Option<(u32, u32)>, trial: Trial) -> Result<Bits, Refused> {
    let errno = |error: io::Error| Refused::Namespaces(Errno::from_io_error(&error));
    match sys::clone(namespaces).map_err(errno)? {
        Side::Child => {
            let outcome = ids.map_or(Ok(()), map).and_then(|()| trial());
            std::process::exit(outcome.map_or_else(Errno::raw_os_error, |bits| WELL + i32::from(bits)));
        }
        Side::Parent(pid) => {
            let status =
                waitpid(Some(pid), WaitOptions::empty()).map_err(|e| Refused::Namespaces(Some(e)))?;
            match status.and_then(|(_, status)| status.exit_status()) {
                Some(code) if code >= WELL => Ok(Bits::try_from(code - WELL).unwrap_or(0)),
                Some(code) => Err(Refused::Trial(Errno::from_raw_os_error(code))),
                None => Err(Refused::Trial(Errno::INTR)),
            }
        }
    }
}

/// Makes the caller root of the namespace.
fn map((uid, gid): (u32, u32)) -> rustix::io::Result<()> {
    let write = |file: &str, text: String| {
        std::fs::write(format!("/proc/self/{file}"), text)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}

/// Keeps what is mounted here from everybody else.
pub fn keep_mounts() -> rustix::io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}
