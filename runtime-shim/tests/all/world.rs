//! A store with an image of busybox, and containers of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::setup::{Scratch, can_mount, runion, stderr, stdout};

/// How containers of these tests are run.
const RUNTIME: [&str; 2] = ["--network", "none"];

/// A store with the image `box`: busybox, and `/data` with one file of every
/// kind.
pub struct World {
    pub scratch: Scratch,
}

impl World {
    /// None where this machine cannot run it; says why.
    pub fn new(name: &str) -> Option<World> {
        if !can_mount() {
            return None;
        }
        for program in ["/bin/busybox"] {
            if !Path::new(program).exists() {
                println!("skipped: no {program} (apt-get install busybox-static)");
                return None;
            }
        }
        let world = World { scratch: Scratch::new(name) };
        let archive = world.archive();
        let imported =
            world.command(&["import", "-c", "CMD [\"/bin/sh\"]"]).arg(&archive).arg("box").output();
        let imported = imported.unwrap();
        assert!(imported.status.success(), "{}", stderr(&imported));
        Some(world)
    }

    fn archive(&self) -> PathBuf {
        let root = self.scratch.join("root");
        for dir in ["bin", "etc", "tmp", "data/sub"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "cp", "chmod", "chown", "echo", "id", "ln", "ls", "mkdir", "mkfifo", "mv",
            "readlink", "rm", "rmdir", "sleep", "stat", "tar", "test", "touch", "true", "find", "sort",
            "mknod", "seq", "head", "kill",
        ] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
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

    /// `runion` with this store.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(runion());
        command.arg("--root").arg(self.store()).args(arguments).env("TMPDIR", self.scratch.path());
        command.env_remove("XDG_CACHE_HOME").env("HOME", self.scratch.path()).stdin(Stdio::null());
        command
    }

    pub fn store(&self) -> PathBuf {
        self.scratch.join("store")
    }

    /// A monitor keeps its starter's stderr: what it says goes to a file, so that
    /// nobody waits for the end of that.
    pub fn output(&self, arguments: &[&str]) -> Output {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let said = self.scratch.join(&format!("stderr.{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut output = self.command(arguments).stderr(fs::File::create(&said).unwrap()).output().unwrap();
        output.stderr = fs::read(&said).unwrap();
        fs::remove_file(&said).unwrap();
        output
    }

    /// What a command that must succeed prints.
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
        stdout(&output).to_owned()
    }

    /// Why a command that must fail does.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", stdout(&output));
        stderr(&output).to_owned()
    }

    /// `runion run` or `create` with options, an image, a command.
    pub fn makes(&self, verb: &str, arguments: &[&str]) -> String {
        self.says(&[&[verb], &RUNTIME[..], arguments].concat())
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
}

impl Drop for World {
    fn drop(&mut self) {
        // What still runs holds files of the scratch directory.
        let ids = self.output(&["ps", "-aq"]);
        let ids: Vec<&str> = stdout(&ids).split_whitespace().collect();
        if !ids.is_empty() {
            self.output(&[&["rm", "-f"], &ids[..]].concat());
        }
    }
}
