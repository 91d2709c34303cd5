//! `runion info`.

use clap::Args;
use layerstore::document::Platform;
use layerstore::store::Store;
use serde_json::{Value, json};

use crate::cgroup::{Controller, Hierarchy};
use crate::container::{Containers, Status};
use crate::failure::Result;
use crate::host::{self, State};
use crate::output::template::Template;
use crate::output::{self, size};
use crate::settle;

/// Say what there is: containers, images, and this host
#[derive(Args)]
pub struct Info {
    /// `json`, or a template of Go's
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,
}

impl Info {
    /// Looks, and says it.
    pub fn run(self, store: &Store) -> Result<u8> {
        let known = known(store)?;
        let text = match self.format.as_deref().map(str::trim) {
            None | Some("") => text(&known),
            Some("json") => Template::parse("{{json .}}")?.render(&known)? + "\n",
            Some(format) => Template::parse(format)?.render(&known)? + "\n",
        };
        output::print(&text)?;
        Ok(0)
    }
}

/// In docker's fields, as far as they mean something here.
fn known(store: &Store) -> Result<Value> {
    let mut counts = [0_u64; 3];
    let all = Containers::open(store.root())?.all()?;
    for container in &all {
        // One that goes meanwhile is none.
        let Ok(record) = settle::read(container) else { continue };
        match record.state.status {
            Status::Running | Status::Restarting => counts[0] += 1,
            Status::Paused => counts[1] += 1,
            Status::Created | Status::Exited | Status::Removing => counts[2] += 1,
        }
    }
    let [running, paused, stopped] = counts;
    let names = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    let warnings = host::look(store.root()).into_iter().filter(|finding| finding.state != State::Ok);
    let warnings: Vec<String> =
        warnings.map(|finding| format!("WARNING: {}: {}", finding.check, finding.found)).collect();
    let is_root = rustix::process::geteuid().is_root();
    let mut security = vec!["name=seccomp,profile=builtin"];
    if !is_root {
        security.push("name=rootless");
    }
    Ok(json!({
        "Name": names.nodename().to_string_lossy(),
        "Containers": running + paused + stopped,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": store.images()?.len(),
        "Driver": "runionfs",
        "DockerRootDir": store.root().display().to_string(),
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup_version(),
        "LoggingDriver": "json-file",
        "Plugins": { "Volume": ["local"], "Network": ["bridge", "host", "none"], "Log": ["json-file"] },
        "DefaultRuntime": "runion",
        "SecurityOptions": security,
        "KernelVersion": names.release().to_string_lossy(),
        "OperatingSystem": operating_system(),
        "OSType": "linux",
        "Architecture": names.machine().to_string_lossy(),
        "Platform": Platform::host().to_string(),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": memory.totalram as u64 * u64::from(memory.mem_unit.max(1)),
        "Rootless": !is_root,
        "Warnings": warnings,
    }))
}

/// Which version limits memory here.
fn cgroup_version() -> &'static str {
    match Hierarchy::find() {
        Ok(found) if found.v1.iter().any(|v1| v1.controllers.contains(&Controller::Memory)) => "1",
        Ok(found) if found.v2.is_some() => "2",
        _ => "",
    }
}

/// As /etc/os-release calls it.
fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches(['"', '\'']).to_owned())
}

fn text(known: &Value) -> String {
    let word = |name: &str| match known.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let memory = known.get("MemTotal").and_then(Value::as_u64).unwrap_or(0);
    let list = |name: &str| {
        let words = known.get(name).and_then(Value::as_array).into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut text = format!(
        "Containers: {}\n Running: {}\n Paused: {}\n Stopped: {}\nImages: {}\nServer Version: {}\n\
         Storage Driver: {}\nLogging Driver: {}\nCgroup Driver: {}\nCgroup Version: {}\n",
        word("Containers"),
        word("ContainersRunning"),
        word("ContainersPaused"),
        word("ContainersStopped"),
        word("Images"),
        word("ServerVersion"),
        word("Driver"),
        word("LoggingDriver"),
        word("CgroupDriver"),
        word("CgroupVersion"),
    );
    text.push_str("Security Options:\n");
    for option in list("SecurityOptions") {
        let (name, more) = option.split_once(',').unwrap_or((&option, ""));
        text.push_str(&format!("  {}\n", name.trim_start_matches("name=")));
        if let Some((key, value)) = more.split_once('=') {
            text.push_str(&format!("   {}: {value}\n", if key == "profile" { "Profile" } else { key }));
        }
    }
    text.push_str(&format!(
        "Kernel Version: {}\nOperating System: {}\nOSType: {}\nArchitecture: {}\nCPUs: {}\n\
         Total Memory: {}\nName: {}\nDocker Root Dir: {}\n",
        word("KernelVersion"),
        word("OperatingSystem"),
        word("OSType"),
        word("Architecture"),
        word("NCPU"),
        size::binary(memory),
        word("Name"),
        word("DockerRootDir"),
    ));
    for warning in list("Warnings") {
        text.push_str(&warning);
        text.push('\n');
    }
    text
}
