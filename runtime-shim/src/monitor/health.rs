//! Has a container checked whether it is well.
//!
//! By a process of its own, beside the monitor: that one waits for nothing but its
//! container, and costs one without checks nothing more. Between two checks it
//! sleeps. A check is what `exec` makes, with the container's own environment, user
//! and rights.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use layerstore::document::Healthcheck;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};

use super::pump::reap;
use super::servant::{Servant, keep_only};
use crate::bundle::{Process, Spec};
use crate::cgroup::Group;
use crate::container::health::{self, Check};
use crate::container::{Container, Record, Status};
use crate::events;
use crate::failure::{Context, Result};
use crate::launch::{self, Join, OnDeath, Running, Stdio, Target};
use crate::output::time;
use crate::settle;

/// Bytes of a check's output that are kept.
const MOST_OUTPUT: usize = 4096;
/// So often it is read before its end is looked for again.
const AT_ONCE: usize = 64;

/// Begins to check a container that has just been started, if it is to be checked.
pub fn watch(
    container: &Container,
    record: &Record,
    cgroup: Option<&Group>,
    started: Instant,
) -> Result<Option<Servant>> {
    let (Some(how), Some(words), Some(pid)) =
        (&record.config.health, record.config.check(), settle::first_process(record))
    else {
        return Ok(None);
    };
    let watch = Watch { container, how, pid, cgroup, started, words };
    Servant::start(container, || watch.go_on()).map(Some)
}

struct Watch<'a> {
    container: &'a Container,
    how: &'a Healthcheck,
    /// The first process; a child of the monitor's, so its number is not another's.
    pid: Pid,
    cgroup: Option<&'a Group>,
    started: Instant,
    words: Vec<String>,
}

impl Watch<'_> {
    fn go_on(&self) -> Result<()> {
        keep_only(&[])?;
        let spec = Spec::read(self.container.dir())?;
        let own = spec.process.clone().unwrap_or_default();
        let process = Process { terminal: false, console_size: None, args: self.words.clone(), ..own };
        loop {
            let health = self.container.read()?.state.health;
            let status = health.map_or(health::HealthStatus::Starting, |health| health.status);
            std::thread::sleep(health::interval(self.how, status, self.started.elapsed()));
            if !self.stands_still()? {
                let (start, began) = (time::now_in_documents(), self.started.elapsed());
                let (exit_code, output) =
                    self.run(&spec, &process).unwrap_or_else(|failure| (-1, failure.message().to_owned()));
                self.note(Check { start, end: time::now_in_documents(), exit_code, output }, began)?;
            }
        }
    }

    fn stands_still(&self) -> Result<bool> {
        Ok(self.container.read()?.state.status != Status::Running)
    }

    /// Runs one check: its exit code, and what it printed.
    fn run(&self, spec: &Spec, process: &Process) -> Result<(i32, String)> {
        let context = || "cannot check the container".to_owned();
        let null: OwnedFd = File::open("/dev/null").context(context)?.into();
        let (output, theirs) = pipe_with(PipeFlags::CLOEXEC).context(context)?;
        rustix::io::ioctl_fionbio(&output, true).context(context)?;
        let pidfd = pidfd_open(self.pid, PidfdFlags::empty()).context(context)?;
        let groups = self.cgroup.map(Group::ways_in).transpose()?;
        let stdio = Stdio::Given { stdin: null.as_fd(), stdout: theirs.as_fd(), stderr: theirs.as_fd() };
        let join = Join { stdio, groups: groups.as_ref(), preserve_fds: 0, death: OnDeath::Kill };
        let target = Target { pid: self.pid, pidfd: pidfd.as_fd(), spec };
        let running = launch::exec(&target, process, &join)?.prepare()?.start()?;
        drop(theirs);
        let mut output = Output { from: Some(output), kept: Vec::new(), is_cut: false };
        match self.follow(&running, &mut output)? {
            Some(code) => Ok((code.into(), output.text())),
            None => {
                let timeout = health::timeout(self.how);
                Ok((-1, format!("Health check exceeded timeout ({timeout:?}): {}", output.text())))
            }
        }
    }

    /// Reads what a check prints until it ends; none for one that took too long.
    fn follow(&self, running: &Running, output: &mut Output) -> Result<Option<u8>> {
        let context = || "cannot wait for a check".to_owned();
        let timeout = health::timeout(self.how);
        let mut until = Instant::now() + timeout;
        loop {
            if let Some(code) = reap(running.pid).context(context)? {
                output.read().context(context)?;
                return Ok(Some(code));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && self.stands_still()? {
                // It was held meanwhile, and begins anew.
                until = Instant::now() + timeout;
            } else if left.is_zero() {
                // It may just have ended; what it printed is told in any case.
                pidfd_send_signal(&running.pidfd, Signal::KILL).unwrap_or_default();
                while matches!(waitpid(Some(running.pid), WaitOptions::empty()), Err(Errno::INTR)) {}
                output.read().context(context)?;
                return Ok(None);
            }
            output.wait(&running.pidfd, left).context(context)?;
            output.read().context(context)?;
        }
    }

    /// Takes a check into account, unless the container ended or is held meanwhile.
    fn note(&self, check: Check, began: Duration) -> Result<()> {
        let locked = self.container.lock()?;
        let state = locked.read()?.state;
        if state.status != Status::Running || settle::first_process(&locked.read()?) != Some(self.pid) {
            return Ok(());
        }
        let mut news = None;
        let record = locked.update(|record| {
            news = record.state.health.as_mut().and_then(|health| health.note(check, self.how, began));
        })?;
        drop(locked);
        if let Some(status) = news {
            let action = format!("health_status: {}", status.word());
            events::of_container(self.container.store(), &record, &action, &[]);
        }
        Ok(())
    }
}

/// What a check prints.
struct Output {
    from: Option<OwnedFd>,
    kept: Vec<u8>,
    is_cut: bool,
}

impl Output {
    /// Waits until there is more, or the check has ended.
    fn wait(&self, process: &OwnedFd, most: Duration) -> io::Result<()> {
        let fds = self.from.iter().chain([process]);
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: most.subsec_nanos().into() };
        match poll(&mut fds, Some(&most)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes what is there.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; MOST_OUTPUT];
        // Not for ever: it may print without end.
        for _ in 0..AT_ONCE {
            let Some(from) = &self.from else { return Ok(()) };
            match read(from, &mut buffer) {
                Ok(0) => self.from = None,
                Ok(length) => {
                    let room = MOST_OUTPUT - self.kept.len();
                    self.is_cut |= length > room;
                    self.kept.extend(buffer.iter().take(length.min(room)));
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// As text, as docker cuts it.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        if self.is_cut { format!("{text}...") } else { text.into_owned() }
    }
}
