//! What a group has used, in one shape for both versions.
//!
//! Memory is docker's: what counts against the limit without the files that
//! the kernel can forget at once. What a host does not count is absent.

use std::path::Path;

use serde::Serialize;

use super::controller::Controller;
use super::{Group, Place, file};
use crate::failure::{Context, Result};

/// Used so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Processors.
    pub cpu: Option<CpuUse>,
    /// Processors withheld for a quota.
    pub throttled: Option<Throttled>,
    /// Memory, now.
    pub memory: Option<MemoryUse>,
    /// Processes and threads, now.
    pub pids: Option<PidsUse>,
    /// Disks.
    pub disks: Option<DiskUse>,
}

/// In nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuUse {
    /// All of it.
    pub total: u64,
    /// In programs.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
}

/// Periods that a quota was counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Throttled {
    /// How many there were.
    pub periods: u64,
    /// In how many of them the quota was used up.
    pub throttled: u64,
    /// How long processes waited for the next, in nanoseconds.
    pub nanoseconds: u64,
}

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// Without files that can be forgotten at once.
    pub usage: u64,
    /// Absent where there is none.
    pub limit: Option<u64>,
}

/// How many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PidsUse {
    /// Now.
    pub current: u64,
    /// Absent where there is none.
    pub limit: Option<u64>,
}

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiskUse {
    /// Read.
    pub read: u64,
    /// Written.
    pub written: u64,
}

/// v1 says no limit as the largest number of bytes in whole pages.
const NO_LIMIT: u64 = 1 << 62;
/// Of cpuacct.stat: `USER_HZ` is 100 wherever Linux runs.
const NANOSECONDS_A_TICK: u64 = 10_000_000;

impl Group {
    /// What it has used.
    pub fn stats(&self) -> Result<Stats> {
        let place = |controller| self.place(controller);
        Ok(Stats {
            cpu: place(Controller::Accounting).and_then(cpu),
            throttled: place(Controller::Cpu).and_then(throttled),
            memory: place(Controller::Memory).and_then(memory),
            pids: place(Controller::Pids).and_then(pids),
            disks: place(Controller::Disks).and_then(disks),
        })
    }

    /// How many of its processes were killed for want of memory.
    pub fn oom_kills(&self) -> Result<u64> {
        let (dir, name) = match self.place(Controller::Memory) {
            Some(Place::V1(dir)) => (dir, "memory.oom_control"),
            Some(Place::V2(dir)) => (dir, "memory.events"),
            None => return Ok(0),
        };
        match file::read(dir, name) {
            Ok(text) => Ok(file::keyed(&text, "oom_kill").unwrap_or(0)),
            // No controller of memory in this group, or a group that is gone.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error).context(|| format!("cannot read {}/{name}", dir.display())),
        }
    }
}

fn cpu(place: Place<'_>) -> Option<CpuUse> {
    match place {
        Place::V1(dir) => {
            let whole = |name| file::number(dir, name).ok().flatten();
            let ticks = |key| {
                let text = file::read(dir, "cpuacct.stat").ok()?;
                file::keyed(&text, key)?.checked_mul(NANOSECONDS_A_TICK)
            };
            Some(CpuUse {
                total: whole("cpuacct.usage")?,
                user: whole("cpuacct.usage_user").or_else(|| ticks("user"))?,
                system: whole("cpuacct.usage_sys").or_else(|| ticks("system"))?,
            })
        }
        Place::V2(dir) => {
            let text = file::read(dir, "cpu.stat").ok()?;
            let nanoseconds = |key| file::keyed(&text, key)?.checked_mul(1000);
            Some(CpuUse {
                total: nanoseconds("usage_usec")?,
                user: nanoseconds("user_usec")?,
                system: nanoseconds("system_usec")?,
            })
        }
    }
}

fn throttled(place: Place<'_>) -> Option<Throttled> {
    let (dir, key, unit) = match place {
        Place::V1(dir) => (dir, "throttled_time", 1),
        Place::V2(dir) => (dir, "throttled_usec", 1000),
    };
    let text = file::read(dir, "cpu.stat").ok()?;
    Some(Throttled {
        periods: file::keyed(&text, "nr_periods")?,
        throttled: file::keyed(&text, "nr_throttled")?,
        nanoseconds: file::keyed(&text, key)?.checked_mul(unit)?,
    })
}

