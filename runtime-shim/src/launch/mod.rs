//! From an OCI bundle to a process: this crate's own container runtime.
//!
//! ```text
//! create    sources opened, process made in its namespaces, ids mapped, cgroups
//!           entered; it waits (the caller attaches a network)
//! prepare   mounts, devices, hooks, root, ids, program found; it waits
//! start     filter, capabilities, exec
//! ```
//! The caller is single-threaded, is the process's parent and waits for it by
//! its pidfd. What was made and is dropped before it started is killed and
//! reaped. The process never outlives a maker that dies before it started.
//!
//! Invariants:
//! - no path of the container is resolved but beneath its root, from a held
//!   descriptor (`target`); nothing of it is executed or parsed with rights it
//!   does not have itself;
//! - every mount is made detached and put on an open target (`mounts`);
//! - rights are given up last, and the process cannot be traced by its container
//!   until it is its command (`command`);
//! - what cannot be honoured is refused by name; what the host refuses and a
//!   container can live without is a warning.
//!
//! It knows nothing of images, stores or networks, and of cgroups the ways in.

mod caller;
mod capabilities;
mod cgroups;
mod channel;
mod command;
mod copyup;
mod devices;
mod filesystems;
mod hidden;
pub mod hooks;
mod init;
mod kernel;
mod limits;
mod mounts;
mod namespaces;
mod options;
mod program;
pub mod protect;
mod request;
pub mod seccomp;
mod sources;
mod steps;
mod target;
mod terminal;
mod users;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

pub use self::capabilities::NAMES as CAPABILITIES;
pub use self::channel::Channel;
pub use self::init::FirstProcess;
pub use self::request::{Groups, Join, Keys, OnDeath, REFUSED_ENTRY, Request, Stdio, Swap, Target};
pub use self::seccomp::docker_default;
pub use self::steps::cannot_pivot;

use self::channel::Message;
use self::command::Command;
use self::hooks::{State, Status};
use self::namespaces::{Kept, Plan};
use self::steps::Container;
use crate::bundle::{Linux, Process, Spec};
use crate::failure::{Context, Failure, Result};
use crate::sys::Side;

/// A process in its namespaces that waits to become a container.
#[must_use = "it is killed when dropped"]
pub struct Created<'a> {
    held: Held,
    channel: Channel,
    about: About<'a>,
    warnings: Vec<String>,
}

/// A process that waits to become its command.
#[must_use = "it is killed when dropped"]
pub struct Ready<'a> {
    held: Held,
    channel: Channel,
    about: About<'a>,
    /// The command's terminal, if it asked for one: its other end.
    pub console: Option<OwnedFd>,
    /// What was asked for and could not be had.
    pub warnings: Vec<String>,
}

/// A command that runs: the caller's child, to be waited for.
pub struct Running {
    /// As the caller numbers it.
    pub pid: Pid,
    /// Readable once it ended.
    pub pidfd: OwnedFd,
    /// What was asked for and could not be had.
    pub warnings: Vec<String>,
}

/// What is to be known of a process beside itself.
#[derive(Clone, Copy)]
struct About<'a> {
    process: Option<&'a Process>,
    /// Of a container's first process.
    container: Option<(&'a str, &'a Spec, &'a Path)>,
}

/// Makes a container's process, in all its namespaces.
pub fn create<'a>(request: &Request<'a>) -> Result<Created<'a>> {
    let spec = request.spec;
    spec.check()?;
    let linux = section(spec)?;
    let mut warnings = Vec::new();
    let plan = Plan::of(linux)?;
    kernel::check_parameters(linux)?;
    let command = match &spec.process {
        Some(process) => Some(Command {
            first: request.first_process(),
            death: request.death,
            keys: request.keys,
            stdio: request.stdio,
            preserve_fds: request.preserve_fds,
            listener: request.listener,
            ..Command::of(process, linux, &mut warnings)?
        }),
        None => None,
    };
    let container = Container {
        id: request.id,
        spec,
        linux,
        bundle: request.bundle,
        root: sources::root(spec, request.bundle)?,
        mounts: sources::take_all(spec, linux, request.bundle, &plan.users)?,
        plan,
        command,
        swap: request.swap,
    };
    let about = About { process: spec.process.as_ref(), container: Some((request.id, spec, request.bundle)) };
    let created = bear(&container.plan, request.groups, &container.kept(), about, warnings, |channel| {
        container.become_it(channel)
    })?;
    users::write(created.pid(), &container.plan.users)?;
    Ok(created)
}

