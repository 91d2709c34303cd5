//! Limits against the files and contents that each version takes.

use super::*;
use crate::bundle::{HugePageLimit, NetworkPriority, Pids, Weight};

fn resources(json: serde_json::Value) -> Resources {
    serde_json::from_value(json).unwrap()
}

fn v1_table(json: serde_json::Value) -> Vec<String> {
    v1::plans(&resources(json)).iter().flat_map(Plan::table).collect()
}

fn v2_table(json: serde_json::Value, present: &Present) -> Vec<String> {
    plans(&resources(json), present).unwrap().iter().flat_map(Plan::table).collect()
}

fn v2_lost(json: serde_json::Value) -> Vec<&'static str> {
    let plans = plans(&resources(json), &Present::default()).unwrap();
    plans.iter().flat_map(|plan| plan.lost.iter().map(|(what, _)| *what)).collect()
}

#[test]
fn both_versions_side_by_side() {
    use serde_json::json;
    let fresh = Present::default();
    // What is asked for, the files of v1, the files of v2.
    let table: Vec<(serde_json::Value, &[&str], &[&str])> = vec![
        (json!({}), &[], &[]),
        (json!({"memory": {}, "cpu": {}, "blockIO": {}}), &[], &[]),
        (json!({"memory": {"limit": 100}}), &["memory.limit_in_bytes 100"], &["memory.max 100"]),
        (
            json!({"memory": {"limit": 100, "swap": 150, "reservation": 50}}),
            &[
                "memory.limit_in_bytes 100",
                "memory.memsw.limit_in_bytes 150",
                "memory.soft_limit_in_bytes 50",
            ],
            &["memory.max 100", "memory.swap.max 50", "memory.low 50"],
        ),
        (
            json!({"memory": {"limit": 100, "swap": 100}}),
            &["memory.limit_in_bytes 100", "memory.memsw.limit_in_bytes 100"],
            &["memory.max 100", "memory.swap.max 0"],
        ),
        (
            json!({"memory": {"limit": 100, "swap": -1}}),
            &["memory.limit_in_bytes 100", "memory.memsw.limit_in_bytes -1"],
            &["memory.max 100", "memory.swap.max max"],
        ),
        (
            json!({"memory": {"limit": -1}}),
            &["memory.limit_in_bytes -1"],
            &["memory.max max", "memory.swap.max max"],
        ),
        (
            json!({"memory": {"swappiness": 10, "disableOOMKiller": true, "kernelTCP": 7}}),
            &["memory.kmem.tcp.limit_in_bytes 7", "memory.swappiness 10", "memory.oom_control 1"],
            &[],
        ),
        (json!({"memory": {"disableOOMKiller": false}}), &[], &[]),
        (json!({"cpu": {"shares": 1024}}), &["cpu.shares 1024"], &["cpu.weight 100"]),
        (json!({"cpu": {"shares": 0}}), &[], &[]),
        (
            json!({"cpu": {"quota": 150_000, "period": 100_000, "burst": 7}}),
            &["cpu.cfs_period_us 100000", "cpu.cfs_quota_us 150000", "cpu.cfs_burst_us 7"],
            &["cpu.max 150000 100000", "cpu.max.burst 7"],
        ),
        (json!({"cpu": {"quota": 50_000}}), &["cpu.cfs_quota_us 50000"], &["cpu.max 50000 100000"]),
        (json!({"cpu": {"quota": -1}}), &["cpu.cfs_quota_us -1"], &["cpu.max max 100000"]),
        (json!({"cpu": {"period": 50_000}}), &["cpu.cfs_period_us 50000"], &["cpu.max max 50000"]),
        (
            json!({"cpu": {"realtimePeriod": 1000, "realtimeRuntime": 500}}),
            &["cpu.rt_period_us 1000", "cpu.rt_runtime_us 500"],
            &[],
        ),
        (json!({"cpu": {"idle": 1}}), &["cpu.idle 1"], &["cpu.idle 1"]),
        (
            json!({"cpu": {"cpus": "0-1", "mems": "0"}}),
            &["cpuset.cpus 0-1", "cpuset.mems 0"],
            &["cpuset.cpus 0-1", "cpuset.mems 0"],
        ),
        (json!({"pids": {"limit": 5}}), &["pids.max 5"], &["pids.max 5"]),
        (json!({"pids": {"limit": -1}}), &["pids.max max"], &["pids.max max"]),
        (
            json!({"blockIO": {"weight": 10}}),
            &["blkio.weight 10 | blkio.bfq.weight 10"],
            &["io.bfq.weight 10 | io.weight default 1"],
        ),
        (
            json!({"blockIO": {"weight": 1000, "weightDevice": [{"major": 8, "minor": 0, "weight": 500}]}}),
            &[
                "blkio.weight 1000 | blkio.bfq.weight 1000",
                "blkio.weight_device 8:0 500 | blkio.bfq.weight_device 8:0 500",
            ],
            &["io.bfq.weight 1000 | io.weight default 10000", "io.bfq.weight 8:0 500 | io.weight 8:0 4950"],
        ),
        (
            json!({"blockIO": {
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1024}, {"major": 8, "minor": 16, "rate": 0}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}],
            }}),
            &[
                "blkio.throttle.read_bps_device 8:0 1024",
                "blkio.throttle.read_bps_device 8:16 0",
                "blkio.throttle.write_bps_device 8:0 2",
                "blkio.throttle.read_iops_device 8:0 3",
                "blkio.throttle.write_iops_device 8:0 4",
            ],
            &[
                "io.max 8:0 rbps=1024",
                "io.max 8:16 rbps=max",
                "io.max 8:0 wbps=2",
                "io.max 8:0 riops=3",
                "io.max 8:0 wiops=4",
            ],
        ),
        (
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]}),
            &["hugetlb.2MB.limit_in_bytes 4096", "hugetlb.2MB.rsvd.limit_in_bytes 4096"],
            &["hugetlb.2MB.max 4096", "hugetlb.2MB.rsvd.max 4096"],
        ),
        (
            json!({"network": {"classID": 1_048_577, "priorities": [{"name": "eth0", "priority": 5}]}}),
            &["net_cls.classid 1048577", "net_prio.ifpriomap eth0 5"],
            &[],
        ),
        (
            json!({"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}, "mlx4_0": {"hcaObjects": 1}}}),
            &["rdma.max mlx4_0 hca_object=1", "rdma.max mlx5_1 hca_handle=3 hca_object=10"],
            &["rdma.max mlx4_0 hca_object=1", "rdma.max mlx5_1 hca_handle=3 hca_object=10"],
        ),
    ];
    for (asked, of_v1, of_v2) in table {
        assert_eq!(v1_table(asked.clone()), of_v1, "v1 of {asked}");
        assert_eq!(v2_table(asked.clone(), &fresh), of_v2, "v2 of {asked}");
        written_to_files(&plans(&resources(asked), &fresh).unwrap());
    }
}

