//! A store with an image of busybox, and a network namespace to run containers
//! of it in: nothing of a test reaches the host's.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::setup::{Scratch, can_mount, runion, stderr, stdout};

/// How containers are made where their network is of no interest.
const ALONE: [&str; 2] = ["--network", "none"];

/// A store with the image `box`: busybox, some users, a link for a directory,
/// and `/data` with one file of every kind.
pub struct World {
    pub scratch: Scratch,
    /// Holds the network namespace.
    holder: Child,
}

impl World {
    /// `None`, and why, where it cannot be.
    pub fn new(name: &str) -> Option<World> {
        if !can_mount() {
            return None;
        }
        if !Path::new("/bin/busybox").exists() {
            println!("skipped: no /bin/busybox (apt-get install busybox-static)");
            return None;
        }
        let world = World { scratch: Scratch::new(name), holder: network_namespace() };
        let archive = world.archive();
        let changes =
            ["-c", "CMD [\"/bin/sh\", \"-c\", \"echo the image says $WHAT\"]", "-c", "ENV WHAT=hello"];
        let mut import = world.command(&["import"]);
        let imported = import.args(changes).arg(&archive).arg("box").output().unwrap();
        assert!(imported.status.success(), "{}", stderr(&imported));
        Some(world)
    }

    fn archive(&self) -> PathBuf {
        let root = self.scratch.join("root");
        for dir in ["bin", "etc", "tmp", "data/sub"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let busybox = Path::new("/bin/busybox");
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        let applets = Command::new(busybox).arg("--list").output().unwrap();
        for applet in stdout(&applets).lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let users = "root:x:0:0::/root:/bin/sh\nuser:x:7:8::/home/user:/bin/sh\n";
        fs::write(root.join("etc/passwd"), users).unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nown:x:8:\nmore:x:9:user\n").unwrap();
        symlink("/etc", root.join("link")).unwrap();
        let data = root.join("data");
        fs::write(data.join("file"), "of the image\n").unwrap();
        fs::hard_link(data.join("file"), data.join("sub/other")).unwrap();
        symlink("/etc/passwd", data.join("link")).unwrap();
        let script = "mknod \"$1/device\" c 1 3; mkfifo \"$1/fifo\"; chown 7:8 \"$1/sub/other\" \"$1/sub\"; \
                      chown -h 9:9 \"$1/link\"; chmod 4751 \"$1/file\"; chmod 1777 \"$1\"; \
                      setfattr -n user.note -v said \"$1/file\"; touch -h -d '2001-02-03 04:05:06.789' \"$1/link\"; \
                      touch -d '2002-02-03 04:05:06.7' \"$1/file\" \"$1/sub\" \"$1\"";
        let made = Command::new("sh").args(["-ec", script, "sh"]).arg(&data).status().unwrap();
        assert!(made.success());
        let archive = self.scratch.join("root.tar");
        let tar = ["--xattrs", "--format=pax", "-cf"];
        let tar = Command::new("tar").args(tar).arg(&archive).arg("-C").arg(&root).arg(".").status();
        assert!(tar.unwrap().success());
        archive
    }

    /// `runion`, over this store.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.in_namespace("runion");
        command.arg("--root").arg(self.store()).args(arguments);
        command
    }

    /// Another program in the same network namespace; `runion` is the one under
    /// test.
    pub fn in_namespace(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg("--");
        match program {
            "runion" => command.arg(runion()),
            other => command.arg(other),
        };
        command.env("TMPDIR", self.scratch.path()).env("HOME", self.scratch.path());
        command.env_remove("XDG_CACHE_HOME").env_remove("RUNION_ROOT").stdin(Stdio::null());
        command
    }

    pub fn store(&self) -> PathBuf {
        self.scratch.join("store")
    }

    /// What a command did. Nothing that it leaves behind keeps its stdout or its stderr:
    /// else this waits for that.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command prints; it must succeed.
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
        stdout(&output).to_owned()
    }

    /// Why a command fails; it must.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", stdout(&output));
        stderr(&output).to_owned()
    }

    /// `runion run --rm` of these.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.output(&[&["run", "--rm", "--pull", "never"], arguments].concat())
    }

    /// What such a run prints; it must succeed.
    pub fn run_says(&self, arguments: &[&str]) -> String {
        self.says(&[&["run", "--rm", "--pull", "never"], arguments].concat())
    }

    /// `runion run` or `create` with options, an image, a command; without a
    /// network.
    pub fn makes(&self, verb: &str, arguments: &[&str]) -> String {
        self.says(&[&[verb], &ALONE[..], arguments].concat())
    }

    /// A container that runs until it is removed.
    pub fn runs(&self, name: &str, options: &[&str]) {
        let line = "trap exit TERM; while :; do sleep 0.1; done";
        self.makes("run", &[&["-d", "--name", name], options, &["box", "sh", "-c", line]].concat());
    }

    /// What a shell line in a new container prints.
    pub fn sh(&self, options: &[&str], line: &str) -> String {
        self.makes("run", &[&["--rm"], options, &["box", "sh", "-c", line]].concat())
    }

    /// The same of another image, by a storage driver.
    pub fn sh_of(&self, image: &str, driver: &str, line: &str) -> String {
        self.makes("run", &["--rm", "--storage-driver", driver, image, "sh", "-c", line])
    }

    /// One field of a container, by a template.
    pub fn field(&self, container: &str, template: &str) -> String {
        self.says(&["container", "inspect", "-f", template, container]).trim_end().to_owned()
    }

    /// A file of the host's.
    pub fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.scratch.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        path
    }

    pub fn path(&self, name: &str) -> String {
        self.scratch.join(name).into_os_string().into_string().unwrap()
    }

    /// What must be true of the host when no container runs any more: processes
    /// and mounts that name this store.
    pub fn left(&self) -> Vec<String> {
        let store = self.store().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&words).contains(&store) {
                found.push(String::from_utf8_lossy(&words).replace('\0', " "));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(mounts.lines().filter(|line| line.contains(&store)).map(str::to_owned));
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What still runs holds files of the scratch directory.
        let ids = self.output(&["ps", "-aq"]);
        let ids: Vec<&str> = stdout(&ids).split_whitespace().collect();
        if !ids.is_empty() {
            self.output(&[&["rm", "-f"], &ids[..]].concat());
        }
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// A process with a network namespace of its own, once it has it.
fn network_namespace() -> Child {
    let mut holder = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", "echo ready; exec sleep 3600"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    holder
}

/// Waits, a minute at most, until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < patience, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
