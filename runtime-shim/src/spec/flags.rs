//! What can be asked of a container that is made: docker's flags, and what they
//! mean together with its image.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use layerstore::document::Execution;

use super::{capabilities, device, mount, network, rlimit, userns};
use crate::bundle::IdMapping;
use crate::cgroup::flags::AllLimits;
use crate::container::{Config, Driver, Lifetime, Mode, Restart, RestartPolicy, Stdin, Wish};
use crate::failure::{Context, Failure, Result, say};
use crate::sandbox::Identity;
use crate::sandbox::identity::Plan;

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
    env: Vec<String>,

    /// Set those in a file, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Mount a directory of the host's or a volume: [SOURCE:]TARGET[:OPTIONS]
    #[arg(long, short, value_name = "VOLUME")]
    volume: Vec<String>,

    /// Mount what another container has mounted: NAME[:ro]
    #[arg(long, value_name = "CONTAINER")]
    pub volumes_from: Vec<String>,

    /// The same in words: type=bind|volume|tmpfs,source=…,target=…[,readonly]
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,

    /// Mount a temporary file system: TARGET[:OPTIONS]
    #[arg(long, value_name = "TMPFS")]
    tmpfs: Vec<String>,

    /// Where the command begins
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<PathBuf>,

    /// Who the command is: user, uid, user:group or uid:gid
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,

    /// Further groups of the command
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,

    /// What the machine is called
    #[arg(long, short = 'h', value_name = "NAME")]
    hostname: Option<String>,

    /// What its NIS domain is called
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,

    /// What runs in the place of the image's entry point; empty for nothing
    #[arg(long, value_name = "CMD")]
    entrypoint: Option<String>,

    /// Make the root read-only
    #[arg(long)]
    read_only: bool,

    /// Run a small init that passes signals on and reaps
    #[arg(long)]
    init: bool,

    /// A word about the container: KEY[=VALUE]
    #[arg(long, short, value_name = "LABEL")]
    label: Vec<String>,

    /// Those in a file, one a line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,

    /// A word about the container for runtimes: KEY=VALUE
    #[arg(long, value_name = "ANNOTATION")]
    annotation: Vec<String>,

    /// When the container comes back: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: String,

    /// The signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,

    /// Seconds until it is killed instead
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,

    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,

    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,

    /// Forbid next to nothing
    #[arg(long)]
    privileged: bool,

    /// Show a device: SOURCE[:TARGET][:rwm]
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,

    /// no-new-privileges, seccomp=unconfined|FILE, unmask=ALL|PATH:PATH
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,

    /// A limit of setrlimit(2): NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,

    /// The size of /dev/shm, in bytes or with k, m, g
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,

    /// A parameter of the kernel's: NAME=VALUE
    #[arg(long, value_name = "SYSCTL")]
    sysctl: Vec<String>,

    /// How eagerly it is killed when memory runs out: -1000 to 1000
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    oom_score_adj: Option<i32>,

    /// Whose processes it sees: host, or container:NAME
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,

    /// Whose IPC objects: host, private, none, or container:NAME
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,

    /// Whose name: host
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,

    /// Whose ids: host, keep-id[:uid=UID,gid=GID] (the caller's own stays the same), auto[:size=COUNT] (a
    /// range that no other container has); or --uidmap and --gidmap
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,

    /// Whose view of cgroups: host or private
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,

    /// Users of a user namespace: CONTAINER:HOST:COUNT
    #[arg(long, value_name = "MAP")]
    uidmap: Vec<String>,

    /// Its groups: CONTAINER:HOST:COUNT
    #[arg(long, value_name = "MAP")]
    gidmap: Vec<String>,

    /// How the root is made
    #[arg(long, value_enum, default_value_t = Driver::Fuse, value_name = "DRIVER")]
    storage_driver: Driver,

    /// What launches the process, in the place of runion itself: crun, runc
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<String>,

    /// Of the log: max-size=SIZE, max-file=COUNT
    #[arg(long, value_name = "OPTION")]
    log_opt: Vec<String>,

    /// Below which cgroup it is
    #[arg(long, value_name = "GROUP")]
    cgroup_parent: Option<String>,

    /// Write the container's id into a file that is not there yet
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,

    /// When to ask a registry for the image
    #[arg(long, value_enum, default_value_t = Pull::Missing, value_name = "WHEN")]
    pub pull: Pull,

    /// Which of several platforms' images, where one is pulled
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,

    /// Run over a directory; there is no image then
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,

    /// Print help
    #[arg(long, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,

    #[command(flatten)]
    network: network::Flags,

    #[command(flatten, next_help_heading = "Limits")]
    limits: AllLimits,
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

