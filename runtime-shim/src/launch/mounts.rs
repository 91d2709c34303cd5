//! The mounts of a bundle, in its order, onto the container's root.
//!
//! Each is made detached, changed as its options say, and only then put on its
//! target, which is opened beneath the root. A procfs is the kernel's own: over
//! its files go only those that are known to be harmless, and a procfs or sysfs
//! goes to a directory that no link leads to, or the container could choose
//! what we take for them afterwards.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;

use super::cgroups;
use super::copyup;
use super::filesystems::{Refused, attach, make};
use super::options::{Change, Depth, Options, Propagation, attribute};
use super::sources::{Planned, take};
use super::target::{self, Links};
use crate::failure::{Context, Failure, Result};
use crate::sys::Namespaces;
use crate::sys::mounts::{Reach, set_attributes};

/// What may be mounted over within a procfs: files of lxcfs that show a
/// container its own share.
const OVER_PROC: [&str; 9] = [
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/meminfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "proc/loadavg",
    "proc/slabinfo",
    "proc/sys/kernel/ns_last_pid",
];

/// What mounting takes to know about the container.
pub struct Ground<'a> {
    /// Its root: where the mounts go.
    pub root: BorrowedFd<'a>,
    /// How mounts that say nothing of it reach others.
    pub propagation: Propagation,
    /// The namespaces it has new.
    pub own: Namespaces,
    /// The SELinux context of its file systems.
    pub label: Option<&'a str>,
}

/// Makes one.
pub fn make_one(planned: &Planned<'_>, ground: &Ground<'_>) -> Result<()> {
    let mount = planned.mount;
    let at = mount.destination.display();
    let kind = mount.kind.as_deref().unwrap_or("none");
    match (&planned.source, kind) {
        (Some(tree), _) => bind(planned, tree.as_fd(), ground),
        (None, "cgroup" | "cgroup2") => cgroups::mount(planned, ground),
        (None, "none") => Err(Failure::new(format!("cannot mount {at}: it has neither a type nor bind"))),
        (None, kind) => file_system(planned, kind, ground),
    }
}

fn bind(planned: &Planned<'_>, tree: BorrowedFd<'_>, ground: &Ground<'_>) -> Result<()> {
    let destination = &planned.mount.destination;
    let context = || {
        let source = planned.mount.source.as_deref().unwrap_or(Path::new("")).display();
        format!("cannot mount {source} on {}", destination.display())
    };
    let propagation = Some(ground.propagation).filter(|_| planned.options.propagation.is_empty());
    if let Some(propagation) = propagation {
        propagate(tree, Propagation { depth: Depth::All, ..propagation }).context(context)?;
    }
    dress(tree, &planned.options).context(context)?;
    let is_proc = target::is_on_proc(tree).context(context)?;
    let place = match target::is_directory(tree).context(context)? {
        true => target::directory(ground.root, destination, 0o755, links(destination)),
        false => target::file(ground.root, destination, links(destination)),
    };
    let place = place.map_err(|errno| no_place(destination, errno))?;
    if !is_proc {
        refuse_over_proc(destination, place.as_fd())?;
    }
    attach(tree, &place).context(context)
}

fn file_system(planned: &Planned<'_>, kind: &str, ground: &Ground<'_>) -> Result<()> {
    let destination = &planned.mount.destination;
    let context = || format!("cannot mount {kind} on {}", destination.display());
    let options = &planned.options;
    let tree = match new(planned, kind, ground) {
        Ok(tree) => tree,
        // Not the owner of the network, or of the processes, that it would show.
        Err(refused) if refused.errno == Errno::PERM && kind == "sysfs" => hosts("/sys", options)?,
        Err(refused)
            if refused.errno == Errno::PERM && kind == "proc" && !ground.own.contains(Namespaces::PID) =>
        {
            hosts("/proc", options)?
        }
        Err(refused) => return Err(refused).context(context),
    };
    let links = if matches!(kind, "proc" | "sysfs") { Links::None } else { links(destination) };
    let place = target::directory(ground.root, destination, 0o755, links)
        .map_err(|errno| no_place(destination, errno))?;
    refuse_over_proc(destination, place.as_fd())?;
    if options.copy_up && kind == "tmpfs" {
        copyup::copy(ground.root, destination, tree.as_fd()).context(context)?;
    }
    attach(&tree, &place).context(context)
}

