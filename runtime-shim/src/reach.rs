//! The files of a container, while it runs or not.
//!
//! They are reached in a process of their own, which ends with the work. A
//! container that runs is reached through its first process's root: what is
//! mounted there is what its processes see. Of one that does not, the root is
//! mounted as its monitor would, with its volumes; nobody starts it meanwhile.
//! For an ordinary user both are in a user namespace, in which the files'
//! owners are the container's.
//!
//! What is given to the work is one descriptor, of the root. Whatever lies below
//! may change at any moment, by the container's will: paths are resolved in
//! that root and nowhere else ([`inside`]), and nothing there is executed or
//! asked.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, set_child_subreaper, wait, waitpid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use unionfs::Union;
use unionfs::config::Namespace;

use crate::container::{Container, Driver, Locked, Record};
use crate::failure::{Context, FAILED, Failure, OURS, Result};
use crate::files::Maps;
use crate::rootfs::{Rootfs, offline};
use crate::sandbox::identity::{Giving, Plan};
use crate::sandbox::launch::launch;
use crate::sandbox::{Identity, attach, bind};
use crate::sys::{self, Namespaces, Side, SignalSet};
use crate::volume::Volumes;
use crate::{settle, state};

/// What of a container is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Its root, and what is mounted there.
    Whole,
    /// Its root alone.
    RootAlone,
}

/// What the work is given.
pub struct Reached {
    /// The root.
    pub root: OwnedFd,
    /// Whose ids its files have on disk, as the work sees them.
    pub maps: Maps,
}

/// Work that is being done.
pub struct Reaching<'c> {
    pid: Pid,
    _locked: Option<Locked<'c>>,
}

/// Does something with a container's files, in another process; of the caller's
/// descriptors that has these alone. It says itself what went wrong.
pub fn reach<'c>(
    container: &'c Container,
    view: View,
    kept: &[BorrowedFd<'_>],
    work: impl FnOnce(&Reached) -> Result<()>,
) -> Result<Reaching<'c>> {
    let plan = Plan::new(Identity::Root)?;
    let record = settle::read(container)?;
    let act = |outcome: Result<()>| outcome.map_or_else(|failure| failure.report(), |()| 0);
    if record.state.status.is_up() {
        let pid = match sys::clone(Namespaces::NONE).context(|| "cannot make a process".to_owned())? {
            Side::Parent(pid) => pid,
            Side::Child => {
                let outcome =
                    prepare(kept, &[]).and_then(|()| running(container, &record, &plan, view, work));
                std::process::exit(i32::from(act(outcome)));
            }
        };
        return Ok(Reaching { pid, _locked: None });
    }
    let locked = container.lock()?;
    if locked.read()?.state.status.is_up() {
        return Err(Failure::as_docker(format!("container {} was just started", record.id)));
    }
    let pid = launch(&plan, Namespaces::MOUNT, |gate| match gate.opened() {
        false => OURS,
        true => {
            let ready = prepare(kept, &[locked.as_fd()]);
            act(ready.and_then(|()| stopped(container, &record, &plan, view, work)))
        }
    })?;
    Ok(Reaching { pid, _locked: Some(locked) })
}

/// Reads a container's files without a mount, in another process: its root
/// alone, with the image's ids, as far as it is written out. It says itself what went
/// wrong.
pub fn read<'c>(
    container: &'c Container,
    record: &Record,
    more: &[BorrowedFd<'_>],
    work: impl FnOnce(&Union) -> Result<()>,
) -> Result<Reaching<'c>> {
    let plan = Plan::new(Identity::Root)?;
    let locked = match record.state.status.is_up() {
        true => None,
        false => Some(container.lock()?),
    };
    let kept: Vec<BorrowedFd<'_>> = locked.iter().map(AsFd::as_fd).collect();
    let pid = launch(&plan, Namespaces::NONE, |gate| match gate.opened() {
        false => OURS,
        true => {
            let opened = prepare(&kept, more).and_then(|()| offline::open(container, record, &plan));
            opened.and_then(|root| work(&root.union)).map_or_else(|failure| failure.report(), |()| 0)
        }
    })?;
    Ok(Reaching { pid, _locked: locked })
}

/// Writes out what a container that runs has written by now: pages that are
/// mapped may not be in its upper yet.
pub fn flush(container: &Container) -> Result<()> {
    let flushed = reach(container, View::RootAlone, &[], write_out)?;
    match flushed.wait()? {
        0 => Ok(()),
        code => Err(Failure::silent().code(code)),
    }
}

fn write_out(reached: &Reached) -> Result<()> {
    let context = || "cannot write out what the container wrote".to_owned();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(&reached.root, c".", flags, Mode::empty()).context(context)?;
    rustix::fs::syncfs(&root).context(context)
}

