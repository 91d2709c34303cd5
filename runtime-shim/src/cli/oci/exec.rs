//! `exec`: a further process in a container that runs.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::Args;

use super::create::{send_console, write_pid};
use super::log::Log;
use super::start::wait_as_proxy;
use super::state::Root;
use crate::bundle::{Process, User};
use crate::cgroup::Group;
use crate::failure::{Context, Failure, Result};
use crate::launch::hooks::Status;
use crate::launch::{self, Join, OnDeath, Stdio, Target};

/// Run a further process in a container
#[derive(Args)]
pub struct Exec {
    /// A file that says which: `process` of a bundle
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,

    /// Where the process's id is written
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// A socket that is sent the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,

    /// How many descriptors from 3 on it is handed
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    preserve_fds: u32,

    /// Go on without waiting for its end
    #[arg(long, short)]
    detach: bool,

    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,

    /// Where it begins
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,

    /// Set an environment variable
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Who it is: UID or UID:GID
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,

    /// Forbid new privileges
    #[arg(long)]
    no_new_privs: bool,

    /// The container
    id: String,

    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Exec {
    /// Runs it; its exit code, unless it is detached.
    pub fn run(self, root: &Root, log: &Log) -> Result<u8> {
        let container = root.find(&self.id)?;
        let spec = container.spec()?;
        let process = self.process(spec.process.clone().unwrap_or_default())?;
        let Some((pid, pidfd)) = container.process()? else {
            return Err(Failure::failed(format!(
                "cannot exec in a container that is not running: {}",
                self.id
            )));
        };
        if container.status()? == Status::Paused {
            return Err(Failure::failed(format!("cannot exec in a paused container: {}", self.id)));
        }
        if process.terminal && self.console_socket.is_none() {
            return Err(Failure::failed("the process has a terminal: --console-socket must be given"));
        }
        let target = Target { pid, pidfd: pidfd.as_fd(), spec: &spec };
        let groups = container.record.cgroup.as_ref().map(Group::ways_in).transpose()?;
        let join = Join {
            stdio: Stdio::Inherited,
            groups: groups.as_ref(),
            preserve_fds: self.preserve_fds,
            death: OnDeath::Survive,
        };
        let ready = launch::exec(&target, &process, &join)?.prepare()?;
        if let (Some(console), Some(socket)) = (&ready.console, &self.console_socket) {
            send_console(console.as_fd(), socket)?;
        }
        let running = ready.start()?;
        for warning in &running.warnings {
            log.warn(warning);
        }
        if let Some(path) = &self.pid_file {
            write_pid(path, running.pid.as_raw_nonzero().get())?;
        }
        if self.detach { Ok(0) } else { wait_as_proxy(running.pid) }
    }

    fn process(&self, usual: Process) -> Result<Process> {
        if let Some(path) = &self.process {
            let context = || format!("cannot read {}", path.display());
            return serde_json::from_slice(&fs::read(path).context(context)?).context(context);
        }
        let mut process = Process { terminal: self.tty, args: self.command.clone(), ..usual };
        process.no_new_privileges |= self.no_new_privs;
        process.env.extend(self.env.iter().cloned());
        if let Some(cwd) = &self.cwd {
            process.cwd.clone_from(cwd);
        }
        if let Some(user) = &self.user {
            process.user = parse_user(user)?;
        }
        Ok(process)
    }
}

/// Numbers, and nothing else: what looks like one and is not is refused.
fn parse_user(text: &str) -> Result<User> {
    let id = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let id = text.parse::<u32>().ok().filter(|id| is_number && *id != u32::MAX);
        id.ok_or_else(|| Failure::failed(format!("invalid --user: {text:?} is no id")))
    };
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (id(uid)?, id(gid)?),
        None => (id(text)?, 0),
    };
    Ok(User { uid, gid, ..User::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        let ids = |text: &str| parse_user(text).map(|user| (user.uid, user.gid)).ok();
        assert_eq!(ids("5"), Some((5, 0)));
        assert_eq!(ids("5:6"), Some((5, 6)));
        for bad in ["", "root", "+5", " 5", "5:", ":6", "5:6:7", "-1", "4294967295", "4294967296", "0x0"] {
            assert_eq!(ids(bad), None, "{bad}");
        }
    }
}
