//! What the runner tells a worker, and what a worker tells the runner: the plan
//! as one argument in JSON, the messages as lines of JSON on standard output.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::candidate::Candidate;
use crate::figure::{Daemon, Figure};
use crate::size::Sizes;

/// One run: one workload on one fresh mount of one candidate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Who is measured.
    pub candidate: Candidate,
    /// The workload's name.
    pub workload: String,
    /// How large everything is.
    pub sizes: Sizes,
    /// Where client and daemon run.
    pub placement: Placement,
    /// What the upper layer lies on.
    pub upper: Upper,
    /// What is timed or counted.
    pub pass: Pass,
    /// What is known of the layers when the union is mounted.
    pub caches: Caches,
    /// Where the layers are kept, and the mount point for scratch.
    pub home: PathBuf,
    /// `mount-runionfs`.
    pub ours: PathBuf,
    /// `fuse-overlayfs` 2.0.0.
    pub fuse_overlayfs_2: PathBuf,
}

/// Where client and daemon run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// Wherever the scheduler puts them.
    Free,
    /// Both on one CPU: no request pays a wake-up of another.
    OneCpu,
}

/// What the upper layer lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Upper {
    /// A new tmpfs for each run.
    Tmpfs,
    /// A new ext4 in an image for each run, so that fsync has something to do.
    Ext4,
}

/// What the kernel knows of the layers when the union is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Caches {
    /// Their names, attributes and data: cold is the union alone.
    Warm,
    /// Their data; names and attributes have been dropped from the caches.
    NamesDropped,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pass {
    /// Timings and requests; nothing disturbs the daemon.
    Time,
    /// The daemon's system calls, counted by strace; its timings are worthless.
    Syscalls,
}

/// One line from a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// A FUSE mount is there; its connection is aborted if the run hangs.
    Mounted {
        /// Minor device number, which names the connection.
        minor: u32,
    },
    /// A measured number.
    Figure(Figure),
    /// What the daemons used, just before the unmount.
    Daemon(Daemon),
    /// The daemon's system calls by name.
    Syscalls(BTreeMap<String, u64>),
    /// The run cannot be done here: why.
    Absent(String),
    /// The run failed: why.
    Failed(String),
}
