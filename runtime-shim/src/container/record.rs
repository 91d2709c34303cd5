//! What is known of a container: what was asked for, and what became of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use layerstore::document::Healthcheck;
use serde::{Deserialize, Serialize};

use super::health::{Health, HealthStatus};
use crate::bundle::{Capabilities, Device, DeviceRule, IdMapping, Mount, Resources, Rlimit};
use crate::failure::Failure;

/// The file that holds it.
pub const FILE: &str = "state.json";
/// Another number is another format.
const FORMAT: u32 = 1;

/// A container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// What users call it.
    pub name: String,
    /// When it was made, in the words of RFC 3339.
    pub created: String,
    /// What was asked for; it does not change but by `update` and `rename`.
    pub config: Config,
    /// What became of it.
    pub state: State,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Whose files it sees; a directory's where there is none.
    pub image: Option<ImageRef>,
    /// The directory whose files it sees.
    pub rootfs: Option<PathBuf>,
    /// How its root is made.
    pub driver: Driver,
    /// Whether its files' data is verified; where nothing is said, where it costs
    /// nothing.
    pub verity: Option<Verity>,
    /// `runion`'s own launcher, or a program in its place.
    pub runtime: Option<PathBuf>,

    /// What always runs.
    pub entrypoint: Vec<String>,
    /// Its arguments, or what runs.
    pub command: Vec<String>,
    /// `NAME=value`, later ones counting.
    pub env: Vec<String>,
    /// Where it begins.
    pub directory: PathBuf,
    /// `user`, `uid`, `user:group`, `uid:gid`.
    pub user: String,
    /// Further groups, by name or number.
    pub groups: Vec<String>,
    /// What the machine is called; the id's beginning where nothing is said.
    pub hostname: Option<String>,
    /// The NIS domain.
    pub domainname: Option<String>,
    /// Words about it.
    pub labels: BTreeMap<String, String>,
    /// Words about it for runtimes.
    pub annotations: BTreeMap<String, String>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// What it reads.
    pub stdin: Stdin,
    /// Whether a small init is its first process.
    pub init: bool,
    /// The signal that asks it to end.
    pub stop_signal: Option<String>,
    /// Seconds until it is killed instead.
    pub stop_timeout: Option<i64>,

    /// How to see whether it is well.
    pub health: Option<Healthcheck>,
    /// What runs a check in shell form.
    pub shell: Vec<String>,

    /// Whether it goes with its end.
    pub lifetime: Lifetime,
    /// Whether it comes back.
    pub restart: Restart,
    /// A log file's size at most, in bytes.
    pub log_size: Option<u64>,
    /// How many log files at most.
    pub log_files: Option<u32>,

    /// Volumes and binds, as they were wished.
    pub mounts: Vec<Wish>,
    /// Whether its root cannot be changed.
    pub read_only: bool,
    /// Bytes of /dev/shm.
    pub shm_size: Option<u64>,

    /// The network.
    pub network: Mode,
    /// Networks beside it.
    pub networks: Vec<Further>,
    /// What it is called there, beside its name.
    pub aliases: Vec<String>,
    /// Its address there.
    pub ip: Option<String>,
    /// Its address there.
    pub ip6: Option<String>,
    /// Its hardware's address.
    pub mac: Option<String>,
    /// Ports, as they were typed.
    pub publish: Vec<String>,
    /// Whether every exposed port is published.
    pub publish_all: bool,
    /// `port/protocol`.
    pub exposed: Vec<String>,
    /// Servers of names.
    pub dns: Vec<String>,
    /// Domains that names are looked for in.
    pub dns_search: Vec<String>,
    /// Options of the resolver.
    pub dns_options: Vec<String>,
    /// `NAME:ADDRESS`.
    pub hosts: Vec<String>,

    /// The namespace of processes.
    pub pid: Mode,
    /// Of IPC.
    pub ipc: Mode,
    /// Of the machine's name.
    pub uts: Mode,
    /// Of ids.
    pub userns: Mode,
    /// Of cgroups.
    pub cgroupns: Mode,
    /// Users of a user namespace of its own.
    pub uid_map: Vec<IdMapping>,
    /// Its groups.
    pub gid_map: Vec<IdMapping>,

    /// Whether next to nothing is forbidden.
    pub privileged: bool,
    /// What it may do.
    pub capabilities: Capabilities,
    /// Whether set-user-id programs are void.
    pub no_new_privileges: bool,
    /// `unconfined`, or a file; docker's profile where nothing is said.
    pub seccomp: Option<String>,
    /// Paths that are not to be masked; `ALL` is all.
    pub unmask: Vec<String>,
    /// Devices.
    pub devices: Vec<Device>,
    /// The host's nodes of them, mounted: where no node can be made.
    pub device_mounts: Vec<Mount>,
    /// Which devices it may use.
    pub device_rules: Vec<DeviceRule>,
    /// Limits of setrlimit(2).
    pub rlimits: Vec<Rlimit>,
    /// Parameters of the kernel's.
    pub sysctls: BTreeMap<String, String>,
    /// How eagerly it is killed when memory runs out.
    pub oom_score_adj: Option<i32>,
    /// What it may use up.
    pub resources: Resources,
    /// Below which group it is.
    pub cgroup_parent: Option<String>,
}

/// An image, as it was when the container was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// Its digest.
    pub id: String,
    /// What it was called.
    pub name: String,
}

/// How a container's root is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// By our union.
    #[default]
    Fuse,
    /// By the kernel's overlay.
    Kernel,
    /// As a copy of the image.
    Dir,
}