fn memory(place: Place<'_>) -> Option<MemoryUse> {
    let (dir, usage, limit, files) = match place {
        Place::V1(dir) => (dir, "memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
        Place::V2(dir) => (dir, "memory.current", "memory.max", "inactive_file"),
    };
    let usage = file::number(dir, usage).ok()??;
    let files = file::read(dir, "memory.stat").ok().and_then(|text| file::keyed(&text, files)).unwrap_or(0);
    let limit = file::number(dir, limit).ok()?.filter(|&limit| limit < NO_LIMIT);
    // The two are not counted at once, and can disagree by a little.
    Some(MemoryUse { usage: usage.checked_sub(files).unwrap_or(usage), limit })
}

fn pids(place: Place<'_>) -> Option<PidsUse> {
    let (Place::V1(dir) | Place::V2(dir)) = place;
    let current = file::number(dir, "pids.current").ok()??;
    Some(PidsUse { current, limit: file::number(dir, "pids.max").ok().flatten() })
}

fn disks(place: Place<'_>) -> Option<DiskUse> {
    match place {
        Place::V1(dir) => {
            let names = ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"];
            Some(disks_v1(&read_first(dir, &names)?))
        }
        Place::V2(dir) => Some(disks_v2(&file::read(dir, "io.stat").ok()?)),
    }
}

fn read_first(dir: &Path, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| file::read(dir, name).ok())
}

/// `8:0 Read 4096`, and last a `Total`.
fn disks_v1(text: &str) -> DiskUse {
    let mut sum = DiskUse::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().skip(1);
        let (Some(operation), Some(bytes)) = (words.next(), words.next()) else { continue };
        let bytes = bytes.parse().unwrap_or(0_u64);
        match operation {
            "Read" => sum.read = sum.read.saturating_add(bytes),
            "Write" => sum.written = sum.written.saturating_add(bytes),
            _ => {}
        }
    }
    sum
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 …`
fn disks_v2(text: &str) -> DiskUse {
    let mut sum = DiskUse::default();
    for (key, bytes) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
        let bytes = bytes.parse().unwrap_or(0_u64);
        match key {
            "rbytes" => sum.read = sum.read.saturating_add(bytes),
            "wbytes" => sum.written = sum.written.saturating_add(bytes),
            _ => {}
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group_of(
        files: &[(&str, &str)],
        version: fn(std::path::PathBuf) -> Group,
        name: &str,
    ) -> (Group, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(format!("runion-test-stats-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        files.iter().for_each(|(file, text)| std::fs::write(dir.join(file), text).unwrap());
        (version(dir.clone()), dir)
    }

    #[test]
    fn v2_is_read_from_its_own_files() {
        let files = [
            (
                "cpu.stat",
                "usage_usec 12\nuser_usec 8\nsystem_usec 4\nnr_periods 5\nnr_throttled 2\nthrottled_usec 70\n",
            ),
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 1\ninactive_file 400\n"),
            ("memory.events", "oom 2\noom_kill 1\n"),
            ("pids.current", "3\n"),
            ("pids.max", "9\n"),
            (
                "io.stat",
                "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=1\n",
            ),
        ];
        let (group, dir) = group_of(&files, |dir| Group { v2: Some(dir), ..Group::default() }, "v2");
        let stats = group.stats().unwrap();
        assert_eq!(stats.cpu, Some(CpuUse { total: 12_000, user: 8000, system: 4000 }));
        assert_eq!(stats.throttled, Some(Throttled { periods: 5, throttled: 2, nanoseconds: 70_000 }));
        assert_eq!(stats.memory, Some(MemoryUse { usage: 600, limit: None }));
        assert_eq!(stats.pids, Some(PidsUse { current: 3, limit: Some(9) }));
        assert_eq!(stats.disks, Some(DiskUse { read: 11, written: 22 }));
        assert_eq!(group.oom_kills().unwrap(), 1);
        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(group.stats().unwrap(), Stats::default());
        assert_eq!(group.oom_kills().unwrap(), 0);
    }

    #[test]
    fn v1_s_disks_are_summed_by_operation() {
        let text = "8:0 Read 4096\n8:0 Write 100\n8:0 Sync 1\n8:0 Total 4196\n8:16 Read 1\nTotal 4197\n";
        assert_eq!(disks_v1(text), DiskUse { read: 4097, written: 100 });
    }
}
