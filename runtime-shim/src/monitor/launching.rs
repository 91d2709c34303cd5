//! From a record to a process: bundle, launch, cgroup, network; and the reverse.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::networking::{self, Attached, Ground};
use super::program::Program;
use super::pump::Held;
use super::stdio::{Ours, Stdio};
use crate::bundle::{NamespaceKind, Spec};
use crate::cgroup::Group;
use crate::container::{Container, Containers, Mode, Record, absent_is_fine};
use crate::failure::{Context, Result, say};
use crate::launch;
use crate::network::{Reserved, Settling};
use crate::rootfs::Rootfs;
use crate::sandbox::identity::Plan;
use crate::settle;
use crate::spec;
use crate::volume::Volumes;

/// Where a monitor is.
pub struct Place<'a> {
    /// Whose ids it has.
    pub plan: &'a Plan,
    /// Where its networks are.
    pub ground: &'a Ground,
}

/// A container that was started.
pub struct Started {
    /// What the monitor holds of it.
    pub held: Held,
    /// Its first process, by the host's number.
    pub pid: i32,
    /// When that began.
    pub since: Option<u64>,
    /// Its cgroup.
    pub cgroup: Option<Group>,
    /// Its ports, kept.
    pub network: Option<Attached>,
}

/// Starts it. What a failure leaves is to be [undone](undo).
pub fn start(
    container: &Container,
    record: &Record,
    place: &Place<'_>,
    rootfs: &Rootfs,
    reserved: Reserved,
) -> Result<Started> {
    networking::prepare_files(container, record)?;
    let volumes = Volumes::open(container.store());
    volumes.ready(record, rootfs.root())?;
    let host = spec::bundle::Host {
        root: rootfs.root(),
        pids: pids(container, record)?,
        is_mapped: matches!(place.plan, Plan::Mapped(_)),
    };
    let spec = spec::bundle::of(container, record, &volumes, &host)?;
    spec.write(container.dir())?;
    match runtime(record) {
        Some(program) => {
            by_program(container, &Program::new(program, container), record, place.ground, reserved, &spec)
        }
        None => by_ourselves(container, record, place.ground, reserved, &spec),
    }
}

/// By our own launcher.
fn by_ourselves(
    container: &Container,
    record: &Record,
    ground: &Ground,
    reserved: Reserved,
    spec: &Spec,
) -> Result<Started> {
    let stdio = match record.config.terminal {
        true => Stdio::none()?,
        false => Stdio::pipes(record.config.stdin)?,
    };
    let Stdio { mut ours, theirs: [stdin, stdout, stderr] } = stdio;
    let mut request = launch::Request::new(container.id(), spec, container.dir());
    request.stdio =
        launch::Stdio::Given { stdin: stdin.as_fd(), stdout: stdout.as_fd(), stderr: stderr.as_fd() };
    if record.config.init {
        request.first = launch::FirstProcess::Init;
    }
    let cgroup = make_cgroup(spec)?;
    let groups = cgroup.as_ref().map(Group::ways_in).transpose()?;
    request.groups = groups.as_ref();
    let created = launch::create(&request)?;
    let attached = match is_alone(spec) {
        true => Some(networking::attach(container, record, ground, reserved, created.netns()?.as_fd())?),
        false => no_network_of_its_own(container, record)?,
    };
    let mut ready = created.prepare()?;
    if let Some(console) = ready.console.take() {
        ours = Ours::terminal(console)?;
    }
    let running = ready.start()?;
    for warning in &running.warnings {
        warn(warning);
    }
    let number = running.pid.as_raw_nonzero().get();
    Ok(Started {
        held: held(running.pid, running.pidfd, ours, record),
        pid: number,
        since: settle::since(number),
        cgroup,
        network: attached,
    })
}

