//! A worker: one run, in namespaces of its own, told on standard output.
//!
//! The runner starts it as the first process of a new process namespace with a
//! private mount namespace; all that it starts or mounts ends with it, however
//! it ends.

use std::io::{self, BufRead, Write};
use std::process::{Command, Stdio};

use rustix::thread::CpuSet;

use crate::candidate::Standing;
use crate::plan::{Caches, Message, Placement, Plan};
use crate::stage::Stage;
use crate::sys;
use crate::workload;

/// Argument by which the program knows that it is a worker; a plan follows.
pub const WORKER: &str = "worker";
/// Argument of the process that gives a worker's user namespace its ids.
pub const MAP_IDS: &str = "map-ids";
/// Ids of a worker's user namespace, the same inside and outside: as many as an
/// ordinary user with subordinate ids has.
const IDS: &str = "0 0 65536\n";

/// Does what the plan says.
///
/// # Errors
/// Only those of telling the runner; a failed run is told as a message.
pub fn work(plan: &str) -> io::Result<()> {
    let plan: Plan = serde_json::from_str(plan)?;
    match play(plan) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => tell(&Message::Absent(error.to_string())),
        Err(error) => tell(&Message::Failed(error.to_string())),
    }
}

fn play(plan: Plan) -> io::Result<()> {
    let Some(workload) = workload::find(&plan.workload) else {
        return Err(io::Error::other(format!("unknown workload {}", plan.workload)));
    };
    if plan.placement == Placement::OneCpu {
        stay_on_one_cpu()?;
    }
    let (standing, caches) = (plan.candidate.standing, plan.caches);
    let mut stage = Stage::new(plan, workload, tell)?;
    stage.warm(workload.tree)?;
    if caches == Caches::NamesDropped {
        // 2: entries and inodes, not pages.
        std::fs::write("/proc/sys/vm/drop_caches", "2")?;
    }
    if standing == Standing::Namespace {
        enter_user_namespace()?;
    }
    (workload.run)(&mut stage)?;
    stage.unmount()
}

/// The last CPU: interrupts prefer the first.
fn stay_on_one_cpu() -> io::Result<()> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|&cpu| allowed.is_set(cpu)) else { return Ok(()) };
    let mut one = CpuSet::new();
    one.set(last);
    rustix::thread::sched_setaffinity(None, &one).map_err(Into::into)
}

/// A user namespace with ids, and a mount namespace in it. The ids are written
/// by a process that stays outside, as newuidmap does for ordinary users.
fn enter_user_namespace() -> io::Result<()> {
    let mut outside =
        Command::new("/proc/self/exe").arg(MAP_IDS).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    sys::unshare_user_and_mounts()?;
    if let Some(mut order) = outside.stdin.take() {
        writeln!(order, "{}", std::process::id())?;
    }
    match outside.wait()?.success() {
        true => Ok(()),
        false => Err(io::Error::other("cannot map ids into the worker's user namespace")),
    }
}

/// Gives ids to the user namespace of the process named on standard input.
///
/// # Errors
/// Those of writing the maps.
pub fn map_ids() -> io::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{}/{map}", line.trim()), IDS)?;
    }
    Ok(())
}

fn tell(message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}