/// A file system of its own, dressed as the options say.
fn new(planned: &Planned<'_>, kind: &str, ground: &Ground<'_>) -> Result<OwnedFd, Refused> {
    let options = &planned.options;
    let destination = &planned.mount.destination;
    let source = planned.mount.source.as_deref().and_then(Path::to_str).unwrap_or(kind);
    let mut data: Vec<String> = options.data.clone();
    if let Some(label) = ground.label.filter(|_| matches!(kind, "tmpfs" | "devpts" | "mqueue")) {
        data.push(format!("context={label}"));
    }
    if kind == "tmpfs" && !data.iter().any(|option| option.starts_with("mode=")) {
        data.extend(mode_of(ground.root, destination).map(|mode| format!("mode={mode:o}")));
    }
    let made = match make(kind, source, &data, options.attributes.set) {
        // The group of terminals does not exist among a namespace's few ids.
        Err(refused) if kind == "devpts" && refused.errno == Errno::INVAL => {
            data.retain(|option| !option.starts_with("gid="));
            make(kind, source, &data, options.attributes.set)
        }
        made => made,
    }?;
    for propagation in &options.propagation {
        propagate(made.as_fd(), *propagation).map_err(errno)?;
    }
    Ok(made)
}

/// The mode of a directory that is there: what covers it has the same, as with
/// other runtimes.
fn mode_of(root: BorrowedFd<'_>, destination: &Path) -> Option<u32> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let there = target::open(root, destination, flags, links(destination)).ok()?;
    rustix::fs::fstat(&there).ok().map(|stat| stat.st_mode & 0o7777)
}

/// The host's own, with all that is mounted there, as read-only as can be.
fn hosts(path: &str, options: &Options) -> Result<OwnedFd> {
    let context = || format!("cannot show the host's {path}");
    let tree = take(Path::new(path), Depth::All).context(context)?;
    let quiet = attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;
    let read_only =
        if path == "/sys" { attribute::RDONLY } else { options.attributes.set & attribute::RDONLY };
    set_attributes(&tree, Reach::Tree, quiet | read_only, 0, libc::MS_PRIVATE).context(context)?;
    Ok(tree)
}

/// Changes a detached mount as options say.
fn dress(tree: BorrowedFd<'_>, options: &Options) -> std::io::Result<()> {
    change(tree, Reach::Tree, options.below)?;
    change(tree, Reach::Mount, options.attributes)?;
    for propagation in &options.propagation {
        propagate(tree, *propagation)?;
    }
    Ok(())
}

fn change(tree: BorrowedFd<'_>, reach: Reach, change: Change) -> std::io::Result<()> {
    if change.is_empty() {
        return Ok(());
    }
    match set_attributes(tree, reach, change.set, change.clear, 0) {
        // What is locked from outside a user namespace stays as it is; what is
        // asked to be set must be.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && change.clear != 0 => {
            set_attributes(tree, reach, change.set & !attribute::ATIME, 0, 0)
        }
        changed => changed,
    }
}

/// Changes how a mount reaches others.
pub fn propagate(tree: BorrowedFd<'_>, propagation: Propagation) -> std::io::Result<()> {
    let reach = if propagation.depth == Depth::All { Reach::Tree } else { Reach::Mount };
    set_attributes(tree, reach, 0, 0, propagation.kind)
}

/// How a destination is looked for.
fn links(destination: &Path) -> Links {
    let path = target::clean(destination);
    let is_kernels = ["proc", "sys", "dev"].iter().any(|name| path == Path::new(name));
    if is_kernels { Links::None } else { Links::Within }
}

fn no_place(destination: &Path, errno: Errno) -> Failure {
    let at = destination.display();
    match errno {
        Errno::LOOP => Failure::new(format!("cannot mount {at}: the container's {at} is a symbolic link")),
        Errno::NOTDIR => Failure::new(format!("cannot mount {at}: the container's {at} is not a directory")),
        Errno::ISDIR => {
            Failure::new(format!("cannot mount a file on {at}: the container's {at} is a directory"))
        }
        errno => Failure::new(format!("cannot make the container's {at}: {errno}")),
    }
}

/// Refuses a target within a procfs, however it was reached.
fn refuse_over_proc(destination: &Path, place: BorrowedFd<'_>) -> Result<()> {
    let context = || format!("cannot look at the container's {}", destination.display());
    let path = target::clean(destination);
    // All of it may be covered: a root may be one that is in use.
    let may_be = path == Path::new("proc") || OVER_PROC.iter().any(|file| path == Path::new(file));
    if may_be || !target::is_on_proc(place).context(context)? {
        return Ok(());
    }
    Err(Failure::new(format!("cannot mount {}: it is inside /proc", destination.display())))
}

fn errno(error: std::io::Error) -> Refused {
    Refused::from(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// The host's node of a device, as a detached mount; verified by its numbers.
pub fn host_node(path: &Path, is: impl Fn(&rustix::fs::Stat) -> bool) -> Result<OwnedFd> {
    let context = || format!("cannot use the host's {}", path.display());
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::openat(CWD, path, flags, rustix::fs::Mode::empty()).context(context)?;
    if !is(&rustix::fs::fstat(&node).context(context)?) {
        return Err(Failure::new(format!("{}: it is another device", context())));
    }
    super::filesystems::clone_of(node.as_fd(), Depth::One).context(context)
}
