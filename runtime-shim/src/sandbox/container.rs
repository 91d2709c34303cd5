//! What an image's command gets beyond a view: its own environment, user, host
//! name and network, and less of /proc.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::process::{Gid, Uid};

use super::root::{attach, beneath, bind, file_system};
use super::seccomp;
use crate::failure::{Context, Failure, NOT_FOUND, Result};

/// A command of an image.
#[derive(Clone, Debug)]
pub struct Container {
    /// The image's index.
    pub index: PathBuf,
    /// Where its files' contents are.
    pub objects: PathBuf,
    /// All of its environment: `NAME=value`.
    pub env: Vec<OsString>,
    /// Where it begins; made if it is not there.
    pub directory: PathBuf,
    /// `user`, `uid`, `user:group` or `uid:gid`; root where nothing is said.
    pub user: String,
    /// What the machine is called.
    pub hostname: String,
    /// What it reaches.
    pub network: Network,
    /// What it reads.
    pub stdin: Stdin,
    /// Which system calls it may make.
    pub calls: Confined,
    /// Whether programs can give it more than it has.
    pub privileges: Privileges,
}

/// Which system calls a container may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confined {
    /// Those of docker's default profile.
    ByDefault,
    /// All.
    Unconfined,
}

/// Whether set-user-id programs and capabilities of files count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// They do, within the container's capabilities.
    OfPrograms,
    /// They do not.
    NoNew,
}

/// What a container reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Nothing but itself.
    None,
    /// What the host does.
    Host,
}

/// What a container's command reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// What `runion` would.
    Callers,
    /// Nothing.
    Null,
}

/// Of /proc and /sys, what tells of the host, as docker hides it.
const MASKED: [&str; 11] = [
    "proc/asound",
    "proc/acpi",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/scsi",
    "sys/firmware",
    "sys/devices/virtual/powercap",
];

/// A table of users is read so far.
const LONGEST: u64 = 1 << 20;

/// Hides parts of /proc and /sys: files are /dev/null, directories are empty.
pub fn mask(root: BorrowedFd<'_>) -> Result<()> {
    for path in MASKED {
        let context = || format!("cannot hide /{path}");
        let target = match beneath(root, path, OFlags::PATH) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::ACCESS) => continue,
            Err(errno) => return Err(errno).context(context),
        };
        let stat = rustix::fs::fstat(&target).context(context)?;
        let cover: OwnedFd = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
                    | MountAttrFlags::MOUNT_ATTR_NOSUID
                    | MountAttrFlags::MOUNT_ATTR_NODEV
                    | MountAttrFlags::MOUNT_ATTR_NOEXEC;
                file_system(c"tmpfs", &[("mode", "755"), ("source", "runion")], attributes)
                    .context(context)?
            }
            _ => {
                let null = beneath(root, "dev/null", OFlags::PATH).context(context)?;
                let stat = rustix::fs::fstat(&null).context(context)?;
                if (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) != (1, 3) {
                    return Err(Failure::new(format!("{}: /dev/null is not what it should be", context())));
                }
                bind(null.as_fd()).context(context)?
            }
        };
        attach(cover.as_fd(), target.as_fd()).context(context)?;
    }
    Ok(())
}

/// The host's file of /etc over the view's, if the host has it: a container on
/// the host's network finds names as the host does.
pub fn lend_file(root: BorrowedFd<'_>, name: &str) -> Result<()> {
    let path = format!("etc/{name}");
    let context = || format!("cannot show the host's /{path}");
    let host = rustix::fs::openat(CWD, format!("/{path}"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let Ok(host) = host else { return Ok(()) };
    let Ok(etc) = beneath(root, "etc", OFlags::PATH | OFlags::DIRECTORY) else { return Ok(()) };
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat(&etc, name, new, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).context(context),
    }
    let Ok(target) = beneath(root, &path, OFlags::PATH) else { return Ok(()) };
    let is_file = |fd: BorrowedFd<'_>| -> Result<bool> {
        let stat = rustix::fs::fstat(fd).context(context)?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    };
    if !is_file(host.as_fd())? || !is_file(target.as_fd())? {
        return Ok(());
    }
    let tree = bind(host.as_fd()).context(context)?;
    crate::sys::make_read_only(&tree).context(context)?;
    attach(tree.as_fd(), target.as_fd()).context(context)
}

impl Container {
    /// What can be done once the view is the root and before anything is given
    /// up.
    pub fn settle(&self) -> Result<()> {
        rustix::system::sethostname(self.hostname.as_bytes())
            .context(|| format!("cannot name the machine {:?}", self.hostname))?;
        if self.network == Network::None {
            // Its own loopback, up: all the network it has.
            crate::sys::raise_loopback().context(|| "cannot bring the loopback up".to_string())?;
        }
        let shown = self.directory.display();
        // The root is the view: links lead nowhere else.
        std::fs::create_dir_all(&self.directory)
            .context(|| format!("cannot make the working directory {shown}"))?;
        std::env::set_current_dir(&self.directory)
            .context(|| format!("cannot enter the working directory {shown}"))
    }

