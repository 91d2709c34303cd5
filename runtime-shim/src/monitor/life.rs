//! A container's life, as its monitor sees it: each step of a start, and its
//! reverse.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::{WaitOptions, set_child_subreaper, setsid, wait};

use super::log::Log;
use super::networking::{self, Attached, Ground};
use super::protocol::{Packet, send_packet};
use super::pump::Pump;
use super::servant::Servant;
use super::{Answer, address, health, launching, words};
use crate::cgroup::Group;
use crate::container::health::Health;
use crate::container::{Container, Lifetime, Locked, Record, RestartPolicy, Status, absent_is_fine};
use crate::events;
use crate::failure::{Context, Failure, Result};
use crate::network::{Reserved, Settling};
use crate::output::time;
use crate::rootfs::Rootfs;
use crate::sandbox::identity::Plan;
use crate::sys::{self, SignalSet};

/// Between two attempts at first; twice as long each time, and a minute at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A container that ran so long is well: its next pause is the first again.
const WELL: Duration = Duration::from_secs(10);
/// How long the root's server may take to end once nobody uses it any more.
const SERVER_GRACE: Duration = Duration::from_secs(30);

/// Runs a container to its end, in the process that is to be its monitor.
pub fn run(birth: &Birth<'_>, locked: Locked<'_>, first: Option<OwnedFd>, answer: OwnedFd) -> u8 {
    let settled = settle_in(birth, &locked, first.as_ref(), &answer).and_then(|()| enter(birth, &locked));
    match settled {
        Ok(reserved) => {
            let life = Life { container: birth.container, birth };
            life.run(locked, reserved, first, answer).unwrap_or_else(|failure| failure.report())
        }
        Err(failure) => {
            let code = failure.exit_code();
            let life = Life { container: birth.container, birth };
            if let Err(second) = life.note_failure(&locked, &failure) {
                second.report();
            }
            Answer::of(&failure).send(answer);
            code
        }
    }
}

/// Leaves what the starter had behind.
fn settle_in(
    birth: &Birth<'_>,
    locked: &Locked<'_>,
    first: Option<&OwnedFd>,
    answer: &OwnedFd,
) -> Result<()> {
    let context = || "cannot become a monitor".to_owned();
    let mut kept = vec![locked.as_fd(), answer.as_fd()];
    kept.extend(first.map(AsFd::as_fd));
    if let Ground::Held(holder) = birth.ground {
        kept.extend(holder.fds());
    }
    sys::close_all_but(&kept).context(context)?;
    setsid().context(context)?;
    std::env::set_current_dir("/").context(context)?;
    // Who left the starter's process group is its parent's no more.
    set_child_subreaper(Some(rustix::process::getpid())).context(context)?;
    let null = File::options().read(true).write(true).open("/dev/null").context(context)?;
    rustix::stdio::dup2_stdin(&null).context(context)?;
    rustix::stdio::dup2_stdout(&null).context(context)?;
    birth.signals.restore().context(context)
}

/// Takes the container's ports, and goes where its networks are.
fn enter(birth: &Birth<'_>, locked: &Locked<'_>) -> Result<Reserved> {
    let record = locked.read()?;
    let reserved = networking::reserve(birth.container, &record, birth.ground)?;
    if let Ground::Held(holder) = birth.ground {
        holder.enter()?;
        sys::new_mount_namespace().context(|| "cannot make a mount namespace".to_owned())?;
    }
    Ok(reserved)
}

/// What stays the same over restarts.
struct Life<'a> {
    container: &'a Container,
    birth: &'a Birth<'a>,
}

/// What a monitor is given by whoever makes it.
pub struct Birth<'a> {
    /// Whose it is.
    pub container: &'a Container,
    /// Whose ids it has.
    pub plan: &'a Plan,
    /// Where its networks are.
    pub ground: &'a Ground,
    /// What its starter had blocked.
    pub signals: SignalSet,
}

/// A container that runs.
struct Running {
    pump: Pump,
    cgroup: Option<Group>,
    /// Its ports.
    network: Option<Attached>,
    started: Instant,
}

/// A container that will not run again.
struct Ended {
    /// Its last exit code.
    code: u8,
    /// Who is still attached.
    clients: Vec<OwnedFd>,
    /// Packet filters of its networks: nobody has to wait for them.
    settling: Settling,
}