impl Flags {
    /// What is asked for, of an image that says `image`, with these words
    /// behind its name. The id of a container that is named is told by `find`.
    pub fn config(
        &self,
        image: &Execution,
        words: &[String],
        find: &dyn Fn(&str) -> Result<String>,
        from: &[Wish],
    ) -> Result<Config> {
        let mode = |flag: &Option<String>, name, takes: &[&str]| mode(flag.as_deref(), name, takes, find);
        let (entrypoint, command) = self.command(image, words)?;
        let security = Security::parse(&self.security_opt)?;
        let wanted = device::parse(&self.device)?;
        let mut config = Config {
            driver: self.storage_driver,
            runtime: self.runtime.as_deref().map(program).transpose()?,
            entrypoint,
            command,
            env: self.environment(image)?,
            directory: self.directory(image),
            user: self.user.clone().unwrap_or_else(|| image.user.clone()),
            groups: self.group_add.clone(),
            hostname: self.hostname.clone(),
            domainname: self.domainname.clone(),
            labels: self.labels(image)?,
            annotations: pairs(&self.annotation, "annotation")?,
            terminal: self.tty,
            init: self.init,
            stop_signal: self.stop_signal.clone().or_else(|| image.stop_signal.clone()),
            stop_timeout: self.stop_timeout.or(image.stop_timeout),
            lifetime: if self.rm { Lifetime::Removed } else { Lifetime::Stays },
            restart: restart(&self.restart)?,
            mounts: mount::parse(&self.volume, &self.mount, &self.tmpfs, from, image)?,
            read_only: self.read_only,
            shm_size: self.shm_size.as_deref().map(|text| bytes(text, "shm-size")).transpose()?,
            pid: mode(&self.pid, "pid", &["host", "private"])?,
            ipc: mode(&self.ipc, "ipc", &["host", "private", "none", "shareable"])?,
            uts: mode(&self.uts, "uts", &["host", "private"])?,
            cgroupns: mode(&self.cgroupns, "cgroupns", &["host", "private"])?,
            uid_map: self.uidmap.iter().map(|text| id_map(text)).collect::<Result<_>>()?,
            gid_map: self.gidmap.iter().map(|text| id_map(text)).collect::<Result<_>>()?,
            privileged: self.privileged,
            capabilities: capabilities::of(&self.cap_add, &self.cap_drop, self.privileged)?,
            no_new_privileges: security.no_new_privileges,
            seccomp: security.seccomp,
            unmask: security.unmask,
            devices: wanted.devices.clone(),
            device_rules: wanted.rules.clone(),
            rlimits: self.ulimit.iter().map(|text| rlimit::parse(text)).collect::<Result<_>>()?,
            sysctls: pairs(&self.sysctl, "sysctl")?,
            oom_score_adj: self.oom_score_adj,
            resources: self.limits.resources()?,
            cgroup_parent: self.cgroup_parent.clone(),
            ..Config::default()
        };
        userns::apply(&mut config, self.userns.as_deref())?;
        let is_mapped = matches!(Plan::new(Identity::Root)?, Plan::Mapped(_));
        if is_mapped {
            wanted.check()?;
        }
        if is_mapped || userns::has_its_own(&config) {
            config.device_mounts = wanted.mounts();
        }
        self.network.apply(&mut config, image, find)?;
        self.log(&mut config)?;
        self.check(&config)?;
        for caution in self.limits.cautions() {
            say(&format!("WARNING: {caution}"));
        }
        Ok(config)
    }

