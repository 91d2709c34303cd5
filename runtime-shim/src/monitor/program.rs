//! Another OCI runtime in the place of our launcher: `crun` or `runc`, called as
//! every container engine calls it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as To};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
    SocketType, accept_with, bind, listen, recvmsg, socket_with,
};
use rustix::process::Pid;

use super::stdio::{Ours, Stdio};
use crate::container::{Container, absent_is_fine};
use crate::failure::{CANNOT_RUN, Context, Failure, NOT_FOUND, OURS, Result};

/// Such a runtime, for one container.
pub struct Program<'a> {
    path: &'a Path,
    container: &'a Container,
}

impl<'a> Program<'a> {
    /// The runtime at `path`.
    pub fn new(path: &'a Path, container: &'a Container) -> Program<'a> {
        Program { path, container }
    }

    /// Makes the container's process, which waits for [`Program::start`]. It is
    /// given pipes, or gets a terminal.
    pub fn create(&self, pipes: Option<Stdio>) -> Result<(Pid, Ours)> {
        let pid_file = self.container.dir().join("pid");
        absent_is_fine(std::fs::remove_file(&pid_file)).context(|| "cannot make a pid file".to_owned())?;
        let console = match pipes {
            Some(_) => None,
            None => Some(Console::listen(self.container)?),
        };
        let mut command = self.command("create");
        command.arg("--bundle").arg(self.container.dir()).arg("--pid-file").arg(&pid_file);
        if let Some(console) = &console {
            command.arg("--console-socket").arg(console.path());
        }
        command.arg(self.container.id());
        let ours = match pipes {
            None => Ours::default(),
            Some(Stdio { ours, theirs: [input, output, error] }) => {
                // The container inherits them.
                command.stdin(input).stdout(output).stderr(error);
                ours
            }
        };
        self.run(command)?;
        let ours = match console {
            None => ours,
            Some(console) => Ours::terminal(console.master()?)?,
        };
        let pid = std::fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok());
        let pid = pid.and_then(Pid::from_raw).ok_or_else(|| {
            Failure::new(format!("{} did not say which process it made", self.path.display()))
        })?;
        Ok((pid, ours))
    }

    /// Lets the process begin.
    pub fn start(&self) -> Result<()> {
        let mut command = self.command("start");
        command.arg(self.container.id());
        self.run(command)
    }

    /// Lets it forget the container.
    pub fn delete(&self) -> Result<()> {
        let mut command = self.command("delete");
        command.arg("--force").arg(self.container.id());
        self.run(command)
    }

    fn log(&self) -> PathBuf {
        self.container.dir().join("runtime.log")
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(self.path);
        command.arg("--root").arg(self.container.dir().join("runtime"));
        command.arg("--log").arg(self.log()).args(["--log-format", "json", verb]);
        command.stdin(To::null()).stdout(To::null()).stderr(To::null());
        command
    }

    fn run(&self, mut command: Command) -> Result<()> {
        absent_is_fine(std::fs::remove_file(self.log())).context(|| "cannot make a log".to_owned())?;
        let status = command.status().context(|| format!("cannot run {}", self.path.display()))?;
        if status.success() {
            return Ok(());
        }
        let said = std::fs::read_to_string(self.log()).unwrap_or_default();
        let message = said.lines().rev().find_map(message_of);
        let message = message.unwrap_or_else(|| format!("it failed with {status}"));
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Err(Failure::new(format!("{name}: {message}")).code(code_of(&message)))
    }
}

/// Of a line of a runtime's log, what it says of a failure.
fn message_of(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_failure = matches!(line.get("level")?.as_str()?, "error" | "fatal");
    is_failure.then(|| line.get("msg")?.as_str().map(str::to_owned)).flatten()
}

/// Docker reads runtimes' words in the same way.
fn code_of(message: &str) -> u8 {
    let lower = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["executable file not found", "executable file `"]) || (has(&["exec"]) && has(&["no such file"]))
    {
        NOT_FOUND
    } else if has(&["permission denied", "is a directory", "exec format error"]) {
        CANNOT_RUN
    } else {
        OURS
    }
}

/// Where a runtime sends the terminal that it made.
struct Console {
    socket: OwnedFd,
    dir: OwnedFd,
}

impl Console {
    fn listen(container: &Container) -> Result<Console> {
        let context = || "cannot make the console socket".to_owned();
        absent_is_fine(std::fs::remove_file(container.dir().join("console"))).context(context)?;
        let dir: OwnedFd = std::fs::File::open(container.dir()).context(context)?.into();
        let console = Console {
            socket: socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .context(context)?,
            dir,
        };
        let address = SocketAddrUnix::new(console.path()).context(context)?;
        bind(&console.socket, &address).context(context)?;
        listen(&console.socket, 1).context(context)?;
        Ok(console)
    }

    /// Short, however deep the store is: a socket's name has 107 bytes.
    fn path(&self) -> PathBuf {
        let pid = rustix::process::getpid().as_raw_nonzero();
        PathBuf::from(format!("/proc/{pid}/fd/{}/console", self.dir.as_raw_fd()))
    }

    /// The terminal's end for whoever shows it.
    fn master(self) -> Result<OwnedFd> {
        let context = || "cannot receive the terminal".to_owned();
        let peer = accept_with(&self.socket, SocketFlags::CLOEXEC).context(context)?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 4096];
        let mut vector = [std::io::IoSliceMut::new(&mut bytes)];
        recvmsg(peer.as_fd(), &mut vector, &mut ancillary, RecvFlags::CMSG_CLOEXEC).context(context)?;
        let mut fds = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let master = fds.next().and_then(|mut fds| fds.next());
        master.ok_or_else(|| Failure::new("the runtime sent no terminal"))
    }
}
