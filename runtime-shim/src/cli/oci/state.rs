//! What is kept of a container that was made from a bundle.
//!
//! ```text
//! ROOT/ID/
//!     oci.json      a [`Record`]; absent while it is being made
//!     config.json   the bundle's, as it was
//!     start         a socket: there as long as it waits to be started
//! ```
//! Everything else is found out: a container is stopped when its process is
//! gone, and a process is the container's if it began when that did.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::bundle::Spec;
use crate::cgroup::Group;
use crate::failure::{Context, Failure, Result};
use crate::launch::hooks::{self, Status};

/// The record's name.
pub const FILE: &str = "oci.json";
/// The socket's.
const START: &str = "start";

/// Where all are.
pub struct Root(PathBuf);

/// One.
pub struct Container {
    /// Its directory.
    pub dir: PathBuf,
    /// What was kept.
    pub record: Record,
}

/// What is kept beside the bundle.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its name.
    pub id: String,
    /// Where its bundle is.
    pub bundle: PathBuf,
    /// Its first process.
    pub pid: i32,
    /// When that began, in the kernel's ticks: numbers come again.
    pub began: u64,
    /// When it was made (RFC 3339).
    pub created: String,
    /// Who made it.
    pub owner: u32,
    /// Its cgroup, if it could have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Group>,
}

fn usual_root() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !is_root()) {
        Some(dir) => Path::new(&dir).join("runion/oci"),
        None => PathBuf::from("/run/runion/oci"),
    }
}

/// Root of a user namespace is whoever made that; the machine's has all ids.
fn is_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether there is a container of that name.
pub fn is_there(root: Option<&Path>, id: &str) -> bool {
    let root = root.map_or_else(usual_root, Path::to_owned);
    check_name(id).is_ok() && root.join(id).join(FILE).exists()
}

fn check_name(id: &str) -> Result<()> {
    let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id == "." || id == ".." || id.len() > 255 || !id.bytes().all(is_one) {
        return Err(Failure::failed(format!("invalid container id {id:?}")));
    }
    Ok(())
}

impl Root {
    /// Where the caller says, or where it usually is.
    pub fn open(root: Option<&Path>) -> Result<Root> {
        Ok(Root(root.map_or_else(usual_root, Path::to_owned)))
    }

    /// Claims a name; nobody else can then.
    pub fn claim(&self, id: &str) -> Result<PathBuf> {
        check_name(id)?;
        let make =
            |path: &Path, recursive| fs::DirBuilder::new().mode(0o700).recursive(recursive).create(path);
        make(&self.0, true).context(|| format!("cannot make {}", self.0.display()))?;
        let dir = self.0.join(id);
        match make(&dir, false) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Failure::failed(format!("container with id exists: {id}")))
            }
            made => made.map(|()| dir.clone()).context(|| format!("cannot make {}", dir.display())),
        }
    }

    /// One that was made.
    pub fn find(&self, id: &str) -> Result<Container> {
        check_name(id)?;
        let dir = self.0.join(id);
        let text = match fs::read(dir.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::failed(format!("container does not exist: {id}")));
            }
            read => read.context(|| format!("cannot read the state of {id}"))?,
        };
        let record = serde_json::from_slice(&text).context(|| format!("cannot read the state of {id}"))?;
        Ok(Container { dir, record })
    }

    /// A directory whose container was never made.
    pub fn half_made(&self, id: &str) -> Option<PathBuf> {
        check_name(id).ok()?;
        let dir = self.0.join(id);
        (dir.is_dir() && !dir.join(FILE).exists()).then_some(dir)
    }

    /// All of them, by name.
    pub fn all(&self) -> Result<Vec<Container>> {
        let context = || format!("cannot list {}", self.0.display());
        let names = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names.context(context)?,
        };
        let mut all = Vec::new();
        for entry in names {
            let name = entry.context(context)?.file_name();
            // One that is being made, or unmade, is not yet or no more there.
            all.extend(name.to_str().and_then(|id| self.find(id).ok()));
        }
        all.sort_by(|one, other| one.record.id.cmp(&other.record.id));
        Ok(all)
    }
}

impl Record {
    /// Keeps it; from then on the container is there.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let context = || format!("cannot keep the state of {}", self.id);
        let text = serde_json::to_vec(self).context(context)?;
        let staged = dir.join("oci.json.new");
        fs::write(&staged, text).context(context)?;
        fs::rename(&staged, dir.join(FILE)).context(context)
    }
}

impl Container {
    /// Its bundle, as it was.
    pub fn spec(&self) -> Result<Spec> {
        Spec::read(&self.dir)
    }

    /// Where it waits to be started.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(START)
    }

    /// Its first process, if that lives.
    pub fn process(&self) -> Result<Option<(Pid, OwnedFd)>> {
        let Some(pid) = Pid::from_raw(self.record.pid) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(None),
            opened => opened.context(|| format!("cannot look at the process of {}", self.record.id))?,
        };
        // Held by now: it cannot become another one.
        match beginning(self.record.pid) {
            Some(Life { began, is_over: false }) if began == self.record.began => Ok(Some((pid, pidfd))),
            _ => Ok(None),
        }
    }

    /// Whether its processes are stopped; a cgroup that is gone stops nobody.
    fn is_paused(&self) -> bool {
        self.record.cgroup.as_ref().is_some_and(|cgroup| cgroup.is_paused().unwrap_or(false))
    }

    /// Its cgroup, if it has one.
    pub fn cgroup(&self) -> Result<&Group> {
        self.record.cgroup.as_ref().ok_or_else(|| {
            Failure::failed(format!("the container {} has no cgroup of its own", self.record.id))
        })
    }

    /// Where it is in its life.
    pub fn status(&self) -> Result<Status> {
        Ok(match self.process()? {
            None => Status::Stopped,
            Some(_) if self.socket().exists() => Status::Created,
            Some(_) if self.is_paused() => Status::Paused,
            Some(_) => Status::Running,
        })
    }
}

/// What the kernel says of a process.
pub struct Life {
    /// When it began, in ticks since the boot.
    pub began: u64,
    /// It ended and was not waited for yet.
    pub is_over: bool,
}

/// By proc_pid_stat(5): what follows the name in brackets.
pub fn beginning(pid: i32) -> Option<Life> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let is_over = matches!(fields.next()?, "Z" | "X");
    Some(Life { began: fields.nth(18)?.parse().ok()?, is_over })
}

/// A socket's name may be no longer than 107 bytes, and directories are: the
/// same by a descriptor.
pub fn short_path(dir: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}/{START}", dir.as_raw_fd()))
}

/// Say where a container is in its life
#[derive(Args)]
pub struct Show {
    /// The container
    id: String,
}

impl Show {
    /// Prints it.
    pub fn run(self, root: &Root) -> Result<u8> {
        let container = root.find(&self.id)?;
        let (spec, status) = (container.spec()?, container.status()?);
        let pid = if status == Status::Stopped { 0 } else { container.record.pid };
        let record = &container.record;
        let state = hooks::State::of(&record.id, &spec, &record.bundle, status, Some(pid));
        let mut state = serde_json::to_value(&state).context(|| "cannot say the state".to_string())?;
        if let Some(fields) = state.as_object_mut() {
            let rootfs = spec.root.as_ref().map(|root| record.bundle.join(&root.path));
            fields.insert("rootfs".into(), serde_json::json!(rootfs));
            fields.insert("created".into(), record.created.clone().into());
            fields.insert("owner".into(), record.owner.to_string().into());
        }
        super::list::print(&state)?;
        Ok(0)
    }
}