    /// What a command reads, if whoever starts it stays attached or not.
    pub fn stdin(&self, stays_attached: bool) -> Stdin {
        match (self.interactive, stays_attached) {
            (false, _) => Stdin::Closed,
            (true, true) => Stdin::Once,
            (true, false) => Stdin::Open,
        }
    }

    fn check(&self, config: &Config) -> Result<()> {
        if self.rm && config.restart.policy != RestartPolicy::No {
            return Err(
                Failure::as_docker("Conflicting options: --restart and --rm").code(crate::failure::OURS)
            );
        }
        if config.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
            return Err(Failure::new("Invalid value for --oom-score-adj: must be between -1000 and 1000"));
        }
        if self.rootfs.is_some() && config.driver == Driver::Dir {
            return Err(Failure::new("the storage driver dir copies images, not directories")
                .hint("make it one: tar -C DIR -c . | runion import - NAME"));
        }
        if config.uid_map.is_empty() != config.gid_map.is_empty() {
            return Err(Failure::new("--uidmap and --gidmap belong together"));
        }
        if let Some(name) = &config.hostname {
            let is_one = name.len() <= 64
                && name.split('.').all(|part| {
                    let edges = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
                    edges(part.as_bytes().first())
                        && edges(part.as_bytes().last())
                        && part
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                });
            if !is_one {
                return Err(Failure::new(format!("invalid hostname: {name:?}")));
            }
        }
        if let Some(signal) = &config.stop_signal {
            crate::signal::parse(signal)?;
        }
        Ok(())
    }

    /// Entry point and command, as docker puts them together.
    fn command(&self, image: &Execution, words: &[String]) -> Result<(Vec<String>, Vec<String>)> {
        let entrypoint = match &self.entrypoint {
            Some(entrypoint) if entrypoint.is_empty() => Vec::new(),
            Some(entrypoint) => vec![entrypoint.clone()],
            None => image.entrypoint.clone(),
        };
        let command = match (words.is_empty(), &self.entrypoint) {
            (false, _) => words.to_vec(),
            (true, None) => image.cmd.clone(),
            // The image's command was meant for its own entry point.
            (true, Some(_)) => Vec::new(),
        };
        match entrypoint.is_empty() && command.is_empty() {
            true => Err(Failure::new("no command specified").hint("name one behind the image")),
            false => Ok((entrypoint, command)),
        }
    }

    fn environment(&self, image: &Execution) -> Result<Vec<String>> {
        let mut env = Vec::new();
        for pair in &image.env {
            super::bundle::set(&mut env, pair);
        }
        add_environment(&mut env, &self.env_file, &self.env)?;
        Ok(env)
    }

    fn labels(&self, image: &Execution) -> Result<BTreeMap<String, String>> {
        let mut labels = image.labels.clone();
        let files = self.label_file.iter().map(|path| lines(path)).collect::<Result<Vec<_>>>()?;
        for label in files.iter().flatten().chain(&self.label) {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            if key.trim().is_empty() {
                return Err(Failure::new(format!("invalid label: {label:?}")));
            }
            labels.insert(key.to_owned(), value.to_owned());
        }
        Ok(labels)
    }

    fn directory(&self, image: &Execution) -> PathBuf {
        let own = PathBuf::from("/").join(&image.working_dir);
        match &self.workdir {
            Some(dir) => own.join(dir),
            None => own,
        }
    }

    fn log(&self, config: &mut Config) -> Result<()> {
        for option in &self.log_opt {
            match option.split_once('=') {
                Some(("max-size", size)) => config.log_size = Some(bytes(size, "max-size")?),
                Some(("max-file", count)) => {
                    let count = count.parse().ok().filter(|count| *count > 0);
                    config.log_files =
                        Some(count.ok_or_else(|| Failure::new(format!("invalid log option: {option:?}")))?);
                }
                _ => {
                    return Err(Failure::new(format!("unknown log opt {option:?}"))
                        .hint("there are max-size=SIZE and max-file=COUNT"));
                }
            }
        }
        Ok(())
    }
}