    /// Puts the filters on; while privileges are there that it takes.
    pub fn filter(&self) -> Result<()> {
        if self.privileges == Privileges::NoNew {
            rustix::thread::set_no_new_privs(true).context(|| "cannot forbid new privileges".to_string())?;
        }
        if self.calls == Confined::Unconfined {
            return Ok(());
        }
        for filter in seccomp::filters()? {
            crate::sys::filter_calls(&filter).context(|| "cannot filter system calls".to_string())?;
        }
        Ok(())
    }

    /// Becomes the user, in the process that is to be the command.
    pub fn become_user(&self) -> Result<()> {
        let user = Ids::find(&self.user)?;
        let context = || format!("cannot become {}", self.user);
        match rustix::thread::set_thread_groups(&user.groups) {
            // A user namespace of one id keeps the groups its maker has, which
            // are nobody's in there.
            Err(Errno::PERM) if user.is_root() => {}
            set => set.context(context)?,
        }
        if user.is_root() {
            return Ok(());
        }
        rustix::thread::set_thread_res_gid(user.gid, user.gid, user.gid).context(context)?;
        rustix::thread::set_thread_res_uid(user.uid, user.uid, user.uid).context(context)
    }

    /// The environment, and what every user has beside it.
    pub fn environment(&self) -> Result<Vec<(OsString, OsString)>> {
        let mut found: Vec<(OsString, OsString)> = Vec::new();
        let home = Ids::find(&self.user)?.home;
        let own = [(OsString::from("HOME"), home), ("HOSTNAME".into(), self.hostname.clone().into())];
        let given = self.env.iter().filter_map(|pair| {
            let at = pair.as_bytes().iter().position(|byte| *byte == b'=')?;
            let (name, value) = pair.as_bytes().split_at(at);
            Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.get(1..)?.to_vec())))
        });
        for (name, value) in own.into_iter().chain(given) {
            match found.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => found.push((name, value)),
            }
        }
        Ok(found)
    }
}

/// Who a command is, by numbers.
struct Ids {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    home: OsString,
}

impl Ids {
    fn is_root(&self) -> bool {
        self.uid.is_root() && self.gid.is_root()
    }

    /// By the image's own tables, as docker reads `--user`.
    fn find(user: &str) -> Result<Ids> {
        let (name, group) = match user.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (user, None),
        };
        let name = if name.is_empty() { "0" } else { name };
        let users = table("/etc/passwd")?;
        let row =
            users.iter().find(|row| row.first().is_some_and(|first| first == name) || field(row, 2) == name);
        let uid = match (row, number(name)) {
            (Some(row), _) => number(field(row, 2)),
            (None, number) => number,
        };
        let uid = uid.ok_or_else(|| unknown("user", name))?;
        let own_group = row.and_then(|row| number(field(row, 3))).unwrap_or(0);
        let groups = table("/etc/group")?;
        let gid = match group {
            None => own_group,
            Some(group) => {
                let row = groups.iter().find(|row| row.first().is_some_and(|first| first == group));
                row.and_then(|row| number(field(row, 2)))
                    .or(number(group))
                    .ok_or_else(|| unknown("group", group))?
            }
        };
        let login = row.and_then(|row| row.first()).cloned().unwrap_or_default();
        let is_member =
            |row: &&Vec<String>| field(row, 3).split(',').any(|member| !member.is_empty() && member == login);
        let more = groups.iter().filter(is_member).filter_map(|row| number(field(row, 2)));
        let more: Vec<u32> = if group.is_some() { Vec::new() } else { more.collect() };
        let home = row.map(|row| field(row, 5)).filter(|home| !home.is_empty()).unwrap_or("/");
        Ok(Ids {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: std::iter::once(gid).chain(more).map(Gid::from_raw).collect(),
            home: OsStr::new(home).to_owned(),
        })
    }
}

fn field(row: &[String], at: usize) -> &str {
    row.get(at).map_or("", String::as_str)
}

/// An id that a kernel takes: -1 would mean none.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= i32::MAX as u32)
}

fn unknown(what: &str, name: &str) -> Failure {
    Failure::new(format!("unable to find {what} {name}: no matching entries in the image"))
        .code(crate::failure::CANNOT_RUN)
}

/// The rows of a table of the image. It may be anything: only a regular file, by
/// no link, is read, and no more of it than a table is long.
fn table(path: &str) -> Result<Vec<Vec<String>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat2(CWD, Path::new(path), flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    let Ok(file) = opened else { return Ok(Vec::new()) };
    let stat = rustix::fs::fstat(&file).context(|| format!("cannot read {path}"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    let mut file = std::fs::File::from(file).take(LONGEST);
    file.read_to_end(&mut bytes).context(|| format!("cannot read {path}"))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect())
}

/// Why a command could not be run, in docker's words.
pub fn refusal(program: &OsStr, error: &std::io::Error) -> Failure {
    let name = Path::new(program).display();
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(format!("exec: {name:?}: executable file not found in $PATH")).code(NOT_FOUND)
        }
        _ => Failure::new(format!("exec: {name:?}: {error}")).code(crate::failure::CANNOT_RUN),
    }
}
