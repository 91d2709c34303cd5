//! All that is known of a container, in docker's names.

use layerstore::store::Store;
use serde::Serialize;
use serde_json::{Value, json};

use crate::bundle::Mount;
use crate::container::{Container, Containers, Mode, Record, RestartPolicy, Status, Stdin, Wish};
use crate::failure::Result;
use crate::settle;
use crate::volume::Volumes;

/// In docker's names and order.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Shown {
    id: String,
    created: String,
    path: String,
    args: Vec<String>,
    state: Value,
    image: String,
    resolv_conf_path: String,
    hostname_path: String,
    hosts_path: String,
    log_path: String,
    name: String,
    restart_count: u32,
    driver: String,
    platform: String,
    host_config: Value,
    graph_driver: Value,
    mounts: Vec<Value>,
    config: Value,
    network_settings: Value,
}

/// What is known of a container, if there is one.
pub fn shown(store: &Store, text: &str) -> Result<Option<Shown>> {
    let Some(container) = Containers::open(store.root())?.present(text)? else { return Ok(None) };
    let record = settle::read(&container)?;
    let config = &record.config;
    let words = record.words();
    let path = |name: &str| container.etc(name).display().to_string();
    let volumes = Volumes::open(store.root());
    Ok(Some(Shown {
        id: record.id.clone(),
        created: record.created.clone(),
        path: words.first().cloned().unwrap_or_default(),
        args: words.iter().skip(1).cloned().collect(),
        state: state(&record),
        image: config.image.as_ref().map(|image| image.id.clone()).unwrap_or_default(),
        resolv_conf_path: path("resolv.conf"),
        hostname_path: path("hostname"),
        hosts_path: path("hosts"),
        log_path: container.log().display().to_string(),
        name: format!("/{}", record.name),
        restart_count: record.state.restarts,
        driver: "runionfs".to_owned(),
        platform: "linux".to_owned(),
        host_config: host_config(&record),
        graph_driver: graph_driver(&container, &record),
        mounts: config.mounts.iter().map(|wish| mount(&volumes, wish)).collect(),
        config: execution(&record),
        network_settings: super::network::settings(&record, &super::network::endpoints(store, &record)?),
    }))
}

/// The zero of Go's times.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn state(record: &Record) -> Value {
    let state = &record.state;
    let status = state.status;
    let moment = |moment: &Option<String>| moment.clone().unwrap_or_else(|| NEVER.to_owned());
    json!({
        "Status": status.word(),
        "Running": status.is_up(),
        "Paused": status == Status::Paused,
        "Restarting": status == Status::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": false,
        "Pid": state.pid.unwrap_or(0),
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": moment(&state.started),
        "FinishedAt": moment(&state.finished),
        // Docker leaves it out where there is none; a template that asks finds as little.
        "Health": state.health,
    })
}

fn mode(mode: &Mode, default: &str) -> String {
    match mode {
        Mode::Default => default.to_owned(),
        Mode::None => "none".to_owned(),
        Mode::Host => "host".to_owned(),
        Mode::Private => "private".to_owned(),
        Mode::Container(id) => format!("container:{id}"),
        Mode::Named(name) => name.clone(),
    }
}

