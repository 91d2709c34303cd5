//! What a container, or a process that joins one, is made from.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::process::Pid;

use super::init::FirstProcess;
use crate::bundle::Spec;

/// The annotation that asks for an init before the command.
pub const INIT: &str = "org.runionfs.init";

/// A container that is to be made.
pub struct Request<'a> {
    /// Its name, for hooks.
    pub id: &'a str,
    /// What it is.
    pub spec: &'a Spec,
    /// Where its bundle is: what relative paths begin at.
    pub bundle: &'a Path,
    /// Its streams, where the process asks for no terminal.
    pub stdio: Stdio<'a>,
    /// The cgroups it is to be in.
    pub groups: Option<&'a Groups>,
    /// How many descriptors from 3 on the command is handed.
    pub preserve_fds: u32,
    /// How it hangs on its maker.
    pub death: OnDeath,
    /// Whose keys it finds.
    pub keys: Keys,
    /// How the root becomes the root.
    pub swap: Swap,
    /// What its pid 1 is; an annotation may ask for an init, too.
    pub first: FirstProcess,
    /// A listening socket (SEQPACKET) on which [`start_by`] is heard; where
    /// there is one, [`Ready::leave`] is what follows.
    pub listener: Option<BorrowedFd<'a>>,
}

impl<'a> Request<'a> {
    /// With what is usual: the caller's streams, dying with the caller.
    pub fn new(id: &'a str, spec: &'a Spec, bundle: &'a Path) -> Request<'a> {
        Request {
            id,
            spec,
            bundle,
            stdio: Stdio::Inherited,
            groups: None,
            preserve_fds: 0,
            death: OnDeath::Kill,
            keys: Keys::New,
            swap: Swap::Pivot,
            first: FirstProcess::Command,
            listener: None,
        }
    }

    /// What pid 1 is, by either.
    pub fn first_process(&self) -> FirstProcess {
        match self.spec.annotations.get(INIT).map(String::as_str) {
            Some("true" | "1") => FirstProcess::Init,
            _ => self.first,
        }
    }
}

/// What helps a user whose processes may not be moved.
pub const REFUSED_ENTRY: &str = "it is in a session that this user may not move processes out of; \
                                 begin it by: systemd-run --user --scope -p Delegate=yes …";

/// The ways into cgroups that a new process takes by itself. Being moved by
/// another waits for every processor of the machine (a grace period of RCU, some
/// 10 ms); being born there, and moving oneself with a single thread, does not.
#[derive(Debug, Default)]
pub struct Groups {
    /// Of version 2: the directory.
    pub second: Option<OwnedFd>,
    /// Of version 1: the files `tasks`, open for writing.
    pub first: Vec<OwnedFd>,
}

/// Descriptors 0, 1 and 2 of a command.
#[derive(Clone, Copy)]
pub enum Stdio<'a> {
    /// The caller's own.
    Inherited,
    /// These.
    Given {
        /// To be 0.
        stdin: BorrowedFd<'a>,
        /// To be 1.
        stdout: BorrowedFd<'a>,
        /// To be 2.
        stderr: BorrowedFd<'a>,
    },
}

/// What becomes of a command when its maker dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDeath {
    /// It is killed.
    Kill,
    /// Nothing.
    Survive,
}

/// Keys of the kernel's that a command finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// None but its own.
    New,
    /// Those of its maker.
    Callers,
}

/// How a container's root becomes the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// By pivot_root(2): the old one is gone.
    Pivot,
    /// By chroot(2), for hosts that run from an initial ramdisk: the old one is
    /// out of sight.
    Chroot,
}

/// A running container that a process is to join.
pub struct Target<'a> {
    /// Its first process.
    pub pid: Pid,
    /// The same.
    pub pidfd: BorrowedFd<'a>,
    /// Its bundle: filters are its own.
    pub spec: &'a Spec,
}

/// How a process joins a container.
pub struct Join<'a> {
    /// Its streams, where it asks for no terminal.
    pub stdio: Stdio<'a>,
    /// The cgroups it is to be in: the container's.
    pub groups: Option<&'a Groups>,
    /// How many descriptors from 3 on the command is handed.
    pub preserve_fds: u32,
    /// How it hangs on its maker.
    pub death: OnDeath,
}