/// On the host's network its files tell of that.
fn no_network_of_its_own(container: &Container, record: &Record) -> Result<Option<Attached>> {
    if record.config.network == Mode::Host {
        networking::write_files(container, record, &[])?;
    }
    Ok(None)
}

/// Whether it has a network namespace of its own.
fn is_alone(spec: &Spec) -> bool {
    let network = spec.linux.as_ref().and_then(|linux| linux.namespace(NamespaceKind::Network));
    network.is_some_and(|namespace| namespace.path.is_none())
}

/// Makes its cgroup and sets its limits, as far as the host lets us.
fn make_cgroup(spec: &Spec) -> Result<Option<Group>> {
    let Some(linux) = &spec.linux else { return Ok(None) };
    let (Some(path), Some(resources)) = (&linux.cgroups_path, &linux.resources) else { return Ok(None) };
    let (group, warnings) = Group::create(path, resources)?;
    for warning in &warnings {
        warn(warning);
    }
    Ok((!group.is_empty()).then_some(group))
}

/// As docker says it.
fn warn(warning: &str) {
    say(&format!("WARNING: {warning}"));
}

/// The program that is called in the place of our launcher.
fn runtime(record: &Record) -> Option<&Path> {
    record.config.runtime.as_deref().filter(|path| !path.as_os_str().is_empty())
}

fn by_program(
    container: &Container,
    program: &Program<'_>,
    record: &Record,
    ground: &Ground,
    reserved: Reserved,
    spec: &Spec,
) -> Result<Started> {
    let pipes = match record.config.terminal {
        true => None,
        false => Some(Stdio::pipes(record.config.stdin)?),
    };
    let (pid, ours) = program.create(pipes)?;
    let number = pid.as_raw_nonzero().get();
    let attached = match is_alone(spec) {
        true => {
            let path = format!("/proc/{number}/ns/net");
            let namespace =
                fs::File::open(path).context(|| "cannot open the network namespace".to_owned())?;
            Some(networking::attach(container, record, ground, reserved, namespace.as_fd())?)
        }
        false => no_network_of_its_own(container, record)?,
    };
    program.start()?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context(|| "cannot watch the process".to_owned())?;
    Ok(Started {
        held: held(pid, pidfd, ours, record),
        pid: number,
        since: settle::since(number),
        cgroup: None,
        network: attached,
    })
}

fn held(pid: Pid, pidfd: OwnedFd, ours: Ours, record: &Record) -> Held {
    let Ours { input, output, error } = ours;
    let (terminal, stdin) = (record.config.terminal, record.config.stdin);
    Held { pid, pidfd, output, error, input, terminal, stdin }
}

/// First processes of containers whose namespaces this one joins.
fn pids(container: &Container, record: &Record) -> Result<BTreeMap<String, i32>> {
    let containers = Containers::open(container.store())?;
    let config = &record.config;
    let mut found = BTreeMap::new();
    for mode in [&config.pid, &config.network, &config.ipc, &config.uts, &config.cgroupns] {
        let Mode::Container(id) = mode else { continue };
        let other = settle::read(&containers.find(id)?)?;
        if let Some(pid) = other.state.pid.filter(|_| other.state.status.is_up()) {
            found.insert(id.clone(), pid);
        }
    }
    Ok(found)
}

/// Undoes what a start made outside of the container's namespaces. It is done
/// from files alone, and may be done again. What it gives is best dropped last
/// of all.
pub fn undo(container: &Container, record: &Record) -> Result<Settling> {
    if let Some(program) = runtime(record) {
        Program::new(program, container).delete()?;
    }
    let settling = networking::detach(container, record)?;
    if let Some(group) = Group::at(&spec::bundle::cgroup_path(record))? {
        group.kill_all()?;
        group.remove()?;
    }
    for name in ["pid", "console", "runtime.log"] {
        absent_is_fine(fs::remove_file(container.dir().join(name)))
            .context(|| format!("cannot tidy {}", container.dir().display()))?;
    }
    Ok(settling)
}
