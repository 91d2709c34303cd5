//! Bundles for tests, and the runtimes that run them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::setup::{Scratch, busybox_root, runion};

/// Runtimes, side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Ours,
    Crun,
    Runc,
}

/// A bundle of one static program.
pub struct Bundle {
    pub scratch: Scratch,
    pub config: Value,
}

/// Whether bundles can be run here at all; says why not.
pub fn can_run() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    println!("skipped: not root");
    false
}

impl Bundle {
    /// With what `crun spec` writes, and no terminal.
    pub fn new(test: &str) -> Option<Bundle> {
        if !can_run() {
            return None;
        }
        let scratch = Scratch::new(test);
        if let Err(reason) = busybox_root(&scratch.join("b/rootfs")) {
            println!("skipped: {reason}");
            return None;
        }
        let root = scratch.join("b/rootfs");
        for applet in APPLETS {
            let at = root.join("bin").join(applet);
            if !at.exists() {
                std::os::unix::fs::symlink("busybox", at).unwrap();
            }
        }
        for name in ["proc", "sys", "dev", "etc", "tmp", "run"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::write(
            root.join("etc/passwd"),
            "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        )
        .unwrap();
        Some(Bundle { scratch, config: config() })
    }

    pub fn root(&self) -> PathBuf {
        self.scratch.join("b/rootfs")
    }

    pub fn path(&self) -> PathBuf {
        self.scratch.join("b")
    }

    /// Has the shell do a line.
    pub fn line(&mut self, line: &str) -> &mut Bundle {
        self.words(&["sh", "-c", line])
    }

    pub fn words(&mut self, words: &[&str]) -> &mut Bundle {
        self.config["process"]["args"] = json!(words);
        self
    }

    pub fn mount(&mut self, mount: Value) -> &mut Bundle {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
        self
    }

    pub fn namespace(&mut self, namespace: Value) -> &mut Bundle {
        let kind = namespace["type"].clone();
        let all = self.config["linux"]["namespaces"].as_array_mut().unwrap();
        all.retain(|one| one["type"] != kind);
        all.push(namespace);
        self
    }

    pub fn without_namespace(&mut self, kind: &str) -> &mut Bundle {
        self.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != kind);
        self
    }

    pub fn write(&self) {
        std::fs::write(self.path().join("config.json"), self.config.to_string()).unwrap();
    }

    /// A runtime with its own state directory; nothing of it is left when the
    /// scratch directory goes.
    pub fn runtime(&self, runtime: Runtime, arguments: &[&str]) -> Command {
        let state = self.scratch.join(&format!("state-{runtime:?}"));
        std::fs::create_dir_all(&state).unwrap();
        let mut command = match runtime {
            Runtime::Ours => Command::new(runion()),
            Runtime::Runc => Command::new("runc"),
            // It refuses machines with both kinds of cgroups.
            Runtime::Crun => {
                let mut command = Command::new("unshare");
                let line = "umount /sys/fs/cgroup/unified 2>/dev/null; exec crun \"$@\"";
                command.args(["--mount", "--propagation", "private", "sh", "-c", line, "crun"]);
                command
            }
        };
        command.arg("--root").arg(state).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, runtime: Runtime) -> Output {
        self.write();
        // cgroups bear it, so it is nobody else's.
        let id = self.scratch.path().file_name().unwrap().to_str().unwrap().to_owned();
        let bundle = self.path();
        self.runtime(runtime, &["run", "--bundle", bundle.to_str().unwrap(), &id]).output().unwrap()
    }

    /// Makes and starts it, to be looked at while it runs.
    pub fn start(&self, id: &str) -> Running<'_> {
        self.write();
        let running = Running { bundle: self, id: id.to_owned() };
        running.create();
        running.do_("start");
        running
    }

    /// Makes it.
    pub fn create(&self, id: &str) -> Running<'_> {
        self.write();
        let running = Running { bundle: self, id: id.to_owned() };
        running.create();
        running
    }
}

/// A container of ours; gone when dropped.
pub struct Running<'a> {
    bundle: &'a Bundle,
    pub id: String,
}

impl Running<'_> {
    fn create(&self) {
        let bundle = self.bundle.path();
        let mut create =
            self.bundle.runtime(Runtime::Ours, &["create", "--bundle", bundle.to_str().unwrap(), &self.id]);
        // Pipes would never end: the container has them too.
        let output = create.stdin(Stdio::null()).stdout(self.log()).stderr(self.log()).status().unwrap();
        assert!(output.success(), "{}", self.said());
    }

    fn log(&self) -> std::fs::File {
        let path = self.bundle.scratch.join(&format!("log-{}", self.id));
        std::fs::File::options().create(true).append(true).open(path).unwrap()
    }

    /// What was said until now, by the runtime or by the container.
    pub fn said(&self) -> String {
        let path = self.bundle.scratch.join(&format!("log-{}", self.id));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// A word for it, which succeeds.
    pub fn do_(&self, word: &str) -> Output {
        let output = self.try_(&[word, &self.id]);
        assert!(output.status.success(), "{word}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    pub fn try_(&self, words: &[&str]) -> Output {
        self.bundle.runtime(Runtime::Ours, words).output().unwrap()
    }

    pub fn exec(&self, words: &[&str]) -> Output {
        self.try_(&[&["exec", &self.id], words].concat())
    }

    pub fn state(&self) -> Value {
        serde_json::from_slice(&self.do_("state").stdout).unwrap()
    }

    pub fn pid(&self) -> i64 {
        self.state()["pid"].as_i64().unwrap()
    }

    /// Waits until the log has a line.
    pub fn wait_for(&self, words: &str) {
        wait_until(&format!("{words:?} in {:?}", self.said()), || self.said().contains(words));
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.try_(&["delete", "--force", &self.id]);
    }
}

pub fn wait_until(what: &str, is: impl Fn() -> bool) {
    for _ in 0..6000 {
        if is() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// Whether a runtime is here; says why not.
pub fn has(runtime: Runtime) -> bool {
    let name = match runtime {
        Runtime::Ours => return true,
        Runtime::Crun => "crun",
        Runtime::Runc => "runc",
    };
    let is_there = Command::new(name).arg("--version").output().is_ok();
    if !is_there {
        println!("skipped: no {name} (apt-get install {name})");
    }
    is_there
}

/// The same command with a descriptor at a number.
pub fn with_descriptor(command: &Command, path: &Path, number: i32) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec {number}<\"$1\"; shift; exec \"$@\""), "sh"]).arg(path);
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

const APPLETS: [&str; 31] = [
    "awk", "base64", "chgrp", "cut", "echo", "env", "false", "find", "getopt", "grep", "head", "hostname",
    "id", "kill", "mount", "printf", "ps", "pwd", "readlink", "sed", "sleep", "sort", "stat", "stty", "test",
    "tr", "true", "tty", "umount", "uname", "wc",
];

/// As runtimes' own `spec` has it, a little shorter.
fn config() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["true"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "runion-test",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {
                "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
            {
                "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"],
            },
            {
                "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "cgroup" },
            ],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
