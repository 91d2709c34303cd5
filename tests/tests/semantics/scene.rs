//! A union to look at: the same plan on kernel overlayfs and on ours.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::mount::{Driver, FEATURES, Layers, Mount};
use tests::scratch::Backing;
use tests::stage::Stage;

/// What the layers hold before they are mounted, and how they are.
#[derive(Clone, Copy)]
pub struct Plan {
    /// How many lower layers.
    pub lowers: usize,
    /// What all directories lie on.
    pub backing: Backing,
    /// Options in the kernel's words; none means the features of every
    /// comparison.
    pub options: &'static [&'static str],
    /// How ours is served, where it matters (`data=cached`).
    pub served: &'static str,
    /// Fills the lower layers, topmost first.
    pub prepare: fn(&[PathBuf]),
}

impl Plan {
    /// So many lowers on a tmpfs, with the usual features.
    pub const fn new(lowers: usize, prepare: fn(&[PathBuf])) -> Plan {
        Plan { lowers, backing: Backing::Tmpfs, options: FEATURES, served: "", prepare }
    }

    /// The same on another file system.
    pub const fn on(self, backing: Backing) -> Plan {
        Plan { backing, ..self }
    }

    /// The same with these options alone.
    pub const fn with(self, options: &'static [&'static str]) -> Plan {
        Plan { options, ..self }
    }

    /// The same, ours served in this way.
    pub const fn served(self, served: &'static str) -> Plan {
        Plan { served, ..self }
    }

    /// The same, for what `data=passthrough` does not promise (101): there, no
    /// file of a lower is passed through.
    pub fn coherent(self) -> Plan {
        let asked = std::env::var("TESTS_OPTIONS").unwrap_or_default();
        if asked.contains("data=passthrough") { self.served("data=upper") } else { self }
    }

    /// Mounts it by one driver.
    pub fn mount(&self, driver: Driver) -> Scene {
        let mut stage = Stage::new(self.backing, self.lowers).unwrap();
        (self.prepare)(&stage.lowers);
        stage.seal().unwrap();
        let mut layers = stage.layers();
        layers.options = self.options.iter().map(ToString::to_string).collect();
        layers.served = self.served.to_owned();
        let mut scene = Scene { driver, stage, layers, mount: None };
        scene.remount();
        scene
    }

    /// Does the same to ours and to the kernel's, and gives both answers, ours
    /// first.
    pub fn both<T>(&self, act: impl Fn(&mut Scene) -> T) -> (T, T) {
        (self.run(Driver::under_test(), &act), self.run(Driver::Kernel, &act))
    }

    /// Does the same to both and expects the same answer, which it gives.
    pub fn same<T: Debug + PartialEq>(&self, act: impl Fn(&mut Scene) -> T) -> T {
        let (ours, kernel) = self.both(act);
        let shown = |answer: &T| format!("{answer:?}").chars().take(2000).collect::<String>();
        assert!(ours == kernel, "ours: {}\nkernel overlayfs: {}", shown(&ours), shown(&kernel));
        ours
    }

    /// Does something to ours alone.
    pub fn ours<T>(&self, act: impl Fn(&mut Scene) -> T) -> T {
        self.run(Driver::under_test(), &act)
    }

    fn run<T>(&self, driver: Driver, act: &impl Fn(&mut Scene) -> T) -> T {
        let mut scene = self.mount(driver);
        let answer = act(&mut scene);
        scene.end();
        answer
    }
}

/// One mounted union and the directories behind it.
pub struct Scene {
    /// Who mounts it.
    pub driver: Driver,
    /// The directories.
    pub stage: Stage,
    /// What is mounted.
    pub layers: Layers,
    mount: Option<Mount>,
}

impl Scene {
    /// A path in the mount.
    pub fn at(&self, path: &str) -> PathBuf {
        self.stage.merged.join(path)
    }

    /// A path in the upper.
    pub fn upper(&self, path: &str) -> PathBuf {
        self.stage.upper.join(path)
    }

    /// A path in a lower.
    pub fn lower(&self, number: usize, path: &str) -> PathBuf {
        self.stage.lowers[number].join(path)
    }

    /// Unmounts it, if it is mounted.
    pub fn unmount(&mut self) {
        if let Some(mount) = self.mount.take() {
            mount.unmount().unwrap();
        }
    }

    /// Mounts it again.
    pub fn remount(&mut self) {
        self.unmount();
        self.mount = Some(Mount::new(self.driver, &self.layers, &self.stage.merged).unwrap());
    }

    /// Kills the daemon and mounts what is left.
    pub fn crash(&mut self) {
        if let Some(mount) = self.mount.take() {
            mount.kill().unwrap();
        }
        self.remount();
    }

    /// The daemon's process.
    pub fn daemon(&self) -> u32 {
        self.mount.as_ref().and_then(Mount::daemon).unwrap()
    }

    /// One number of our statistics.
    pub fn stat(&self, name: &str) -> u64 {
        self.mount.as_ref().unwrap().stat(name)
    }

    /// Unmounts it; the lowers must be what they were.
    pub fn end(mut self) {
        self.unmount();
        assert_eq!(self.stage.damage().unwrap(), Vec::<String>::new(), "lower layers changed");
    }
}

/// A result whose error is an errno that can be compared.
pub fn answer<T, E: Into<io::Error>>(result: Result<T, E>) -> Result<T, rustix::io::Errno> {
    result.map_err(|error| {
        let error = error.into();
        rustix::io::Errno::from_io_error(&error).unwrap_or_else(|| panic!("no errno: {error}"))
    })
}

/// An extended attribute, of the link itself.
pub fn xattr(path: &Path, name: &str) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; 1 << 16];
    let length = rustix::fs::lgetxattr(path, name, &mut value)?;
    value.truncate(length);
    Ok(value)
}

/// Sets one.
pub fn set_xattr(path: &Path, name: &str, value: impl AsRef<[u8]>) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(path, name, value.as_ref(), rustix::fs::XattrFlags::empty())
}

/// The names that are listed, sorted.
pub fn xattrs(path: &Path) -> Vec<String> {
    let mut list = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut list).unwrap();
    let names = list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort();
    names
}

/// The names in a directory, sorted.
pub fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Runs something as another user, who is in these groups (the first is the
/// main one).
pub fn as_user<T: Send>(uid: u32, groups: &[u32], act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            tests::sys::become_user(uid, groups).unwrap();
            act()
        });
        user.join().unwrap()
    })
}

/// Bytes that differ from place to place.
pub fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 % 251) as u8 | 1).collect()
}

/// Runs a program to its end; whether it succeeded, and what it said.
pub fn run(program: &str, arguments: &[&str]) -> (bool, String) {
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// A process that is stopped, until this is dropped.
pub struct Stopped(Pid);

impl Stopped {
    /// Each thread stops by itself, and a server's may serve one request more before:
    /// all have when this returns.
    pub fn new(process: u32) -> Stopped {
        let stopped = Stopped(Pid::from_raw(process as i32).unwrap());
        kill_process(stopped.0, Signal::STOP).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !fs::read_dir(format!("/proc/{process}/task")).unwrap().all(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
            status.contains("State:\tT")
        }) {
            assert!(Instant::now() < deadline, "process {process} does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).unwrap();
    }
}