/// Whether a directory of a container that runs can be [read] without a mount: it and all
/// below it is of the root alone, as the container itself sees it. Nothing is mounted
/// there or on the way, and no link is. What it wrote by now is then written out.
pub fn is_bare(container: &Container, record: &Record, path: &[u8]) -> Result<bool> {
    let elsewhere = || Failure::silent().code(FAILED);
    let looked = reach(container, View::RootAlone, &[], |reached| {
        let context = || "cannot look at the container's mounts".to_owned();
        let first = process(record.state.pid.ok_or_else(elsewhere)?)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(&first, "root", flags, Mode::empty()).context(context)?;
        let id = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let found = openat2(&root, path, flags, Mode::empty(), resolve);
        let mut mounts = Vec::new();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&first, "mountinfo", flags, Mode::empty()).context(context)?;
        File::from(file).read_to_end(&mut mounts).context(context)?;
        let is_bare = id(&root).context(context)? == id(&reached.root).context(context)?
            && found.is_ok()
            && began(&first) == record.state.pid_started
            && !has_mount_below(&mounts, path);
        if !is_bare {
            return Err(elsewhere());
        }
        write_out(reached)
    })?;
    Ok(looked.wait()? == 0)
}

/// Whether something is mounted at or below a path (proc_pid_mountinfo(5)).
fn has_mount_below(mounts: &[u8], path: &[u8]) -> bool {
    let mut escaped = Vec::new();
    for &byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").bytes()),
            byte => escaped.push(byte),
        }
    }
    let path = escaped.strip_suffix(b"/").unwrap_or(&escaped);
    let points =
        mounts.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points.filter(|point| *point != b"/").any(|point| {
        point.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
    })
}

impl Reaching<'_> {
    /// Waits until it is done, and gives the exit code.
    pub fn wait(self) -> Result<u8> {
        loop {
            match waitpid(Some(self.pid), WaitOptions::empty()) {
                Err(Errno::INTR) => {}
                ended => {
                    let ended = ended.context(|| "cannot wait for a process".to_owned())?;
                    let code = ended.and_then(|(_, status)| status.exit_status());
                    return Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(OURS));
                }
            }
        }
    }
}

/// Leaves what the caller holds behind.
fn prepare(kept: &[BorrowedFd<'_>], more: &[BorrowedFd<'_>]) -> Result<()> {
    sys::close_all_but(&[kept, more].concat()).context(|| "cannot begin to reach a container".to_owned())?;
    state::raise_descriptor_limit();
    Ok(())
}

fn running(
    container: &Container,
    record: &Record,
    plan: &Plan,
    view: View,
    work: impl FnOnce(&Reached) -> Result<()>,
) -> Result<()> {
    let is_over = || Failure::as_docker(format!("Container {} is not running", record.id));
    let monitor = process(record.state.monitor.ok_or_else(is_over)?)?;
    if let Plan::Mapped(_) = plan {
        let context = || "cannot enter the container's user namespace".to_owned();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = openat(&monitor, "ns/user", flags, Mode::empty()).context(context)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User)).context(context)?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let context = || format!("cannot reach the files of {}", record.id);
    let root = match view {
        View::Whole => {
            let first = process(record.state.pid.ok_or_else(is_over)?)?;
            let root = openat(&first, "root", flags, Mode::empty()).context(context)?;
            if began(&first) != record.state.pid_started || record.state.pid_started.is_none() {
                return Err(is_over());
            }
            root
        }
        View::RootAlone => {
            let root = openat(&monitor, "root", flags, Mode::empty()).context(context)?;
            let path = container.rootfs();
            let path = path.strip_prefix("/").unwrap_or(&path);
            let root = openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).context(context)?;
            // Whoever held the lock has that number.
            if !container.is_alive()? || container.read()?.state.monitor != record.state.monitor {
                return Err(is_over());
            }
            root
        }
    };
    work(&Reached { root, maps: maps(record, plan) })
}

/// A process's directory: of no other, if its number comes again.
fn process(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, &*path, flags, Mode::empty()).context(|| format!("cannot open {path}"))
}

/// When a process began, by its directory.
fn began(process: &OwnedFd) -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = Vec::new();
    let mut file = File::from(openat(process, "stat", flags, Mode::empty()).ok()?);
    file.read_to_end(&mut text).ok()?;
    settle::since_of(&String::from_utf8_lossy(&text))
}

fn stopped(
    container: &Container,
    record: &Record,
    plan: &Plan,
    view: View,
    work: impl FnOnce(&Reached) -> Result<()>,
) -> Result<()> {
    set_child_subreaper(Some(rustix::process::getpid()))
        .context(|| "cannot begin to reach a container".to_owned())?;
    let rootfs = mount(container, record, plan)?;
    let done = with_root(container, record, plan, view, &rootfs, work);
    let unmounted = rootfs.unmount();
    await_server()?;
    done.and(unmounted)
}

