//! Limits as the kernel keeps them: real groups, and processes that break them.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Pid;

use super::*;
use crate::bundle::{Cpu, DeviceRule, HugePageLimit, Memory, Pids};

/// A group for one test, gone with it whatever happens.
struct Guard(Group);

impl Drop for Guard {
    fn drop(&mut self) {
        let ended = self.0.kill_all().and_then(|()| self.0.remove());
        if let Err(failure) = ended {
            eprintln!("{} stays: {failure}", self.0.path().display());
        }
    }
}

fn path(test: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // Huge pages apart: what a parent gives on would keep the top from taking it back.
    let parent = if test == "huge" { "runion-test-huge" } else { "runion-test" };
    PathBuf::from(format!("/{parent}-{}/{test}-{count}", std::process::id()))
}

/// A group with these limits, or `None` with the reason on a host that cannot.
fn group(test: &str, controller: Controller, resources: &Resources) -> Option<Guard> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: not root");
        return None;
    }
    let (group, warnings) = Group::create(&path(test), resources).unwrap();
    let guard = Guard(group);
    let in_v2 = guard.0.v2.as_ref().and_then(|dir| file::read(dir, "cgroup.controllers").ok());
    let in_v2 = in_v2.zip(controller.enabled_as()).is_some_and(|(text, name)| file::lists(&text, name));
    let is_core = guard.0.v2.is_some() && controller.enabled_as().is_none();
    if !guard.0.v1.contains_key(&controller) && !in_v2 && !is_core {
        println!("skipped: this host has no controller {}: {warnings:?}", controller.name());
        return None;
    }
    assert_eq!(warnings, [""; 0]);
    Some(guard)
}

/// A shell line that begins once it is in the group.
fn begin(group: &Group, line: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("read go; {line}")]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for dir in group.dirs() {
        file::write(dir, "cgroup.procs", &child.id().to_string()).unwrap();
    }
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    child
}

fn run(group: &Group, line: &str) -> Output {
    begin(group, line).wait_with_output().unwrap()
}

fn eventually(what: &str, so: impl Fn() -> bool) {
    assert!(file::wait(Duration::from_secs(8), || Ok::<_, ()>(so())).unwrap(), "never: {what}");
}

fn read(group: &Group, controller: Controller, name: &str) -> String {
    let (Place::V1(dir) | Place::V2(dir)) = group.place(controller).unwrap();
    file::read(dir, name).unwrap().trim().to_owned()
}

fn memory(limit: i64, swap: i64) -> Resources {
    let memory = Memory { limit: Some(limit), swap: Some(swap), ..Memory::default() };
    Resources { memory: Some(memory), ..Resources::default() }
}

const MIB: i64 = 1 << 20;

#[test]
fn who_takes_too_much_memory_is_killed_and_counted() {
    let Some(guard) = group("memory", Controller::Memory, &memory(16 * MIB, 16 * MIB)) else { return };
    let group = &guard.0;
    assert_eq!(group.oom_kills().unwrap(), 0);
    let output = run(group, "exec perl -e '$all = q(x) x (256 << 20)'");
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
    assert_eq!(group.oom_kills().unwrap(), 1);
    let stats = group.stats().unwrap();
    assert_eq!(stats.memory.unwrap().limit, Some(16 << 20));
    assert!(stats.cpu.unwrap().total > 0);
}

