//! Who is in a group: listed, killed to the last, stopped, and let go on.
//!
//! Processes may fork as fast as they are counted. v2 kills a whole group in
//! one write; with v1 it is stopped first, so that nobody forks while all get
//! their signal. A process is signalled by a descriptor that was opened before
//! the group was looked at for the last time: no other can have got its number.

use std::collections::{BTreeSet, HashSet};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::controller::Controller;
use super::{Group, directory, file};
use crate::failure::{Context, Failure, Result};

/// How long all processes together may take to die, or to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long v1 may take to stop a group before it is told so anew: forks can
/// slip through.
const MOMENT: Duration = Duration::from_millis(50);

const STATE: &str = "freezer.state";

impl Group {
    /// The processes in it and in the groups below it.
    pub fn pids(&self) -> Result<Vec<Pid>> {
        let mut pids = BTreeSet::new();
        for dir in self.dirs() {
            let groups = directory::tree(dir).context(|| format!("cannot list {}", dir.display()))?;
            for group in groups {
                match file::read(&group, "cgroup.procs") {
                    // 0 is a process of another pid namespace.
                    Ok(listed) => pids.extend(
                        listed.lines().filter_map(|pid| pid.parse::<i32>().ok()).filter(|&pid| pid > 0),
                    ),
                    Err(error) if is_gone(&error) || is_threaded(&error) => {}
                    Err(error) => return Err(error).context(|| format!("cannot read {}", group.display())),
                }
            }
        }
        Ok(pids.into_iter().filter_map(Pid::from_raw).collect())
    }

    /// Kills all processes, and waits until there are none.
    pub fn kill_all(&self) -> Result<()> {
        let start = Instant::now();
        if let Some(dir) = &self.v2 {
            match file::write(dir, "cgroup.kill", "1") {
                // Kernels before 5.14 have no such file.
                Err(error) if !is_gone(&error) => {
                    return Err(error).context(|| format!("cannot kill the processes in {}", dir.display()));
                }
                _ => {}
            }
        }
        loop {
            // What the kernel kills is gone in a moment.
            if file::wait(MOMENT, || Ok::<_, Failure>(self.pids()?.is_empty()))? {
                return Ok(());
            }
            self.kill_each()?;
            if start.elapsed() > PATIENCE {
                let left = self.pids()?.len();
                return Err(Failure::new(format!(
                    "{left} processes in the cgroup {} do not end",
                    self.path().display()
                ))
                .hint("they wait for a device or a file system: look at them with ps, then try again"));
            }
        }
    }

    fn kill_each(&self) -> Result<()> {
        let freezer = self.v1.get(&Controller::Freezer);
        if let Some(freezer) = freezer {
            // One that does not stop in time forks on, and is met again.
            stop_v1(freezer, MOMENT)?;
        }
        let mut open = Vec::new();
        for pid in self.pids()? {
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(process) => open.push((pid, process)),
                Err(Errno::SRCH) => {}
                Err(errno) => return Err(errno).context(|| format!("cannot open the process {pid}")),
            }
        }
        let still: HashSet<Pid> = self.pids()?.into_iter().collect();
        for (pid, process) in open.into_iter().filter(|(pid, _)| still.contains(pid)) {
            match pidfd_send_signal(&process, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(errno).context(|| format!("cannot kill the process {pid}")),
            }
        }
        freezer.map_or(Ok(()), |freezer| go_on_v1(freezer))
    }

    /// Stops all processes; they are stopped when it returns.
    pub fn pause(&self) -> Result<()> {
        let stopped = match (self.v1.get(&Controller::Freezer), &self.v2) {
            (Some(freezer), _) => stop_v1(freezer, PATIENCE)?,
            (None, Some(dir)) => {
                write_v2(dir, "1")?;
                wait_v2(dir, 1)?
            }
            (None, None) => {
                return Err(Failure::new("cannot pause a container without a cgroup").hint(
                    "it has none where neither the freezer of cgroup v1 nor a group of v2 can be used",
                ));
            }
        };
        if stopped {
            return Ok(());
        }
        self.resume()?;
        Err(Failure::new(format!("the processes in the cgroup {} do not stop", self.path().display())))
    }

    /// Lets them go on.
    pub fn resume(&self) -> Result<()> {
        match (self.v1.get(&Controller::Freezer), &self.v2) {
            (Some(freezer), _) => go_on_v1(freezer),
            (None, Some(dir)) => {
                write_v2(dir, "0")?;
                wait_v2(dir, 0).map(|_| ())
            }
            (None, None) => Ok(()),
        }
    }

    /// Whether they are stopped.
    pub fn is_paused(&self) -> Result<bool> {
        match (self.v1.get(&Controller::Freezer), &self.v2) {
            (Some(freezer), _) => Ok(state_v1(freezer)?.trim() == "FROZEN"),
            (None, Some(dir)) => wait_for(dir, 1, Duration::ZERO),
            (None, None) => Ok(false),
        }
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::NODEV)
}

/// Threads may be spread over groups of v2 below the one that lists their
/// processes.
fn is_threaded(error: &std::io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::OPNOTSUPP)
}

fn state_v1(freezer: &Path) -> Result<String> {
    file::read(freezer, STATE).context(|| format!("cannot read {}/{STATE}", freezer.display()))
}

fn set_v1(freezer: &Path, state: &str) -> Result<()> {
    file::write(freezer, STATE, state)
        .context(|| format!("cannot write {state} to {}/{STATE}", freezer.display()))
}

/// `false` where they are not all stopped in time.
fn stop_v1(freezer: &Path, longest: Duration) -> Result<bool> {
    let start = Instant::now();
    loop {
        set_v1(freezer, "FROZEN")?;
        if file::wait(MOMENT, || Ok::<_, Failure>(state_v1(freezer)?.trim() == "FROZEN"))? {
            return Ok(true);
        }
        if start.elapsed() >= longest {
            return Ok(false);
        }
        set_v1(freezer, "THAWED")?;
    }
}

fn go_on_v1(freezer: &Path) -> Result<()> {
    set_v1(freezer, "THAWED")
}

fn write_v2(dir: &Path, state: &str) -> Result<()> {
    file::write(dir, "cgroup.freeze", state)
        .context(|| format!("cannot write to {}/cgroup.freeze", dir.display()))
}

fn wait_v2(dir: &Path, frozen: u64) -> Result<bool> {
    wait_for(dir, frozen, PATIENCE)
}

fn wait_for(dir: &Path, frozen: u64, longest: Duration) -> Result<bool> {
    file::wait(longest, || {
        let events = file::read(dir, "cgroup.events");
        let events = events.context(|| format!("cannot read {}/cgroup.events", dir.display()))?;
        Ok(file::keyed(&events, "frozen") == Some(frozen))
    })
}
