//! Programs of the host's that are run as a container comes and goes. Each is
//! told the container's state on stdin.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;

use crate::bundle::{Hook, Spec, VERSION};
use crate::failure::{Context, Failure, Result};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made.
    Creating,
    /// Made, and its command not begun.
    Created,
    /// Its command runs.
    Running,
    /// Its processes are where they were.
    Paused,
    /// Its command ended.
    Stopped,
}

/// A container's state, as hooks and the word `state` have it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    oci_version: &'a str,
    /// Its name.
    pub id: &'a str,
    /// Where it is in its life.
    pub status: Status,
    /// Its first process, as the host numbers it; none once it is stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Where its bundle is.
    pub bundle: &'a Path,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> State<'a> {
    /// Of a container of that bundle.
    pub fn of(id: &'a str, spec: &'a Spec, bundle: &'a Path, status: Status, pid: Option<i32>) -> State<'a> {
        State { oci_version: VERSION, id, status, pid, bundle, annotations: &spec.annotations }
    }
}

/// Runs hooks one after the other; the first that fails ends it.
pub fn run(which: &str, hooks: &[Hook], state: &State<'_>) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_vec(state).context(|| "cannot tell hooks of the container".to_string())?;
    hooks.iter().try_for_each(|hook| run_one(which, hook, &text))
}

/// Runs all of them; gives what went wrong.
pub fn run_all(which: &str, hooks: &[Hook], state: &State<'_>) -> Vec<String> {
    let Ok(text) = serde_json::to_vec(state) else { return Vec::new() };
    let failed = hooks.iter().filter_map(|hook| run_one(which, hook, &text).err());
    failed.map(|failure| failure.parts().1.to_owned()).collect()
}

fn run_one(which: &str, hook: &Hook, state: &[u8]) -> Result<()> {
    let shown = hook.path.display();
    let context = || format!("cannot run the {which} hook {shown}");
    if !hook.path.is_absolute() {
        return Err(Failure::new(format!("{}: the path is not absolute", context())));
    }
    let mut words = hook.args.iter();
    let mut command = Command::new(&hook.path);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    command.args(words).env_clear().stdin(Stdio::piped());
    command.envs(hook.env.iter().filter_map(|pair| pair.split_once('=')));
    let mut child = command.spawn().context(context)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing may be gone already.
        match stdin.write_all(state) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written.context(context)?,
        }
    }
    let status = match hook.timeout {
        None => Some(child.wait().context(context)?),
        Some(seconds) => wait_until(&mut child, Duration::from_secs(seconds)).context(context)?,
    };
    match status {
        None => Err(Failure::new(format!("the {which} hook {shown} did not end within its timeout"))),
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(Failure::new(format!("the {which} hook {shown} failed: {}", ending(status)))),
    }
}

/// Waits so long; kills it then.
fn wait_until(child: &mut Child, patience: Duration) -> std::io::Result<Option<ExitStatus>> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else { return child.wait().map(Some) };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if left.is_zero() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    }
}
