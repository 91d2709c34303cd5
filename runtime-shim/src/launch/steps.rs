//! What the first process of a container does, step by step, from its birth to
//! its command. Each step is a line of [`Container::become_it`].

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};
use rustix::process::{
    DumpableBehavior, chdir, chroot, fchdir, getpid, pivot_root, set_dumpable_behavior, setsid, umask,
};

use super::channel::{Channel, Message};
use super::command::{self, Command, become_root_of_namespace};
use super::hooks::{self, State, Status};
use super::mounts::{self, Ground};
use super::namespaces::{Kept, Plan, Users};
use super::options::{Depth, Propagation, attribute};
use super::sources::Planned;
use super::target::{self, Links};
use super::terminal::{self, Console, Terminal};
use super::{Swap, devices, hidden, kernel};
use crate::bundle::{Linux, Spec};
use crate::failure::{Context, Failure, Result};
use crate::sys::mounts::{Reach, set_attributes};
use crate::sys::process::unshare;
use crate::sys::{self, Namespaces, SignalSet};
use rustix::io::Errno;

/// All that the process is made with.
pub struct Container<'a> {
    /// Its name.
    pub id: &'a str,
    /// Its bundle.
    pub spec: &'a Spec,
    /// The bundle's section.
    pub linux: &'a Linux,
    /// Where the bundle is.
    pub bundle: &'a Path,
    /// Its namespaces.
    pub plan: Plan,
    /// Its root: a detached tree.
    pub root: OwnedFd,
    /// What is mounted there.
    pub mounts: Vec<Planned<'a>>,
    /// What it is made for, if it is ever to start.
    pub command: Option<Command<'a>>,
    /// How the root becomes the root.
    pub swap: Swap,
}