/// Its root. The two drivers show and leave the same, and through the kernel's
/// own overlay a tree of many files is read in less than half the time: it is
/// taken where it can be had, and where nothing is to be verified: the kernel's
/// reads no data that is not sealed, and the other reads it and compares.
fn mount(container: &Container, record: &Record, plan: &Plan) -> Result<Rootfs> {
    let none = SignalSet::of(&[]);
    let is_union = record.config.driver != Driver::Dir && record.config.uid_map.is_empty();
    let is_possible = is_union && matches!(plan, Plan::Own(Namespace::Trusted));
    if is_possible && !Rootfs::verifies(container, record)? {
        let mut quick = record.clone();
        quick.config.driver = Driver::Kernel;
        if let Ok(rootfs) = Rootfs::mount(container, &quick, plan, &none) {
            return Ok(rootfs);
        }
    }
    Rootfs::mount(container, record, plan, &none)
}

fn with_root(
    container: &Container,
    record: &Record,
    plan: &Plan,
    view: View,
    rootfs: &Rootfs,
    work: impl FnOnce(&Reached) -> Result<()>,
) -> Result<()> {
    if view == View::Whole {
        let volumes = Volumes::open(container.store());
        volumes.ready(record, rootfs.root())?;
        mount_volumes(record, &volumes, rootfs.root())?;
    }
    let root = rootfs.root().try_clone_to_owned().context(|| "cannot hold a root".to_owned())?;
    work(&Reached { root, maps: maps(record, plan) })
}

/// A container's ids as its root shows them; where there is one id, it is all.
fn maps(record: &Record, plan: &Plan) -> Maps {
    match plan.giving() {
        Giving::Any => Maps { users: record.config.uid_map.clone(), groups: record.config.gid_map.clone() },
        Giving::None => Maps::default(),
    }
}

/// Waits until nothing is served any more: then the upper is complete.
fn await_server() -> Result<()> {
    loop {
        match wait(WaitOptions::empty()) {
            Err(Errno::CHILD) => return Ok(()),
            Err(Errno::INTR) | Ok(_) => {}
            Err(errno) => return Err(errno).context(|| "cannot wait for the server of a root".to_owned()),
        }
    }
}

/// Binds its volumes and directories of the host's where they belong.
fn mount_volumes(record: &Record, volumes: &Volumes, root: BorrowedFd<'_>) -> Result<()> {
    let mut mounts = volumes.mounts(record)?;
    mounts.sort_by_key(|mount| mount.destination.components().count());
    for mount in mounts.iter().filter(|mount| mount.kind.as_deref() == Some("bind")) {
        let Some(source) = &mount.source else { continue };
        let context = || format!("cannot mount {}", mount.destination.display());
        let source = openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(context)?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&source).context(context)?.st_mode);
        let target = target(root, &mount.destination, kind).context(context)?;
        let tree = bind(source.as_fd()).context(context)?;
        if mount.options.iter().any(|option| option == "ro") {
            sys::make_read_only(&tree).context(context)?;
        }
        attach(tree.as_fd(), target.as_fd()).context(context)?;
    }
    Ok(())
}

/// Where something is mounted; made as what it is to be, if it is not there.
fn target(root: BorrowedFd<'_>, path: &Path, kind: FileType) -> rustix::io::Result<OwnedFd> {
    match inside(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        found => return found,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    let parent = target(root, parent, FileType::Directory)?;
    match kind {
        FileType::Directory => mkdirat(&parent, name, Mode::from_raw_mode(0o755))?,
        _ => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            drop(openat(&parent, name, flags, Mode::from_raw_mode(0o644))?);
        }
    }
    openat(&parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a path as a process in there would, whose root this is: links lead
/// within it, wherever they point.
///
/// The kernel gives up on a `..` while anything anywhere is renamed or mounted,
/// for it may have left the root meanwhile (openat2(2), EAGAIN): it is asked
/// again.
pub fn inside(
    root: BorrowedFd<'_>,
    path: impl rustix::path::Arg,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = path.into_c_str()?;
    for _ in 0..ATTEMPTS {
        match openat2(root, &*path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => std::thread::yield_now(),
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// More than that is somebody's doing.
const ATTEMPTS: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_at_and_below_a_path_are_seen() {
        let mounts = b"1 0 0:1 / / rw - fuse a rw\n2 1 0:2 / /data/vol rw - ext4 b rw\n\
                       3 1 0:3 / /a\\040b/c rw - ext4 c rw\n";
        for (path, has) in [
            ("/", true),
            ("/data", true),
            ("/data/vol", true),
            ("/data/volume", false),
            ("/dat", false),
            ("/a b", true),
            ("/a b/c", true),
            ("/a", false),
        ] {
            assert_eq!(has_mount_below(mounts, path.as_bytes()), has, "{path}");
        }
    }
}
