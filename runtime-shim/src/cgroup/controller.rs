//! What a kernel can limit and count, by the names it has for it.

use serde::{Deserialize, Serialize};

/// A controller of cgroups; v1 has hierarchies for them, v2 one for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Controller {
    /// Processors: weight, quota.
    #[serde(rename = "cpu")]
    Cpu,
    /// Processors: time used. Part of v2 without being one of its controllers.
    #[serde(rename = "cpuacct")]
    Accounting,
    /// Processors: which.
    #[serde(rename = "cpuset")]
    Cpuset,
    /// Memory.
    #[serde(rename = "memory")]
    Memory,
    /// Processes.
    #[serde(rename = "pids")]
    Pids,
    /// Disks.
    #[serde(rename = "blkio")]
    Disks,
    /// Devices; with v2, programs of BPF do it.
    #[serde(rename = "devices")]
    Devices,
    /// Stops all processes. Part of v2 without being one of its controllers.
    #[serde(rename = "freezer")]
    Freezer,
    /// Huge pages.
    #[serde(rename = "hugetlb")]
    HugePages,
    /// The class of packets; v1 only.
    #[serde(rename = "net_cls")]
    NetworkClass,
    /// The priority of packets; v1 only.
    #[serde(rename = "net_prio")]
    NetworkPriority,
    /// RDMA.
    #[serde(rename = "rdma")]
    Rdma,
    /// Counts nothing: systemd sees by it whose a process is.
    #[serde(rename = "name=systemd")]
    Systemd,
}

use Controller::*;

impl Controller {
    /// All of them.
    pub const ALL: [Controller; 13] = [
        Cpu,
        Accounting,
        Cpuset,
        Memory,
        Pids,
        Disks,
        Devices,
        Freezer,
        HugePages,
        NetworkClass,
        NetworkPriority,
        Rdma,
        Systemd,
    ];

    /// In /proc/self/cgroup of v1.
    pub fn name(self) -> &'static str {
        match self {
            Cpu => "cpu",
            Accounting => "cpuacct",
            Cpuset => "cpuset",
            Memory => "memory",
            Pids => "pids",
            Disks => "blkio",
            Devices => "devices",
            Freezer => "freezer",
            HugePages => "hugetlb",
            NetworkClass => "net_cls",
            NetworkPriority => "net_prio",
            Rdma => "rdma",
            Systemd => "name=systemd",
        }
    }

    /// In cgroup.controllers of v2, for what is enabled there.
    pub fn enabled_as(self) -> Option<&'static str> {
        match self {
            Cpu | Cpuset | Memory | Pids | HugePages | Rdma => Some(self.name()),
            Disks => Some("io"),
            Accounting | Devices | Freezer | NetworkClass | NetworkPriority | Systemd => None,
        }
    }

    /// By either name.
    pub fn of(name: &str) -> Option<Controller> {
        Controller::ALL.into_iter().find(|controller| {
            controller.name() == name || controller.enabled_as().is_some_and(|other| other == name)
        })
    }

    /// Whether every container is in a group of it, for what it counts or for
    /// what is limited later.
    pub fn is_usual(self) -> bool {
        !matches!(self, HugePages | NetworkClass | NetworkPriority | Rdma)
    }

    /// Whether v2 enables it for every container, for what it counts.
    pub fn is_counted(self) -> bool {
        matches!(self, Cpu | Memory | Pids | Disks)
    }
}