/// Writes plans to a directory that has all their files, and to one that has
/// only the last of each choice.
fn written_to_files(plans: &[Plan]) {
    for has_all in [true, false] {
        let dir = std::env::temp_dir().join(format!("runion-test-plan-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let writes: Vec<&Write> = plans.iter().flat_map(|plan| &plan.writes).collect();
        for write in &writes {
            let names = write.choices.iter().map(|(name, _)| name);
            let first = if has_all { 0 } else { write.choices.len() - 1 };
            names.skip(first).for_each(|name| std::fs::write(dir.join(name), "").unwrap());
        }
        for plan in plans {
            assert_eq!(plan.apply(&dir).unwrap().len(), plan.lost.len(), "{plan:?}");
        }
        for write in writes {
            let (name, _) = if has_all { write.choices.first() } else { write.choices.last() }.unwrap();
            let same = |other: &&(String, String)| other.0 == *name;
            let last =
                plans.iter().flat_map(|plan| &plan.writes).flat_map(|write| &write.choices).rfind(same);
            // Files of the kernel's take each write by itself; these keep its end.
            let held = std::fs::read_to_string(dir.join(name)).unwrap();
            assert!(held.starts_with(&last.unwrap().1), "{name}: {held}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn what_v2_has_not_is_lost_by_name() {
    use serde_json::json;
    assert_eq!(
        v2_lost(json!({"memory": {"swappiness": 1, "disableOOMKiller": true, "kernel": 1, "kernelTCP": 1}})),
        [
            "memory swappiness",
            "OOM killer's being off",
            "limit of the kernel's memory",
            "limit of TCP's memory"
        ]
    );
    assert_eq!(v2_lost(json!({"cpu": {"realtimeRuntime": 5}})), ["real-time runtime"]);
    assert_eq!(v2_lost(json!({"blockIO": {"leafWeight": 5}})), ["disk leaf weight"]);
    assert_eq!(v2_lost(json!({"network": {"classID": 5}})), ["class of packets"]);
    assert_eq!(v2_lost(json!({"memory": {"disableOOMKiller": false}})), [""; 0]);
}

#[test]
fn what_is_set_already_counts() {
    use serde_json::json;
    let present = Present { memory: Some(100), cpu: Some("20000 50000\n".into()) };
    assert_eq!(v2_table(json!({"cpu": {"period": 1000}}), &present), ["cpu.max 20000 1000"]);
    assert_eq!(v2_table(json!({"cpu": {"quota": 7000}}), &present), ["cpu.max 7000 50000"]);
    assert_eq!(v2_table(json!({"memory": {"swap": 150}}), &present), ["memory.swap.max 50"]);
    let swap = |present: Present| plans(&resources(json!({"memory": {"swap": 50}})), &present).unwrap_err();
    assert!(swap(present).to_string().contains("larger than memory limit"));
    assert!(
        swap(Present { memory: Some(-1), cpu: None }).to_string().contains("always set the memory limit")
    );
}

#[test]
fn weights_go_through_both_ends_and_the_usual() {
    // The formula's values by awk.
    let known = [
        (2, 1),
        (3, 2),
        (10, 4),
        (100, 17),
        (512, 59),
        (1024, 100),
        (2048, 174),
        (262_143, 10_000),
        (262_144, 10_000),
    ];
    for (shares, expected) in known {
        assert_eq!(weight(shares), expected, "{shares}");
    }
    assert_eq!((weight(0), weight(1), weight(u64::MAX)), (1, 1, 10_000));
}

#[test]
fn files_named_verbatim_stay_in_the_group() {
    use serde_json::json;
    let of = |name: &str| verbatim(&resources(json!({"unified": {name: "1"}})));
    let [(controller, write)] = of("memory.high").unwrap().try_into().unwrap();
    assert_eq!(
        (controller, write.choices),
        (Some(Controller::Memory), vec![("memory.high".into(), "1".into())])
    );
    assert_eq!(of("io.max").unwrap()[0].0, Some(Controller::Disks));
    assert_eq!(of("cgroup.max.depth").unwrap()[0].0, None);
    for bad in ["memory", "../memory.max", "a/b.c", "cgroup.procs", "memory."] {
        assert!(of(bad).is_err(), "{bad}");
    }
}

/// Files that already hold something take the new value whole.
#[test]
fn a_refused_value_is_tried_again_after_the_others() {
    // /proc/self/oom_score_adj refuses what is out of range, as limits do; a
    // directory of such files needs none of ours.
    let plan = Plan::new(Controller::Memory).write("test value", "oom_score_adj", Some(5000));
    let failure = plan.apply(std::path::Path::new("/proc/self")).unwrap_err().to_string();
    assert!(failure.contains("cannot set the test value to 5000 in oom_score_adj"), "{failure}");
    let plan = Plan::new(Controller::Memory).write("test value", "no.such", Some(1));
    let warnings = plan.apply(std::path::Path::new("/proc/self")).unwrap();
    assert_eq!(warnings, ["cannot set the test value: this kernel has no no.such"]);
}

#[test]
fn types_default_to_nothing() {
    // The table above is read from JSON; these are what the flags build.
    let resources = Resources {
        pids: Some(Pids::default()),
        hugepage_limits: vec![HugePageLimit::default()],
        network: Some(crate::bundle::Network {
            priorities: vec![NetworkPriority::default()],
            ..Default::default()
        }),
        block_io: Some(BlockIo { weight_device: vec![Weight::default()], ..BlockIo::default() }),
        ..Resources::default()
    };
    let asked: Vec<_> = v1::plans(&resources).iter().flat_map(Plan::asked).collect();
    assert_eq!(asked, ["limit of processes", "limit of huge pages", "priority of packets"]);
}
