//! Limits in docker's words, with docker's checks and messages.
//!
//! [`Limits`] are those that a running container can be given anew; [`AllLimits`]
//! has these and the others. What was typed becomes [`Resources`] by functions
//! that know the host only by a [`Host`].

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use clap::Args;

use super::quantity::{self, OnDisk};
use crate::bundle::{BlockIo, Cpu, DeviceRule, Memory, Pids, Resources, Throttle, Weight};
use crate::failure::{Context, Failure, Result};

/// Limits that can be changed while a container runs.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// How much memory; b, k, m or g
    #[arg(long, short = 'm', value_name = "BYTES", value_parser = quantity::bytes)]
    memory: Option<i64>,

    /// How much memory it is pushed back to when memory is short
    #[arg(long, value_name = "BYTES", value_parser = quantity::bytes)]
    memory_reservation: Option<i64>,

    /// How much memory and swap together, -1 for no limit [default: twice the memory]
    #[arg(long, value_name = "BYTES", value_parser = quantity::bytes_or_unlimited, allow_hyphen_values = true)]
    memory_swap: Option<i64>,

    /// How many CPUs: 1.5
    #[arg(long, value_name = "NUMBER", value_parser = quantity::cpus)]
    cpus: Option<i64>,

    /// Weight against others, 1024 being usual
    #[arg(long, short = 'c', value_name = "NUMBER")]
    cpu_shares: Option<u64>,

    /// The CPUs' period of a quota, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,

    /// How long in each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,

    /// The same of real-time processes
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,

    /// The same of real-time processes
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,

    /// Which CPUs: 0-2,5
    #[arg(long, value_name = "SET")]
    cpuset_cpus: Option<String>,

    /// Which memory nodes: 0-1
    #[arg(long, value_name = "SET")]
    cpuset_mems: Option<String>,

    /// How many processes and threads, -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,

    /// Weight against others on disks: 10 to 1000, 0 for the usual
    #[arg(long, value_name = "NUMBER")]
    blkio_weight: Option<u16>,
}

/// All limits.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct AllLimits {
    #[command(flatten)]
    limits: Limits,

    /// How eagerly memory goes to swap: 0 to 100, -1 for the host's way
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    memory_swappiness: Option<i64>,

    /// Let processes wait for memory instead of killing them
    #[arg(long)]
    oom_kill_disable: bool,

    /// Weight on a disk: /dev/sda:500
    #[arg(long, value_name = "DISK:WEIGHT", value_parser = quantity::weight)]
    blkio_weight_device: Vec<OnDisk>,

    /// Bytes a second read from a disk: /dev/sda:1mb
    #[arg(long, value_name = "DISK:RATE", value_parser = quantity::bytes_a_second)]
    device_read_bps: Vec<OnDisk>,

    /// Bytes a second written to a disk
    #[arg(long, value_name = "DISK:RATE", value_parser = quantity::bytes_a_second)]
    device_write_bps: Vec<OnDisk>,

    /// Reads a second from a disk: /dev/sda:1000
    #[arg(long, value_name = "DISK:RATE", value_parser = quantity::operations_a_second)]
    device_read_iops: Vec<OnDisk>,

    /// Writes a second to a disk
    #[arg(long, value_name = "DISK:RATE", value_parser = quantity::operations_a_second)]
    device_write_iops: Vec<OnDisk>,

    /// Devices it may use beyond the usual ones: 'c 10:200 rwm'
    #[arg(long, value_name = "RULE", value_parser = device_rule)]
    device_cgroup_rule: Vec<DeviceRule>,
}

/// What limits are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its CPUs.
    pub cpus: BTreeSet<u32>,
    /// Its memory nodes.
    pub nodes: BTreeSet<u32>,
}

/// Less memory runs nothing.
const LEAST_MEMORY: i64 = 6 << 20;
/// In microseconds.
const PERIOD: i64 = 100_000;
/// Billionths of a CPU in one.
const ONE_CPU: i64 = 1_000_000_000;
/// Of a CPU, in billionths.
const LEAST_CPU: i64 = ONE_CPU / 100;
/// Of a period and a quota, in microseconds.
const SHORTEST: i64 = 1000;
const LONGEST: i64 = 1_000_000;

/// Whether a container is made, or given other limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Make,
    Change,
}

