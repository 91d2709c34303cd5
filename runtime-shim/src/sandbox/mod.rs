//! Runs a command over a view: three processes, each with one duty.
//!
//! ```text
//! runion      the caller's namespaces: writes the id maps, passes signals on
//!   keeper    pid 1 of the outer pid namespace, own mounts: mounts the view,
//!   |         waits for its server, says what changed, tidies up
//!   +- the server of the union, put there by the mount helper
//!   +- init   pid 1 of the inner namespaces: makes the view its root, reaps
//!        +- CMD
//! ```
//! That nothing is left behind is the kernel's doing: the keeper dies with
//! `runion` (even by SIGKILL), and with the first process of a pid namespace
//! die all others in it, the server included; a mount namespace goes with its
//! last process. Only the state directory can be left over (see `state`).

mod devices;
pub mod identity;
mod init;
mod keeper;
pub mod launch;
mod privileges;
mod root;
pub mod supervise;

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::process::{Pid, getpgrp};
use rustix::termios::{isatty, tcgetpgrp, tcsetpgrp};

use crate::failure::{Context, Failure, Result};
use crate::mounting;
use crate::record::{Instant, Record, Scope};
use crate::state::{Fate, State};
use crate::sys::{Namespaces, SignalSet};

pub use launch::with_ids_of_a_try;
pub use root::{attach, bind, file_system};

/// What the command sees as its root.
#[derive(Clone, Debug)]
pub enum View {
    /// The host's root, with everything mounted below it.
    HostRoot,
    /// The union of these directories, topmost first.
    Union(Vec<PathBuf>),
}

/// Who the command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Whoever called.
    Caller,
    /// Root of the view.
    Root,
}

/// Whether the changes are listed afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// On stderr, so that the command's own output stays clean.
    Stderr,
    /// Not at all.
    Quiet,
}

/// One run of a command over a view.
pub struct Trial {
    /// What it sees.
    pub view: View,
    /// What becomes of its changes.
    pub fate: Fate,
    /// Who it is.
    pub identity: Identity,
    /// Whether its changes are listed.
    pub report: Report,
    /// The command and its arguments.
    pub command: Vec<OsString>,
}

impl Trial {
    fn lowers(&self) -> Vec<PathBuf> {
        match &self.view {
            View::HostRoot => vec![PathBuf::from("/")],
            View::Union(lowers) => lowers.clone(),
        }
    }

    fn record(&self, identity: &identity::Plan) -> Record {
        Record {
            scope: match self.view {
                View::HostRoot => Scope::HostRoot,
                View::Union(_) => Scope::Union,
            },
            lowers: self.lowers(),
            owners: identity.owners(),
            marks: identity.marks(),
            uid: rustix::process::getuid().as_raw(),
            started: Instant { seconds: 0, nanoseconds: 0 },
        }
    }
}

/// Everything that is settled before the first process is made.
struct Prepared<'a> {
    trial: &'a Trial,
    state: State,
    helper: PathBuf,
    /// The caller's signal mask.
    signals: SignalSet,
    identity: identity::Plan,
    directory: PathBuf,
}

/// Runs the command to its end and gives its exit code.
pub fn run(trial: &Trial) -> Result<u8> {
    refuse_directories_as_streams()?;
    mounting::check_device()?;
    let identity = identity::Plan::new(trial.identity)?;
    let prepared = Prepared {
        trial,
        helper: mounting::find()?,
        signals: supervise::block_signals().context(|| "cannot block signals".to_string())?,
        state: State::prepare(&trial.fate, &trial.record(&identity))?,
        identity,
        // A directory that was removed under the caller is nobody's: start at /.
        directory: std::env::current_dir().unwrap_or_else(|_removed| PathBuf::from("/")),
    };
    let terminal = Terminal::of_foreground();
    let code = start(&prepared);
    terminal.take_back();
    code
}

/// Makes the keeper and waits for it.
fn start(prepared: &Prepared<'_>) -> Result<u8> {
    match launch::launch(&prepared.identity, Namespaces::KEEPER, |gate| keeper::run(prepared, gate)) {
        Ok(keeper) => {
            let ended = supervise::wait_for(keeper).context(|| "cannot wait for the keeper".to_string())?;
            Ok(ended.code)
        }
        Err(failure) => {
            prepared.state.finish()?;
            Err(failure)
        }
    }
}

/// A directory as stdin, stdout or stderr would be a way out of the view.
fn refuse_directories_as_streams() -> Result<()> {
    let streams = [
        ("stdin", rustix::fs::fstat(std::io::stdin())),
        ("stdout", rustix::fs::fstat(std::io::stdout())),
        ("stderr", rustix::fs::fstat(std::io::stderr())),
    ];
    for (name, stat) in streams {
        if stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
            return Err(Failure::new(format!(
                "cannot start the command: its {name} is a directory of the host"
            )));
        }
    }
    Ok(())
}

/// The caller's terminal, when it is ours to use.
struct Terminal(Option<(OwnedFd, Pid)>);

impl Terminal {
    /// The terminal on stdin, if this process is in its foreground.
    fn of_foreground() -> Terminal {
        let stdin = std::io::stdin();
        if !isatty(&stdin) {
            return Terminal(None);
        }
        // A group of outside this pid namespace has no number, which is an
        // error here; so the question comes before `getpgrp`.
        let Ok(foreground) = tcgetpgrp(&stdin) else { return Terminal(None) };
        if foreground != getpgrp() {
            return Terminal(None);
        }
        Terminal(stdin.as_fd().try_clone_to_owned().ok().map(|fd| (fd, foreground)))
    }

    /// Puts the caller's process group back into the foreground: a shell with
    /// job control leaves its own there, and it is gone.
    fn take_back(&self) {
        let Some((terminal, ours)) = &self.0 else { return };
        if SignalSet::of(&[libc::SIGTTOU]).block().is_ok() {
            // A terminal that hung up meanwhile is nobody's.
            tcsetpgrp(terminal, *ours).unwrap_or_default();
        }
    }
}
