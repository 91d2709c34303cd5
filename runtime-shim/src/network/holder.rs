//! Networks without root: in namespaces of the user's own.
//!
//! All bridges of a store are in one network namespace, which belongs to one
//! user namespace; a process that does nothing holds both. Whoever works on
//! these networks enters them first, and is root there: everything else of this
//! module then works as it does for root. Containers' namespaces must be made
//! from inside, for a link leads only where its maker is root too.
//!
//! ```text
//! STORE/networks/.holder    the holder's process id; locked (flock) as long as it lives
//! STORE/networks/.pasta     pasta's process id, which does not see the holder's end
//! STORE/networks/.pasta-lock     locked as long as pasta lives
//! ```
//! The way out is `slirp4netns`, else `pasta`, programs that speak for the
//! namespace from outside. The host's 127.0.0.1 is not there through either.
//! Published ports take neither: their sockets are the host's, made before
//! entering, and their connections are passed on by a program (see `relay`).

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, setsid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::files::DnsWish;
use super::store::Networks;
use crate::failure::{Context, Failure, Result};
use crate::sandbox::identity::{self, Plan};
use crate::sys::{self, Namespaces, Side, SignalSet};

/// Where the host's name servers answer inside, whoever is the way out.
pub const NAME_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 3));
/// The largest packet that the ways out take: large ones cost them least.
const MTU: &str = "65520";

/// Between two looks at a holder that is beginning or ending.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// As many are enough for a pasta to begin or to end.
const LOOKS: u32 = 1000;

/// The namespaces of a store's networks.
#[derive(Debug)]
pub struct Holder {
    user: OwnedFd,
    network: OwnedFd,
    /// How others are reached from there.
    pub way_out: WayOut,
}

/// How others are reached from the namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayOut {
    /// By a program.
    Open,
    /// There was none to be had when they were made.
    Closed,
}

impl WayOut {
    /// What the user is told about it.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            WayOut::Open => None,
            WayOut::Closed => Some(
                "containers reach nobody outside: neither slirp4netns nor pasta is installed\n\
                 hint: install the package slirp4netns or passt, or use --network host",
            ),
        }
    }
}

/// Whom a container's server of names asks from inside: the host's servers may
/// be on its loopback, which is not there.
pub fn dns_wish(wish: &DnsWish) -> DnsWish {
    match wish.servers.is_empty() {
        true => DnsWish { servers: vec![NAME_SERVER], ..wish.clone() },
        false => wish.clone(),
    }
}

impl Holder {
    /// The store's, made where there is none. The program must be
    /// single-threaded. `ids` says who is who in the user namespace.
    pub fn ensure(networks: &Networks, ids: &Plan) -> Result<Holder> {
        let context = || "cannot make a network namespace for containers".to_owned();
        let file = file(networks);
        loop {
            let mut lock = open(&file).context(context)?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return start(networks, lock, ids),
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(error).context(context),
            }
            // Somebody holds it: the holder, or who is just making one.
            if let Some((pid, way_out)) = written(&mut lock).context(context)? {
                if is_holder(pid, &file) {
                    return namespaces(pid, way_out).context(context);
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// What it holds, for a process that is to keep nothing else.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.user.as_fd(), self.network.as_fd()]
    }

    /// Goes there, for good: the process is root of those namespaces from here
    /// on. It must be single-threaded.
    pub fn enter(&self) -> Result<()> {
        let context = || "cannot enter the containers' network namespace".to_owned();
        let types = [LinkNameSpaceType::User, LinkNameSpaceType::Network];
        for (namespace, of) in [&self.user, &self.network].into_iter().zip(types) {
            move_into_link_name_space(namespace.as_fd(), Some(of)).context(context)?;
        }
        Ok(())
    }
}

/// Ends the store's holder, and with it all that is in its namespaces. That
/// there is none is fine.
pub fn stop(networks: &Networks) -> Result<()> {
    let context = || "cannot end the holder of the containers' network namespace".to_owned();
    let mut lock = match File::open(file(networks)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.context(context)?,
    };
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if let Some((pid, _)) = written(&mut lock).context(context)? {
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(process) if is_holder(pid, &file(networks)) => {
                    pidfd_send_signal(&process, Signal::KILL).context(context)?;
                }
                // It is just beginning, or has just ended.
                Ok(_) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error).context(context),
            }
        }
        std::thread::sleep(PAUSE);
    }
    end_pasta(networks).map(drop).context(context)
}

