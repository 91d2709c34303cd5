//! `pause`, `resume` and `update`: what a container's cgroups do with it.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use super::log::Log;
use super::state::Root;
use crate::bundle::{Cpu, Memory, Pids, Resources};
use crate::failure::{Context, Failure, Result};
use crate::launch::hooks::Status;

/// A longer document is nobody's.
const LONGEST: u64 = 1 << 20;

/// Stop all of a container's processes where they are
#[derive(Args)]
pub struct Pause {
    /// The container
    id: String,
}

/// Let a paused container go on
#[derive(Args)]
pub struct Resume {
    /// The container
    id: String,
}

/// Change what a container may use up
#[derive(Args)]
pub struct Update {
    /// A file of `linux.resources`; - for stdin
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,

    /// Memory, in bytes
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory: Option<i64>,

    /// Memory and swap together, in bytes
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<i64>,

    /// Weight of processor time
    #[arg(long, value_name = "WEIGHT")]
    cpu_share: Option<u64>,

    /// Microseconds of processor time in each period
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,

    /// The period, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_period: Option<u64>,

    /// Which processors
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// Which memory nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,

    /// How many processes
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    pids_limit: Option<i64>,

    /// The container
    id: String,
}

impl Pause {
    /// Pauses it.
    pub fn run(self, root: &Root) -> Result<u8> {
        let container = root.find(&self.id)?;
        match container.status()? {
            Status::Running | Status::Created => container.cgroup()?.pause().map(|()| 0),
            Status::Paused => Err(Failure::failed(format!("container is paused already: {}", self.id))),
            _ => Err(Failure::failed(format!("container not running: {}", self.id))),
        }
    }
}

impl Resume {
    /// Resumes it.
    pub fn run(self, root: &Root) -> Result<u8> {
        let container = root.find(&self.id)?;
        container.cgroup()?.resume().map(|()| 0)
    }
}

impl Update {
    /// Changes it.
    pub fn run(self, root: &Root, log: &Log) -> Result<u8> {
        let container = root.find(&self.id)?;
        let resources = self.resources()?;
        container.cgroup()?.update(&resources)?.iter().for_each(|warning| log.warn(warning));
        Ok(0)
    }

    fn resources(&self) -> Result<Resources> {
        let Some(path) = &self.resources else { return Ok(self.of_flags()) };
        let context = || format!("cannot read {}", path.display());
        let mut text = Vec::new();
        match path.as_os_str() == "-" {
            true => std::io::stdin().take(LONGEST).read_to_end(&mut text),
            false => File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut text)),
        }
        .context(context)?;
        serde_json::from_slice(&text).context(context)
    }

    fn of_flags(&self) -> Resources {
        let memory = Memory { limit: self.memory, swap: self.memory_swap, ..Memory::default() };
        let cpu = Cpu {
            shares: self.cpu_share,
            quota: self.cpu_quota,
            period: self.cpu_period,
            cpus: self.cpuset_cpus.clone(),
            mems: self.cpuset_mems.clone(),
            ..Cpu::default()
        };
        Resources {
            memory: (memory != Memory::default()).then_some(memory),
            cpu: (cpu != Cpu::default()).then_some(cpu),
            pids: self.pids_limit.map(|limit| Pids { limit }),
            ..Resources::default()
        }
    }
}
