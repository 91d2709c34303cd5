//! `list` and `ps`: containers, and the processes of one.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::state::{Container, Root};
use crate::failure::{Context, Failure, Result};
use crate::launch::hooks::Status;

/// List containers that were made from bundles
#[derive(Args)]
pub struct List {
    /// Only their names
    #[arg(long, short)]
    quiet: bool,

    /// As a table or as JSON
    #[arg(long, short, value_parser = ["table", "json"], default_value = "table")]
    format: String,
}

impl List {
    /// Prints them.
    pub fn run(self, root: &Root) -> Result<u8> {
        let all = root.all()?;
        if self.format == "json" {
            let mut list = Vec::new();
            for container in &all {
                let (record, status) = (&container.record, container.status()?);
                list.push(json!({
                    "id": record.id, "status": status, "bundle": record.bundle, "created": record.created,
                    "pid": if status == Status::Stopped { 0 } else { record.pid },
                    "owner": record.owner.to_string(),
                }));
            }
            print(&Value::Array(list))?;
            return Ok(0);
        }
        let mut text = String::new();
        if !self.quiet {
            text.push_str("ID          PID         STATUS      BUNDLE      CREATED\n");
        }
        for container in &all {
            let (record, status) = (&container.record, container.status()?);
            if self.quiet {
                text.push_str(&format!("{}\n", record.id));
                continue;
            }
            let pid = if status == Status::Stopped { 0 } else { record.pid };
            let status = format!("{status:?}").to_lowercase();
            let (id, bundle, created) = (&record.id, record.bundle.display(), &record.created);
            text.push_str(&format!("{id:<11} {pid:<11} {status:<11} {bundle} {created}\n"));
        }
        write(&text)?;
        Ok(0)
    }
}

/// List the processes of a container
#[derive(Args)]
pub struct Ps {
    /// As a table or as JSON
    #[arg(long, short, value_parser = ["table", "json"], default_value = "table")]
    format: String,

    /// The container
    id: String,

    /// Accepted, and of no effect: options of ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Ps {
    /// Prints them.
    pub fn run(self, root: &Root) -> Result<u8> {
        let container = root.find(&self.id)?;
        if container.process()?.is_none() {
            return Err(Failure::failed(format!("container not running: {}", self.id)));
        }
        let pids = processes(&container)?;
        if self.format == "json" {
            print(&json!(pids))?;
            return Ok(0);
        }
        let mut text = "PID\n".to_string();
        pids.iter().for_each(|pid| text.push_str(&format!("{pid}\n")));
        write(&text)?;
        Ok(0)
    }
}

/// The processes of a container: those of its cgroup, or, where it has none of
/// its own, those that descend from its first one.
pub fn processes(container: &Container) -> Result<Vec<i32>> {
    if let Some(cgroup) = &container.record.cgroup {
        return Ok(cgroup.pids()?.into_iter().map(|pid| pid.as_raw_nonzero().get()).collect());
    }
    let Some((first, _pidfd)) = container.process()? else { return Ok(Vec::new()) };
    let first = first.as_raw_nonzero().get();
    let mut parents: BTreeMap<i32, i32> = BTreeMap::new();
    for entry in fs::read_dir("/proc").context(|| "cannot list processes".to_string())? {
        let name = entry.context(|| "cannot list processes".to_string())?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let parent = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1)?.parse().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let descends = |pid: i32| {
        let mut at = pid;
        for _ in 0..parents.len() {
            if at == first {
                return true;
            }
            match parents.get(&at) {
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    };
    Ok(parents.keys().copied().filter(|pid| descends(*pid)).collect())
}

/// Prints a document.
pub fn print(value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context(|| "cannot write JSON".to_string())?;
    write(&format!("{text}\n"))
}

fn write(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context(|| "cannot write".to_string())
}