/// Makes a process in all the namespaces of a running container.
pub fn exec<'a>(target: &Target<'_>, process: &'a Process, join: &Join<'_>) -> Result<Created<'a>> {
    if process.args.is_empty() {
        return Err(Failure::new("cannot run a command of no words"));
    }
    let mut warnings = Vec::new();
    let linux = section(target.spec)?;
    let command = Command {
        death: join.death,
        stdio: join.stdio,
        preserve_fds: join.preserve_fds,
        ..Command::of(process, linux, &mut warnings)?
    };
    let plan = Plan::of_process(target.pid, command::own(target.pidfd)?)?;
    let about = About { process: Some(process), container: None };
    let kept = command.kept();
    bear(&plan, join.groups, &kept, about, warnings, |channel| steps::join(&command, &plan.users, channel))
}

/// Tells a container that was made with a listener to start, over a connection
/// to it; comes back once its command runs.
pub fn start_by(socket: OwnedFd) -> Result<()> {
    let channel = Channel::over(socket);
    channel.say(&Message::Start)?;
    match hear_of_start(&channel, &mut |_warning| {})? {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}

/// Runs the hooks of a container that is gone; their failures are words only.
pub fn run_poststop_hooks(id: &str, spec: &Spec, bundle: &Path) -> Vec<String> {
    let Some(hooks) = &spec.hooks else { return Vec::new() };
    let state = State::of(id, spec, bundle, Status::Stopped, None);
    hooks::run_all("poststop", &hooks.poststop, &state)
}

/// Runs the hooks of a container that has just started; their failures are
/// words only.
pub fn run_poststart_hooks(id: &str, spec: &Spec, bundle: &Path, pid: Pid) -> Vec<String> {
    let Some(hooks) = &spec.hooks else { return Vec::new() };
    let state = State::of(id, spec, bundle, Status::Running, Some(pid.as_raw_nonzero().get()));
    hooks::run_all("poststart", &hooks.poststart, &state)
}

fn section(spec: &Spec) -> Result<&Linux> {
    spec.linux.as_ref().ok_or_else(|| Failure::new("cannot run the bundle: it has no section \"linux\""))
}

/// Makes a process that does `become_it`, and tells its maker why it cannot.
fn bear<'a>(
    plan: &Plan,
    groups: Option<&Groups>,
    kept: &Kept<'_>,
    about: About<'a>,
    warnings: Vec<String>,
    become_it: impl FnOnce(Channel) -> (Channel, Failure),
) -> Result<Created<'a>> {
    let (ours, theirs) = Channel::pair()?;
    let tasks = groups.map_or(&[][..], |groups| &groups.first);
    let more = kept.more.iter().copied().chain([theirs.as_fd()]);
    let more = more.chain(tasks.iter().map(AsFd::as_fd)).collect();
    let cgroup = groups.and_then(|groups| groups.second.as_ref()).map(AsFd::as_fd);
    let born = plan.give_birth(cgroup, &Kept { first: kept.first, more });
    let pid = match born {
        Ok(Side::Parent(pid)) => pid,
        Ok(Side::Child) => {
            // Closed by now, and not ours to close again.
            std::mem::forget(ours);
            // Where it cannot, only who may look at every process sees it.
            caller::forget().unwrap_or_default();
            let (channel, failure) = match steps::enter_groups(tasks) {
                Ok(()) => become_it(theirs),
                Err(failure) => (theirs, failure),
            };
            // Nobody may be there to hear it any more.
            channel.say(&Message::of_failure(&failure)).unwrap_or_default();
            std::process::exit(i32::from(failure.parts().0));
        }
        Err(failure) => return Err(failure),
    };
    drop(theirs);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context(|| "cannot watch the container".to_string())?;
    Ok(Created { held: Held { pid, pidfd: Some(pidfd) }, channel: ours, about, warnings })
}

impl<'a> Created<'a> {
    /// The process, as the caller numbers it.
    pub fn pid(&self) -> Pid {
        self.held.pid
    }