fn host_config(record: &Record) -> Value {
    let config = &record.config;
    let policy = match config.restart.policy {
        RestartPolicy::No => "no",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::Always => "always",
        RestartPolicy::UnlessStopped => "unless-stopped",
    };
    let binds: Vec<String> = config.mounts.iter().filter_map(bind).collect();
    let mut log = serde_json::Map::new();
    if let Some(size) = config.log_size {
        log.insert("max-size".to_owned(), size.to_string().into());
    }
    if let Some(files) = config.log_files {
        log.insert("max-file".to_owned(), files.to_string().into());
    }
    let mut shown = limits(record);
    let more = json!({
        "Binds": binds,
        "LogConfig": { "Type": "json-file", "Config": log },
        "NetworkMode": mode(&config.network, "bridge"),
        "PortBindings": super::network::bindings(record),
        "PublishAllPorts": config.publish_all,
        "RestartPolicy": { "Name": policy, "MaximumRetryCount": config.restart.most },
        "AutoRemove": config.lifetime == crate::container::Lifetime::Removed,
        "CgroupParent": config.cgroup_parent.clone().unwrap_or_default(),
        "CgroupnsMode": mode(&config.cgroupns, "private"),
        "Dns": config.dns,
        "DnsOptions": config.dns_options,
        "DnsSearch": config.dns_search,
        "ExtraHosts": config.hosts,
        "GroupAdd": config.groups,
        "IpcMode": mode(&config.ipc, "private"),
        "OomScoreAdj": config.oom_score_adj.unwrap_or(0),
        "PidMode": mode(&config.pid, ""),
        "UTSMode": mode(&config.uts, ""),
        "UsernsMode": mode(&config.userns, ""),
        "Privileged": config.privileged,
        "ReadonlyRootfs": config.read_only,
        "ShmSize": config.shm_size.unwrap_or(64 << 20),
        "Sysctls": config.sysctls,
        "Runtime": config.runtime.as_ref().map_or("runion".to_owned(), |path| path.display().to_string()),
        "Init": config.init,
        "SecurityOpt": security(record),
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}

/// The part of it that is about what it may use up.
fn limits(record: &Record) -> Value {
    let config = &record.config;
    let resources = &config.resources;
    let (memory, cpu) =
        (resources.memory.clone().unwrap_or_default(), resources.cpu.clone().unwrap_or_default());
    let nano_cpus = match (cpu.quota, cpu.period) {
        (Some(quota), Some(period)) if quota > 0 && period > 0 => {
            i128::from(quota) * 1_000_000_000 / i128::from(period)
        }
        _ => 0,
    };
    json!({
        "Memory": memory.limit.unwrap_or(0),
        "MemorySwap": memory.swap.unwrap_or(0),
        "MemoryReservation": memory.reservation.unwrap_or(0),
        "NanoCpus": i64::try_from(nano_cpus).unwrap_or(0),
        "CpuShares": cpu.shares.unwrap_or(0),
        "CpuPeriod": cpu.period.unwrap_or(0),
        "CpuQuota": cpu.quota.unwrap_or(0),
        "CpusetCpus": cpu.cpus.unwrap_or_default(),
        "CpusetMems": cpu.mems.unwrap_or_default(),
        "PidsLimit": resources.pids.as_ref().map(|pids| pids.limit),
        "BlkioWeight": resources.block_io.as_ref().and_then(|io| io.weight).unwrap_or(0),
        "Devices": config.devices.iter().map(|device| json!({
            "PathInContainer": device.path,
            "CgroupPermissions": "rwm",
        })).collect::<Vec<_>>(),
        "Ulimits": config.rlimits.iter().map(|limit| json!({
            "Name": limit.kind.trim_start_matches("RLIMIT_").to_lowercase(),
            "Hard": limit.hard,
            "Soft": limit.soft,
        })).collect::<Vec<_>>(),
    })
}

fn security(record: &Record) -> Vec<String> {
    let config = &record.config;
    let mut found = Vec::new();
    if config.no_new_privileges {
        found.push("no-new-privileges".to_owned());
    }
    found.extend(config.seccomp.iter().map(|profile| format!("seccomp={profile}")));
    found
}

/// In the words of `-v`.
fn bind(wish: &Wish) -> Option<String> {
    let (source, destination, options) = match wish {
        Wish::Volume { name, destination, options, .. } => (name.clone(), destination, options),
        Wish::Mount(Mount { kind: Some(kind), source: Some(source), destination, options, .. })
            if kind == "bind" =>
        {
            (source.display().to_string(), destination, options)
        }
        Wish::Mount(_) => return None,
    };
    let is_read_only = options.iter().any(|option| option == "ro");
    Some(format!("{source}:{}{}", destination.display(), if is_read_only { ":ro" } else { "" }))
}

fn mount(volumes: &Volumes, wish: &Wish) -> Value {
    let propagation = |options: &[String]| {
        let known = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
        options.iter().find(|option| known.contains(&option.as_str())).cloned().unwrap_or_default()
    };
    match wish {
        Wish::Volume { name, destination, options, .. } => json!({
            "Type": "volume",
            "Name": name,
            "Source": volumes.data(name),
            "Destination": destination,
            "Driver": "local",
            "Mode": "",
            "RW": !options.iter().any(|option| option == "ro"),
            "Propagation": propagation(options),
        }),
        Wish::Mount(mount) => json!({
            "Type": mount.kind.clone().unwrap_or_default(),
            "Source": mount.source,
            "Destination": mount.destination,
            "Mode": "",
            "RW": !mount.options.iter().any(|option| option == "ro"),
            "Propagation": propagation(&mount.options),
        }),
    }
}

fn graph_driver(container: &Container, record: &Record) -> Value {
    json!({
        "Name": "runionfs",
        "Data": {
            "UpperDir": container.upper(),
            "WorkDir": container.work(),
            "MergedDir": container.rootfs(),
            "Driver": record.config.driver,
        },
    })
}

fn execution(record: &Record) -> Value {
    let config = &record.config;
    let empty = |texts: &[String]| {
        texts.iter().map(|text| (text.clone(), json!({}))).collect::<serde_json::Map<_, _>>()
    };
    json!({
        "Hostname": record.hostname(),
        "Domainname": config.domainname.clone().unwrap_or_default(),
        "User": config.user,
        "AttachStdin": config.stdin == Stdin::Once,
        "AttachStdout": true,
        "AttachStderr": true,
        "ExposedPorts": empty(&config.exposed),
        "Tty": config.terminal,
        "OpenStdin": config.stdin != Stdin::Closed,
        "StdinOnce": config.stdin == Stdin::Once,
        "Env": config.env,
        "Cmd": config.command,
        "Image": config.image.as_ref().map(|image| image.name.clone()).unwrap_or_default(),
        "Volumes": Value::Null,
        "WorkingDir": config.directory,
        "Entrypoint": if config.entrypoint.is_empty() { Value::Null } else { json!(config.entrypoint) },
        "OnBuild": Value::Null,
        "Labels": config.labels,
        "StopSignal": config.stop_signal.clone().unwrap_or_else(|| "SIGTERM".to_owned()),
        "StopTimeout": config.stop_timeout,
        "Healthcheck": config.health,
    })
}