#[test]
fn limits_of_memory_are_raised_and_lowered() {
    let Some(guard) = group("raise", Controller::Memory, &memory(32 * MIB, 64 * MIB)) else { return };
    let group = &guard.0;
    let limit = || group.stats().unwrap().memory.unwrap().limit.unwrap() as i64;
    for (memory_limit, swap) in
        [(128 * MIB, 256 * MIB), (16 * MIB, 16 * MIB), (64 * MIB, -1), (8 * MIB, 9 * MIB)]
    {
        assert_eq!(group.update(&memory(memory_limit, swap)).unwrap(), [""; 0]);
        assert_eq!(limit(), memory_limit);
        if swap > 0 && group.v1.contains_key(&Controller::Memory) {
            assert_eq!(read(group, Controller::Memory, "memory.memsw.limit_in_bytes"), swap.to_string());
        }
    }
    // What is not mentioned stays.
    assert_eq!(group.update(&Resources::default()).unwrap(), [""; 0]);
    assert_eq!(limit(), 8 * MIB);
    // Values that cannot be are errors, not warnings.
    if group.v1.contains_key(&Controller::Memory) {
        let more = Memory { limit: Some(10 * MIB), ..Memory::default() };
        let failure = group.update(&Resources { memory: Some(more), ..Resources::default() }).unwrap_err();
        assert!(failure.to_string().contains("hint: memory limit should be smaller"), "{failure}");
    }
}

#[test]
fn processes_are_no_more_than_allowed() {
    let resources = Resources { pids: Some(Pids { limit: 3 }), ..Resources::default() };
    let Some(guard) = group("pids", Controller::Pids, &resources) else { return };
    let output =
        run(&guard.0, "exec >/dev/null; sleep 9 2>&1 & sleep 9 2>&1 & sleep 9 2>&1 & sleep 9 2>&1 &");
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(said.contains("fork"), "{output:?}");
    assert_eq!(guard.0.stats().unwrap().pids.unwrap().limit, Some(3));
    assert!(!guard.0.pids().unwrap().is_empty());
    guard.0.kill_all().unwrap();
    assert_eq!(guard.0.pids().unwrap(), []);
    // The dead are counted until they are reaped.
    eventually("no processes", || guard.0.stats().unwrap().pids.unwrap().current == 0);
}

#[test]
fn a_quota_of_cpus_throttles() {
    let cpu = Cpu { quota: Some(5000), period: Some(50_000), shares: Some(512), ..Cpu::default() };
    let resources = Resources { cpu: Some(cpu), ..Resources::default() };
    let Some(guard) = group("cpu", Controller::Cpu, &resources) else { return };
    let mut child = begin(&guard.0, "while :; do :; done");
    eventually("throttled", || guard.0.stats().unwrap().throttled.unwrap().throttled > 1);
    // Some kernels add the time up when it is over.
    eventually("for some time", || guard.0.stats().unwrap().throttled.unwrap().nanoseconds > 0);
    guard.0.kill_all().unwrap();
    child.wait().unwrap();
    // A quota may not exceed what a shorter period has room for, either way.
    for (quota, period) in [(200_000, 1_000_000), (1000, 1000), (-1, 100_000)] {
        let cpu = Cpu { quota: Some(quota), period: Some(period), ..Cpu::default() };
        let update = guard.0.update(&Resources { cpu: Some(cpu), ..Resources::default() });
        assert_eq!(update.unwrap(), [""; 0], "{quota} {period}");
    }
}

#[test]
fn only_the_cpus_of_the_set_are_used() {
    let of = |cpus: &str| {
        let cpu = Cpu { cpus: Some(cpus.into()), mems: Some("0".into()), ..Cpu::default() };
        Resources { cpu: Some(cpu), ..Resources::default() }
    };
    let Some(guard) = group("cpuset", Controller::Cpuset, &of("0")) else { return };
    let output = run(&guard.0, "grep -E '(Cpus|Mems)_allowed_list' /proc/self/status");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>(),
        ["Cpus_allowed_list:", "0", "Mems_allowed_list:", "0"]
    );
    let failure = guard.0.update(&of("4000")).unwrap_err().to_string();
    assert!(failure.contains("cannot set the set of CPUs to 4000 in cpuset.cpus"), "{failure}");
    // Without a set, it is the parent's.
    let Some(guard) = group("cpuset", Controller::Cpuset, &Resources::default()) else { return };
    assert!(run(&guard.0, "true").status.success());
}

