//! Which namespaces a container has of its own, which it joins, and the birth
//! of its first process in them.
//!
//! New namespaces come with clone3(2), but for two that a process can only go
//! to itself, once it has its place in the cgroups and the maps of its users.
//! Joining one of processes, or of users, is a matter of the parent's, so a
//! process between does it, which makes the container's process its own sibling
//! and ends: the caller stays where it is, and is the parent all the same.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fstat, openat, stat};
use rustix::process::{DumpableBehavior, Pid, WaitOptions, geteuid, set_dumpable_behavior, waitpid};

use super::channel::{Channel, Message};
use crate::bundle::{IdMapping, Linux, NamespaceKind};
use crate::failure::{Context, Failure, OURS, Result};
use crate::sys::process::{Relation, clone3, close_all_from, join};
use crate::sys::{Namespaces, Side};

/// What is to be done about namespaces.
pub struct Plan {
    /// By clone3.
    pub new: Namespaces,
    /// By the process itself: cgroup and time.
    pub late: Namespaces,
    /// In this order, before.
    joined: Vec<Joined>,
    /// Whose ids count.
    pub users: Users,
}

/// The users of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Users {
    /// The caller's.
    Shared,
    /// Another container's.
    Joined,
    /// Its own, so mapped.
    Own {
        /// Users.
        uids: Vec<IdMapping>,
        /// Groups.
        gids: Vec<IdMapping>,
    },
}

/// A namespace, or some of a process's, to be joined.
struct Joined {
    namespaces: Namespaces,
    by: OwnedFd,
    what: String,
}

impl Plan {
    /// Of a bundle.
    pub fn of(linux: &Linux) -> Result<Plan> {
        let mut plan =
            Plan { new: Namespaces::NONE, late: Namespaces::NONE, joined: Vec::new(), users: Users::Shared };
        for namespace in &linux.namespaces {
            let kind = namespace.kind;
            match &namespace.path {
                Some(path) => plan.join(kind, path)?,
                None if matches!(kind, NamespaceKind::Cgroup | NamespaceKind::Time) => {
                    plan.late = plan.late.and(bits(kind));
                }
                None => plan.new = plan.new.and(bits(kind)),
            }
        }
        if !plan.new.contains(Namespaces::MOUNT) {
            return Err(Failure::new(
                "cannot run the bundle: a container without a mount namespace of its own is not supported",
            ));
        }
        if plan.new.contains(Namespaces::USER) {
            if linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty() {
                return Err(Failure::new(
                    "cannot run the bundle: a user namespace takes linux.uidMappings and linux.gidMappings",
                ));
            }
            let (uids, gids) = (linux.uid_mappings.clone(), linux.gid_mappings.clone());
            plan.users = Users::Own { uids, gids };
        }
        // What the caller may join, it joins as it is; what belongs to the users
        // that are joined, as one of them.
        plan.joined.sort_by_key(|joined| joined.namespaces.contains(Namespaces::USER));
        Ok(plan)
    }

    /// All that a running process is in.
    pub fn of_process(pid: Pid, pidfd: OwnedFd) -> Result<Plan> {
        let mut all = Namespaces::NONE;
        let mut users = Users::Shared;
        for (name, one) in NAMES {
            let id = |of: String| {
                stat(&of).map(|stat| (stat.st_dev, stat.st_ino)).context(|| format!("cannot look at {of}"))
            };
            let theirs = id(format!("/proc/{}/ns/{name}", pid.as_raw_nonzero()))?;
            if theirs == id(format!("/proc/self/ns/{name}"))? {
                continue;
            }
            all = all.and(one);
            if one.contains(Namespaces::USER) {
                users = Users::Joined;
            }
        }
        let joined = Joined { namespaces: all, by: pidfd, what: "the container's namespaces".to_string() };
        let joined = if all.is_empty() { Vec::new() } else { vec![joined] };
        Ok(Plan { new: Namespaces::NONE, late: Namespaces::NONE, joined, users })
    }

