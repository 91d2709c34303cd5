//! The monitor: the process that a container has beside its own.
//!
//! It is forked by `runion start` and outlives it. It mounts the root, has the
//! process launched, holds its stdio, writes the log, serves those attached,
//! reaps, undoes everything that was made, and notes how it ended. It never
//! executes anything that lies in a container.
//!
//! | module | what |
//! |---|---|
//! | [`life`] | from the first step of a start to the last of an end |
//! | [`pump`] | the loop while it runs |
//! | [`health`] | whether it is well: a process that has it checked, beside this one |
//! | [`log`] | what it printed |
//! | [`protocol`] | words with those attached |
//! | [`words`] | where it says what goes wrong |

mod health;
mod launching;
mod life;
pub mod log;
mod networking;
mod program;
pub mod protocol;
mod pump;
mod servant;
mod stdio;
mod words;

pub use networking::{FILES as NETWORK_FILES, file as network_file, publish, where_bridges_are};
pub use pump::{Held, Pump};

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};
use serde::{Deserialize, Serialize};

use crate::container::{Container, Locked, Record};
use crate::failure::{Context, Failure, Result};
use crate::sandbox::identity::Plan;
use crate::sandbox::launch::launch;
use crate::sandbox::{self, Identity};
use crate::sys::{Namespaces, SignalSet};

/// Whether whoever starts a container is attached from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// It is.
    FromTheStart,
    /// It is not.
    No,
}

/// What a monitor says once its container runs, or cannot.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Started,
    Failed { code: u8, message: String, hint: Option<String> },
}

/// Starts a container that does not run; back once it runs. With somebody
/// attached, the socket is theirs.
///
/// `signals` are those that the caller began with blocked: what a container
/// begins with too.
pub fn start(
    container: &Container,
    locked: Locked<'_>,
    attach: Attach,
    signals: SignalSet,
) -> Result<Option<OwnedFd>> {
    let plan = Plan::new(Identity::Root)?;
    let context = || format!("cannot start a monitor for {}", container.id());
    let (hear, tell) = pipe_with(PipeFlags::CLOEXEC).context(context)?;
    let sockets = match attach {
        Attach::No => None,
        Attach::FromTheStart => {
            let kind = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
            Some(socketpair(kind.0, kind.1, kind.2, None).context(context)?)
        }
    };
    let (ours, theirs) = sockets.map_or((None, None), |(ours, theirs)| (Some(ours), Some(theirs)));
    let ground = networking::ground(container, &locked.read()?, &plan)?;
    let born = life::Birth { container, plan: &plan, ground: &ground, signals };
    let monitor = match &ground {
        // Its user namespace is there already.
        networking::Ground::Held(_) => sandbox::launch::fork(|| life::run(&born, locked, theirs, tell)),
        _ => launch(&plan, Namespaces::MOUNT, |gate| match gate.opened() {
            true => life::run(&born, locked, theirs, tell),
            false => crate::failure::OURS,
        }),
    }?;
    let mut text = Vec::new();
    File::from(hear).read_to_end(&mut text).context(context)?;
    match serde_json::from_slice(&text) {
        Ok(Answer::Started) => Ok(ours),
        Ok(Answer::Failed { code, message, hint }) => {
            // It has undone everything by now, and ends.
            waitpid(Some(monitor), WaitOptions::empty()).context(context)?;
            let failure = Failure::as_docker(message).code(code);
            Err(match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
        Err(_) => Err(Failure::new(format!("{}: it died", context()))
            .hint("what it left is undone by the next command")),
    }
}

impl Answer {
    fn of(failure: &Failure) -> Answer {
        Answer::Failed {
            code: failure.exit_code(),
            message: failure.message().to_owned(),
            hint: failure.hint_text().map(str::to_owned),
        }
    }

    /// Whoever started it may be gone; that is no reason to stop.
    fn send(&self, to: OwnedFd) {
        let text = serde_json::to_vec(self).unwrap_or_default();
        File::from(to).write_all(&text).unwrap_or_default();
    }
}

/// A socket to a monitor that runs, for somebody to be attached by.
pub fn connect(container: &Container) -> Result<OwnedFd> {
    let context = || format!("cannot attach to the container {}", container.id());
    let dir = File::open(container.dir()).context(context)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .context(context)?;
    rustix::net::connect(&socket, &address(dir.as_fd()).context(context)?).context(context)?;
    Ok(socket)
}

/// A socket's name may be 107 bytes long, a store's deeper than that.
fn address(dir: rustix::fd::BorrowedFd<'_>) -> rustix::io::Result<rustix::net::SocketAddrUnix> {
    use std::os::fd::AsRawFd;
    rustix::net::SocketAddrUnix::new(format!("/proc/self/fd/{}/control", dir.as_raw_fd()))
}

/// Undoes what a killed monitor left: its container's network, cgroup, rules.
pub fn undo_after_a_crash(container: &Container, record: &Record) -> Result<()> {
    launching::undo(container, record).map(drop)
}
