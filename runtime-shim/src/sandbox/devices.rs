//! The view's /dev: a small file system of our own.
//!
//! Only devices that hold nothing are in it, as bind mounts of the host's nodes
//! (an ordinary user may not make nodes). The file system itself is `nodev`,
//! so that a node the command makes is dead.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, fchmod, fstat, major, minor, mkdirat, open, openat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::termios::{isatty, ttyname};

use super::root::{attach, attach_at, beneath, bind, file_system};
use crate::failure::{Context, Failure, Result};
use crate::sys;

/// A device of the host that the view shows.
struct Node {
    name: &'static str,
    major: u32,
    minor: u32,
}

const fn node(name: &'static str, major: u32, minor: u32) -> Node {
    Node { name, major, minor }
}

/// Numbers from the kernel's admin-guide/devices.txt; a file under the name
/// that is anything else is not taken for the device.
const NODES: [Node; 7] = [
    node("null", 1, 3),
    node("zero", 1, 5),
    node("full", 1, 7),
    node("random", 1, 8),
    node("urandom", 1, 9),
    node("tty", 5, 0),
    // Where a command mounts a FUSE file system of its own, in namespaces of
    // its own.
    node("fuse", 10, 229),
];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// The group that owns terminals on most distributions; openpty(3) wants it.
const TTY_GROUP: &str = "5";

/// Mounts /dev and what belongs into it below the view's `root`.
pub fn mount(root: BorrowedFd<'_>) -> Result<()> {
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let no_devices = quiet | MountAttrFlags::MOUNT_ATTR_NODEV;
    let dev = temporary("755", no_devices, "/dev")?;
    attach_at(dev.as_fd(), root, "dev")?;
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(&dev, name, Mode::from_raw_mode(0o755)).context(|| format!("cannot make /dev/{name}"))?;
    }
    for (target, name) in LINKS {
        symlinkat(target, &dev, name).context(|| format!("cannot make /dev/{name}"))?;
    }
    let shm =
        temporary("1777", MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV, "/dev/shm")?;
    attach_at(shm.as_fd(), root, "dev/shm")?;
    let terminals = terminals(quiet).context(|| "cannot mount /dev/pts".to_string())?;
    attach_at(terminals.as_fd(), root, "dev/pts")?;
    mount_queues(root, no_devices)?;
    for node in &NODES {
        show_node(node, dev.as_fd(), root)?;
    }
    show_console(dev.as_fd(), root)
}

fn temporary(mode: &str, attributes: MountAttrFlags, path: &str) -> Result<OwnedFd> {
    file_system(c"tmpfs", &[("mode", mode), ("source", "runion")], attributes)
        .context(|| format!("cannot mount {path}"))
}

/// A set of pseudo-terminals of the view's own.
fn terminals(attributes: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let common = [("source", "devpts"), ("ptmxmode", "0666"), ("mode", "0620")];
    let [source, ptmx, mode] = common;
    match file_system(c"devpts", &[source, ptmx, mode, ("gid", TTY_GROUP)], attributes) {
        // The group does not exist in a user namespace of one id.
        Err(Errno::INVAL) => file_system(c"devpts", &common, attributes),
        mounted => mounted,
    }
}

/// POSIX message queues belong to the IPC namespace; not every kernel has them.
fn mount_queues(root: BorrowedFd<'_>, attributes: MountAttrFlags) -> Result<()> {
    match file_system(c"mqueue", &[("source", "mqueue")], attributes) {
        Ok(queues) => attach_at(queues.as_fd(), root, "dev/mqueue"),
        Err(Errno::NODEV) => Ok(()),
        Err(errno) => Err(errno).context(|| "cannot mount /dev/mqueue".to_string()),
    }
}

/// Shows one of the host's devices under its name, where the host has it.
fn show_node(node: &Node, dev: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<()> {
    let path = format!("/dev/{}", node.name);
    let host = match openat(CWD, &path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(host) => host,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno).context(|| format!("cannot open {path}")),
    };
    let stat = fstat(&host).context(|| format!("cannot look at {path}"))?;
    let is_character_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_character_device || (major(stat.st_rdev), minor(stat.st_rdev)) != (node.major, node.minor) {
        return Err(Failure::new(format!("cannot use {path}: not the device {}:{}", node.major, node.minor)));
    }
    show(host.as_fd(), node.name, dev, root)
}

/// Shows the caller's terminal as /dev/console, so that it has a name in the
/// view (its own lies in the host's /dev/pts).
///
/// Only a terminal that this mount namespace has a path for can be bound; one
/// from elsewhere has no name in the view, and works all the same.
fn show_console(dev: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<()> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let Some(stream) = streams.into_iter().find(|stream| isatty(stream)) else { return Ok(()) };
    let (Ok(path), Ok(stream)) = (ttyname(stream, Vec::new()), fstat(stream)) else { return Ok(()) };
    let Ok(terminal) = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) else {
        return Ok(());
    };
    let stat = fstat(&terminal).context(|| "cannot look at the terminal".to_string())?;
    if (stat.st_dev, stat.st_ino, stat.st_rdev) != (stream.st_dev, stream.st_ino, stream.st_rdev) {
        return Ok(());
    }
    show(terminal.as_fd(), "console", dev, root)
}

/// Binds an open device to a new name in /dev.
fn show(device: BorrowedFd<'_>, name: &str, dev: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<()> {
    let context = || format!("cannot show /dev/{name}");
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let place = openat(dev, name, flags, Mode::from_raw_mode(0o666)).context(context)?;
    fchmod(&place, Mode::from_raw_mode(0o666)).context(context)?;
    let target = beneath(root, &format!("dev/{name}"), OFlags::PATH).context(context)?;
    let node = bind(device).context(context)?;
    // A device on a read-only mount takes data, but no chmod: the node itself
    // is the host's.
    sys::make_read_only(&node).context(context)?;
    attach(node.as_fd(), target.as_fd()).context(context)
}
