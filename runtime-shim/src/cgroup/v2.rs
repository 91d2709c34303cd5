//! Limits as cgroup v2 takes them: other files, and other scales.
//!
//! Source: the kernel's admin-guide/cgroup-v2; for scales, the runtime-spec's
//! config-linux.md and what runc since 1.3.2 and crun since 1.23 make of it.

use super::controller::Controller;
use super::plan::{Plan, Write};
use super::v1;
use crate::bundle::{BlockIo, Cpu, Memory, Network, Resources, Throttle};
use crate::failure::{Failure, Result};

/// What is set already: what two of v2's files are told depends on it.
#[derive(Debug, Default)]
pub struct Present {
    /// memory.max; -1 is none.
    pub memory: Option<i64>,
    /// cpu.max
    pub cpu: Option<String>,
}

/// The kernel's, in microseconds.
const PERIOD: u64 = 100_000;

/// What the controllers are told, but for devices.
pub fn plans(resources: &Resources, present: &Present) -> Result<Vec<Plan>> {
    let mut plans = Vec::new();
    if let Some(limits) = &resources.memory {
        plans.push(memory(limits, present)?);
    }
    plans.extend(resources.cpu.as_ref().map(|limits| cpu(limits, present)));
    plans.extend(resources.cpu.as_ref().map(cpuset));
    plans.extend(resources.pids.as_ref().map(v1::pids));
    plans.extend(resources.block_io.as_ref().map(disks));
    plans.push(v1::huge_pages_in(&resources.hugepage_limits, "max"));
    plans.extend(resources.network.as_ref().map(network_class));
    plans.extend(resources.network.as_ref().map(network_priority));
    plans.push(rdma(resources));
    plans.retain(|plan| !plan.is_empty());
    Ok(plans)
}

const NOT_IN_V2: &str = "cgroup v2 does not have it";

fn memory(memory: &Memory, present: &Present) -> Result<Plan> {
    let swap = match memory.swap {
        None | Some(0) => None,
        Some(both) => Some(swap_alone(both, memory.limit.or(present.memory))?),
    };
    // Without a limit of memory, one of swap means nothing.
    let swap = swap.or((memory.limit == Some(-1) && memory.swap.is_none()).then_some(-1));
    Ok(Plan::new(Controller::Memory)
        .write("memory limit", "memory.max", memory.limit.map(amount))
        .write("limit of swap", "memory.swap.max", swap.map(amount))
        .write("memory reservation", "memory.low", memory.reservation.map(amount))
        .lose("memory swappiness", memory.swappiness.is_some(), NOT_IN_V2)
        .lose("OOM killer's being off", memory.disable_oom_killer == Some(true), NOT_IN_V2)
        .lose("limit of the kernel's memory", memory.kernel.is_some(), NOT_IN_V2)
        .lose("limit of TCP's memory", memory.kernel_tcp.is_some(), NOT_IN_V2))
}

/// The specification's swap is memory and swap together; v2's is swap alone.
fn swap_alone(both: i64, memory: Option<i64>) -> Result<i64> {
    match memory {
        _ if both < 0 => Ok(-1),
        Some(memory) if memory >= 0 && both >= memory => Ok(both - memory),
        Some(memory) if memory >= 0 => {
            Err(Failure::new("minimum memoryswap limit should be larger than memory limit, see usage"))
        }
        _ => {
            Err(Failure::new("you should always set the memory limit when using memoryswap limit, see usage"))
        }
    }
}

fn amount(bytes: i64) -> String {
    if bytes < 0 { "max".to_owned() } else { bytes.to_string() }
}

fn cpu(cpu: &Cpu, present: &Present) -> Plan {
    let quota = cpu.quota.filter(|&quota| quota != 0);
    let period = cpu.period.filter(|&period| period != 0);
    let is_limited = quota.is_some() || period.is_some();
    let max = is_limited.then(|| bandwidth(quota, period, present.cpu.as_deref()));
    let realtime = cpu.realtime_period.is_some_and(|period| period != 0)
        || cpu.realtime_runtime.is_some_and(|time| time != 0);
    Plan::new(Controller::Cpu)
        // An idle group has no weight to set: it comes last.
        .write("CPU shares", "cpu.weight", cpu.shares.filter(|&shares| shares != 0).map(weight))
        .write("CPU quota", "cpu.max", max)
        .write("CPU burst", "cpu.max.burst", cpu.burst)
        .write("CPU idleness", "cpu.idle", cpu.idle)
        .lose("real-time runtime", realtime, NOT_IN_V2)
}

/// `quota period`; what is not given stays as it is.
fn bandwidth(quota: Option<i64>, period: Option<u64>, present: Option<&str>) -> String {
    let mut words = present.unwrap_or_default().split_whitespace();
    let (present_quota, present_period) = (words.next(), words.next());
    let quota = match quota {
        Some(quota) if quota > 0 => quota.to_string(),
        Some(_) => "max".to_owned(),
        None => present_quota.unwrap_or("max").to_owned(),
    };
    let period = period.or_else(|| present_period?.parse().ok()).unwrap_or(PERIOD);
    format!("{quota} {period}")
}

