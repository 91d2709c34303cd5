//! What can be asked of a container that is made: docker's flags. What they mean
//! together with its image is [`super::config`]'s.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{health, network};
use crate::cgroup::flags::AllLimits;
use crate::container::Driver;

/// Flags of `run` and `create`.
#[derive(Args)]
pub struct Flags {
    /// Keep stdin open, and let the command read it
    #[arg(long, short)]
    pub interactive: bool,

    /// Give the command a terminal
    #[arg(long, short)]
    pub tty: bool,

    /// Remove the container at its end
    #[arg(long)]
    pub rm: bool,

    /// What the container is called
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Set an environment variable; NAME alone takes the caller's
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub(super) env: Vec<String>,

    /// Set those in a file, one a line
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,

    /// Mount a directory of the host's or a volume: [SOURCE:]TARGET[:OPTIONS]
    #[arg(long, short, value_name = "VOLUME")]
    pub(super) volume: Vec<String>,

    /// Mount what another container has mounted: NAME[:ro]
    #[arg(long, value_name = "CONTAINER")]
    pub volumes_from: Vec<String>,

    /// The same in words: type=bind|volume|tmpfs,source=…,target=…[,readonly]
    #[arg(long, value_name = "MOUNT")]
    pub(super) mount: Vec<String>,

    /// Mount a temporary file system: TARGET[:OPTIONS]
    #[arg(long, value_name = "TMPFS")]
    pub(super) tmpfs: Vec<String>,

    /// Where the command begins
    #[arg(long, short, value_name = "DIR")]
    pub(super) workdir: Option<PathBuf>,

    /// Who the command is: user, uid, user:group or uid:gid
    #[arg(long, short, value_name = "USER")]
    pub(super) user: Option<String>,

    /// Further groups of the command
    #[arg(long, value_name = "GROUP")]
    pub(super) group_add: Vec<String>,

    /// What the machine is called
    #[arg(long, short = 'h', value_name = "NAME")]
    pub(super) hostname: Option<String>,

    /// What its NIS domain is called
    #[arg(long, value_name = "NAME")]
    pub(super) domainname: Option<String>,

    /// What runs in the place of the image's entry point; empty for nothing
    #[arg(long, value_name = "CMD")]
    pub(super) entrypoint: Option<String>,

    /// Make the root read-only
    #[arg(long)]
    pub(super) read_only: bool,

    /// Run a small init that passes signals on and reaps
    #[arg(long)]
    pub(super) init: bool,

    /// A word about the container: KEY[=VALUE]
    #[arg(long, short, value_name = "LABEL")]
    pub(super) label: Vec<String>,

    /// Those in a file, one a line
    #[arg(long, value_name = "FILE")]
    pub(super) label_file: Vec<PathBuf>,

    /// A word about the container for runtimes: KEY=VALUE
    #[arg(long, value_name = "ANNOTATION")]
    pub(super) annotation: Vec<String>,

    /// When the container comes back: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    pub(super) restart: String,

    /// The signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    pub(super) stop_signal: Option<String>,

    /// Seconds until it is killed instead
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(super) stop_timeout: Option<i64>,

    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP")]
    pub(super) cap_add: Vec<String>,

    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAP")]
    pub(super) cap_drop: Vec<String>,

    /// Forbid next to nothing
    #[arg(long)]
    pub(super) privileged: bool,

    /// Show a device: SOURCE[:TARGET][:rwm]
    #[arg(long, value_name = "DEVICE")]
    pub(super) device: Vec<String>,

    /// no-new-privileges, seccomp=unconfined|FILE, unmask=ALL|PATH:PATH
    #[arg(long, value_name = "OPTION")]
    pub(super) security_opt: Vec<String>,

    /// A limit of setrlimit(2): NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT")]
    pub(super) ulimit: Vec<String>,

    /// The size of /dev/shm, in bytes or with k, m, g
    #[arg(long, value_name = "SIZE")]
    pub(super) shm_size: Option<String>,

    /// A parameter of the kernel's: NAME=VALUE
    #[arg(long, value_name = "SYSCTL")]
    pub(super) sysctl: Vec<String>,

    /// How eagerly it is killed when memory runs out: -1000 to 1000
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub(super) oom_score_adj: Option<i32>,

    /// Whose processes it sees: host, or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(super) pid: Option<String>,

    /// Whose IPC objects: host, private, none, or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(super) ipc: Option<String>,

    /// Whose name: host
    #[arg(long, value_name = "MODE")]
    pub(super) uts: Option<String>,

    /// Whose ids: host, keep-id[:uid=UID,gid=GID] (the caller's own stays the same), auto[:size=COUNT] (a
    /// range that no other container has); or --uidmap and --gidmap
    #[arg(long, value_name = "MODE")]
    pub(super) userns: Option<String>,

    /// Whose view of cgroups: host or private
    #[arg(long, value_name = "MODE")]
    pub(super) cgroupns: Option<String>,

    /// Users of a user namespace: CONTAINER:HOST:COUNT
    #[arg(long, value_name = "MAP")]
    pub(super) uidmap: Vec<String>,

    /// Its groups: CONTAINER:HOST:COUNT
    #[arg(long, value_name = "MAP")]
    pub(super) gidmap: Vec<String>,

    /// How the root is made
    #[arg(long, value_enum, default_value_t = Driver::Fuse, value_name = "DRIVER")]
    pub(super) storage_driver: Driver,

    /// Of the storage driver: verity=on (files' data is what the image's digests say, or cannot be read),
    /// verity=require (by the file system's fs-verity alone), verity=off; on where that costs nothing
    #[arg(long, value_name = "OPTION")]
    pub(super) storage_opt: Vec<String>,

    /// What launches the process, in the place of runion itself: crun, runc
    #[arg(long, value_name = "PROGRAM")]
    pub(super) runtime: Option<String>,

    /// Of the log: max-size=SIZE, max-file=COUNT
    #[arg(long, value_name = "OPTION")]
    pub(super) log_opt: Vec<String>,

    /// Below which cgroup it is
    #[arg(long, value_name = "GROUP")]
    pub(super) cgroup_parent: Option<String>,

    /// Write the container's id into a file that is not there yet
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,

    /// When to ask a registry for the image
    #[arg(long, value_enum, default_value_t = Pull::Missing, value_name = "WHEN")]
    pub pull: Pull,

    /// An image of this platform, pulled if that which is here is another's: os[/arch[/variant]]
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,

    /// Run over a directory; there is no image then
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,

    /// Print help
    #[arg(long, action = clap::ArgAction::HelpShort)]
    pub(super) help: Option<bool>,

    #[command(flatten)]
    pub(super) network: network::Flags,

    #[command(flatten, next_help_heading = "Health")]
    pub(super) health: health::Flags,

    #[command(flatten, next_help_heading = "Limits")]
    pub(super) limits: AllLimits,
}

/// When a registry is asked for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pull {
    /// Always
    Always,
    /// If it is not here
    Missing,
    /// Never
    Never,
}
