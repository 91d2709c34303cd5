//! A store with images for containers to be made of, and a network namespace to
//! run them in: nothing of a test reaches the host's.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::setup::{Scratch, can_mount, runion};

/// A store with an image `box`: busybox, some users, and a link for a directory.
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
        let busybox = Path::new("/bin/busybox");
        if !busybox.exists() {
            println!("skipped: busybox is not installed");
            return None;
        }
        let scratch = Scratch::new(name);
        let root = scratch.join("root");
        for dir in ["bin", "etc", "tmp", "data/deep"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        let applets = Command::new(busybox).arg("--list").output().unwrap();
        for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|applet| *applet != "busybox")
        {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:7:8::/home/user:/bin/sh\n")
            .unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nown:x:8:\nmore:x:9:user\n").unwrap();
        fs::write(root.join("data/file"), "of the image\n").unwrap();
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        let archive = scratch.join("root.tar");
        let tar = Command::new("tar")
            .args(["--owner=0", "--group=0", "-cf"])
            .arg(&archive)
            .arg("-C")
            .arg(&root)
            .arg(".")
            .status();
        assert!(tar.unwrap().success());
        let mut holder = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo ready; exec sleep 3600"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        let world = World { scratch, holder };
        let changes =
            ["-c", "CMD [\"/bin/sh\", \"-c\", \"echo the image says $WHAT\"]", "-c", "ENV WHAT=hello"];
        let mut import = world.command(&["import"]);
        let imported = import.args(changes).arg(&archive).arg("box").output().unwrap();
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        Some(world)
    }

    /// `runion`, over this store.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.in_namespace("runion");
        command.arg("--root").arg(self.scratch.join("store")).args(arguments);
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

    /// `runion run --rm` of these.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(&["run", "--rm", "--pull", "never"]).args(arguments).output().unwrap()
    }

    /// What such a run printed; it must succeed.
    pub fn says(&self, arguments: &[&str]) -> String {
        succeeded(arguments, &self.run(arguments))
    }

    /// What a command printed; it must succeed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        succeeded(arguments, &self.command(arguments).output().unwrap())
    }

    /// What a command said on stderr; it must fail.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?} succeeds");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// One field of a container, by a template.
    pub fn field(&self, container: &str, template: &str) -> String {
        self.ok(&["container", "inspect", "-f", template, container]).trim_end().to_owned()
    }

    /// What must be true of the host when no container runs any more: processes
    /// and mounts that name this store.
    pub fn left(&self) -> Vec<String> {
        let store = self.scratch.join("store").display().to_string();
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
        // A test that failed may have left containers.
        if std::thread::panicking() {
            let names = self.command(&["ps", "-aq"]).output().unwrap();
            for name in String::from_utf8_lossy(&names.stdout).lines() {
                drop(self.command(&["rm", "-f", name]).output());
            }
        }
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

fn succeeded(arguments: &[&str], output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    out.into_owned()
}

/// Waits, ten seconds at most, until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < patience, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
