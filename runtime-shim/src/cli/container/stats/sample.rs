//! What a container has used at one moment.

use crate::cgroup::{Group, Stats};
use crate::container::Record;
use crate::settle;

/// In bytes, nanoseconds and processes; nothing where nobody counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Processors, since it began.
    pub cpu: u64,
    /// Memory now.
    pub memory: u64,
    /// Its limit, or the host's memory.
    pub limit: u64,
    /// Of its network, since it began.
    pub received: u64,
    /// The same.
    pub sent: u64,
    /// Of its disks.
    pub read: u64,
    /// The same.
    pub written: u64,
    /// Processes and threads now.
    pub pids: u64,
}

impl Sample {
    /// What is counted of one that runs; none if it has just ended.
    pub fn take(record: &Record) -> Option<Sample> {
        let pid = record.state.pid?;
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
        // Only now it is known whose the number was.
        if settle::since(pid) != record.state.pid_started {
            return None;
        }
        let group: Option<Group> =
            record.state.cgroup.clone().and_then(|group| serde_json::from_value(group).ok());
        let stats = group.and_then(|group| group.stats().ok()).unwrap_or_default();
        let (received, sent) = network(&table);
        Some(Sample { received, sent, ..Sample::of(&stats, host_memory()) })
    }

    fn of(stats: &Stats, host: u64) -> Sample {
        let memory = stats.memory.unwrap_or_default();
        let disks = stats.disks.unwrap_or_default();
        Sample {
            cpu: stats.cpu.unwrap_or_default().total,
            memory: memory.usage,
            limit: memory.limit.map_or(host, |limit| limit.min(host)),
            read: disks.read,
            written: disks.written,
            pids: stats.pids.unwrap_or_default().current,
            ..Sample::default()
        }
    }
}

/// Bytes received and sent by all interfaces but the loopback, of the kernel's
/// table (proc_pid_net(5)).
fn network(table: &str) -> (u64, u64) {
    let rows = table.lines().filter_map(|line| line.split_once(':'));
    rows.filter(|(name, _)| name.trim() != "lo").fold((0, 0), |(received, sent), (_, row)| {
        let mut numbers = row.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        (received + numbers.next().unwrap_or(0), sent + numbers.nth(7).unwrap_or(0))
    })
}

fn host_memory() -> u64 {
    let known = rustix::system::sysinfo();
    known.totalram as u64 * u64::from(known.mem_unit.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_summed_without_the_loopback() {
        let table = "Inter-|   Receive                                                |  Transmit\n \
                     face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n    \
                     lo:     999       9    0    0    0     0          0         0      999       9    0    0 0 0 0 0\n  \
                     eth0:    1000      10    0    0    0     0          0         0     2000      20    0    0 0 0 0 0\n  \
                     eth1:       1       1    0    0    0     0          0         0        2       1    0    0 0 0 0 0\n";
        assert_eq!(network(table), (1001, 2002));
        assert_eq!(network(""), (0, 0));
    }

    #[test]
    fn without_a_limit_it_is_the_hosts_memory() {
        assert_eq!(Sample::of(&Stats::default(), 7).limit, 7);
    }
}
