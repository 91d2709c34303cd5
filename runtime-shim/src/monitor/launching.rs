//! From a record to a process: bundle, launch, cgroup, network; and the reverse.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::program::Program;
use super::pump::Held;
use super::stdio::{Ours, Stdio};
use crate::cgroup::Group;
use crate::container::{Container, Containers, Mode, Record};
use crate::failure::{Context, Failure, Result};
use crate::rootfs::Rootfs;
use crate::sandbox::identity::Plan;
use crate::settle;
use crate::spec;
use crate::volume::Volumes;

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
    /// How it is attached to networks.
    pub network: Option<Value>,
}

/// Starts it: every step, or none.
pub fn start(container: &Container, record: &Record, plan: &Plan, rootfs: &Rootfs) -> Result<Started> {
    let volumes = Volumes::open(container.store());
    let host = spec::bundle::Host {
        root: rootfs.root(),
        pids: pids(container, record)?,
        is_mapped: matches!(plan, Plan::Mapped(_)),
        has_cgroups: matches!(plan, Plan::Own(_)),
    };
    let spec = spec::bundle::of(container, record, &volumes, &host)?;
    spec.write(container.dir())?;
    match runtime(record) {
        Some(program) => by_program(&Program::new(program, container), record),
        None => Err(Failure::new("not yet")),
    }
}

/// The program that is called in the place of our launcher.
fn runtime(record: &Record) -> Option<&Path> {
    record.config.runtime.as_deref().filter(|path| !path.as_os_str().is_empty())
}

fn by_program(program: &Program<'_>, record: &Record) -> Result<Started> {
    let pipes = match record.config.terminal {
        true => None,
        false => Some(Stdio::pipes(record.config.stdin)?),
    };
    let (pid, ours) = program.create(pipes)?;
    if let Err(failure) = program.start() {
        program.delete()?;
        return Err(failure);
    }
    held(pid, ours, record)
}

fn held(pid: Pid, ours: Ours, record: &Record) -> Result<Started> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context(|| "cannot watch the process".to_owned())?;
    let number = pid.as_raw_nonzero().get();
    let Ours { input, output, error } = ours;
    let (terminal, stdin) = (record.config.terminal, record.config.stdin);
    Ok(Started {
        held: Held { pid, pidfd, output, error, input, terminal, stdin },
        pid: number,
        since: settle::since(number),
        cgroup: None,
        network: None,
    })
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

/// Undoes what a start made outside of the container's namespaces.
pub fn undo(container: &Container, record: &Record, cgroup: Option<&Group>) -> Result<()> {
    if let Some(program) = runtime(record) {
        Program::new(program, container).delete()?;
    }
    if let Some(cgroup) = cgroup {
        cgroup.kill_all()?;
        cgroup.remove()?;
    }
    for name in ["pid", "console", "runtime.log"] {
        crate::container::absent_is_fine(fs::remove_file(container.dir().join(name)))
            .context(|| format!("cannot tidy {}", container.dir().display()))?;
    }
    Ok(())
}
