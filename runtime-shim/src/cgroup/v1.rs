//! Limits as cgroup v1 takes them.
//!
//! Source: the kernel's admin-guide/cgroup-v1, scheduler/sched-bwc.

use super::controller::Controller;
use super::plan::{Plan, Presence, Write};
use crate::bundle::{BlockIo, Cpu, HugePageLimit, Memory, Network, Pids, Resources, Throttle};

/// What the controllers are told, but for devices.
pub fn plans(resources: &Resources) -> Vec<Plan> {
    let mut plans = Vec::new();
    plans.extend(resources.memory.as_ref().map(memory));
    plans.extend(resources.cpu.as_ref().map(cpu));
    plans.extend(resources.cpu.as_ref().map(cpuset));
    plans.extend(resources.pids.as_ref().map(pids));
    plans.extend(resources.block_io.as_ref().map(disks));
    plans.push(huge_pages(&resources.hugepage_limits));
    plans.extend(resources.network.as_ref().map(network_class));
    plans.extend(resources.network.as_ref().map(network_priority));
    plans.push(super::v2::rdma(resources));
    plans.retain(|plan| !plan.is_empty());
    plans
}

fn memory(memory: &Memory) -> Plan {
    const KERNEL: &str = "kernels since 5.16 count the kernel's memory with all other";
    Plan::new(Controller::Memory)
        .write("memory limit", "memory.limit_in_bytes", memory.limit)
        .write("limit of memory and swap", "memory.memsw.limit_in_bytes", memory.swap)
        .write("memory reservation", "memory.soft_limit_in_bytes", memory.reservation)
        .write("limit of TCP's memory", "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp)
        .write("memory swappiness", "memory.swappiness", memory.swappiness)
        .write(
            "OOM killer's being off",
            "memory.oom_control",
            memory.disable_oom_killer.filter(|&is_off| is_off).map(|_| 1),
        )
        .lose("limit of the kernel's memory", memory.kernel.is_some(), KERNEL)
}

fn cpu(cpu: &Cpu) -> Plan {
    Plan::new(Controller::Cpu)
        .write("CPU shares", "cpu.shares", cpu.shares.filter(|&shares| shares != 0))
        .write("CPU period", "cpu.cfs_period_us", cpu.period.filter(|&period| period != 0))
        .write("CPU quota", "cpu.cfs_quota_us", cpu.quota.filter(|&quota| quota != 0))
        .write("CPU burst", "cpu.cfs_burst_us", cpu.burst)
        .write("real-time period", "cpu.rt_period_us", cpu.realtime_period.filter(|&period| period != 0))
        .write("real-time runtime", "cpu.rt_runtime_us", cpu.realtime_runtime.filter(|&time| time != 0))
        .write("CPU idleness", "cpu.idle", cpu.idle)
}

fn cpuset(cpu: &Cpu) -> Plan {
    Plan::new(Controller::Cpuset)
        .write("set of CPUs", "cpuset.cpus", cpu.cpus.as_ref().filter(|cpus| !cpus.is_empty()))
        .write("set of memory nodes", "cpuset.mems", cpu.mems.as_ref().filter(|mems| !mems.is_empty()))
}

/// Both versions have the same file.
pub fn pids(pids: &Pids) -> Plan {
    let limit = if pids.limit > 0 { pids.limit.to_string() } else { "max".to_owned() };
    Plan::new(Controller::Pids).write("limit of processes", "pids.max", Some(limit))
}

/// Kernels before 5.0 have the weights of CFQ, later ones those of BFQ.
fn disks(io: &BlockIo) -> Plan {
    let both =
        |old: &'static str, new: &'static str, content: String| [(old, content.clone()), (new, content)];
    let weight = io.weight.filter(|&weight| weight != 0);
    let mut plan = Plan::new(Controller::Disks)
        .either(
            "disk weight",
            weight.map(|weight| both("blkio.weight", "blkio.bfq.weight", weight.to_string())),
        )
        .write("disk leaf weight", "blkio.leaf_weight", io.leaf_weight.filter(|&weight| weight != 0));
    for device in &io.weight_device {
        let disk = format!("{}:{}", device.major, device.minor);
        plan = plan
            .either(
                "weight of a disk",
                device.weight.map(|weight| {
                    both("blkio.weight_device", "blkio.bfq.weight_device", format!("{disk} {weight}"))
                }),
            )
            .write(
                "leaf weight of a disk",
                "blkio.leaf_weight_device",
                device.leaf_weight.map(|weight| format!("{disk} {weight}")),
            );
    }
    let rates: [(&'static str, &str, &[Throttle]); 4] = [
        ("read rate of a disk", "read_bps", &io.throttle_read_bps_device),
        ("write rate of a disk", "write_bps", &io.throttle_write_bps_device),
        ("read operations of a disk", "read_iops", &io.throttle_read_iops_device),
        ("write operations of a disk", "write_iops", &io.throttle_write_iops_device),
    ];
    for (what, file, devices) in rates {
        for device in devices {
            let content = format!("{}:{} {}", device.major, device.minor, device.rate);
            plan = plan.write(what, &format!("blkio.throttle.{file}_device"), Some(content));
        }
    }
    plan
}

fn huge_pages(limits: &[HugePageLimit]) -> Plan {
    huge_pages_in(limits, "limit_in_bytes")
}

/// What is reserved counts on its own since kernel 5.7, and is bounded alike.
pub fn huge_pages_in(limits: &[HugePageLimit], file: &str) -> Plan {
    let mut plan = Plan::new(Controller::HugePages);
    for HugePageLimit { page_size, limit } in limits {
        plan = plan.write("limit of huge pages", &format!("hugetlb.{page_size}.{file}"), Some(limit));
        plan.writes.push(Write {
            what: "limit of reserved huge pages",
            choices: vec![(format!("hugetlb.{page_size}.rsvd.{file}"), limit.to_string())],
            presence: Presence::Extra,
        });
    }
    plan
}

fn network_class(network: &Network) -> Plan {
    Plan::new(Controller::NetworkClass).write("class of packets", "net_cls.classid", network.class_id)
}

fn network_priority(network: &Network) -> Plan {
    let plan = Plan::new(Controller::NetworkPriority);
    network.priorities.iter().fold(plan, |plan, entry| {
        let line = format!("{} {}", entry.name, entry.priority);
        plan.write("priority of packets", "net_prio.ifpriomap", Some(line))
    })
}
