//! `start`: the command of a container that waits begins.

use std::fs;
use std::io;

use clap::Args;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

use super::log::Log;
use super::state::{Container, Root, short_path};
use crate::failure::{Context, Failure, OURS, Result};
use crate::launch;
use crate::launch::hooks::Status;
use crate::sys::{SignalSet, kill};

/// Start the command of a container that was made
#[derive(Args)]
pub struct Start {
    /// The container
    id: String,
}

impl Start {
    /// Starts it.
    pub fn run(self, root: &Root, log: &Log) -> Result<u8> {
        start(&root.find(&self.id)?, log).map(|()| 0)
    }
}

/// Starts one.
pub fn start(container: &Container, log: &Log) -> Result<()> {
    let id = &container.record.id;
    match container.status()? {
        Status::Created => {}
        Status::Stopped => {
            return Err(Failure::failed(format!("cannot start a container that has stopped: {id}")));
        }
        _ => return Err(Failure::failed(format!("cannot start an already running container: {id}"))),
    }
    let context = || format!("cannot start {id}");
    let spec = container.spec()?;
    if spec.process.is_none() {
        return Err(Failure::failed(format!("{}: its bundle has no process", context())));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = open(&container.dir, flags, Mode::empty()).context(context)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context(context)?;
    let address = SocketAddrUnix::new(short_path(&dir)).context(context)?;
    connect(&socket, &address).context(context)?;
    launch::start_by(socket)?;
    match fs::remove_file(container.socket()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed.context(context)?,
    }
    if let Some(pid) = Pid::from_raw(container.record.pid) {
        for warning in launch::run_poststart_hooks(id, &spec, &container.record.bundle, pid) {
            log.warn(&warning);
        }
    }
    Ok(())
}

/// Waits for a child's end; its exit code, or 128 + its signal.
pub fn wait(pid: Pid) -> Result<u8> {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            waited => {
                let ended = waited.context(|| "cannot wait for the container".to_string())?;
                return Ok(ended.map_or(OURS, |(_, status)| code(status)));
            }
        }
    }
}

/// The same, and passes on to it what this process is sent.
pub fn wait_as_proxy(pid: Pid) -> Result<u8> {
    let context = || "cannot wait for the container".to_string();
    let passed = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGCHLD,
    ];
    let signals = SignalSet::of(&passed);
    signals.block().context(context)?;
    loop {
        if let Some((_, status)) = waitpid(Some(pid), WaitOptions::NOHANG).context(context)? {
            return Ok(code(status));
        }
        let taken = match signals.wait() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            taken => taken.context(context)?,
        };
        if taken.signal != libc::SIGCHLD {
            match kill(pid.as_raw_nonzero().get(), taken.signal) {
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                sent => sent.context(context)?,
            }
        }
    }
}

fn code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(OURS)
}