impl Host {
    /// This one.
    pub fn find() -> Host {
        let read = |path| std::fs::read_to_string(path).ok().and_then(|text| quantity::set(&text));
        // A kernel without NUMA has one node and no directory for it.
        let nodes = read("/sys/devices/system/node/online").unwrap_or_else(|| [0].into());
        Host { cpus: read("/sys/devices/system/cpu/online").unwrap_or_default(), nodes }
    }
}

impl AllLimits {
    /// What a container is made with.
    pub fn resources(&self) -> Result<Resources> {
        let mut resources = self.limits.checked(&Host::find(), Use::Make)?;
        if let Some(swappiness) = self.memory_swappiness.filter(|&swappiness| swappiness != -1) {
            let swappiness =
                u64::try_from(swappiness).ok().filter(|&value| value <= 100).ok_or_else(|| {
                    Failure::new(format!(
                        "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
                    ))
                })?;
            resources.memory.get_or_insert_default().swappiness = Some(swappiness);
        }
        if self.oom_kill_disable {
            resources.memory.get_or_insert_default().disable_oom_killer = Some(true);
        }
        self.on_disks(&mut resources)?;
        resources.devices.clone_from(&self.device_cgroup_rule);
        Ok(resources)
    }

    /// What is possible and perhaps not meant.
    pub fn cautions(&self) -> Vec<&'static str> {
        let is_unlimited = self.limits.memory.unwrap_or(0) == 0;
        let caution =
            "disabling the OOM killer on containers without setting a '-m/--memory' limit may be dangerous";
        (self.oom_kill_disable && is_unlimited).then_some(caution).into_iter().collect()
    }

    fn on_disks(&self, resources: &mut Resources) -> Result<()> {
        let mut io = resources.block_io.take().unwrap_or_default();
        for entry in &self.blkio_weight_device {
            let (major, minor) = numbers(&entry.path)?;
            let weight = u16::try_from(entry.value).ok();
            io.weight_device.push(Weight { major, minor, weight, leaf_weight: None });
        }
        let rates = |entries: &[OnDisk]| -> Result<Vec<Throttle>> {
            let rate = |entry: &OnDisk| {
                let (major, minor) = numbers(&entry.path)?;
                Ok(Throttle { major, minor, rate: entry.value })
            };
            entries.iter().map(rate).collect()
        };
        io.throttle_read_bps_device = rates(&self.device_read_bps)?;
        io.throttle_write_bps_device = rates(&self.device_write_bps)?;
        io.throttle_read_iops_device = rates(&self.device_read_iops)?;
        io.throttle_write_iops_device = rates(&self.device_write_iops)?;
        resources.block_io = Some(io).filter(|io| *io != BlockIo::default());
        Ok(())
    }
}

impl Limits {
    /// What a running container is given anew; what was not typed stays.
    pub fn changes(&self) -> Result<Resources> {
        self.checked(&Host::find(), Use::Change)
    }

    fn checked(&self, host: &Host, use_: Use) -> Result<Resources> {
        if let Some(weight) = self.blkio_weight.filter(|weight| !matches!(weight, 0 | 10..=1000)) {
            return Err(
                Failure::new("range of blkio weight is from 10 to 1000").hint(format!("not {weight}"))
            );
        }
        let weight = self.blkio_weight.filter(|&weight| weight != 0);
        Ok(Resources {
            memory: self.memory(use_)?,
            cpu: self.cpu(host)?,
            pids: self.pids_limit.map(|limit| Pids { limit: if limit > 0 { limit } else { -1 } }),
            block_io: weight.map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
            ..Resources::default()
        })
    }

    fn memory(&self, use_: Use) -> Result<Option<Memory>> {
        let given = |value: Option<i64>| value.filter(|&bytes| bytes != 0);
        let (limit, swap) = (given(self.memory), given(self.memory_swap));
        let reservation = given(self.memory_reservation);
        let fail = |message: &str| Err(Failure::new(message));
        if limit.is_some_and(|limit| limit < LEAST_MEMORY) {
            return fail("minimum memory limit allowed is 6MB");
        }
        match (limit, swap) {
            (Some(limit), Some(swap)) if swap > 0 && swap < limit => {
                return fail("minimum memoryswap limit should be larger than memory limit, see usage");
            }
            (None, Some(swap)) if swap > 0 && use_ == Use::Make => {
                return fail("you should always set the memory limit when using memoryswap limit, see usage");
            }
            _ => {}
        }
        if reservation.is_some_and(|reservation| reservation < LEAST_MEMORY) {
            return fail("minimum memory reservation allowed is 6MB");
        }
        if limit.zip(reservation).is_some_and(|(limit, reservation)| limit < reservation) {
            return fail("minimum memory limit can not be less than memory reservation limit, see usage");
        }
        let twice = limit.filter(|_| use_ == Use::Make).map(|limit| limit.saturating_mul(2));
        let memory = Memory { limit, swap: swap.or(twice), reservation, ..Memory::default() };
        Ok(Some(memory).filter(|memory| *memory != Memory::default()))
    }

