//! Docker's words, its sums, and its refusals.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Words {
    #[command(flatten)]
    all: AllLimits,
}

fn typed(words: &str) -> AllLimits {
    Words::try_parse_from(["run"].into_iter().chain(words.split_whitespace())).unwrap().all
}

fn host() -> Host {
    Host { cpus: [0, 1].into(), nodes: [0].into() }
}

fn made(words: &str) -> Resources {
    typed(words).limits.checked(&host(), Use::Make).unwrap()
}

fn refusal(words: &str) -> String {
    typed(words).limits.checked(&host(), Use::Make).unwrap_err().to_string()
}

#[test]
fn memory_has_twice_as_much_with_swap() {
    let memory = made("-m 512m").memory.unwrap();
    assert_eq!((memory.limit, memory.swap), (Some(512 << 20), Some(1 << 30)));
    let memory = made("-m 512m --memory-swap -1").memory.unwrap();
    assert_eq!(memory.swap, Some(-1));
    let memory = made("-m 1g --memory-swap=1g --memory-reservation 6m").memory.unwrap();
    assert_eq!((memory.swap, memory.reservation), (Some(1 << 30), Some(6 << 20)));
    let changed = typed("-m 512m").limits.checked(&host(), Use::Change).unwrap().memory.unwrap();
    assert_eq!(changed.swap, None);
}

#[test]
fn parts_of_cpus_are_a_quota() {
    let cpu = made("--cpus 1.5").cpu.unwrap();
    assert_eq!((cpu.quota, cpu.period), (Some(150_000), Some(100_000)));
    assert_eq!(made("--cpus .01").cpu.unwrap().quota, Some(1000));
    let cpu = made("--cpu-quota -1 --cpu-period 50000 -c 512 --cpuset-cpus 0-1 --cpuset-mems 0").cpu.unwrap();
    assert_eq!((cpu.quota, cpu.period, cpu.shares), (Some(-1), Some(50_000), Some(512)));
    assert_eq!((cpu.cpus.as_deref(), cpu.mems.as_deref()), (Some("0-1"), Some("0")));
}

#[test]
fn nothing_typed_is_nothing_limited() {
    assert_eq!(typed("").resources().unwrap(), Resources::default());
    assert_eq!(made("--cpus 0 -m 0 --blkio-weight 0"), Resources::default());
    assert_eq!(made("--pids-limit 0").pids, Some(Pids { limit: -1 }));
    assert_eq!(made("--pids-limit 7").pids, Some(Pids { limit: 7 }));
    let all = typed("--memory-swappiness -1").resources().unwrap();
    assert_eq!(all.memory, None);
}

#[test]
fn docker_s_refusals() {
    for (words, message) in [
        ("-m 5m", "minimum memory limit allowed is 6MB"),
        ("-m 1", "minimum memory limit allowed is 6MB"),
        ("-m 10m --memory-swap 9m", "minimum memoryswap limit should be larger than memory limit, see usage"),
        ("--memory-swap 9m", "you should always set the memory limit when using memoryswap limit, see usage"),
        ("--memory-reservation 1m", "minimum memory reservation allowed is 6MB"),
        (
            "-m 7m --memory-reservation 8m",
            "minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        ("--cpus 3", "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
        ("--cpus 0.001", "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
        ("--cpus 1 --cpu-period 1000", "conflicting options: Nano CPUs and CPU Period cannot both be set"),
        ("--cpus 1 --cpu-quota 1000", "conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        (
            "--cpu-period 999",
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        ("--cpu-quota 999", "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ("--cpuset-cpus x", "invalid value x for cpuset cpus"),
        ("--cpuset-cpus 0-2", "requested CPUs are not available - requested 0-2, available: 0,1"),
        ("--cpuset-mems 1", "requested memory nodes are not available - requested 1, available: 0"),
        ("--blkio-weight 5", "range of blkio weight is from 10 to 1000"),
    ] {
        let said = refusal(words);
        assert_eq!(said.lines().next().unwrap(), format!("runion: {message}"), "{words}");
    }
}

#[test]
fn what_cannot_be_changed_later_is_checked_too() {
    let said = typed("--memory-swappiness 101").resources().unwrap_err().to_string();
    assert_eq!(said, "runion: invalid value: 101. Valid memory swappiness range is 0-100");
    let said = typed("--device-read-bps /dev/null:1mb").resources().unwrap_err().to_string();
    assert_eq!(said, "runion: invalid device: /dev/null is not a block device");
    assert!(typed("--device-write-iops /dev/none:1").resources().is_err());
    assert_eq!(typed("--oom-kill-disable").cautions().len(), 1);
    assert_eq!(typed("--oom-kill-disable -m 10m").cautions().len(), 0);
    assert!(Words::try_parse_from(["run", "-m", "x"]).is_err());
}

#[test]
fn rules_for_devices() {
    let rule = device_rule("c 10:* rm").unwrap();
    assert_eq!((rule.allow, rule.major, rule.minor), (true, Some(10), None));
    for bad in ["", "c 1:3", "p 1:3 r", "c 1 r", "c 1:x r", "c 1:3 rr r", "c 1:3 x", "c 1:3 rwmr"] {
        assert_eq!(device_rule(bad), Err(format!("invalid device cgroup format '{bad}'")));
    }
}
