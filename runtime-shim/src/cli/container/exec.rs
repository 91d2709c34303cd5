//! `runion exec`: a further process in a container that runs.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use clap::Args;
use layerstore::store::Store;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};

use super::find;
use crate::attach::{self, Ended, Keys};
use crate::bundle::{Process, Spec};
use crate::cgroup::Group;
use crate::container::{Container, Record, Status, Stdin};
use crate::events;
use crate::failure::{Context, Failure, Result};
use crate::launch::{self, Join, OnDeath, Stdio, Target};
use crate::monitor::{Held, Pump};
use crate::random;
use crate::reach::{View, reach};
use crate::settle;
use crate::spec::user::Account;
use crate::spec::{capabilities, environment, user};
use crate::sys::{self, Namespaces, Side};

/// Run a command in a container that runs
#[derive(Args)]
pub struct Exec {
    /// Leave the command to itself
    #[arg(long, short)]
    detach: bool,

    /// Keys by which one leaves a command with a terminal
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,

    /// Let the command read stdin
    #[arg(long, short)]
    interactive: bool,

    /// Give the command a terminal
    #[arg(long, short)]
    tty: bool,

    /// Set an environment variable; NAME alone takes the caller's
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Set those in a file, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Let it do next to everything
    #[arg(long)]
    privileged: bool,

    /// Who the command is: user, uid, user:group or uid:gid
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,

    /// Where the command begins
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<PathBuf>,

    /// The container's name or id
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<String>,
}

/// A container that runs, held so that its process's number cannot become
/// another's.
struct Inside {
    pid: Pid,
    pidfd: OwnedFd,
    spec: Spec,
    cgroup: Option<Group>,
}

impl Exec {
    /// Runs it, and gives its exit code.
    pub fn run(self, store: &Store) -> Result<u8> {
        if self.tty && self.interactive && !self.detach && !std::io::stdin().is_terminal() {
            return Err(Failure::failed("the input device is not a TTY"));
        }
        let keys = Keys::parse(self.detach_keys.as_deref())?;
        let (container, record) = find::container(store, &self.container)?;
        let inside = Inside::of(&container, &record)?;
        let process = self.process(&container, &record, &inside)?;
        let (words, id) = (self.command.join(" "), random::id()?);
        let tell = |action: &str, more: events::Attributes<'_>| {
            let more = [&[("execID", id.as_str())][..], more].concat();
            events::of_container(store.root(), &record, action, &more);
        };
        tell(&format!("exec_create: {words}"), &[]);
        tell(&format!("exec_start: {words}"), &[]);
        let code = match (self.detach, self.tty) {
            // Nobody sees how that one ends.
            (true, _) => return inside.leave(&process),
            (false, false) => inside.stay(&process, self.interactive),
            (false, true) => inside.on_terminal(&process, self.interactive, keys),
        };
        let ended = code.as_ref().map_or_else(Failure::exit_code, |code| *code).to_string();
        tell("exec_die", &[("exitCode", &ended)]);
        code
    }

    fn process(&self, container: &Container, record: &Record, inside: &Inside) -> Result<Process> {
        let own = inside.spec.process.clone().unwrap_or_default();
        let mut process = Process {
            terminal: self.tty && !self.detach,
            console_size: None,
            args: self.command.clone(),
            cwd: self.workdir.as_ref().map_or(own.cwd.clone(), |dir| own.cwd.join(dir)),
            ..own
        };
        environment::add(&mut process.env, &self.env_file, &self.env)?;
        let name = self.user.as_deref().unwrap_or(&record.config.user);
        let account = inside.account(container, name, &record.config.groups)?;
        if self.user.is_some() {
            process.env.retain(|pair| !pair.starts_with("HOME="));
            process.env.push(format!("HOME={}", account.home));
        }
        process.user = account.user;
        if self.privileged {
            process.capabilities = Some(capabilities::of(&[], &[], true)?);
        }
        Ok(process)
    }
}