/// Whether the data of a container's files is verified, in overlayfs's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verity {
    /// It is not.
    Off,
    /// It is.
    On,
    /// By fs-verity alone.
    Require,
}

impl Verity {
    /// The words, in order.
    pub const WORDS: [(&str, Verity); 3] =
        [("off", Verity::Off), ("on", Verity::On), ("require", Verity::Require)];
}

impl From<Verity> for unionfs::config::Verity {
    fn from(verity: Verity) -> Self {
        match verity {
            Verity::Off => unionfs::config::Verity::Off,
            Verity::On => unionfs::config::Verity::On,
            Verity::Require => unionfs::config::Verity::Require,
        }
    }
}

/// What a container reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stdin {
    /// Nothing.
    #[default]
    Closed,
    /// Whoever attaches, to the end of the first.
    Once,
    /// Whoever attaches, one after the other.
    Open,
}

/// Whether a container goes with its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifetime {
    /// It stays.
    #[default]
    Stays,
    /// It is removed.
    Removed,
}

/// Whether a container comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// When.
    pub policy: RestartPolicy,
    /// How often at most; 0 is no end.
    pub most: u32,
}

/// When a container comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// After a failure.
    OnFailure,
    /// Whenever it ended and nobody stopped it.
    Always,
    /// The same; nothing starts containers with the machine.
    UnlessStopped,
}

/// A namespace, or the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As it is by default.
    #[default]
    Default,
    /// Of its own, reaching nobody.
    None,
    /// The host's.
    Host,
    /// Of its own.
    Private,
    /// Another container's, by its id.
    Container(String),
    /// Some other word: a network's name, `auto`, `keep-id`.
    Named(String),
}

/// A network that a container was put on later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Further {
    /// Its name.
    pub network: String,
    /// What the container is called there, beside its name.
    pub aliases: Vec<String>,
    /// Its address there.
    pub ip: Option<String>,
    /// Its address there.
    pub ip6: Option<String>,
}

/// Something that is to be mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// A path of the host's, or a temporary file system: ready for a bundle.
    Mount(Mount),
    /// A volume.
    Volume {
        /// Its name; chosen when the container is made, for one without.
        name: String,
        /// Where.
        destination: PathBuf,
        /// As in a bundle.
        options: Vec<String>,
        /// Whether it goes with the container.
        anonymous: bool,
        /// Whether an empty one is filled from the image.
        fill: bool,
    },
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// What it is doing.
    pub status: Status,
    /// Its first process, by the host's number.
    pub pid: Option<i32>,
    /// When that began, in the kernel's ticks: numbers come again.
    pub pid_started: Option<u64>,
    /// Its monitor, by the host's number.
    pub monitor: Option<i32>,
    /// When it was last started, in the words of RFC 3339.
    pub started: Option<String>,
    /// When it last ended.
    pub finished: Option<String>,
    /// How.
    pub exit_code: i32,
    /// Whether for lack of memory.
    pub oom_killed: bool,
    /// Why it could not be started.
    pub error: String,
    /// How often it came back.
    pub restarts: u32,
    /// Whether a monitor is about to start it: what that made is to be undone if
    /// it died.
    pub starting: bool,
    /// Whether somebody asked it to end.
    pub stopped: bool,
    /// Whether a command holds it, for as long as that has its lock `holder`; none holds
    /// what a user has paused.
    pub is_held: bool,
    /// Which cgroup it is in.
    pub cgroup: Option<serde_json::Value>,
    /// Whether it is well, where that is checked.
    pub health: Option<Health>,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was never started.
    #[default]
    Created,
    /// It runs.
    Running,
    /// It is held.
    Paused,
    /// It ended and comes back in a moment.
    Restarting,
    /// It ended.
    Exited,
    /// It is being removed.
    Removing,
}

impl Record {
    /// A container that is not there yet.
    pub fn new(name: String, created: String, config: Config) -> Record {
        Record { format: FORMAT, id: String::new(), name, created, config, state: State::default() }
    }

    /// Whether it does not run, and nothing of a start is left to be undone.
    pub fn is_over(&self) -> bool {
        !self.state.status.is_up() && !self.state.starting
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Record, Failure> {
        let record: Record =
            serde_json::from_slice(bytes).map_err(|error| Failure::new(error.to_string()))?;
        if record.format != FORMAT {
            return Err(Failure::new(format!(
                "it has format {}, and this program knows format {FORMAT} only",
                record.format
            )));
        }
        Ok(record)
    }

    /// What is shown of the id.
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// What the machine is called.
    pub fn hostname(&self) -> &str {
        self.config.hostname.as_deref().unwrap_or_else(|| self.short())
    }

    /// All words of its command.
    pub fn words(&self) -> Vec<String> {
        [self.config.entrypoint.as_slice(), self.config.command.as_slice()].concat()
    }
}

impl State {
    /// Nobody looks any more whether it is well: by docker's words it is not.
    pub fn unwatched(&mut self) {
        if let Some(health) = &mut self.health {
            health.status = HealthStatus::Unhealthy;
        }
    }
}

impl Config {
    /// The words that tell whether it is well, if there are any.
    pub fn check(&self) -> Option<Vec<String>> {
        super::health::command(self.health.as_ref()?, &self.shell)
    }
}

impl Status {
    /// Docker's words; nothing is dead here.
    pub const WORDS: [&str; 7] = ["created", "running", "paused", "restarting", "exited", "removing", "dead"];

    /// Whether it has processes, or will in a moment.
    pub fn is_up(self) -> bool {
        matches!(self, Status::Running | Status::Paused | Status::Restarting)
    }

    /// In docker's word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
            Status::Removing => "removing",
        }
    }
}