    fn cpu(&self, host: &Host) -> Result<Option<Cpu>> {
        let fail = |message: String| Err(Failure::new(message));
        let cpus = self.cpus.filter(|&cpus| cpus != 0);
        let period = self.cpu_period.filter(|&period| period != 0);
        let quota = self.cpu_quota.filter(|&quota| quota != 0);
        for (is_given, what) in [(period.is_some(), "CPU Period"), (quota.is_some(), "CPU Quota")] {
            if cpus.is_some() && is_given {
                return fail(format!("conflicting options: Nano CPUs and {what} cannot both be set"));
            }
        }
        let count = host.cpus.len();
        let all = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(ONE_CPU);
        if cpus.is_some_and(|cpus| cpus < LEAST_CPU || (count > 0 && cpus > all)) {
            return fail(format!(
                "range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
            ));
        }
        if period.is_some_and(|period| !(SHORTEST as u64..=LONGEST as u64).contains(&period)) {
            return fail(
                "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".into(),
            );
        }
        if quota.is_some_and(|quota| quota > 0 && quota < SHORTEST) {
            return fail("CPU cfs quota can not be less than 1ms (i.e. 1000)".into());
        }
        let by_cpus = cpus.map(|cpus| (cpus / (ONE_CPU / PERIOD)).max(SHORTEST));
        let cpu = Cpu {
            shares: self.cpu_shares.filter(|&shares| shares != 0),
            quota: quota.or(by_cpus),
            period: period.or(by_cpus.map(|_| PERIOD as u64)),
            realtime_period: self.cpu_rt_period.filter(|&period| period != 0),
            realtime_runtime: self.cpu_rt_runtime.filter(|&time| time != 0),
            cpus: available(self.cpuset_cpus.as_deref(), &host.cpus, "CPUs", "cpuset cpus")?,
            mems: available(self.cpuset_mems.as_deref(), &host.nodes, "memory nodes", "cpuset mems")?,
            ..Cpu::default()
        };
        Ok(Some(cpu).filter(|cpu| *cpu != Cpu::default()))
    }
}

/// A set of what the host has.
fn available(asked: Option<&str>, host: &BTreeSet<u32>, what: &str, flag: &str) -> Result<Option<String>> {
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else { return Ok(None) };
    let set = quantity::set(asked).filter(|set| !set.is_empty());
    let set = set.ok_or_else(|| Failure::new(format!("invalid value {asked} for {flag}")))?;
    if !host.is_empty() && !set.is_subset(host) {
        let host: Vec<String> = host.iter().map(u32::to_string).collect();
        return Err(Failure::new(format!(
            "requested {what} are not available - requested {asked}, available: {}",
            host.join(",")
        )));
    }
    Ok(Some(asked.to_owned()))
}

/// The numbers of a disk.
fn numbers(path: &str) -> Result<(i64, i64)> {
    let stat = Path::new(path).metadata().context(|| format!("cannot look at {path}"))?;
    if !stat.file_type().is_block_device() {
        return Err(Failure::new(format!("invalid device: {path} is not a block device")));
    }
    let (major, minor) = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
    Ok((i64::from(major), i64::from(minor)))
}

/// `c 10:200 rwm`, `b 8:* r`, `a *:* rwm`
fn device_rule(text: &str) -> Result<DeviceRule, String> {
    let invalid = || format!("invalid device cgroup format '{text}'");
    let mut words = text.split(' ');
    let (Some(kind @ ("a" | "b" | "c")), Some(numbers), Some(access), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(invalid());
    };
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits.parse::<u32>().map(|number| Some(i64::from(number))).map_err(|_| invalid()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let is_access = matches!(access.len(), 1..=3) && access.bytes().all(|letter| b"rwm".contains(&letter));
    if !is_access {
        return Err(invalid());
    }
    Ok(DeviceRule {
        allow: true,
        kind: Some(kind.to_owned()),
        major: number(major)?,
        minor: number(minor)?,
        access: Some(access.to_owned()),
    })
}

#[cfg(test)]
#[path = "flags_tests.rs"]
mod tests;