/// Adds variables of files, and then others: `NAME=value`, or a name alone for
/// the caller's own.
pub fn add_environment(env: &mut Vec<String>, files: &[PathBuf], more: &[String]) -> Result<()> {
    let lines = files.iter().map(|path| lines(path)).collect::<Result<Vec<_>>>()?;
    for pair in lines.iter().flatten().chain(more) {
        let name = pair.split('=').next().unwrap_or_default();
        if name.is_empty() || pair.contains('\0') {
            return Err(Failure::new(format!("invalid environment variable: {pair:?}")));
        }
        match pair.contains('=') {
            true => super::bundle::set(env, pair),
            // A name alone has the caller's value, or there is no such variable.
            false => match std::env::var_os(pair) {
                Some(value) => super::bundle::set(env, &format!("{pair}={}", text(pair, &value)?)),
                None => env.retain(|known| known.split('=').next() != Some(pair)),
            },
        }
    }
    Ok(())
}

/// What `--security-opt` says.
#[derive(Default)]
struct Security {
    no_new_privileges: bool,
    seccomp: Option<String>,
    unmask: Vec<String>,
}

impl Security {
    fn parse(options: &[String]) -> Result<Security> {
        let mut found = Security::default();
        for option in options {
            match option.split_once(['=', ':']).unwrap_or((option, "")) {
                ("no-new-privileges", "" | "true") => found.no_new_privileges = true,
                ("no-new-privileges", "false") => found.no_new_privileges = false,
                ("seccomp", profile) if !profile.is_empty() => found.seccomp = Some(profile.to_owned()),
                ("unmask", paths) if !paths.is_empty() => {
                    found.unmask.extend(paths.split(':').map(str::to_owned));
                }
                ("systempaths", "unconfined") => found.unmask.push("ALL".to_owned()),
                // There is none to leave.
                ("label", "disable") | ("apparmor", "unconfined") => {}
                _ => {
                    return Err(Failure::new(format!("invalid --security-opt: {option:?}"))
                        .hint("there are no-new-privileges, seccomp=unconfined|FILE, unmask=ALL|PATH:PATH"));
                }
            }
        }
        Ok(found)
    }
}

/// A program by its name or path.
fn program(name: &str) -> Result<PathBuf> {
    if name == "runion" {
        return Ok(PathBuf::new());
    }
    let found = match name.contains('/') {
        true => Some(PathBuf::from(name)).filter(|path| path.is_file()),
        false => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
        }
    };
    let found = found.ok_or_else(|| Failure::new(format!("unknown or invalid runtime name: {name}")))?;
    std::path::absolute(&found).context(|| format!("cannot find {name}"))
}

fn restart(text: &str) -> Result<Restart> {
    let (policy, most) = text.split_once(':').unwrap_or((text, ""));
    let invalid = || Failure::new(format!("invalid restart policy: {text:?}"));
    let policy = match policy {
        "no" | "" => RestartPolicy::No,
        "on-failure" => RestartPolicy::OnFailure,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        _ => return Err(invalid()),
    };
    let most = match most {
        "" => 0,
        most if policy == RestartPolicy::OnFailure => most.parse().map_err(|_| invalid())?,
        _ => return Err(invalid().hint("a number of times is for on-failure only")),
    };
    Ok(Restart { policy, most })
}

/// A policy that was typed later.
pub fn restart_policy(text: &str) -> Result<Restart> {
    restart(text)
}

