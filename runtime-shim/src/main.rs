//! `runion`: runs commands over copy-on-write views of file systems.
//!
//! The program knows processes, namespaces and words on a command line. It
//! knows nothing of how a union works: it executes the mount helper and looks
//! at the upper directory afterwards through [`unionfs::changes`].
//!
//! Exit codes: 125 when `runion` itself fails, 126 when the command cannot be
//! run, 127 when it is not found, else the command's own, or 128 + the signal
//! that ended it.

mod attach;
mod builtin;
mod bundle;
mod cgroup;
mod change;
mod cli;
mod commit;
mod container;
mod events;
mod failure;
mod files;
mod host;
mod launch;
mod monitor;
mod mounting;
mod network;
mod output;
mod random;
mod reach;
mod record;
mod removal;
mod rootfs;
mod sandbox;
mod settle;
mod signal;
mod spec;
mod state;
mod sys;
mod volume;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::run())
}