fn pasta_file(networks: &Networks) -> PathBuf {
    networks.dir().join(".pasta")
}

/// Ends the store's pasta, if there is one, and keeps others from having one as
/// long as what it gives is open. Pasta has it open too.
fn end_pasta(networks: &Networks) -> io::Result<File> {
    let lock = open(&networks.dir().join(".pasta-lock"))?;
    let mut looks = 0..LOOKS;
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        looks.next().ok_or(io::ErrorKind::TimedOut)?;
        // One that is just beginning has not written its number yet.
        let text = fs::read_to_string(pasta_file(networks)).unwrap_or_default();
        if let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) {
            match pidfd_open(pid, PidfdFlags::empty()) {
                Err(Errno::SRCH) => {}
                process => pidfd_send_signal(process?, Signal::KILL)?,
            }
        }
        std::thread::sleep(PAUSE);
    }
    match fs::remove_file(pasta_file(networks)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(lock),
        removed => removed.map(|()| lock),
    }
}

fn file(networks: &Networks) -> PathBuf {
    networks.dir().join(".holder")
}

fn open(file: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, file, flags, Mode::from_raw_mode(0o600))?.into())
}

/// What the holder's maker wrote: its process id, and the way out.
fn written(file: &mut File) -> io::Result<Option<(Pid, WayOut)>> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    let mut words = text.split_ascii_whitespace();
    let pid = words.next().and_then(|word| word.parse().ok()).and_then(Pid::from_raw);
    let way_out = match words.next() {
        Some("open") => Some(WayOut::Open),
        Some("closed") => Some(WayOut::Closed),
        _ => None,
    };
    Ok(pid.zip(way_out))
}

/// Whether a process has this file where programs have their input: what was
/// written may be of an earlier one, whose number is another's by now.
fn is_holder(pid: Pid, file: &Path) -> bool {
    let input = fs::metadata(format!("/proc/{}/fd/0", pid.as_raw_nonzero()));
    match (input, fs::metadata(file)) {
        (Ok(input), Ok(file)) => (input.dev(), input.ino()) == (file.dev(), file.ino()),
        _ => false,
    }
}

fn namespaces(pid: Pid, way_out: WayOut) -> io::Result<Holder> {
    let namespace =
        |name: &str| File::open(format!("/proc/{}/ns/{name}", pid.as_raw_nonzero())).map(OwnedFd::from);
    Ok(Holder { user: namespace("user")?, network: namespace("net")?, way_out })
}

/// Makes the namespaces, their holder and the way out. The lock goes to the holder.
fn start(networks: &Networks, mut lock: File, ids: &Plan) -> Result<Holder> {
    let context = || "cannot make a network namespace for containers".to_owned();
    // Of a holder that was killed.
    lock.set_len(0).context(context)?;
    let pasta = end_pasta(networks).context(context)?;
    let (mapped, mut map) = pipe().context(context)?;
    let (mut ready, report) = pipe().context(context)?;
    // As long as the holder lives the writing end is open; then the way out ends.
    let (ended, end) = pipe().context(context)?;
    let pid = match sys::clone(Namespaces::USER.and(Namespaces::NETWORK)) {
        Err(error) => return Err(identity::cannot_make_namespaces(&error)),
        Ok(Side::Child) => {
            drop((map, ready, ended));
            hold(mapped, report, [lock.into(), end.into()])
        }
        Ok(Side::Parent(pid)) => pid,
    };
    drop((mapped, report, end));
    let made = ids
        .write_maps(pid)
        .and_then(|()| map.write_all(b"m").context(context))
        .and_then(|()| ready.read_exact(&mut [0]).context(context))
        .and_then(|()| open_way_out(networks, pid, ended, pasta))
        .and_then(|way_out| {
            let word = if way_out == WayOut::Open { "open" } else { "closed" };
            writeln!(lock, "{} {word}", pid.as_raw_nonzero()).context(context)?;
            map.write_all(b"d").context(context)?;
            namespaces(pid, way_out).context(context)
        });
    if made.is_err() {
        sys::kill(pid.as_raw_nonzero().get(), libc::SIGKILL).context(context)?;
    }
    made
}

