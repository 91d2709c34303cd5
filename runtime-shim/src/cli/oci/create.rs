//! `create`: a bundle becomes a container that waits. `run`: all of its life.

use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, bind, listen, sendmsg, socket_with,
};
use rustix::process::{Pid, geteuid};

use super::log::Log;
use super::state::{Record, Root, beginning, short_path};
use super::{delete, start};
use crate::bundle::Spec;
use crate::cgroup::Group;
use crate::failure::{Context, Failure, Result};
use crate::launch::{self, Groups, Keys, OnDeath, Ready, Request, Stdio, Swap};

/// Make a container from a bundle; it waits for `start`
#[derive(Args)]
pub struct Create {
    #[command(flatten)]
    making: Making,
}

/// Make a container from a bundle, run it to its end, and remove it
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    making: Making,

    /// Go on without waiting for its end
    #[arg(long, short)]
    detach: bool,

    /// Leave what is kept of it
    #[arg(long)]
    keep: bool,
}

/// What making one takes.
#[derive(Args)]
struct Making {
    /// The bundle's directory
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,

    /// Where the process's id is written
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// A socket that is sent the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,

    /// How many descriptors from 3 on the container is handed
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    preserve_fds: u32,

    /// Change the root by chroot(2)
    #[arg(long)]
    no_pivot: bool,

    /// Leave the container the caller's keys
    #[arg(long)]
    no_new_keyring: bool,

    /// What it is called
    id: String,
}

impl Create {
    /// Makes it.
    pub fn run(self, root: &Root, log: &Log) -> Result<u8> {
        self.making.make(root, log).map(|_pid| 0)
    }
}

impl Run {
    /// Makes it, starts it, and sees it to its end.
    pub fn run(self, root: &Root, log: &Log) -> Result<u8> {
        let id = self.making.id.clone();
        let pid = self.making.make(root, log)?;
        let container = root.find(&id)?;
        if let Err(failure) = start::start(&container, log) {
            start::wait(pid)?;
            delete::remove(&container, log)?;
            return Err(failure);
        }
        if self.detach {
            return Ok(0);
        }
        let code = start::wait_as_proxy(pid)?;
        if !self.keep {
            delete::remove(&container, log)?;
        }
        Ok(code)
    }
}

impl Making {
    fn make(&self, root: &Root, log: &Log) -> Result<Pid> {
        let bundle = self
            .bundle
            .canonicalize()
            .context(|| format!("cannot find the bundle {}", self.bundle.display()))?;
        let spec = Spec::read(&bundle)?;
        self.check_console(&spec)?;
        let dir = root.claim(&self.id)?;
        let made = self.make_in(&dir, &bundle, &spec, log);
        if made.is_err() {
            fs::remove_dir_all(&dir).context(|| format!("cannot remove {}", dir.display()))?;
        }
        made
    }

    fn check_console(&self, spec: &Spec) -> Result<()> {
        let wants = spec.process.as_ref().is_some_and(|process| process.terminal);
        match (wants, &self.console_socket) {
            (true, None) => {
                Err(Failure::failed("the process has a terminal: --console-socket must be given"))
            }
            (false, Some(_)) => {
                Err(Failure::failed("the process has no terminal to send to --console-socket"))
            }
            _ => Ok(()),
        }
    }

    fn make_in(&self, dir: &Path, bundle: &Path, spec: &Spec, log: &Log) -> Result<Pid> {
        spec.write(dir)?;
        let listener = listen_in(dir)?;
        let (cgroup, groups) = self.make_cgroup(spec, log)?;
        let request = Request {
            groups: Some(&groups),
            preserve_fds: self.preserve_fds,
            death: OnDeath::Survive,
            keys: if self.no_new_keyring { Keys::Callers } else { Keys::New },
            swap: if self.no_pivot { Swap::Chroot } else { Swap::Pivot },
            listener: Some(listener.as_fd()),
            stdio: Stdio::Inherited,
            ..Request::new(&self.id, spec, bundle)
        };
        let made = self.make_process(&request, log);
        match (made, &cgroup) {
            (Err(failure), Some(cgroup)) => Err(take_back(cgroup, failure)),
            (made, _) => made.and_then(|ready| self.keep(ready, dir, bundle, cgroup)),
        }
    }

    /// Its cgroup, with limits, as far as the host lets us.
    fn make_cgroup(&self, spec: &Spec, log: &Log) -> Result<(Option<Group>, Groups)> {
        let linux = spec.linux.as_ref();
        let usual = || Path::new("/").join(&self.id);
        let path = linux.and_then(|linux| linux.cgroups_path.clone()).unwrap_or_else(usual);
        let resources = linux.and_then(|linux| linux.resources.clone());
        let (group, warnings) = Group::create(&path, &resources.unwrap_or_default())?;
        warnings.iter().for_each(|warning| log.warn(warning));
        match group.ways_in() {
            Ok(groups) => Ok(((!group.is_empty()).then_some(group), groups)),
            Err(failure) => Err(take_back(&group, failure)),
        }
    }

    fn make_process<'a>(&self, request: &Request<'a>, log: &Log) -> Result<Ready<'a>> {
        let ready = launch::create(request)?.prepare()?;
        for warning in &ready.warnings {
            log.warn(warning);
        }
        if let (Some(console), Some(socket)) = (&ready.console, &self.console_socket) {
            send_console(console.as_fd(), socket)?;
        }
        Ok(ready)
    }

    /// Writes down what is to be known of it, and leaves it waiting.
    fn keep(&self, ready: Ready<'_>, dir: &Path, bundle: &Path, cgroup: Option<Group>) -> Result<Pid> {
        let pid = ready.pid().as_raw_nonzero().get();
        let life = beginning(pid)
            .filter(|life| !life.is_over)
            .ok_or_else(|| Failure::failed("the container's process died as it was made"))?;
        let record = Record {
            id: self.id.clone(),
            bundle: bundle.to_owned(),
            pid,
            began: life.began,
            created: jiff::Timestamp::now().to_string(),
            owner: geteuid().as_raw(),
            cgroup,
        };
        if let Some(path) = &self.pid_file {
            write_pid(path, pid)?;
        }
        record.write(dir)?;
        Ok(ready.leave())
    }
}

/// Of a container that is not to be.
fn take_back(cgroup: &Group, failure: Failure) -> Failure {
    // The first failure is the one to tell; what stays is found by its path.
    cgroup.remove().unwrap_or_default();
    failure
}

/// A socket on which the container hears of its start.
fn listen_in(dir: &Path) -> Result<OwnedFd> {
    let context = || format!("cannot listen in {}", dir.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let held = open(dir, flags, Mode::empty()).context(context)?;
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context(context)?;
    let address = SocketAddrUnix::new(short_path(&held)).context(context)?;
    bind(&listener, &address).context(context)?;
    listen(&listener, 1).context(context)?;
    Ok(listener)
}

/// Gives the terminal to whoever listens, as runc does.
pub fn send_console(console: BorrowedFd<'_>, socket: &Path) -> Result<()> {
    let context = || format!("cannot send the terminal to {}", socket.display());
    let stream = UnixStream::connect(socket).context(context)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [console];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(&stream, &[IoSlice::new(b"/dev/ptmx")], &mut ancillary, SendFlags::NOSIGNAL)
        .map(|_sent| ())
        .context(context)
}

/// Writes a process's id for others: all of it, or nothing.
pub fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    fs::write(&staged, pid.to_string()).context(context)?;
    fs::rename(&staged, path).context(context)
}