impl Container<'_> {
    /// Descriptors that its process needs.
    pub fn kept(&self) -> Kept<'_> {
        let own = self.mounts.iter().filter_map(|planned| planned.source.as_ref());
        let own = own.chain([&self.root]).map(AsFd::as_fd);
        match self.command.as_ref().map(Command::kept) {
            Some(kept) => Kept { first: kept.first, more: own.chain(kept.more).collect() },
            None => Kept { first: 0, more: own.collect() },
        }
    }

    /// Does all of it; comes back with the reason why not, and to whom to tell.
    pub fn become_it(&self, channel: Channel) -> (Channel, Failure) {
        let (terminal, program) = match self.make(&channel) {
            Ok(made) => made,
            Err(failure) => return (channel, failure),
        };
        let said = match terminal {
            Some(terminal) => channel.give(&Message::Ready, terminal.master.as_fd()),
            None => channel.say(&Message::Ready),
        };
        if let Err(failure) = said {
            return (channel, failure);
        }
        let Some(command) = &self.command else {
            return (channel, Failure::new("the bundle has no process to start"));
        };
        start(command, program.as_ref(), channel, || self.run_start_hooks())
    }

    fn make(&self, channel: &Channel) -> Result<(Option<Terminal>, Option<super::program::Program>)> {
        let pid = self.await_maker(channel)?;
        self.hide()?;
        self.become_root()?;
        self.begin_session()?;
        self.take_late_namespaces()?;
        kernel::set_names(self.spec)?;
        kernel::set_parameters(self.linux)?;
        self.raise_loopback()?;
        self.leave_hosts_mounts()?;
        self.place_root()?;
        self.make_mounts()?;
        devices::make(self.root.as_fd(), self.spec)?;
        let terminal = self.make_terminal()?;
        self.make_directory()?;
        hidden::make_read_only(self.root.as_fd(), &self.linux.readonly_paths)?;
        hidden::mask(self.root.as_fd(), &self.linux.masked_paths)?;
        self.run_hooks(channel, pid)?;
        self.enter_root()?;
        self.protect_root()?;
        let program = match &self.command {
            Some(command) => Some(command.settle(terminal.as_ref(), channel)?),
            None => None,
        };
        Ok((terminal, program))
    }

    /// By now the maps are written and the cgroups joined.
    fn await_maker(&self, channel: &Channel) -> Result<i32> {
        match command::expect(channel, |message| matches!(message, Message::Prepare { .. }))? {
            Message::Prepare { pid } => Ok(pid),
            _ => Err(Failure::new("the container's process was told nothing of use")),
        }
    }

    /// From processes of the same user, in namespaces that are shared.
    fn hide(&self) -> Result<()> {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .context(|| "cannot hide from the container".to_string())?;
        // Nobody else's, and what is made has the mode that it is made with.
        umask(Mode::empty());
        SignalSet::of(&[]).restore().context(|| "cannot unblock signals".to_string())
    }

    fn become_root(&self) -> Result<()> {
        match self.plan.users {
            Users::Shared => Ok(()),
            Users::Joined | Users::Own { .. } => {
                become_root_of_namespace(self.spec.process.as_ref().map(|process| &process.user))
            }
        }
    }

    fn begin_session(&self) -> Result<()> {
        setsid().map(|_session| ()).context(|| "cannot begin a session".to_string())
    }

    /// The view of cgroups begins where the process is by now; clocks are set
    /// before anybody lives by them.
    fn take_late_namespaces(&self) -> Result<()> {
        if self.plan.late.is_empty() {
            return Ok(());
        }
        unshare(self.plan.late).context(|| "cannot make the container's late namespaces".to_string())?;
        if !self.plan.late.contains(Namespaces::TIME) {
            return Ok(());
        }
        // What a process that hides says of itself belongs to the root of its
        // maker's users, which is nobody's here. Where processes are its own,
        // there is nobody to hide from yet.
        let is_alone = self.plan.new.contains(Namespaces::PID.and(Namespaces::USER));
        let context = || "cannot hide from the container".to_string();
        if is_alone {
            set_dumpable_behavior(DumpableBehavior::Dumpable).context(context)?;
        }
        kernel::set_clocks(self.linux)?;
        set_dumpable_behavior(DumpableBehavior::NotDumpable).context(context)
    }

    /// All that a new network namespace has, and down at first.
    fn raise_loopback(&self) -> Result<()> {
        match self.plan.new.contains(Namespaces::NETWORK) {
            true => sys::raise_loopback().context(|| "cannot bring the container's loopback up".to_string()),
            false => Ok(()),
        }
    }

    /// Nothing that is mounted from here on is seen outside.
    fn leave_hosts_mounts(&self) -> Result<()> {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .context(|| "cannot make the mounts private".to_string())
    }

    /// On top of the old root: no directory of the host has to be found for it.
    fn place_root(&self) -> Result<()> {
        let context = || "cannot place the container's root".to_string();
        let propagation = self.propagation_meanwhile()?;
        mounts::propagate(self.root.as_fd(), propagation).context(context)?;
        if propagation.kind == libc::MS_SHARED {
            // A shared one cannot become the root.
            let private = Propagation { kind: libc::MS_PRIVATE, depth: Depth::One };
            mounts::propagate(self.root.as_fd(), private).context(context)?;
        }
        let by_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(self.root.as_fd(), c"", CWD, c"/", by_descriptor).context(context)
    }

    /// What is not to be bound elsewhere has to be until all is in its place.
    fn propagation_meanwhile(&self) -> Result<Propagation> {
        let Propagation { kind, .. } = self.propagation()?;
        let kind = if kind == libc::MS_UNBINDABLE { libc::MS_PRIVATE } else { kind };
        Ok(Propagation { kind, depth: Depth::All })
    }

    /// How mounts reach others unless they say otherwise: not at all.
    fn propagation(&self) -> Result<Propagation> {
        let Some(word) = self.linux.rootfs_propagation.as_deref().filter(|word| !word.is_empty()) else {
            return Ok(Propagation { kind: libc::MS_PRIVATE, depth: Depth::All });
        };
        Propagation::parse(word).ok_or_else(|| {
            Failure::new(format!("cannot run the bundle: linux.rootfsPropagation is {word:?}"))
        })
    }

    fn make_mounts(&self) -> Result<()> {
        let label = self.linux.mount_label.as_deref().filter(|label| !label.is_empty());
        let ground = Ground {
            root: self.root.as_fd(),
            propagation: self.propagation_meanwhile()?,
            own: self.plan.new.and(self.plan.late),
            label: label.filter(|_| kernel::has_selinux()),
        };
        self.mounts.iter().try_for_each(|planned| mounts::make_one(planned, &ground))
    }

    fn make_terminal(&self) -> Result<Option<Terminal>> {
        match &self.spec.process {
            Some(process) if process.terminal => {
                terminal::make(self.root.as_fd(), process.console_size, Console::Shown).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The working directory, while the root can be written to.
    fn make_directory(&self) -> Result<()> {
        let Some(process) = &self.spec.process else { return Ok(()) };
        target::directory(self.root.as_fd(), &process.cwd, 0o755, Links::Within)
            .map(|_directory| ())
            .context(|| format!("cannot make the working directory {}", process.cwd.display()))
    }

    fn run_hooks(&self, channel: &Channel, pid: i32) -> Result<()> {
        channel.say(&Message::Mounted)?;
        command::expect(channel, |message| matches!(message, Message::Proceed))?;
        let Some(hooks) = &self.spec.hooks else { return Ok(()) };
        let state = State::of(self.id, self.spec, self.bundle, Status::Creating, Some(pid));
        hooks::run("createContainer", &hooks.create_container, &state)
    }

    fn run_start_hooks(&self) -> Result<()> {
        let Some(hooks) = &self.spec.hooks else { return Ok(()) };
        let state = State::of(
            self.id,
            self.spec,
            self.bundle,
            Status::Created,
            Some(getpid().as_raw_nonzero().get()),
        );
        hooks::run("startContainer", &hooks.start_container, &state)
    }

    fn enter_root(&self) -> Result<()> {
        let context = || "cannot make the container's root the root".to_string();
        fchdir(&self.root).context(context)?;
        match self.swap {
            Swap::Pivot => {
                pivot().map_err(|errno| cannot_pivot(errno, "make the container's root the root"))?
            }
            Swap::Chroot => chroot(".").context(context)?,
        }
        chdir("/").context(context)
    }

    fn protect_root(&self) -> Result<()> {
        let root = self.root.as_fd();
        if let Some(word) = self.linux.rootfs_propagation.as_deref().filter(|word| !word.is_empty()) {
            let propagation = self.propagation()?;
            mounts::propagate(root, propagation).context(|| format!("cannot make the root {word}"))?;
        }
        if self.spec.root.as_ref().is_some_and(|root| root.readonly) {
            set_attributes(root, Reach::Mount, attribute::RDONLY, 0, 0)
                .context(|| "cannot make the root read-only".to_string())?;
        }
        Ok(())
    }
}

/// The old root ends up on top of the new one, and is let go of.
fn pivot() -> rustix::io::Result<()> {
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)
}

/// Why a root could not be exchanged for another, and what helps.
pub fn cannot_pivot(errno: Errno, action: &str) -> Failure {
    let failure = Failure::new(format!("cannot {action}: pivot_root: {errno}"));
    match errno {
        Errno::INVAL => failure.hint(
            "this machine still runs from its initial ramdisk, which is no root that can be exchanged: switch_root to \
             another file system first, or as an OCI runtime use --no-pivot",
        ),
        _ => failure,
    }
}

/// Enters cgroups of version 1 by their files `tasks`: "0" is the writer, and a
/// single thread that moves itself is all that the kernel has to look at.
pub fn enter_groups(tasks: &[OwnedFd]) -> Result<()> {
    let context = || "cannot enter the container's cgroup".to_string();
    tasks.iter().try_for_each(|tasks| rustix::io::write(tasks, b"0").map(|_all| ()).context(context))
}

/// Waits to be started, and becomes the command.
pub fn start(
    command: &Command<'_>,
    program: Option<&super::program::Program>,
    channel: Channel,
    hooks: impl FnOnce() -> Result<()>,
) -> (Channel, Failure) {
    let channel = match command.wait_to_start(&channel) {
        Ok(connected) => connected.unwrap_or(channel),
        Err(failure) => return (channel, failure),
    };
    let failure = match (hooks(), program) {
        (Err(failure), _) => failure,
        (Ok(()), None) => Failure::new("there is no process to start"),
        (Ok(()), Some(program)) => command.execute(program),
    };
    (channel, failure)
}

/// Of a running container, the process that joins it; as
/// [`Container::become_it`].
pub fn join(command: &Command<'_>, users: &Users, channel: Channel) -> (Channel, Failure) {
    let made = join_steps(command, users, &channel);
    let (terminal, program) = match made {
        Ok(made) => made,
        Err(failure) => return (channel, failure),
    };
    let said = match &terminal {
        Some(terminal) => channel.give(&Message::Ready, terminal.master.as_fd()),
        None => channel.say(&Message::Ready),
    };
    match said {
        Ok(()) => {
            drop(terminal);
            start(command, Some(&program), channel, || Ok(()))
        }
        Err(failure) => (channel, failure),
    }
}

fn join_steps(
    command: &Command<'_>,
    users: &Users,
    channel: &Channel,
) -> Result<(Option<Terminal>, super::program::Program)> {
    command::expect(channel, |message| matches!(message, Message::Prepare { .. }))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context(|| "cannot hide from the container".to_string())?;
    if *users == Users::Joined {
        become_root_of_namespace(Some(&command.process.user))?;
    }
    setsid().context(|| "cannot begin a session".to_string())?;
    let terminal = match command.process.terminal {
        true => {
            let root = open_root()?;
            Some(terminal::make(root.as_fd(), command.process.console_size, Console::Hidden)?)
        }
        false => None,
    };
    let program = command.settle(terminal.as_ref(), channel)?;
    Ok((terminal, program))
}

fn open_root() -> Result<OwnedFd> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/", flags, Mode::empty()).context(|| "cannot open the container's root".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_cannot_be_exchanged_has_a_remedy() {
        let failure = cannot_pivot(Errno::INVAL, "make the view the root");
        assert!(failure.message().starts_with("cannot make the view the root: pivot_root: Invalid argument"));
        assert!(failure.hint_text().unwrap().contains("switch_root"));
        assert_eq!(cannot_pivot(Errno::PERM, "x").hint_text(), None);
    }
}