/// Opens each of /dev/null (always allowed) and /dev/fuse.
const OPEN_DEVICES: &str =
    "cat </dev/null && echo null; cat /dev/zero | head -c 1 | wc -c; : </dev/fuse && echo fuse";

fn fuse_may_be_opened(group: &Group) -> bool {
    let output = run(group, OPEN_DEVICES);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("null\n1\n"), "{output:?}");
    let denied = String::from_utf8_lossy(&output.stderr).contains("not permitted");
    assert_ne!(said.ends_with("fuse\n"), denied, "{output:?}");
    !denied
}

fn devices_are_denied_and_allowed(group: &Group) {
    if std::fs::File::open("/dev/fuse").is_err() {
        println!("skipped: no /dev/fuse");
        return;
    }
    assert!(!fuse_may_be_opened(group));
    let rule = |allow| DeviceRule {
        allow,
        kind: Some("c".into()),
        major: Some(10),
        minor: Some(229),
        access: Some("rw".into()),
    };
    let all = |allow| DeviceRule { allow, ..DeviceRule::default() };
    for (devices, may) in [
        (vec![all(false), rule(true)], true),
        (vec![all(true)], true),
        (vec![all(true), rule(false)], false),
        (vec![rule(true), all(false)], false),
    ] {
        let resources = Resources { devices, ..Resources::default() };
        assert_eq!(group.update(&resources).unwrap(), [""; 0]);
        assert_eq!(fuse_may_be_opened(group), may, "{:?}", resources.devices);
    }
}

#[test]
fn devices_are_limited_by_lists() {
    let Some(guard) = group("devices", Controller::Devices, &Resources::default()) else { return };
    if !guard.0.v1.contains_key(&Controller::Devices) {
        println!("skipped: no controller devices of cgroup v1");
        return;
    }
    devices_are_denied_and_allowed(&guard.0);
}

#[test]
fn devices_are_limited_by_a_program() {
    let Some(mut guard) = group("filter", Controller::Systemd, &Resources::default()) else { return };
    // As on a host where v1 has none; the lists then allow what they do.
    if let Some(dir) = guard.0.v1.remove(&Controller::Devices) {
        directory::remove(&dir, 2).unwrap();
    }
    if guard.0.v2.is_none() {
        println!("skipped: no cgroup v2");
        return;
    }
    let none = DeviceRule::default();
    let warnings = guard.0.update(&Resources { devices: vec![none], ..Resources::default() }).unwrap();
    if warnings.iter().any(|warning| warning.contains("BPF")) {
        println!("skipped: {warnings:?}");
        return;
    }
    devices_are_denied_and_allowed(&guard.0);
    // One program at a time, however often rules change.
    let group = std::fs::File::open(guard.0.v2.as_ref().unwrap()).unwrap();
    assert_eq!(crate::sys::bpf::device_filters(&group).unwrap().len(), 1);
}

fn stop_and_go_on(group: &Group) {
    let count = std::env::temp_dir().join(format!("runion-test-count-{}", std::process::id()));
    let line = format!("while :; do count=$((count + 1)); echo $count >{}; done", count.display());
    let mut child = begin(group, &line);
    let counted = || std::fs::read_to_string(&count).unwrap_or_default();
    let goes_on = |before: &str| !counted().is_empty() && counted() != before;
    eventually("counting", || goes_on(""));
    assert!(!group.is_paused().unwrap());
    group.pause().unwrap();
    assert!(group.is_paused().unwrap());
    let before = counted();
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(counted(), before);
    group.resume().unwrap();
    assert!(!group.is_paused().unwrap());
    eventually("counting on", || goes_on(&before));
    // Who is stopped can be killed.
    group.pause().unwrap();
    group.kill_all().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    group.resume().unwrap();
    std::fs::remove_file(&count).unwrap();
}