    /// Its network namespace.
    pub fn netns(&self) -> Result<OwnedFd> {
        namespaces::open(self.held.pid, "net")
    }

    /// Has it do all but exec.
    pub fn prepare(mut self) -> Result<Ready<'a>> {
        let pid = self.held.pid.as_raw_nonzero().get();
        if let Some(process) = self.about.process {
            limits::raise(self.held.pid, process);
        }
        // One that is gone is told of below, by what it said before.
        self.channel.say(&Message::Prepare { pid }).unwrap_or_default();
        let console = loop {
            match self.channel.hear()? {
                Some((Message::Warning(warning), _)) => self.warnings.push(warning),
                Some((Message::Mounted, _)) => {
                    self.run_runtime_hooks(pid)?;
                    self.channel.say(&Message::Proceed)?;
                }
                Some((Message::Ready, console)) => break console,
                Some((Message::Failed { code, message, hint }, _)) => {
                    return Err(Message::into_failure(code, message, hint));
                }
                Some((message, _)) => {
                    return Err(Failure::new(format!("the container's process said {message:?}")));
                }
                None => return Err(self.held.died()),
            }
        };
        if let Some(process) = self.about.process {
            limits::set_score(self.held.pid, process, &mut |warning| self.warnings.push(warning))?;
        }
        let Created { held, channel, about, warnings } = self;
        Ok(Ready { held, channel, about, console, warnings })
    }

    fn run_runtime_hooks(&self, pid: i32) -> Result<()> {
        let Some((id, spec, bundle)) = self.about.container else { return Ok(()) };
        let Some(hooks) = &spec.hooks else { return Ok(()) };
        let state = State::of(id, spec, bundle, Status::Creating, Some(pid));
        hooks::run("prestart", &hooks.prestart, &state)?;
        hooks::run("createRuntime", &hooks.create_runtime, &state)
    }
}

impl Ready<'_> {
    /// The process, as the caller numbers it.
    pub fn pid(&self) -> Pid {
        self.held.pid
    }

    /// Has it become its command; back once it is. What it cannot run is a
    /// failure in docker's words with code 126 or 127.
    pub fn start(mut self) -> Result<Running> {
        self.channel.say(&Message::Start).unwrap_or_default();
        let warnings = &mut self.warnings;
        if let Some(failure) = hear_of_start(&self.channel, &mut |warning| warnings.push(warning))? {
            return Err(failure);
        }
        let pid = self.held.pid;
        if let Some((id, spec, bundle)) = self.about.container {
            self.warnings.extend(run_poststart_hooks(id, spec, bundle, pid));
        }
        let pidfd = self.held.let_go().ok_or_else(|| self.held.died())?;
        Ok(Running { pid, pidfd, warnings: std::mem::take(&mut self.warnings) })
    }

    /// Leaves it waiting for whoever connects to its listener.
    pub fn leave(mut self) -> Pid {
        drop(self.held.let_go());
        self.held.pid
    }
}

/// Until the channel's end, which is exec's doing.
fn hear_of_start(channel: &Channel, warn: &mut dyn FnMut(String)) -> Result<Option<Failure>> {
    loop {
        match channel.hear()? {
            None => return Ok(None),
            Some((Message::Warning(warning), _)) => warn(warning),
            Some((Message::Failed { code, message, hint }, _)) => {
                return Ok(Some(Message::into_failure(code, message, hint)));
            }
            Some((message, _)) => {
                return Err(Failure::new(format!("the container's process said {message:?}")));
            }
        }
    }
}

/// A process that is not yet what it is made for.
struct Held {
    pid: Pid,
    pidfd: Option<OwnedFd>,
}

impl Held {
    /// It is somebody else's to wait for from here on.
    fn let_go(&mut self) -> Option<OwnedFd> {
        self.pidfd.take()
    }

    /// Why it is gone, as far as can be said.
    fn died(&self) -> Failure {
        Failure::new("the container's process died before it was ready")
            .hint("it may have been killed for using up memory: see dmesg")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(pidfd) = &self.pidfd else { return };
        // One that ended by itself cannot be killed, and one that somebody else
        // reaped cannot be waited for: both are what is wanted.
        pidfd_send_signal(pidfd, Signal::KILL).unwrap_or_default();
        waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).map(drop).unwrap_or_default();
    }
}
