//! An OCI bundle: the one interface between what to run and how.
//!
//! ```text
//! BUNDLE/
//!     config.json   a [`Spec`] (runtime-spec 1.x)
//!     rootfs/       what is its root, or wherever `root.path` says
//! ```
//! The types hold what this program reads or writes, field by field as the
//! specification names them, and nothing else: properties that the
//! specification does not know must be ignored by whoever reads a bundle, and
//! those that it knows and we do not honour are [refused](Spec::check) by name.
//!
//! Source: github.com/opencontainers/runtime-spec, config.md, config-linux.md.

mod linux;
mod resources;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use linux::{Device, IdMapping, Linux, Namespace, NamespaceKind, Seccomp, SeccompArgument, SeccompRule};
#[cfg(test)]
pub use resources::NetworkPriority;
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugePageLimit, Memory, Network, Pids, Resources, Throttle, Weight,
};

use crate::failure::{Context, Failure, Result};

/// The version of the specification that is written here.
pub const VERSION: &str = "1.1.0";
/// What the file in a bundle is called.
pub const FILE: &str = "config.json";
/// A longer one is nobody's.
const LONGEST: u64 = 16 << 20;

/// All of config.json.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Which version of the specification it was written by.
    pub oci_version: String,
    /// The first process; a container may be created without, and not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Its root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// What the machine is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// What its NIS domain is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// What is mounted over the root, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs of the host's that are run as the container comes and goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Words about it, for others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// How Linux confines it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

/// A process of a container: the first, or one that joins it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// Whether it has a terminal of its own.
    pub terminal: bool,
    /// How large the terminal is at first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Who it is.
    pub user: User,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Where it begins: absolute, in the container.
    pub cwd: PathBuf,
    /// What it may do beyond its ids; nothing where they are not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Limits of setrlimit(2).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Whether set-user-id programs and capabilities of files are void.
    pub no_new_privileges: bool,
    /// An AppArmor profile by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// A SELinux label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// How eagerly it is killed when memory runs out: -1000 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Who a process is, by the container's numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// What is taken off the mode of new files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Further groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// Sets of capabilities(7), as `CAP_CHOWN`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// What no program can give.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bounding: Vec<String>,
    /// What counts now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effective: Vec<String>,
    /// What programs may inherit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inheritable: Vec<String>,
    /// What may be made to count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub permitted: Vec<String>,
    /// What outlives an exec of an ordinary program.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ambient: Vec<String>,
}

/// A limit of setrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it can be raised to.
    pub hard: u64,
    /// What counts.
    pub soft: u64,
}

/// A container's root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Root {
    /// A directory, from the bundle's if it is relative.
    pub path: PathBuf,
    /// Whether nothing there may be changed.
    pub readonly: bool,
}

/// Something mounted into a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Where: absolute, in the container.
    pub destination: PathBuf,
    /// Of which kind; `bind` and none are a bind where the options say so.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What: a path of the host's (from the bundle's if it is relative), or a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// As mount(8) has them, and `tmpcopyup`, `rbind`, `rro`, `idmap`…
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The users of an id-mapped mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Its groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

/// Programs run as a container comes and goes; each is given its state on stdin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Once the namespaces are there; the older word for the next.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// Once the namespaces are there, in the runtime's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// Once the mounts are there, in the container's namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// Before the process begins, in the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// After it began.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// After the container was deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// One such program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// The program: absolute.
    pub path: PathBuf,
    /// All its arguments, the program's own name first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment: `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

impl Spec {
    /// Reads a bundle's config.json.
    pub fn read(bundle: &Path) -> Result<Spec> {
        let path = bundle.join(FILE);
        let context = || format!("cannot read {}", path.display());
        let length = std::fs::metadata(&path).context(context)?.len();
        if length > LONGEST {
            return Err(Failure::new(format!(
                "{}: it is {length} bytes long, more than {LONGEST}",
                context()
            )));
        }
        let text = std::fs::read(&path).context(context)?;
        serde_json::from_slice(&text).context(context)
    }

    /// Writes it into a bundle.
    pub fn write(&self, bundle: &Path) -> Result<()> {
        let path = bundle.join(FILE);
        let context = || format!("cannot write {}", path.display());
        let text = serde_json::to_vec(self).context(context)?;
        std::fs::write(&path, text).context(context)
    }

    /// Refuses what could not be honoured, by name.
    pub fn check(&self) -> Result<()> {
        if self.oci_version.split('.').next() != Some("1") {
            return Err(Failure::new(format!(
                "cannot run the bundle: ociVersion {:?} is not one of 1.x",
                self.oci_version
            )));
        }
        if self.root.is_none() {
            return Err(Failure::new("cannot run the bundle: it names no root"));
        }
        let Some(linux) = &self.linux else {
            return Err(Failure::new("cannot run the bundle: it has no section \"linux\""));
        };
        linux.check()?;
        let Some(process) = &self.process else { return Ok(()) };
        if process.args.is_empty() {
            return Err(Failure::new("cannot run the bundle: process.args is empty"));
        }
        if !process.cwd.is_absolute() {
            return Err(Failure::new(format!(
                "cannot run the bundle: process.cwd {:?} is not absolute",
                process.cwd.display()
            )));
        }
        Ok(())
    }
}