/// The holder: it brings the loopback up, says so, and when its maker is done
/// only is there. A maker that is killed before that leaves none.
fn hold(mut from_maker: File, mut report: File, kept: [OwnedFd; 2]) -> ! {
    // Its maker may have some blocked, and nobody else ends it but by a signal.
    let ready = SignalSet::of(&[]).restore().is_ok()
        && from_maker.read_exact(&mut [0]).is_ok()
        && setsid().is_ok()
        && sys::raise_loopback().is_ok()
        && rustix::process::chdir("/").is_ok()
        && keep(&kept).is_ok()
        && report.write_all(b"r").is_ok()
        && from_maker.read_exact(&mut [0]).is_ok()
        && sys::close_others().is_ok();
    if !ready {
        std::process::exit(1);
    }
    loop {
        std::thread::sleep(std::time::Duration::from_secs(86_400));
    }
}

/// Puts what is to stay open where a program's input and output are, which this
/// one has no use for.
fn keep([lock, end]: &[OwnedFd; 2]) -> rustix::io::Result<()> {
    let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(lock)?;
    rustix::stdio::dup2_stdout(end)?;
    rustix::stdio::dup2_stderr(&null)
}

fn pipe() -> rustix::io::Result<(File, File)> {
    pipe_with(PipeFlags::CLOEXEC).map(|(reads, writes)| (reads.into(), writes.into()))
}

/// Starts the program by which others are reached, if there is one.
fn open_way_out(networks: &Networks, holder: Pid, ended: File, pasta: File) -> Result<WayOut> {
    let pid = holder.as_raw_nonzero().to_string();
    let (mut ready, report) = pipe().context(|| "cannot make a pipe".to_owned())?;
    // It ends when its standard input does, and says on its output that it has begun.
    let slirp = Command::new("slirp4netns")
        .args(["--configure", "--disable-host-loopback", "--exit-fd=0", "--ready-fd=1"])
        .args([&format!("--mtu={MTU}"), &pid, "tap0"])
        .stdin(ended)
        .stdout(report)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    match slirp {
        Err(error) if error.kind() == io::ErrorKind::NotFound => open_by_pasta(networks, &pid, pasta),
        started => {
            started.context(|| "cannot start slirp4netns".to_owned())?;
            ready.read_exact(&mut [0]).map(|()| WayOut::Open).map_err(|_ended| {
                Failure::new("slirp4netns cannot connect the containers' network namespace")
                    .hint("it takes /dev/net/tun, open to all users; try `slirp4netns --configure PID tap0`")
            })
        }
    }
}

/// Pasta in the foreground: in the background it would let go of its output,
/// which is the lock by which the next one knows that it is there.
fn open_by_pasta(networks: &Networks, holder: &str, lock: File) -> Result<WayOut> {
    let context = || "cannot start pasta".to_owned();
    let name_server = NAME_SERVER.to_string();
    let pasta = Command::new("pasta")
        .args(["--foreground", "--config-net", "--quiet", "--no-map-gw", "--ipv4-only", "--mtu", MTU])
        .args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"])
        .args(["--dns-forward", &name_server, "--pid"])
        .arg(pasta_file(networks))
        .arg(holder)
        .stdin(Stdio::null())
        .stdout(lock)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut pasta = match pasta {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(WayOut::Closed),
        started => started.context(context)?,
    };
    // It writes its number when it is ready.
    while fs::read_to_string(pasta_file(networks)).is_ok_and(|text| text.is_empty())
        || !pasta_file(networks).exists()
    {
        if pasta.try_wait().context(context)?.is_some() {
            return Err(Failure::new("pasta cannot connect the containers' network namespace")
                .hint(format!("`pasta --foreground --config-net --ipv4-only {holder}` says why")));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(WayOut::Open)
}