/// A namespace's mode.
pub fn mode(
    text: Option<&str>,
    flag: &str,
    takes: &[&str],
    find: &dyn Fn(&str) -> Result<String>,
) -> Result<Mode> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Mode::Default) };
    if let Some(name) = text.strip_prefix("container:") {
        return find(name).map(Mode::Container);
    }
    match text {
        "host" if takes.contains(&"host") => Ok(Mode::Host),
        "private" | "shareable" if takes.contains(&text) => Ok(Mode::Private),
        "none" if takes.contains(&"none") => Ok(Mode::None),
        _ => Err(Failure::new(format!("invalid {flag} mode: {text}"))
            .hint(format!("there are {}, container:NAME", takes.join(", ")))),
    }
}

fn id_map(text: &str) -> Result<IdMapping> {
    let mut numbers = text.split(':').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten(), numbers.next().flatten(), numbers.next()) {
        (Some(container_id), Some(host_id), Some(size), None) if size > 0 => {
            Ok(IdMapping { container_id, host_id, size })
        }
        _ => {
            Err(Failure::new(format!("invalid mapping: {text:?}")).hint("a mapping is CONTAINER:HOST:COUNT"))
        }
    }
}

/// `KEY=VALUE`, each.
fn pairs(list: &[String], what: &str) -> Result<BTreeMap<String, String>> {
    list.iter()
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Failure::new(format!("invalid {what}: {pair:?}")).hint("it is KEY=VALUE")),
        })
        .collect()
}

/// Bytes, as docker writes sizes: `512`, `64m`, `1.5g`, `10kb`.
pub fn bytes(text: &str, what: &str) -> Result<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches('b').trim_end_matches('i');
    let (digits, unit) = match number.char_indices().last() {
        Some((at, letter)) if letter.is_ascii_alphabetic() => (number.get(..at).unwrap_or_default(), letter),
        _ => (number, ' '),
    };
    let factor = match unit {
        ' ' => Some(1_u64),
        'k' => Some(1 << 10),
        'm' => Some(1 << 20),
        'g' => Some(1 << 30),
        't' => Some(1 << 40),
        _ => None,
    };
    let value = digits.trim().parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
    match (value, factor) {
        (Some(value), Some(factor)) if value * (factor as f64) < 9e18 => Ok((value * factor as f64) as u64),
        _ => Err(Failure::new(format!("invalid size for --{what}: {text:?}"))
            .hint("a size is a number of bytes, or of k, m, g, t")),
    }
}

/// Lines of a file, but for empty ones and comments.
fn lines(path: &std::path::Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).context(|| format!("open {}", path.display()))?;
    let lines = text.lines().map(|line| line.strip_prefix('\u{feff}').unwrap_or(line).trim_start());
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

/// A bundle is JSON, and that is text.
fn text(name: &str, value: &OsStr) -> Result<String> {
    let text = std::str::from_utf8(value.as_bytes());
    text.map(str::to_owned).context(|| format!("cannot pass the variable {name} on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_docker_writes_them() {
        for (text, value) in
            [("512", 512), ("64m", 64 << 20), ("1.5G", 3 << 29), ("10kb", 10240), ("2MiB", 2 << 20)]
        {
            assert_eq!(bytes(text, "x").unwrap(), value, "{text}");
        }
        for bad in ["", "m", "-1", "1x", "1e40g", "nan"] {
            assert!(bytes(bad, "x").is_err(), "{bad}");
        }
    }

    #[test]
    fn policies_and_maps() {
        assert_eq!(restart("on-failure:3").unwrap(), Restart { policy: RestartPolicy::OnFailure, most: 3 });
        assert!(restart("always:3").is_err() && restart("sometimes").is_err());
        assert_eq!(id_map("0:100:5").unwrap(), IdMapping { container_id: 0, host_id: 100, size: 5 });
        assert!(id_map("0:100").is_err() && id_map("0:100:0").is_err() && id_map("0:1:2:3").is_err());
    }
}