    fn join(&mut self, kind: NamespaceKind, path: &Path) -> Result<()> {
        let what = format!("the namespace {}", path.display());
        if kind == NamespaceKind::Mount {
            return Err(Failure::new(format!(
                "cannot join {what}: a mount namespace that is there already cannot become a container's"
            )));
        }
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let by = openat(CWD, path, flags, Mode::empty()).context(|| format!("cannot open {what}"))?;
        if kind == NamespaceKind::User {
            let theirs = fstat(&by).context(|| format!("cannot look at {what}"))?;
            let ours = stat("/proc/self/ns/user").context(|| "cannot look at my users".to_string())?;
            // The kernel refuses to join what one is in.
            if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino) {
                return Ok(());
            }
            self.users = Users::Joined;
        }
        self.joined.push(Joined { namespaces: bits(kind), by, what });
        Ok(())
    }

    /// Makes the process; comes back in both, as clone3 does. In the process all
    /// descriptors are closed that are not to be kept.
    pub fn give_birth(&self, cgroup: Option<BorrowedFd<'_>>, kept: &Kept<'_>) -> Result<Side> {
        if self.joined.is_empty() {
            let side = clone3(self.new, cgroup, Relation::Child).map_err(|error| cannot_make(&error))?;
            if matches!(side, Side::Child) {
                kept.close_others_or_end();
            }
            return Ok(side);
        }
        let (ours, theirs) = Channel::pair()?;
        let between =
            match clone3(Namespaces::NONE, None, Relation::Child).map_err(|error| cannot_make(&error))? {
                Side::Child => match self.bear_sibling(cgroup, kept, &theirs) {
                    Ok(Side::Child) => {
                        // Both are closed by now, and not ours to close again.
                        std::mem::forget((ours, theirs));
                        return Ok(Side::Child);
                    }
                    born => tell_birth(&theirs, born),
                },
                Side::Parent(between) => between,
            };
        drop(theirs);
        let told = ours.hear();
        waitpid(Some(between), WaitOptions::empty()).context(|| "cannot wait for a process".to_string())?;
        match told? {
            Some((Message::Prepare { pid }, _)) => match Pid::from_raw(pid) {
                Some(pid) => Ok(Side::Parent(pid)),
                None => Err(Failure::new("cannot start the container: its process has no id here")),
            },
            Some((Message::Failed { code, message, hint }, _)) => {
                Err(Message::into_failure(code, message, hint))
            }
            _ => Err(Failure::new("cannot start the container: the process that joins namespaces died")),
        }
    }

    fn bear_sibling(
        &self,
        cgroup: Option<BorrowedFd<'_>>,
        kept: &Kept<'_>,
        to_maker: &Channel,
    ) -> Result<Side> {
        let joined = self.joined.iter().map(|joined| joined.by.as_fd());
        let more: Vec<BorrowedFd<'_>> = joined.chain(cgroup).chain([to_maker.as_fd()]).collect();
        kept.close_others(&more)?;
        // From here on a container's processes may see this one. Its maps are
        // then written by whoever owns what root owns.
        if geteuid().is_root() {
            set_dumpable_behavior(DumpableBehavior::NotDumpable)
                .context(|| "cannot hide from the container".to_string())?;
        }
        let mut later = Vec::new();
        for joined in &self.joined {
            match join(joined.by.as_fd(), joined.namespaces) {
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => later.push(joined),
                done => done.context(|| format!("cannot join {}", joined.what))?,
            }
        }
        for joined in later {
            join(joined.by.as_fd(), joined.namespaces).context(|| format!("cannot join {}", joined.what))?;
        }
        let side = clone3(self.new, cgroup, Relation::Sibling).map_err(|error| cannot_make(&error))?;
        if matches!(side, Side::Child) {
            kept.close_others_or_end();
        }
        Ok(side)
    }
}

/// Descriptors that a new process keeps; of all others its maker has, nothing is
/// to be found behind it by a container that may look.
pub struct Kept<'a> {
    /// How many from 3 on.
    pub first: u32,
    /// And these.
    pub more: Vec<BorrowedFd<'a>>,
}

impl Kept<'_> {
    fn close_others(&self, besides: &[BorrowedFd<'_>]) -> Result<()> {
        let kept = [self.more.as_slice(), besides].concat();
        close_all_from(self.first.saturating_add(3), &kept).context(|| "cannot close descriptors".to_string())
    }

    /// In a process that must not go on as if it were its maker.
    fn close_others_or_end(&self) {
        if let Err(failure) = self.close_others(&[]) {
            std::process::exit(i32::from(failure.report()));
        }
    }
}

impl Namespaces {
    /// Whether all of the others are among them.
    pub fn contains(self, others: Namespaces) -> bool {
        self.and(others) == self
    }
}

/// Ends the process between.
fn tell_birth(to: &Channel, born: Result<Side>) -> ! {
    let message = match &born {
        Ok(Side::Parent(pid)) => Message::Prepare { pid: pid.as_raw_nonzero().get() },
        Ok(Side::Child) => Message::Proceed,
        Err(failure) => Message::of_failure(failure),
    };
    let told = to.say(&message);
    std::process::exit(if told.is_ok() { 0 } else { i32::from(OURS) })
}

/// By their names in /proc/PID/ns.
const NAMES: [(&str, Namespaces); 8] = [
    ("user", Namespaces::USER),
    ("mnt", Namespaces::MOUNT),
    ("pid", Namespaces::PID),
    ("net", Namespaces::NETWORK),
    ("ipc", Namespaces::IPC),
    ("uts", Namespaces::UTS),
    ("cgroup", Namespaces::CGROUP),
    ("time", Namespaces::TIME),
];

fn bits(kind: NamespaceKind) -> Namespaces {
    match kind {
        NamespaceKind::Pid => Namespaces::PID,
        NamespaceKind::Network => Namespaces::NETWORK,
        NamespaceKind::Mount => Namespaces::MOUNT,
        NamespaceKind::Ipc => Namespaces::IPC,
        NamespaceKind::Uts => Namespaces::UTS,
        NamespaceKind::User => Namespaces::USER,
        NamespaceKind::Cgroup => Namespaces::CGROUP,
        NamespaceKind::Time => Namespaces::TIME,
    }
}

fn cannot_make(error: &io::Error) -> Failure {
    let failure = Failure::new(format!("cannot make the container's process: {error}"));
    match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSPC | libc::EUSERS) => failure.hint(
            "namespaces are not allowed here, or are used up: run runion as root, or as root: sysctl \
             user.max_user_namespaces=10000",
        ),
        Some(libc::ENOSYS) => {
            failure.hint("clone3(2) is not allowed here: run runion outside of the container")
        }
        // Of no namespace.
        Some(libc::EACCES) => failure.hint(super::request::REFUSED_ENTRY),
        _ => failure,
    }
}

/// Opens a namespace of a process.
pub fn open(pid: Pid, name: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/{name}", pid.as_raw_nonzero());
    let file = File::open(&path).context(|| format!("cannot open {path}"))?;
    Ok(file.into())
}