#[test]
fn processes_are_stopped_and_go_on() {
    let Some(mut guard) = group("freezer", Controller::Freezer, &Resources::default()) else { return };
    stop_and_go_on(&guard.0);
    if guard.0.v2.is_some()
        && let Some(dir) = guard.0.v1.remove(&Controller::Freezer)
    {
        directory::remove(&dir, 2).unwrap();
        stop_and_go_on(&guard.0);
    }
}

/// Forks as fast as it may, for as long as it lives.
fn storm(group: &Group) -> Child {
    let child = begin(group, "exec perl -e 'fork while 1'");
    eventually("a storm", || group.pids().is_ok_and(|pids| pids.len() > 20));
    child
}

#[test]
fn a_storm_of_forks_is_killed_to_the_last() {
    let resources = Resources { pids: Some(Pids { limit: 40 }), ..Resources::default() };
    let Some(mut guard) = group("storm", Controller::Pids, &resources) else { return };
    if Command::new("perl").arg("-v").stdout(Stdio::null()).status().is_err() {
        println!("skipped: no perl");
        return;
    }
    let mut child = storm(&guard.0);
    guard.0.kill_all().unwrap();
    child.wait().unwrap();
    // And without cgroup.kill, as with v1 alone.
    if !guard.0.v1.is_empty()
        && let Some(dir) = guard.0.v2.take()
    {
        directory::remove(&dir, 2).unwrap();
        let mut child = storm(&guard.0);
        guard.0.kill_all().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(guard.0.pids().unwrap(), []);
}

#[test]
fn what_a_crash_left_is_found_by_its_path_and_gives_way() {
    let Some(guard) = group("crash", Controller::Pids, &memory(16 * MIB, 16 * MIB)) else { return };
    let path = guard.0.path();
    // Recorded and read again, it is the same.
    let recorded: Group = serde_json::from_str(&serde_json::to_string(&guard.0).unwrap()).unwrap();
    assert_eq!(recorded, guard.0);
    let found = Group::at(&path).unwrap().unwrap();
    assert!(found.dirs().is_superset(&guard.0.dirs()), "{found:?}");

    let mut child = begin(&guard.0, "exec sleep 9");
    let failure = Group::create(&path, &Resources::default()).unwrap_err().to_string();
    assert!(failure.contains("hint: processes are in a group of that name"), "{failure}");
    found.kill_all().unwrap();
    child.wait().unwrap();
    // Its limits do not come back with its name.
    let (again, _) = Group::create(&path, &Resources::default()).unwrap();
    assert_eq!(again.stats().unwrap().memory.and_then(|memory| memory.limit), None);
    again.remove().unwrap();
    again.remove().unwrap();
    assert_eq!(Group::at(&path).unwrap(), None);
    assert_eq!(again.pids().unwrap(), []);
}

#[test]
fn groups_below_are_counted_killed_and_removed() {
    let Some(guard) = group("below", Controller::Pids, &Resources::default()) else { return };
    for dir in guard.0.dirs() {
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        if guard.0.v1.get(&Controller::Cpuset).is_some_and(|cpuset| cpuset == dir) {
            inherit_sets(&dir.join("a")).unwrap();
            inherit_sets(&dir.join("a/b")).unwrap();
        }
    }
    let mut child = begin(&guard.0, "exec sleep 9");
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    for dir in guard.0.dirs() {
        file::write(&dir.join("a/b"), "cgroup.procs", &child.id().to_string()).unwrap();
    }
    assert_eq!(guard.0.pids().unwrap(), [pid]);
    guard.0.kill_all().unwrap();
    child.wait().unwrap();
    let dirs: Vec<PathBuf> = guard.0.dirs().into_iter().map(Path::to_owned).collect();
    guard.0.remove().unwrap();
    assert!(dirs.iter().all(|dir| !dir.exists()));
}

#[test]
fn what_this_host_lacks_is_told_and_what_nobody_asked_for_is_not() {
    let asked = Resources {
        network: Some(crate::bundle::Network { class_id: Some(1), ..Default::default() }),
        unified: [("memory.high".to_owned(), "1".to_owned())].into(),
        ..memory(16 * MIB, 16 * MIB)
    };
    let nothing = Hierarchy::default();
    let (group, refusals) = Group::make(&nothing, "runion-test/x".into(), &BTreeSet::new()).unwrap();
    assert!(group.is_empty());
    let warnings = limit::apply(&group, &asked, &refusals, limit::When::Later).unwrap();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(warnings[0].starts_with("cannot set the memory limit: "), "{warnings:?}");
    let warnings = limit::apply(&group, &Resources::default(), &refusals, limit::When::Later).unwrap();
    assert_eq!(warnings, [""; 0]);
    // A group that is nowhere holds nobody, and takes everybody.
    let ways_in = group.ways_in().unwrap();
    assert!(ways_in.first.is_empty() && ways_in.second.is_none());
    group.kill_all().unwrap();
    assert!(group.pause().is_err());
}

/// The topmost group of v2, where this machine has `hugetlb` there; its giving
/// it on is for one test at a time, and ends with it.
struct HugePages {
    top: PathBuf,
    is_ours: bool,
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl HugePages {
    fn given() -> Option<HugePages> {
        static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let top = Hierarchy::find().unwrap().v2?.top;
        let has = |name: &str| file::read(&top, name).is_ok_and(|text| file::lists(&text, "hugetlb"));
        let is_ours = has("cgroup.controllers") && !has("cgroup.subtree_control");
        has("cgroup.controllers").then_some(HugePages { top, is_ours, _alone: alone })
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if self.is_ours {
            // A group of somebody else's may need it by now; then it stays.
            file::write(&self.top, "cgroup.subtree_control", "-hugetlb").unwrap_or_default();
        }
    }
}

fn huge_pages() -> Resources {
    let limit = HugePageLimit { page_size: "2MB".into(), limit: 4 << 20 };
    Resources { hugepage_limits: vec![limit], ..Resources::default() }
}

#[test]
fn controllers_of_v2_are_enabled_on_the_way() {
    let _given = HugePages::given();
    let Some(guard) = group("huge", Controller::HugePages, &huge_pages()) else { return };
    let file = match guard.0.place(Controller::HugePages).unwrap() {
        Place::V1(_) => "hugetlb.2MB.limit_in_bytes",
        Place::V2(_) => "hugetlb.2MB.max",
    };
    assert_eq!(read(&guard.0, Controller::HugePages, file), (4 << 20).to_string());
}

/// As a container with a cgroup namespace sees itself: at the top, and in the way.
#[test]
fn processes_of_the_caller_s_own_group_give_way() {
    let Some(given) = HugePages::given().filter(|_| rustix::process::geteuid().is_root()) else {
        println!("skipped: no root, or no hugetlb in cgroup v2");
        return;
    };
    file::write(&given.top, "cgroup.subtree_control", "+hugetlb").unwrap();
    let group = given.top.join(format!("runion-test-own-{}", std::process::id()));
    std::fs::create_dir(&group).unwrap();
    let script = format!(
        "echo $$ > {group}/cgroup.procs && exec unshare --cgroup --mount --propagation private sh -c \
         'umount {top} && mount -t cgroup2 none {top} && exec {program} --exact {test} --ignored --nocapture'",
        group = group.display(),
        top = given.top.display(),
        program = std::env::current_exe().unwrap().display(),
        test = "cgroup::kernel_tests::in_its_own_group",
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let groups = directory::tree(&group).unwrap();
    directory::remove(&group, 1).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
    assert_eq!(groups, [group.join("runion-caller"), group]);
}

/// The part of the test above that runs in that group.
#[test]
#[ignore = "run by the test above, in a group of its own"]
fn in_its_own_group() {
    // A process that is nobody's to kill is in the way as well.
    let mut other = Command::new("sleep").arg("9").spawn().unwrap();
    let (group, warnings) = Group::create(&path("huge"), &huge_pages()).unwrap();
    let guard = Guard(group);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(read(&guard.0, Controller::HugePages, "hugetlb.2MB.max"), (4 << 20).to_string());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn groups_of_threads_hide_nobody() {
    let Some(guard) = group("threads", Controller::Systemd, &Resources::default()) else { return };
    let Some(dir) = guard.0.v2.clone() else {
        println!("skipped: no cgroup v2");
        return;
    };
    let mut child = begin(&guard.0, "exec sleep 9");
    std::fs::create_dir(dir.join("below")).unwrap();
    file::write(&dir.join("below"), "cgroup.type", "threaded").unwrap();
    file::write(&dir.join("below"), "cgroup.threads", &child.id().to_string()).unwrap();
    assert!(file::read(&dir.join("below"), "cgroup.procs").is_err());
    assert_eq!(guard.0.pids().unwrap(), [Pid::from_raw(child.id() as i32).unwrap()]);
    guard.0.kill_all().unwrap();
    child.wait().unwrap();
}

/// As whom the test below is run again.
const USER: &str = "48767";

#[test]
fn a_user_has_what_was_delegated_to_him() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: not root");
        return;
    }
    let name = format!("runion-test-delegated-{}", std::process::id());
    let hierarchy = Hierarchy::find().unwrap();
    let v1 = |controller| hierarchy.v1.iter().find(move |v1| v1.controllers.contains(&controller));
    let tops = [v1(Controller::Pids), v1(Controller::Freezer)].map(|v1| v1.map(|v1| v1.mounted.top.clone()));
    let tops: Vec<PathBuf> =
        tops.into_iter().flatten().chain(hierarchy.v2.as_ref().map(|v2| v2.top.clone())).collect();
    if tops.len() < 3 {
        println!("skipped: no cgroup v1 with v2 beside it");
        return;
    }
    let mut script = String::new();
    for dir in tops.iter().map(|top| top.join(&name)) {
        std::fs::create_dir(&dir).unwrap();
        let dir = dir.display();
        script
            .push_str(&format!("chown {USER} {dir} {dir}/cgroup.procs && echo $$ > {dir}/cgroup.procs && "));
    }
    let program = std::env::current_exe().unwrap();
    let test = "cgroup::kernel_tests::in_a_group_that_was_delegated";
    script.push_str(&format!(
        "exec setpriv --reuid {USER} --regid {USER} --clear-groups {} --exact {test} --ignored --nocapture",
        program.display()
    ));
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    for dir in tops.iter().map(|top| top.join(&name)) {
        std::fs::remove_dir(&dir).unwrap();
    }
    let said = String::from_utf8_lossy(&output.stdout);
    if String::from_utf8_lossy(&output.stderr).contains("Permission denied") && said.is_empty() {
        println!("skipped: a user may not read {}", program.display());
        return;
    }
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

/// The part of the test above that its user runs.
#[test]
#[ignore = "run by the test above, in groups that were delegated"]
fn in_a_group_that_was_delegated() {
    let resources = Resources { pids: Some(Pids { limit: 5 }), ..memory(16 * MIB, 16 * MIB) };
    let (group, warnings) = Group::create(&path("user"), &resources).unwrap();
    let guard = Guard(group);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("cannot set the memory limit: no group can be made in "), "{warnings:?}");
    assert!(warnings[0].ends_with("; without root, limits take cgroup v2"), "{warnings:?}");
    assert!(!guard.0.v1.contains_key(&Controller::Memory));
    assert!(guard.0.dirs().iter().all(|dir| dir.to_string_lossy().contains("/runion-test-delegated-")));
    assert_eq!(read(&guard.0, Controller::Pids, "pids.max"), "5");
    let mut child = begin(&guard.0, "exec sleep 9");
    assert_eq!(guard.0.pids().unwrap().len(), 1);
    assert_eq!(Group::at(&guard.0.path()).unwrap().as_ref(), Some(&guard.0));
    guard.0.pause().unwrap();
    guard.0.kill_all().unwrap();
    child.wait().unwrap();
}
