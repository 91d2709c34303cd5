//! A container's bundle: what its record asks for, in the words of the
//! runtime-spec, with docker's defaults.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use super::{seccomp, user};
use crate::bundle::{
    self, DeviceRule, Linux, Mount, Namespace, NamespaceKind, Process, Resources, Root, Spec,
};
use crate::container::{Config, Container, Mode, Record};
use crate::failure::{Failure, Result};
use crate::monitor;
use crate::volume::Volumes;

/// What the host decides of a bundle.
pub struct Host<'a> {
    /// The container's root, mounted.
    pub root: BorrowedFd<'a>,
    /// First processes of containers whose namespaces are joined, by id.
    pub pids: BTreeMap<String, i32>,
    /// Whether the ids are mapped by the monitor's own user namespace.
    pub is_mapped: bool,
}

/// Of /proc and /sys, what tells of the host, as docker hides it.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// And what it lets nobody change.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where programs are where the image says nothing, as docker has it.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of /dev/shm, as docker has it.
const SHM_SIZE: u64 = 64 << 20;

/// The bundle of a container that is about to start.
pub fn of(container: &Container, record: &Record, volumes: &Volumes, host: &Host<'_>) -> Result<Spec> {
    let config = &record.config;
    Ok(Spec {
        oci_version: bundle::VERSION.to_owned(),
        process: Some(process(record, host)?),
        root: Some(Root { path: container.rootfs(), readonly: config.read_only }),
        hostname: (config.uts != Mode::Host).then(|| record.hostname().to_owned()),
        domainname: config.domainname.clone(),
        mounts: mounts(container, record, volumes)?,
        hooks: None,
        annotations: config.annotations.clone(),
        linux: Some(linux(record, host)?),
    })
}

fn process(record: &Record, host: &Host<'_>) -> Result<Process> {
    let config = &record.config;
    let account = user::find(host.root, &config.user, &config.groups)?;
    Ok(Process {
        terminal: config.terminal,
        console_size: None,
        env: environment(record, &account.home),
        user: account.user,
        args: record.words(),
        cwd: config.directory.clone(),
        capabilities: Some(config.capabilities.clone()),
        rlimits: config.rlimits.clone(),
        no_new_privileges: config.no_new_privileges,
        apparmor_profile: None,
        selinux_label: None,
        oom_score_adj: config.oom_score_adj,
    })
}

/// What every process of the container has, and what was asked for.
pub fn environment(record: &Record, home: &str) -> Vec<String> {
    let mut found: Vec<String> = vec![PATH.to_owned(), format!("HOSTNAME={}", record.hostname())];
    if record.config.terminal {
        found.push("TERM=xterm".to_owned());
    }
    // After the image's own, which docker lets win; HOME only where nobody says it.
    for pair in &record.config.env {
        set(&mut found, pair);
    }
    if !found.iter().any(|pair| pair.starts_with("HOME=")) {
        found.push(format!("HOME={home}"));
    }
    found
}

/// Puts a pair in the place of one of the same name.
pub fn set(env: &mut Vec<String>, pair: &str) {
    let name = pair.split('=').next().unwrap_or_default();
    let is_same = |known: &String| known.split('=').next() == Some(name);
    match env.iter_mut().find(|known| is_same(known)) {
        Some(known) => *known = pair.to_owned(),
        None => env.push(pair.to_owned()),
    }
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.to_owned()),
        source: Some(source.into()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

fn mounts(container: &Container, record: &Record, volumes: &Volumes) -> Result<Vec<Mount>> {
    let config = &record.config;
    let shm = format!("size={}", config.shm_size.unwrap_or(SHM_SIZE));
    let sys = if config.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm]),
    ];
    mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", sys]));
    mounts.extend(config.device_mounts.iter().cloned());
    mounts.extend(volumes.mounts(record)?);
    for name in monitor::NETWORK_FILES {
        let destination = PathBuf::from("/etc").join(name);
        let is_taken = mounts.iter().any(|mount| mount.destination == destination);
        if !is_taken && let Some(source) = monitor::network_file(container, record, name)? {
            mounts.push(Mount {
                destination,
                kind: Some("bind".to_owned()),
                source: Some(source),
                options: vec!["bind".to_owned(), "rprivate".to_owned()],
                ..Mount::default()
            });
        }
    }
    // What lies upon another comes after it.
    let depth = |mount: &Mount| mount.destination.components().count();
    mounts.sort_by_key(depth);
    Ok(mounts)
}

