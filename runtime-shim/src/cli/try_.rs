//! `runion try`: a command over a copy-on-write view, and what it changed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::commit::{self, Consent, OnConflict};
use crate::failure::{Failure, Result};
use crate::sandbox::{self, Identity, Report, Trial, View};
use crate::state::Fate;

/// Run a command over a copy-on-write view of a file system, then say what it changed.
///
/// The command sees the host's own root, or the union of the directories given
/// with --lower, and may do to it what it likes: every change lands in a
/// separate directory that is thrown away afterwards, kept with --keep, and
/// applied later with --commit. What changed is printed on stderr: A for added,
/// C for changed, D for deleted.
///
/// The command has its own mounts, processes, IPC objects and host name. It
/// shares the network with the host.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Try {
    /// Show DIR instead of the host's root; repeat it for a union, topmost first
    #[arg(long, value_name = "DIR")]
    lower: Vec<PathBuf>,

    /// Keep the changes in DIR; a DIR kept before is gone on with
    #[arg(long, value_name = "DIR", conflicts_with_all = ["discard", "commit"])]
    keep: Option<PathBuf>,

    /// Throw the changes away (the default); with =DIR, those kept in DIR
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    discard: Option<Option<PathBuf>>,

    /// Be root in the view, for package managers and the like (as an ordinary user)
    #[arg(long)]
    root: bool,

    /// Do not print what changed
    #[arg(long, short)]
    quiet: bool,

    /// Apply the changes kept in DIR to the directory they were made over, after asking
    #[arg(long, value_name = "DIR", conflicts_with_all = ["lower", "discard", "root", "command"])]
    commit: Option<PathBuf>,

    /// With --commit: do not ask
    #[arg(long, requires = "commit")]
    yes: bool,

    /// With --commit: overwrite what was modified since the changes were made
    #[arg(long, requires = "commit")]
    force: bool,

    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  runion try -- sh -c 'rm -r /usr/bin; ls /usr'
  runion try --keep /var/tmp/upgrade -- apt-get -y upgrade
  runion try --commit /var/tmp/upgrade
  runion try --lower ./rootfs -- /bin/sh";

impl Try {
    /// Does what was asked for and gives the exit code.
    pub fn run(self) -> Result<u8> {
        let nothing_to_run = self.command.is_empty();
        match (&self.commit, &self.discard) {
            (Some(kept), _) => {
                let consent = if self.yes { Consent::Given } else { Consent::Ask };
                let on_conflict = if self.force { OnConflict::Overwrite } else { OnConflict::Refuse };
                commit::run(kept, consent, on_conflict).map(|()| 0)
            }
            (None, Some(Some(kept))) if nothing_to_run => commit::discard(kept).map(|()| 0),
            (None, Some(Some(_))) => {
                Err(Failure::new("--discard=DIR runs no command").hint("leave =DIR away"))
            }
            (None, _) if nothing_to_run => {
                Err(Failure::new("no command was given").hint("runion try -- sh runs a shell"))
            }
            (None, _) => self.trial(),
        }
    }

    fn trial(self) -> Result<u8> {
        let view = if self.lower.is_empty() {
            View::HostRoot
        } else {
            View::Union(self.lower.iter().map(|dir| directory(dir)).collect::<Result<_>>()?)
        };
        let trial = Trial {
            view,
            fate: match self.keep {
                Some(dir) => Fate::Keep(dir),
                None => Fate::Discard,
            },
            identity: if self.root { Identity::Root } else { Identity::Caller },
            report: if self.quiet { Report::Quiet } else { Report::Stderr },
            command: self.command,
        };
        sandbox::run(&trial)
    }
}

/// The real path of a directory the user named.
fn directory(named: &Path) -> Result<PathBuf> {
    let path = named.canonicalize().map_err(|error| {
        Failure::new(format!("cannot use {} as a lower directory: {error}", named.display()))
    })?;
    if !path.is_dir() {
        return Err(Failure::new(format!("cannot use {} as a lower: not a directory", named.display())));
    }
    Ok(path)
}
