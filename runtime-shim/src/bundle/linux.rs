//! The section `linux` of a bundle: namespaces, ids, devices, filters.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::resources::Resources;
use crate::failure::{Failure, Result};

/// How Linux confines a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// Namespaces it has of its own or joins; of the others, the runtime's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Namespace>,
    /// The users of a user namespace of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Its groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    /// By clock, for a time namespace of its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
    /// Devices beside those that every container has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Where in the hierarchies of cgroups it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroups_path: Option<PathBuf>,
    /// What it may use up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// `shared`, `slave`, `private` or `unbindable`, with an r before or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs_propagation: Option<String>,
    /// Which system calls it may make; all where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// Parameters of the kernel's, of its own namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// Paths that show nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<String>,
    /// The SELinux context of its mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<String>,
    /// Not honoured: a share of the processor's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<Value>,
    /// Not honoured: a personality(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<Value>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Of what.
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    /// One that is there, to be joined; a new one where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

/// What a namespace holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// Processes.
    Pid,
    /// Interfaces, addresses, rules.
    Network,
    /// Mounts.
    Mount,
    /// System V IPC and message queues.
    Ipc,
    /// The machine's name.
    Uts,
    /// Ids and rights.
    User,
    /// The view of the hierarchies of cgroups.
    Cgroup,
    /// Clocks that count from the boot.
    Time,
}

/// A range of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdMapping {
    /// The first, in the container.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// The first, outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// How far a clock of a time namespace is ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeOffset {
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds.
    pub nanosecs: u32,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// `c`, `u` (the same), `b` or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where: absolute, in the container.
    pub path: PathBuf,
    /// Its numbers.
    #[serde(default)]
    pub major: u32,
    /// Its numbers.
    #[serde(default)]
    pub minor: u32,
    /// Who may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Whose group's it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// A filter of system calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Seccomp {
    /// What happens where no rule fits: `SCMP_ACT_ERRNO` and so on.
    pub default_action: String,
    /// With which number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// For which machines: `SCMP_ARCH_X86_64` and so on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// How the filter is put on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Who is asked by `SCMP_ACT_NOTIFY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<PathBuf>,
    /// The rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<SeccompRule>,
}

/// What happens to some system calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeccompRule {
    /// Those calls.
    pub names: Vec<String>,
    /// What happens.
    pub action: String,
    /// With which number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// If all of these hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<SeccompArgument>,
}

/// A condition on one argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompArgument {
    /// Which argument.
    pub index: u32,
    /// What it is compared with (or the mask).
    pub value: u64,
    /// What it is compared with, once masked.
    #[serde(default)]
    pub value_two: u64,
    /// How: `SCMP_CMP_EQ` and so on.
    pub op: String,
}

impl Linux {
    /// The namespace of a kind, if it has one of its own.
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.kind == kind)
    }

    pub(super) fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(Failure::new(format!("cannot run the bundle: {what}")));
        if self.intel_rdt.is_some() {
            return refuse("linux.intelRdt is not supported");
        }
        if self.personality.is_some() {
            return refuse("linux.personality is not supported");
        }
        for (at, namespace) in self.namespaces.iter().enumerate() {
            if self.namespaces.iter().skip(at + 1).any(|other| other.kind == namespace.kind) {
                return refuse(&format!("the namespace {:?} is named twice", namespace.kind));
            }
        }
        Ok(())
    }
}
