//! `runion top`.

use std::process::Command;

use clap::Args;
use layerstore::store::Store;

use super::find;
use crate::container::Record;
use crate::failure::{Context, Failure, Result};
use crate::output;

/// List the processes of a container
#[derive(Args)]
pub struct Top {
    /// Its name or id
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// Options of ps(1); -ef where there are none
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<String>,
}

impl Top {
    /// Prints what the host's ps says of them.
    pub fn run(self, store: &Store) -> Result<u8> {
        let (_, record) = find::container(store, &self.container)?;
        if !record.state.status.is_up() {
            return Err(find::not_running(&record));
        }
        let pids = processes(&record)?;
        let options = if self.options.is_empty() { vec!["-ef".to_owned()] } else { self.options };
        let said = Command::new("ps").args(&options).output().map_err(|error| {
            Failure::failed(format!("cannot run ps: {error}")).hint("apt-get install procps")
        })?;
        if !said.status.success() {
            let why = String::from_utf8_lossy(&said.stderr).trim().to_owned();
            return Err(Failure::failed(format!("ps: {why}")));
        }
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default();
        let column = header.split_whitespace().position(|name| name == "PID");
        let column = column.ok_or_else(|| Failure::as_docker("Couldn't find PID field in ps output"))?;
        let is_ours = |line: &&str| {
            let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse::<i32>().ok());
            pid.is_some_and(|pid| pids.contains(&pid))
        };
        let shown: String = lines.filter(is_ours).map(|line| format!("{line}\n")).collect();
        output::print(&format!("{header}\n{shown}"))?;
        Ok(0)
    }
}

/// Those in the pid namespace of its first process, by the host's numbers; that
/// one alone where it shares the host's.
fn processes(record: &Record) -> Result<Vec<i32>> {
    let first = record.state.pid.ok_or_else(|| find::not_running(record))?;
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let theirs = namespace(first);
    if theirs.is_none() || theirs == namespace(rustix::process::getpid().as_raw_nonzero().get()) {
        return Ok(vec![first]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context(|| "cannot list processes".to_owned())? {
        let name = entry.context(|| "cannot list processes".to_owned())?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if namespace(pid) == theirs {
            found.push(pid);
        }
    }
    Ok(found)
}
