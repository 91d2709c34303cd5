//! The same config.json given to runc and crun: their groups hold what ours do.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::*;

/// crun refuses hosts with both versions: it is shown v1 alone.
const WITHOUT_V2: &str =
    "! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; exec \"$@\"";

/// A bundle whose process is never started, and the groups it leaves.
struct Bundle {
    dir: PathBuf,
    runtime: &'static str,
    path: PathBuf,
}

impl Bundle {
    fn new(runtime: &'static str, resources: &Value) -> Bundle {
        let id = std::process::id();
        let dir = PathBuf::from(format!("/var/tmp/runion-test-oracle-{runtime}-{id}"));
        let path = PathBuf::from(format!("/runion-test-{runtime}-{id}/theirs"));
        for name in ["bin", "dev", "proc"] {
            fs::create_dir_all(dir.join("rootfs").join(name)).unwrap();
        }
        fs::copy("/bin/busybox", dir.join("rootfs/bin/true")).unwrap();
        let namespaces = ["pid", "mount", "ipc", "uts"].map(|kind| json!({"type": kind}));
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": namespaces, "cgroupsPath": path, "resources": resources},
        });
        fs::write(dir.join("config.json"), config.to_string()).unwrap();
        Bundle { dir, runtime, path }
    }

    fn call(&self, words: &[&str]) -> std::process::Output {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg(if self.runtime == "crun" { WITHOUT_V2 } else { "exec \"$@\"" });
        command.args(["sh", self.runtime, "--root"]).arg(self.dir.join("state"));
        command.args(words).arg(format!("runion-test-{}", std::process::id()));
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(Stdio::null());
        // What is created inherits stderr and keeps it: it is no pipe.
        let said = self.dir.join("said");
        command.stderr(fs::File::create(&said).unwrap());
        let mut output = command.output().unwrap();
        output.stderr = fs::read(&said).unwrap();
        output
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.call(&["delete", "--force"]);
        // They leave the parent.
        if let Some(group) = Group::at(self.path.parent().unwrap()).unwrap() {
            group.kill_all().and_then(|()| group.remove()).unwrap();
        }
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

const FILES: [(Controller, &str); 20] = [
    (Controller::Memory, "memory.limit_in_bytes"),
    (Controller::Memory, "memory.memsw.limit_in_bytes"),
    (Controller::Memory, "memory.soft_limit_in_bytes"),
    (Controller::Memory, "memory.swappiness"),
    (Controller::Memory, "memory.oom_control"),
    (Controller::Cpu, "cpu.shares"),
    (Controller::Cpu, "cpu.cfs_quota_us"),
    (Controller::Cpu, "cpu.cfs_period_us"),
    (Controller::Cpu, "cpu.rt_period_us"),
    (Controller::Cpu, "cpu.rt_runtime_us"),
    (Controller::Cpuset, "cpuset.cpus"),
    (Controller::Cpuset, "cpuset.mems"),
    (Controller::Pids, "pids.max"),
    (Controller::Disks, "blkio.bfq.weight"),
    (Controller::Disks, "blkio.bfq.weight_device"),
    (Controller::Disks, "blkio.throttle.read_bps_device"),
    (Controller::Disks, "blkio.throttle.write_bps_device"),
    (Controller::Disks, "blkio.throttle.read_iops_device"),
    (Controller::Disks, "blkio.throttle.write_iops_device"),
    (Controller::Devices, "devices.list"),
];

/// `file: content`, with lines in order.
fn contents(group: &Group) -> Vec<String> {
    let content = |&(controller, name): &(Controller, &str)| {
        let text = file::read(group.v1.get(&controller)?, name).ok()?;
        let mut lines: Vec<&str> = text.lines().filter(|line| !is_other_s_choice(line)).collect();
        lines.sort_unstable();
        Some(format!("{name}: {}", lines.join("; ")))
    };
    FILES.iter().filter_map(content).collect()
}

/// Of the devices that every container has, docker and crun give the console,
/// and runc and crun network tunnels; ours are docker's.
fn is_other_s_choice(line: &str) -> bool {
    ["c 5:1 ", "c 10:200 "].iter().any(|device| line.starts_with(device))
}

fn compare(runtime: &'static str, resources: &Value) {
    if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
        println!("skipped: not root, or no /bin/busybox");
        return;
    }
    if Command::new(runtime).arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: no {runtime} (apt-get install {runtime})");
        return;
    }
    if Hierarchy::find().unwrap().v1.len() < 5 {
        println!("skipped: no cgroup v1");
        return;
    }
    let theirs = Bundle::new(runtime, resources);
    let output = theirs.call(&["create", "--bundle", "."]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = Group::at(&theirs.path).unwrap().unwrap();

    let path = theirs.path.with_file_name("ours");
    let parsed: Resources = serde_json::from_value(resources.clone()).unwrap();
    let (ours, warnings) = Group::create(&path, &parsed).unwrap();
    let held = contents(&ours);
    ours.remove().unwrap();
    assert_eq!(warnings, [""; 0]);
    assert!(held.len() > 10, "{held:?}");
    assert_eq!(held, contents(&found), "ours, {runtime}'s");
}

/// Two writes to the first disk of this machine, which is never slowed: nobody
/// is in the group.
fn resources() -> Value {
    let numbers = |disk: fs::DirEntry| fs::read_to_string(disk.path().join("dev")).ok();
    let disk = fs::read_dir("/sys/block").unwrap().flatten().find_map(numbers).unwrap_or_default();
    let (major, minor) = disk.trim().split_once(':').unwrap_or(("0", "0"));
    let (major, minor): (u32, u32) = (major.parse().unwrap(), minor.parse().unwrap());
    json!({
        "devices": [
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
            {"allow": true, "type": "b", "major": 8, "access": "r"},
        ],
        "memory": {
            "limit": 32 << 20, "swap": 64 << 20, "reservation": 16 << 20, "swappiness": 10, "disableOOMKiller": true,
        },
        "cpu": {"shares": 512, "quota": 150_000, "period": 200_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 50},
        "blockIO": {
            "throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1 << 20}],
            "throttleWriteBpsDevice": [{"major": major, "minor": minor, "rate": 2 << 20}],
            "throttleReadIOPSDevice": [{"major": major, "minor": minor, "rate": 100}],
            "throttleWriteIOPSDevice": [{"major": major, "minor": minor, "rate": 200}],
        },
    })
}

#[test]
fn runc_writes_the_same() {
    let mut resources = resources();
    // crun 1.8 knows CFQ's file only, and fails without it.
    resources["blockIO"]["weight"] = json!(300);
    compare("runc", &resources);
}

#[test]
fn crun_writes_the_same() {
    compare("crun", &resources());
}