fn linux(record: &Record, host: &Host<'_>) -> Result<Linux> {
    let config = &record.config;
    let masked = |paths: &[&str]| -> Vec<String> {
        let shown =
            |path: &&&str| config.unmask.iter().any(|unmasked| unmasked == "ALL" || unmasked == **path);
        match config.privileged {
            true => Vec::new(),
            false => paths.iter().filter(|path| !shown(path)).map(|path| (*path).to_owned()).collect(),
        }
    };
    Ok(Linux {
        namespaces: namespaces(config, host)?,
        uid_mappings: config.uid_map.clone(),
        gid_mappings: config.gid_map.clone(),
        devices: if config.device_mounts.is_empty() { config.devices.clone() } else { Vec::new() },
        cgroups_path: Some(cgroup_path(record)),
        resources: Some(resources(config)),
        seccomp: seccomp::of(config)?,
        sysctl: sysctls(config, host),
        masked_paths: masked(&MASKED),
        readonly_paths: masked(&READ_ONLY),
        ..Linux::default()
    })
}

/// Which cgroup a container is in.
pub fn cgroup_path(record: &Record) -> PathBuf {
    let parent = record.config.cgroup_parent.as_deref().unwrap_or("/runion");
    PathBuf::from("/").join(parent).join(&record.id)
}

fn resources(config: &Config) -> Resources {
    let mut resources = config.resources.clone();
    if !config.privileged {
        let rule = |allow, kind: Option<&str>, major, minor, access: &str| DeviceRule {
            allow,
            kind: kind.map(str::to_owned),
            major,
            minor,
            access: Some(access.to_owned()),
        };
        let mut rules = vec![rule(false, None, None, None, "rwm")];
        // Nodes may be made; what they are of is used by none but these.
        rules.push(rule(true, Some("c"), None, None, "m"));
        rules.push(rule(true, Some("b"), None, None, "m"));
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
            rules.push(rule(true, Some("c"), Some(major), Some(minor), "rwm"));
        }
        rules.push(rule(true, Some("c"), Some(136), None, "rwm"));
        rules.extend(config.device_rules.iter().cloned());
        resources.devices = rules;
    }
    resources
}

/// Docker lets containers of their own network open low ports and ping.
fn sysctls(config: &Config, host: &Host<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if !matches!(config.network, Mode::Host | Mode::Container(_)) {
        found.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        // Groups that a user namespace does not have are no range.
        if !host.is_mapped && config.gid_map.is_empty() {
            found.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
        }
    }
    found.extend(config.sysctls.iter().map(|(name, value)| (name.clone(), value.clone())));
    found
}

fn namespaces(config: &Config, host: &Host<'_>) -> Result<Vec<Namespace>> {
    let mut found = vec![Namespace { kind: NamespaceKind::Mount, path: None }];
    let wanted = [
        (NamespaceKind::Pid, "pid", &config.pid),
        (NamespaceKind::Network, "net", &config.network),
        (NamespaceKind::Ipc, "ipc", &config.ipc),
        (NamespaceKind::Uts, "uts", &config.uts),
        (NamespaceKind::Cgroup, "cgroup", &config.cgroupns),
    ];
    for (kind, file, mode) in wanted {
        let path = match mode {
            Mode::Host => continue,
            Mode::Container(id) => {
                let pid = host.pids.get(id).ok_or_else(|| {
                    Failure::as_docker(format!(
                        "cannot join the namespaces of container {id}: it is not running"
                    ))
                })?;
                Some(PathBuf::from(format!("/proc/{pid}/ns/{file}")))
            }
            Mode::Default | Mode::None | Mode::Private | Mode::Named(_) => None,
        };
        found.push(Namespace { kind, path });
    }
    if !config.uid_map.is_empty() {
        found.push(Namespace { kind: NamespaceKind::User, path: None });
    }
    Ok(found)
}
