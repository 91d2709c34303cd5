//! Limits of setrlimit(2) and the score for when memory runs out. What the host
//! refuses is a warning, never the end of a container.

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::bundle::{self, Process};
use crate::failure::{Context, Failure, Result};

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return None,
    })
}

/// Refuses what is no limit, before anything is made.
pub fn check(process: &Process) -> Result<()> {
    for (at, limit) in process.rlimits.iter().enumerate() {
        let refuse = |why: &str| Err(Failure::new(format!("cannot set the limit {:?}: {why}", limit.kind)));
        if resource(&limit.kind).is_none() {
            return refuse("there is none of that name");
        }
        if limit.soft > limit.hard {
            return refuse("what counts is more than what it can be raised to");
        }
        if process.rlimits.iter().skip(at + 1).any(|other| other.kind == limit.kind) {
            return refuse("it is named twice");
        }
    }
    Ok(())
}

/// Raises what must be raised of a process that has just been made: its maker
/// may be allowed to, and the process, in a user namespace, never is.
pub fn raise(pid: Pid, process: &Process) {
    for limit in &process.rlimits {
        let Some(resource) = resource(&limit.kind) else { continue };
        let now = getrlimit(resource);
        let is_higher = now.maximum.is_some_and(|most| limit.hard > most);
        if is_higher {
            // What is refused here is told when the process sets its limits.
            let new = numbers(now.current.unwrap_or(u64::MAX).min(limit.hard), limit.hard);
            prlimit(Some(pid), resource, new).map(drop).unwrap_or_default();
        }
    }
}

/// Sets all limits of this process, which is about to execute its command.
pub fn set(process: &Process, warn: &mut dyn FnMut(String)) -> Result<()> {
    for limit in &process.rlimits {
        let Some(resource) = resource(&limit.kind) else { continue };
        match setrlimit(resource, numbers(limit.soft, limit.hard)) {
            Err(Errno::PERM) => lower(resource, limit, warn)?,
            set => set.context(|| format!("cannot set the limit {}", limit.kind))?,
        }
    }
    Ok(())
}

/// As much of a limit as there is: it cannot be raised here.
fn lower(resource: Resource, limit: &bundle::Rlimit, warn: &mut dyn FnMut(String)) -> Result<()> {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let (soft, hard) = (limit.soft.min(most), limit.hard.min(most));
    warn(format!(
        "the limit {} cannot be raised to {} here: it stays at {}",
        limit.kind,
        spell(limit.hard),
        spell(hard)
    ));
    setrlimit(resource, numbers(soft, hard)).context(|| format!("cannot set the limit {}", limit.kind))
}

/// Sets the score by which a process is found when memory runs out.
pub fn set_score(pid: Pid, process: &Process, warn: &mut dyn FnMut(String)) -> Result<()> {
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    let path = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
    let Err(error) = std::fs::write(&path, score.to_string()) else { return Ok(()) };
    if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) {
        warn(format!("the oom score {score} is not allowed here"));
        return Ok(());
    }
    Err(error).context(|| format!("cannot set the oom score {score}"))
}

fn numbers(soft: u64, hard: u64) -> Rlimit {
    let number = |value| (value != u64::MAX).then_some(value);
    Rlimit { current: number(soft), maximum: number(hard) }
}

fn spell(value: u64) -> String {
    if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() }
}
