//! Undoing what a monitor that was killed left, and telling the truth about its
//! container.

use std::path::Path;

use rustix::process::Pid;

use crate::cgroup::Group;
use crate::container::{Container, Containers, Lifetime, Locked, Record, Status};
use crate::events;
use crate::failure::{Failure, Result};
use crate::monitor;
use crate::output::time;
use crate::sys;

/// The exit code of a container whose monitor was killed, as docker has it for
/// one whose daemon was.
const UNKNOWN: i32 = 255;

/// The container's record, true at this moment. What a killed monitor left is
/// undone first.
pub fn read(container: &Container) -> Result<Record> {
    let record = container.read()?;
    if is_settled(container, &record)? {
        return Ok(record);
    }
    if is_left_paused(container, &record)? && container.is_alive()? {
        let locked = container.lock()?;
        if is_left_paused(container, &locked.read()?)? {
            resume(&locked)?;
        }
        drop(locked);
        return read(container);
    }
    let locked = container.lock()?;
    // Somebody else may have done it, or it ended in the ordinary way.
    let record = locked.read()?;
    if is_settled(container, &record)? {
        return Ok(record);
    }
    if record.state.status == Status::Removing {
        crate::removal::remove(&locked, &record)?;
        return Err(no_such(&record));
    }
    kill_first(&record);
    monitor::undo_after_a_crash(container, &record)?;
    let was_up = record.state.status.is_up();
    let record = locked.update(|record| {
        let state = &mut record.state;
        // One that never ran is as it was.
        if state.status.is_up() {
            state.status = Status::Exited;
            state.exit_code = UNKNOWN;
            state.finished = Some(time::now_in_documents());
        }
        state.unwatched();
        state.starting = false;
        state.error = "its monitor was killed".to_owned();
        (state.pid, state.pid_started, state.monitor) = (None, None, None);
        state.cgroup = None;
    })?;
    if was_up {
        let code = UNKNOWN.to_string();
        events::of_container(container.store(), &record, "die", &[("exitCode", &code)]);
    }
    if record.config.lifetime == Lifetime::Removed {
        crate::removal::remove(&locked, &record)?;
    }
    Ok(record)
}

/// Locks a container whose record is true, and gives both: whoever held the lock
/// before may have been killed in the middle of a start.
pub fn lock(container: &Container) -> Result<(Locked<'_>, Record)> {
    loop {
        read(container)?;
        let locked = container.lock()?;
        let record = locked.read()?;
        if is_settled(container, &record)? {
            return Ok((locked, record));
        }
    }
}

/// Undoes whatever killed monitors left of any container; says of how many.
pub fn sweep(store: &Path) -> Result<usize> {
    let mut swept = 0;
    for container in Containers::open(store)?.all()? {
        // Whoever starts one holds its lock, and has a monitor that lives.
        let is_left =
            container.read().is_ok_and(|record| is_settled(&container, &record).is_ok_and(|it| !it));
        if is_left {
            drop(read(&container));
            swept += 1;
        }
    }
    Ok(swept)
}

/// Whether nobody has to do anything about it.
fn is_settled(container: &Container, record: &Record) -> Result<bool> {
    let state = &record.state;
    match state.status {
        Status::Removing => Ok(false),
        Status::Paused if is_left_paused(container, record)? => Ok(false),
        status if status.is_up() || state.starting => container.is_alive(),
        _ => Ok(true),
    }
}

/// Whether a command that was killed held it.
fn is_left_paused(container: &Container, record: &Record) -> Result<bool> {
    let is_held = record.state.status == Status::Paused && record.state.is_held;
    Ok(is_held && !container.has_holder()?)
}

/// Lets a container that is held go on.
pub fn resume(locked: &Locked<'_>) -> Result<()> {
    let record = locked.read()?;
    if record.state.status != Status::Paused {
        return Ok(());
    }
    group(&record)?.resume()?;
    let record = locked.update(|record| {
        record.state.status = Status::Running;
        record.state.is_held = false;
    })?;
    events::of_container(locked.container().store(), &record, "unpause", &[]);
    Ok(())
}

/// What a container is held by.
pub fn group(record: &Record) -> Result<Group> {
    let group = record.state.cgroup.clone().and_then(|group| serde_json::from_value(group).ok());
    group.ok_or_else(|| {
        Failure::failed(format!("cannot hold the container {}: it has no cgroup", record.id))
            .hint("runion system check says which cgroups this host lets you have")
    })
}

fn no_such(record: &Record) -> Failure {
    Failure::as_docker(format!("No such container: {}", record.id))
}

/// Kills the first process, which the monitor's end alone may not have.
fn kill_first(record: &Record) {
    let Some(pid) = record.state.pid else { return };
    if since(pid).is_some() && since(pid) == record.state.pid_started {
        // It may just have ended.
        sys::kill(pid, libc::SIGKILL).unwrap_or_default();
        let mut patience = 100;
        while since(pid) == record.state.pid_started && patience > 0 {
            std::thread::sleep(std::time::Duration::from_millis(10));
            patience -= 1;
        }
    }
}

/// When a process began, in the kernel's ticks (proc_pid_stat(5), field 22).
/// A number and this together are a process that does not come again.
pub fn since(pid: i32) -> Option<u64> {
    since_of(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The same, of what the kernel tells of a process; none for one that ended.
pub fn since_of(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then_some(())?;
    fields.nth(18)?.parse().ok()
}

/// The first process of a container that runs.
pub fn first_process(record: &Record) -> Option<Pid> {
    record.state.pid.and_then(Pid::from_raw)
}