impl Inside {
    fn of(container: &Container, record: &Record) -> Result<Inside> {
        match record.state.status {
            Status::Running => {}
            Status::Paused => {
                return Err(Failure::as_docker(format!(
                    "Container {} is paused, unpause the container before exec",
                    record.name
                )));
            }
            Status::Restarting => {
                return Err(Failure::as_docker(format!(
                    "Container {} is restarting, wait until the container is running",
                    record.id
                )));
            }
            _ => return Err(find::not_running(record)),
        }
        let pid = settle::first_process(record).ok_or_else(|| find::not_running(record))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_gone| find::not_running(record))?;
        // Only now it is known whose the number is.
        if settle::since(pid.as_raw_nonzero().get()) != record.state.pid_started {
            return Err(find::not_running(record));
        }
        let cgroup = record.state.cgroup.clone().and_then(|group| serde_json::from_value(group).ok());
        Ok(Inside { pid, pidfd, spec: Spec::read(container.dir())?, cgroup })
    }

    /// A user, looked up in the container's tables.
    fn account(&self, container: &Container, name: &str, groups: &[String]) -> Result<Account> {
        if geteuid().is_root() {
            return user::find(self.root()?.as_fd(), name, groups);
        }
        // What an ordinary user mounted is seen in its user namespace alone.
        let context = || "cannot look a user up in the container".to_owned();
        let (found, answer) = pipe_with(PipeFlags::CLOEXEC).context(context)?;
        let (found, answer) = (File::from(found), File::from(answer));
        let looking = reach(container, View::Whole, &[answer.as_fd()], |reached| {
            let account = user::find(reached.root.as_fd(), name, groups)?;
            serde_json::to_writer(&answer, &account).map_err(std::io::Error::from).context(context)
        })?;
        drop(answer);
        let text = std::io::read_to_string(found).context(context)?;
        match looking.wait()? {
            0 => serde_json::from_str(&text).map_err(std::io::Error::from).context(context),
            code => Err(Failure::silent().code(code)),
        }
    }

    /// The container's root, as its first process has it.
    fn root(&self) -> Result<OwnedFd> {
        let path = format!("/proc/{}/root", self.pid.as_raw_nonzero());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).context(|| "cannot open the container's root".to_owned())
    }

    fn begin<'p>(&self, process: &'p Process, stdio: Stdio<'p>, death: OnDeath) -> Result<launch::Ready<'p>> {
        let target = Target { pid: self.pid, pidfd: self.pidfd.as_fd(), spec: &self.spec };
        let groups = self.cgroup.as_ref().map(Group::ways_in).transpose()?;
        let join = Join { stdio, groups: groups.as_ref(), preserve_fds: 0, death };
        launch::exec(&target, process, &join)?.prepare()
    }

    /// With nobody's streams; it goes on by itself.
    fn leave(&self, process: &Process) -> Result<u8> {
        let null = null()?;
        let stdio = Stdio::Given { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() };
        self.begin(process, stdio, OnDeath::Survive)?.start()?;
        Ok(0)
    }

    /// With the caller's streams.
    fn stay(&self, process: &Process, interactive: bool) -> Result<u8> {
        let null = null()?;
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let stdin = if interactive { stdin.as_fd() } else { null.as_fd() };
        let stdio = Stdio::Given { stdin, stdout: stdout.as_fd(), stderr: stderr.as_fd() };
        crate::sandbox::supervise::block_signals().context(|| "cannot block signals".to_owned())?;
        let running = self.begin(process, stdio, OnDeath::Kill)?.start()?;
        let ended = crate::sandbox::supervise::wait_for(running.pid);
        Ok(ended.context(|| "cannot wait for the command".to_owned())?.code)
    }

    /// On a terminal of the container's, shown by a process that is to it what a
    /// monitor is to a container.
    fn on_terminal(&self, process: &Process, interactive: bool, keys: Keys) -> Result<u8> {
        let context = || "cannot make a terminal".to_owned();
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).context(context)?;
        attach::block_signals()?;
        match sys::clone(Namespaces::NONE).context(context)? {
            Side::Child => {
                drop(ours);
                let code = self.show(process, theirs).unwrap_or_else(|failure| failure.report());
                std::process::exit(code.into());
            }
            Side::Parent(shower) => {
                drop(theirs);
                let wanted = attach::Wanted { input: interactive, terminal: true, signals: true, keys };
                match attach::attach(ours, wanted)? {
                    Ended::Exit(code) => Ok(code),
                    Ended::Detached => Ok(0),
                    // It has said why; its exit code is the answer.
                    Ended::Lost => {
                        let ended = crate::sandbox::supervise::wait_for(shower);
                        Ok(ended.context(context)?.code)
                    }
                }
            }
        }
    }

    fn show(&self, process: &Process, client: OwnedFd) -> Result<u8> {
        let null = null()?;
        let stdio = Stdio::Given { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() };
        let mut ready = self.begin(process, stdio, OnDeath::Kill)?;
        let console = ready.console.take().ok_or_else(|| Failure::new("the command got no terminal"))?;
        let running = ready.start()?;
        let context = || "cannot show the terminal".to_owned();
        let held = Held {
            pid: running.pid,
            pidfd: running.pidfd,
            input: Some(console.try_clone().context(context)?),
            output: Some(console),
            error: None,
            terminal: true,
            stdin: Stdin::Open,
        };
        let mut pump = Pump::new(held, None, Some(client), None).context(context)?;
        let code = pump.run().context(context)?;
        for client in pump.into_clients() {
            let exit = crate::monitor::protocol::Packet::Exit(code);
            crate::monitor::protocol::send_packet(&client, &exit).unwrap_or_default();
        }
        Ok(code)
    }
}

fn null() -> Result<OwnedFd> {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/null");
    opened.map(OwnedFd::from).context(|| "cannot open /dev/null".to_owned())
}