/// A weight of v2 (1 to 10000, usually 100) for shares of v1 (2 to 262144,
/// usually 1024): a curve through both ends and the usual, on which
/// log10(weight) is a polynomial of log2(shares). The straight line of earlier
/// runtimes gave 39 for the usual.
///
/// Source: github.com/opencontainers/cgroups, ConvertCPUSharesToCgroupV2Value.
fn weight(shares: u64) -> u64 {
    const LEAST: u64 = 2;
    const MOST: u64 = 262_144;
    match shares {
        ..=LEAST => 1,
        MOST.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // What is whole but for the last bit is whole.
            (10_f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

fn cpuset(cpu: &Cpu) -> Plan {
    Plan::new(Controller::Cpuset)
        .write("set of CPUs", "cpuset.cpus", cpu.cpus.as_ref().filter(|cpus| !cpus.is_empty()))
        .write("set of memory nodes", "cpuset.mems", cpu.mems.as_ref().filter(|mems| !mems.is_empty()))
}

/// BFQ takes v1's weights (1 to 1000); io.weight has 1 to 10000.
fn disks(io: &BlockIo) -> Plan {
    let scaled = |weight: u16| 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
    let weight = io.weight.filter(|&weight| weight != 0);
    let mut plan = Plan::new(Controller::Disks).either(
        "disk weight",
        weight.map(|weight| {
            [("io.bfq.weight", weight.to_string()), ("io.weight", format!("default {}", scaled(weight)))]
        }),
    );
    for device in &io.weight_device {
        let disk = format!("{}:{}", device.major, device.minor);
        plan = plan.either(
            "weight of a disk",
            device.weight.map(|weight| {
                [
                    ("io.bfq.weight", format!("{disk} {weight}")),
                    ("io.weight", format!("{disk} {}", scaled(weight))),
                ]
            }),
        );
    }
    let rates: [(&'static str, &str, &[Throttle]); 4] = [
        ("read rate of a disk", "rbps", &io.throttle_read_bps_device),
        ("write rate of a disk", "wbps", &io.throttle_write_bps_device),
        ("read operations of a disk", "riops", &io.throttle_read_iops_device),
        ("write operations of a disk", "wiops", &io.throttle_write_iops_device),
    ];
    for (what, key, devices) in rates {
        for Throttle { major, minor, rate } in devices {
            let rate = if *rate == 0 { "max".to_owned() } else { rate.to_string() };
            plan = plan.write(what, "io.max", Some(format!("{major}:{minor} {key}={rate}")));
        }
    }
    let leaves =
        io.leaf_weight.is_some() || io.weight_device.iter().any(|device| device.leaf_weight.is_some());
    plan.lose("disk leaf weight", leaves, NOT_IN_V2)
}

fn network_class(network: &Network) -> Plan {
    Plan::new(Controller::NetworkClass).lose("class of packets", network.class_id.is_some(), NOT_IN_V2)
}

fn network_priority(network: &Network) -> Plan {
    Plan::new(Controller::NetworkPriority).lose(
        "priority of packets",
        !network.priorities.is_empty(),
        NOT_IN_V2,
    )
}

/// Both versions have the same file.
pub fn rdma(resources: &Resources) -> Plan {
    let plan = Plan::new(Controller::Rdma);
    resources.rdma.iter().fold(plan, |plan, (device, limits)| {
        let value = |key: &str| limits.get(key).and_then(serde_json::Value::as_u64);
        let words = [("hca_handle", value("hcaHandles")), ("hca_object", value("hcaObjects"))];
        let words = words.into_iter().filter_map(|(word, value)| Some(format!(" {word}={}", value?)));
        plan.write("limit of RDMA", "rdma.max", Some(format!("{device}{}", words.collect::<String>())))
    })
}

/// Files that are named as v2 names them, as they are, by their controllers; no
/// controller has those of every group.
///
/// # Errors
/// Names that lead out of the group, or that move processes into it.
pub fn verbatim(resources: &Resources) -> Result<Vec<(Option<Controller>, Write)>> {
    let plan = |(file, content): (&String, &String)| {
        let (prefix, rest) = file.split_once('.').unwrap_or_default();
        if rest.is_empty() || file.contains('/') || matches!(file.as_str(), "cgroup.procs" | "cgroup.threads")
        {
            return Err(Failure::new(format!("invalid file of cgroup v2: {file:?}"))
                .hint("a file in a group, such as memory.high"));
        }
        let choices = vec![(file.clone(), content.clone())];
        let write = Write { what: "unified resource", choices, presence: super::plan::Presence::Needed };
        let controller = Controller::of(prefix).filter(|controller| controller.enabled_as() == Some(prefix));
        Ok((controller, write))
    };
    resources.unified.iter().map(plan).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
