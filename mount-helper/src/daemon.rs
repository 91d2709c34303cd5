//! From a request to a served mount, in the order that leaves nothing half
//! made, and the process that does it.
//!
//! In the background a child does all the work; the parent waits on a pipe and
//! returns success only when the mount is in its place and answers. If the
//! parent is gone by then, nobody wants the mount, and it is taken away.

use std::io::{Read, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, Rlimit, WaitOptions};
use unionfs::Union;
use unionfs::fuse::Session;

use crate::args::Run;
use crate::checks;
use crate::failure::{Failure, Result};
use crate::mount::{self, Mounted};
use crate::request::Request;
use crate::signals::Signals;
use crate::sys::{self, Side};

/// The byte that says "mounted" where a failure's would say its exit code.
const MOUNTED: u8 = 0;

/// Mounts and serves as asked; in the background, returns when the mount is
/// usable, otherwise when it is gone.
///
/// # Errors
/// Why nothing is mounted, or what ended the session.
pub fn mount(request: Request, run: Run, inherited: Vec<RawFd>) -> Result<()> {
    match run {
        Run::Fake => checks::directories(&request.union, &request.mount.mountpoint).map(drop),
        Run::Foreground => {
            let served = start(request, inherited)?;
            served.until_unmounted()
        }
        Run::Background => background(request, inherited),
    }
}

fn background(request: Request, inherited: Vec<RawFd>) -> Result<()> {
    let pipe = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Failure::system("cannot make a pipe", errno))?;
    match sys::fork().map_err(|error| Failure::system("cannot fork", error))? {
        Side::Parent(child) => {
            drop(pipe.1);
            outcome(pipe.0, child)
        }
        Side::Child => {
            drop(pipe.0);
            in_child(request, inherited, pipe.1.into())
        }
    }
}

/// What the child reports, or how it died.
fn outcome(report: OwnedFd, child: Pid) -> Result<()> {
    let mut bytes = Vec::new();
    std::fs::File::from(report)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::system("cannot hear from the daemon", error))?;
    if bytes == [MOUNTED] {
        return Ok(());
    }
    if let Some(failure) = Failure::from_bytes(&bytes) {
        return Err(failure);
    }
    let status = rustix::process::waitpid(Some(child), WaitOptions::empty()).ok().flatten();
    let how = match status.map(|(_, status)| (status.terminating_signal(), status.exit_status())) {
        Some((Some(signal), _)) => format!("was killed by signal {signal}"),
        Some((_, Some(code))) => format!("exited with {code}"),
        _ => "died".to_owned(),
    };
    Err(Failure::mount(format!("the daemon {how} before the mount was usable")))
}

/// The daemon's life. Its standard streams are the caller's until the mount is
/// usable, and nobody's afterwards.
fn in_child(request: Request, inherited: Vec<RawFd>, report: std::fs::File) -> Result<()> {
    let detached =
        rustix::process::setsid().map_err(|errno| Failure::system("cannot leave the session", errno));
    let started = detached.and_then(|_| start(request, inherited)).and_then(|served| match silence() {
        Ok(()) => Ok(served),
        Err(failure) => {
            served.mounted.unmount_reporting();
            Err(failure)
        }
    });
    let served = match started {
        Ok(served) => served,
        Err(failure) => {
            std::process::exit(tell(report, &failure.to_bytes()).map_or(1, |()| failure.code().into()))
        }
    };
    match tell(report, &[MOUNTED]) {
        Ok(()) => served.until_unmounted(),
        // The parent was killed while waiting: it would have unmounted, had it
        // been able to.
        Err(error) => {
            served.mounted.unmount_reporting();
            Err(Failure::system("nobody waits for the mount", error))
        }
    }
}

fn tell(mut report: std::fs::File, bytes: &[u8]) -> std::io::Result<()> {
    report.write_all(bytes)
}

/// A union that is mounted and greeted, but not served yet.
struct Served {
    session: Session,
    signals: Signals,
    mounted: Mounted,
}

/// Every step that can fail, the mount point last.
fn start(request: Request, inherited: Vec<RawFd>) -> Result<Served> {
    let target = checks::directories(&request.union, &request.mount.mountpoint)?;
    raise_descriptor_limit();
    // Modes are the caller's to choose; requests bring its umask.
    rustix::process::umask(Mode::empty());
    let union = Union::open(request.union).map_err(unopened)?;
    // Only now: a layer may have been named through one of them.
    sys::close_inherited(inherited);
    let signals = Signals::hold()?;
    let (device, pending) = mount::make(&request.mount, target)?;
    let session = Session::start(Arc::new(union), device, request.session)
        .map_err(|error| Failure::refused("the kernel did not accept the file system", error))?;
    let mounted = pending.attach()?;
    match rustix::process::chdir("/") {
        Ok(()) => Ok(Served { session, signals, mounted }),
        Err(errno) => {
            mounted.unmount_reporting();
            Err(Failure::system("cannot leave the working directory", errno))
        }
    }
}

/// The library's sentence, and what can be done where it cannot know.
fn unopened(error: unionfs::Error) -> Failure {
    let failure = Failure::mount(error.to_string());
    match error.errno() {
        Errno::MFILE => {
            failure.hint("each layer takes up to two open files: raise the hard limit, ulimit -Hn")
        }
        _ => failure,
    }
}

impl Served {
    fn until_unmounted(self) -> Result<()> {
        if let Err(failure) = self.signals.unmount(self.mounted) {
            self.mounted.unmount_reporting();
            return Err(failure);
        }
        self.session.run().map_err(|error| {
            // A mount without a server only makes its users wait.
            self.mounted.unmount_reporting();
            Failure::refused("the session broke", error)
        })
    }
}

/// A union holds a descriptor per directory and open file. Never an error: a
/// lower limit is met when it is met.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(errno) = rustix::process::setrlimit(Resource::Nofile, raised) {
        eprintln!("runionfs: cannot raise the limit of open files: {errno}");
    }
}

/// Gives up the caller's standard streams: who waits for their end would wait
/// as long as the mount lives.
fn silence() -> Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Failure::system("cannot open /dev/null", errno))?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null))
        .map_err(|errno| Failure::system("cannot give up the standard streams", errno))
}