impl Life<'_> {
    fn run(
        &self,
        locked: Locked<'_>,
        reserved: Reserved,
        first: Option<OwnedFd>,
        answer: OwnedFd,
    ) -> Result<u8> {
        let alive = self.container.monitor()?;
        let started = self.first_start(&locked, reserved, first);
        let (rootfs, running) = match started {
            Ok(started) => started,
            Err(failure) => {
                self.note_failure(&locked, &failure)?;
                drop(alive);
                Answer::of(&failure).send(answer);
                return Ok(failure.exit_code());
            }
        };
        locked.unlock()?;
        words::to_file(self.container);
        Answer::Started.send(answer);
        let Ended { code, clients, settling } = self.until_the_end(&rootfs, running)?;
        self.finish(rootfs)?;
        drop(alive);
        for client in clients {
            // Nobody has to wait for it.
            send_packet(&client, &Packet::Exit(code)).unwrap_or_default();
        }
        drop(settling);
        Ok(code)
    }

    fn first_start(
        &self,
        locked: &Locked<'_>,
        reserved: Reserved,
        first: Option<OwnedFd>,
    ) -> Result<(Rootfs, Running)> {
        // From here on there may be something to undo, whoever dies.
        let record = locked.update(|record| {
            record.state.starting = true;
            record.state.monitor = Some(rustix::process::getpid().as_raw_nonzero().get());
        })?;
        let mounted = Rootfs::mount(self.container, &record, self.birth.plan, &self.birth.signals);
        let rootfs = match mounted {
            Ok(rootfs) => rootfs,
            Err(failure) => {
                self.undo(locked)?;
                return Err(failure);
            }
        };
        match self.start(locked, &rootfs, reserved, first) {
            Ok(running) => Ok((rootfs, running)),
            Err(failure) => {
                let undone = self.undo(locked);
                self.unmount(rootfs)?;
                undone.map_or_else(Err, |()| Err(failure))
            }
        }
    }

    /// Undoes a start that failed. Where that fails too, the record goes on to
    /// say that there is something to undo.
    fn undo(&self, locked: &Locked<'_>) -> Result<()> {
        let record = locked.read()?;
        launching::undo(self.container, &record)?;
        locked.update(|record| record.state.starting = false).map(|_record| ())
    }

    /// One start: every step, or none.
    fn start(
        &self,
        locked: &Locked<'_>,
        rootfs: &Rootfs,
        reserved: Reserved,
        first: Option<OwnedFd>,
    ) -> Result<Running> {
        let mut record = locked.read()?;
        let log = Log::open(&self.container.log(), record.config.log_size, record.config.log_files)
            .context(|| "cannot open the log".to_owned())?;
        let listener = self.listen()?;
        let started = launching::start(
            self.container,
            &record,
            &launching::Place { plan: self.birth.plan, ground: self.birth.ground },
            rootfs,
            reserved,
        )?;
        let cgroup = started.cgroup.clone();
        let pump = Pump::new(started.held, Some(listener), first, Some(log))
            .context(|| "cannot watch the container".to_owned())?;
        let state = &mut record.state;
        state.status = Status::Running;
        state.starting = false;
        state.pid = Some(started.pid);
        state.pid_started = started.since;
        state.monitor = Some(rustix::process::getpid().as_raw_nonzero().get());
        state.started = Some(time::now_in_documents());
        state.finished = None;
        state.exit_code = 0;
        state.oom_killed = false;
        state.error = String::new();
        state.stopped = false;
        state.health = record.config.check().map(|_words| Health::begun(state.health.take()));
        state.cgroup = started.cgroup.as_ref().and_then(|group| serde_json::to_value(group).ok());
        locked.write(&record)?;
        events::of_container(self.container.store(), &record, "start", &[]);
        Ok(Running { pump, cgroup, network: started.network, started: Instant::now() })
    }

    fn listen(&self) -> Result<OwnedFd> {
        let context = || "cannot make the control socket".to_owned();
        absent_is_fine(std::fs::remove_file(self.container.control())).context(context)?;
        let dir = File::open(self.container.dir()).context(context)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).context(context)?;
        bind(&socket, &address(dir.as_fd()).context(context)?).context(context)?;
        listen(&socket, 16).context(context)?;
        Ok(socket)
    }

    /// Runs, and runs again where that was asked for.
    fn until_the_end(&self, rootfs: &Rootfs, mut running: Running) -> Result<Ended> {
        let mut pause = FIRST_PAUSE;
        loop {
            // It goes with its end, and before that is noted.
            let checks = self.check(&running);
            let code = running.pump.run().context(|| "cannot watch the container".to_owned())?;
            drop(checks);
            if running.started.elapsed() > WELL {
                pause = FIRST_PAUSE;
            }
            let clients = running.pump.into_clients();
            let oom_killed = running.cgroup.as_ref().is_some_and(|group| group.oom_kills().unwrap_or(0) > 0);
            let reserved = running.network.map(Attached::into_reserved).unwrap_or_default();
            let record = self.container.read()?;
            let settling = launching::undo(self.container, &record)?;
            let comes_back = self.note_end(code, oom_killed, running.started.elapsed())?;
            if !comes_back {
                return Ok(Ended { code, clients, settling });
            }
            drop(clients);
            if !self.wait_to_come_back(pause)? {
                return Ok(Ended { code, clients: Vec::new(), settling });
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            let locked = self.container.lock()?;
            words::to_file(self.container);
            running = match self.start(&locked, rootfs, reserved, None) {
                Ok(running) => running,
                Err(failure) => {
                    self.undo(&locked)?;
                    self.note_failure(&locked, &failure)?;
                    return Ok(Ended { code: failure.exit_code(), clients: Vec::new(), settling });
                }
            };
            locked.unlock()?;
        }
    }

    /// Has it checked whether it is well, where that was asked for.
    fn check(&self, running: &Running) -> Option<Servant> {
        let checks = self.container.read().and_then(|record| {
            health::watch(self.container, &record, running.cgroup.as_ref(), running.started)
        });
        checks.unwrap_or_else(|failure| {
            // It runs, well or not.
            failure.report();
            None
        })
    }

    /// Notes how it ended; whether it comes back.
    fn note_end(&self, code: u8, oom_killed: bool, ran: Duration) -> Result<bool> {
        let locked = self.container.lock()?;
        let record = locked.update(|record| {
            let comes_back = comes_back(record, code);
            let state = &mut record.state;
            state.status = if comes_back { Status::Restarting } else { Status::Exited };
            state.restarts += u32::from(comes_back);
            state.pid = None;
            state.pid_started = None;
            state.cgroup = None;
            state.unwatched();
            state.exit_code = code.into();
            state.oom_killed = oom_killed;
            state.finished = Some(time::now_in_documents());
            if !comes_back {
                state.monitor = None;
            }
        })?;
        let store = self.container.store();
        if oom_killed {
            events::of_container(store, &record, "oom", &[]);
        }
        let (code, ran) = (code.to_string(), ran.as_secs().to_string());
        events::of_container(store, &record, "die", &[("execDuration", &ran), ("exitCode", &code)]);
        Ok(record.state.status == Status::Restarting)
    }

    /// Waits before the next start; false if somebody stopped it meanwhile.
    fn wait_to_come_back(&self, pause: Duration) -> Result<bool> {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(50)));
            let locked = self.container.lock()?;
            let record = locked.read()?;
            if record.state.stopped {
                locked.update(|record| {
                    record.state.status = Status::Exited;
                    record.state.monitor = None;
                })?;
                return Ok(false);
            }
            if left.is_zero() {
                return Ok(true);
            }
        }
    }

    /// A start that failed leaves a container as it was, and why.
    fn note_failure(&self, locked: &Locked<'_>, failure: &Failure) -> Result<()> {
        let record = locked.update(|record| {
            let state = &mut record.state;
            state.status = match state.started {
                None => Status::Created,
                Some(_) => Status::Exited,
            };
            state.monitor = None;
            state.pid = None;
            state.exit_code = failure.exit_code().into();
            state.error = failure.message().to_owned();
        })?;
        match record.config.lifetime {
            // What is still to be undone is found by the record.
            Lifetime::Removed if !record.state.starting => crate::removal::remove(locked, &record),
            Lifetime::Removed | Lifetime::Stays => Ok(()),
        }
    }

    /// After the last end.
    fn finish(&self, rootfs: Rootfs) -> Result<()> {
        absent_is_fine(std::fs::remove_file(self.container.control()))
            .context(|| "cannot remove the control socket".to_owned())?;
        self.unmount(rootfs)?;
        let locked = self.container.lock()?;
        let record = locked.read()?;
        match record.config.lifetime {
            Lifetime::Removed => crate::removal::remove(&locked, &record),
            Lifetime::Stays => Ok(()),
        }
    }

    /// Unmounts the root, and waits until its server has ended: then the upper
    /// is complete.
    fn unmount(&self, rootfs: Rootfs) -> Result<()> {
        rootfs.unmount()?;
        let patience = Instant::now() + SERVER_GRACE;
        loop {
            match wait(WaitOptions::NOHANG) {
                Err(Errno::CHILD) => return Ok(()),
                Err(Errno::INTR) | Ok(Some(_)) => {}
                Ok(None) if Instant::now() < patience => std::thread::sleep(Duration::from_millis(1)),
                Ok(None) => return Err(Failure::new("the server of the container's root does not end")),
                Err(errno) => {
                    return Err(errno).context(|| "cannot wait for the server of the root".to_owned());
                }
            }
        }
    }
}

/// Whether a container that ended so comes back.
fn comes_back(record: &Record, code: u8) -> bool {
    let restart = record.config.restart;
    !record.state.stopped
        && match restart.policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure => {
                code != 0 && (restart.most == 0 || record.state.restarts < restart.most)
            }
        }
}
