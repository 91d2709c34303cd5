//! A union mounted on a directory, by whichever program is being compared.
//!
//! Mounts live in a mount namespace private to the test's thread, and daemons
//! die with it: no run leaves anything behind, however it ends.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount,
    unmount,
};

use crate::binary;
use crate::sys;
use crate::watchdog::Watchdog;

/// The features every comparison uses, in the kernel's words.
pub const FEATURES: &[&str] = &["redirect_dir=on", "metacopy=on", "index=on", "xino=on"];
/// How long a mount may take to become usable, and a daemon to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a mount may stay busy after its last user.
const IDLE: Duration = Duration::from_secs(2);
/// How long a test may use one mount before it counts as hung.
const LIFE: Duration = Duration::from_secs(600);

/// Who mounts the union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Kernel overlayfs, the oracle.
    Kernel,
    /// `mount-runionfs` of this workspace.
    Runionfs,
    /// `fuse-overlayfs` from PATH.
    FuseOverlayfs,
}

impl Driver {
    /// Ours; or the one that `TESTS_DRIVER` names, which shows whether a test
    /// expects what the oracle does.
    pub fn under_test() -> Driver {
        match std::env::var("TESTS_DRIVER").ok().as_deref() {
            Some("kernel") => Driver::Kernel,
            Some("fuse-overlayfs") => Driver::FuseOverlayfs,
            _ => Driver::Runionfs,
        }
    }
}

/// What is mounted.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// Read-only layers, topmost first.
    pub lowers: Vec<PathBuf>,
    /// Data-only layers, after the lowers.
    pub data_only: Vec<PathBuf>,
    /// Upper and work directory.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// More options, in the kernel's words (`name` or `name=value`). Empty
    /// means [`FEATURES`] for the kernel and the defaults for the others.
    pub options: Vec<String>,
    /// How ours is served, beyond what `TESTS_OPTIONS` says (`data=cached`).
    pub served: String,
}

impl Layers {
    /// Layers with an upper and a work directory, and the default features.
    pub fn writable(lowers: &[&Path], upper: &Path, work: &Path) -> Layers {
        Layers {
            lowers: lowers.iter().map(|p| p.to_path_buf()).collect(),
            upper: Some((upper.to_path_buf(), work.to_path_buf())),
            ..Layers::default()
        }
    }

    /// Lowers only.
    pub fn read_only(lowers: &[&Path]) -> Layers {
        Layers { lowers: lowers.iter().map(|p| p.to_path_buf()).collect(), ..Layers::default() }
    }

    /// The same with one more option.
    pub fn with(mut self, option: &str) -> Layers {
        self.options.push(option.to_owned());
        self
    }

    /// As fuse-overlayfs's and our `-o` argument.
    fn option_string(&self) -> OsString {
        let mut text = b"lowerdir=".to_vec();
        text.extend(self.lowers.iter().map(|p| escaped(p)).collect::<Vec<_>>().join(&b':'));
        for data in &self.data_only {
            text.extend(b"::");
            text.extend(escaped(data));
        }
        if let Some((upper, work)) = &self.upper {
            text.extend([b",upperdir=", &escaped(upper)[..], b",workdir=", &escaped(work)[..]].concat());
        }
        for option in &self.options {
            text.push(b',');
            text.extend(option.bytes());
        }
        OsStr::from_bytes(&text).to_owned()
    }
}

/// A path in an option string: `\`, `:` and `,` mean themselves.
fn escaped(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b'\\' | b':' | b',') {
            text.push(b'\\');
        }
        text.push(byte);
    }
    text
}

/// A mounted union; unmounted when dropped, by force if need be.
pub struct Mount {
    path: PathBuf,
    daemon: Option<Daemon>,
    mounted: bool,
}

struct Daemon {
    process: Child,
    messages: File,
    watchdog: Watchdog,
}

impl Mount {
    /// Mounts `layers` on the existing directory `path`.
    ///
    /// # Errors
    /// What the kernel or the program says.
    pub fn new(driver: Driver, layers: &Layers, path: &Path) -> io::Result<Mount> {
        enter_private_namespace()?;
        let daemon = match driver {
            Driver::Kernel => {
                mount_overlay_when_free(layers, path)?;
                None
            }
            Driver::Runionfs => {
                // Named `runionfs` it takes fuse-overlayfs's words, where `-f`
                // means foreground. As root alone, all that the kernel offers
                // is asked for, since that is what we compare with. How it is
                // served (`transport=`, `data=`), TESTS_OPTIONS says.
                let mut command = Command::new(binary::mount_runionfs()?);
                let served = std::env::var("TESTS_OPTIONS").unwrap_or_default();
                command.arg0("runionfs").args(["-f", "-o", "suid,dev", "-o", &served, "-o", &layers.served]);
                command.arg("-o").arg(layers.option_string());
                Some(start(command.arg(path), path)?)
            }
            Driver::FuseOverlayfs => {
                let mut command = Command::new("fuse-overlayfs");
                Some(start(command.args(["-f", "-o"]).arg(layers.option_string()).arg(path), path)?)
            }
        };
        Ok(Mount { path: path.to_path_buf(), daemon, mounted: true })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The daemon's process, where there is one.
    pub fn daemon(&self) -> Option<u32> {
        self.daemon.as_ref().map(|d| d.process.id())
    }

    /// One number of our statistics.
    ///
    /// # Panics
    /// If the mount has none.
    pub fn stat(&self, name: &str) -> u64 {
        let mut json = [0; 1 << 14];
        let length = rustix::fs::getxattr(self.path(), "user.runionfs.stats", &mut json[..]).unwrap();
        let json = std::str::from_utf8(&json[..length]).unwrap();
        let Some((_, rest)) = json.split_once(&format!("\"{name}\":")) else { return 0 };
        rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    }

    /// What our daemon has said so far.
    ///
    /// # Errors
    /// Those of reading its messages.
    pub fn said(&mut self) -> io::Result<String> {
        match &mut self.daemon {
            Some(daemon) => messages(&mut daemon.messages),
            None => Ok(String::new()),
        }
    }

    /// Tells the watchdog that the mount is alive and may be used for `limit`.
    pub fn extend(&self, limit: Duration) {
        if let Some(daemon) = &self.daemon {
            daemon.watchdog.extend(limit);
        }
    }

    /// Unmounts and waits until the daemon has ended.
    ///
    /// # Errors
    /// The mount is busy, or the daemon did not end, failed or panicked.
    pub fn unmount(mut self) -> io::Result<()> {
        self.tear_down()
    }

    /// Kills the daemon at once, as a crash does, and takes the dead mount away.
    ///
    /// # Errors
    /// Those of kill and umount.
    pub fn kill(mut self) -> io::Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.process.kill()?;
            daemon.process.wait()?;
        }
        self.mounted = false;
        unmount(&self.path, UnmountFlags::DETACH).map_err(Into::into)
    }

    fn tear_down(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.mounted) {
            return Ok(());
        }
        self.extend(PATIENCE);
        let busy = unmount_when_idle(&self.path);
        let ended = match self.daemon.take() {
            Some(daemon) => daemon.ended(),
            None => Ok(()),
        };
        busy.and(ended)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.tear_down() {
            eprintln!("cannot unmount {}: {error}", self.path.display());
        }
    }
}

impl Daemon {
    /// Waits for the end that must follow the unmount.
    fn ended(self) -> io::Result<()> {
        let Daemon { mut process, messages: mut file, watchdog } = self;
        // The device number is free again: the next to have it is not to be aborted.
        drop(watchdog);
        let Some(status) = wait(&mut process, PATIENCE)? else {
            process.kill()?;
            process.wait()?;
            return Err(io::Error::other("the daemon did not end after the unmount: killed"));
        };
        let said = messages(&mut file)?;
        if !status.success() || said.contains("panicked") {
            return Err(io::Error::other(format!("the daemon ended with {status}: {said}")));
        }
        if !said.is_empty() {
            eprint!("the daemon said: {said}");
        }
        Ok(())
    }
}

/// Unmounts as soon as nobody uses the mount; lazily, and with an error, when
/// somebody does not stop.
///
/// Another test that starts a program holds copies of our descriptors from its
/// fork to its exec, so that a mount may be busy for an instant.
fn unmount_when_idle(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + IDLE;
    loop {
        match unmount(path, UnmountFlags::empty()) {
            Err(rustix::io::Errno::BUSY) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(rustix::io::Errno::BUSY) => {
                unmount(path, UnmountFlags::DETACH)?;
                return Err(io::Error::other(format!("{} was busy", path.display())));
            }
            other => return other.map_err(Into::into),
        }
    }
}

/// Gives the calling thread a private mount namespace, once. Threads and
/// processes that it starts share it.
///
/// # Errors
/// Those of unshare(2) and mount(2).
pub fn enter_private_namespace() -> io::Result<()> {
    thread_local!(static ENTERED: Cell<bool> = const { Cell::new(false) });
    if ENTERED.get() {
        return Ok(());
    }
    sys::unshare_mounts()?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    ENTERED.set(true);
    Ok(())
}

/// Mounts kernel overlayfs; for the reason given at [`unmount_when_idle`] the
/// upper's last mount may still be alive for an instant.
fn mount_overlay_when_free(layers: &Layers, path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + IDLE;
    loop {
        match mount_overlay(layers, path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

/// Mounts kernel overlayfs by the new mount calls: option by option, so that
/// nothing needs escaping and no page limits the number of lowers.
fn mount_overlay(layers: &Layers, path: &Path) -> io::Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |name: &str, value: &OsStr| {
        fsconfig_set_string(&context, name, value)
            .map_err(|e| io::Error::other(format!("{name}={value:?}: {e}")))
    };
    set("source", OsStr::new("overlay"))?;
    for lower in &layers.lowers {
        set("lowerdir+", lower.as_os_str())?;
    }
    for data in &layers.data_only {
        set("datadir+", data.as_os_str())?;
    }
    if let Some((upper, work)) = &layers.upper {
        set("upperdir", upper.as_os_str())?;
        set("workdir", work.as_os_str())?;
    }
    let features: Vec<&str> = match layers.options.len() {
        0 => FEATURES.to_vec(),
        _ => layers.options.iter().map(String::as_str).collect(),
    };
    for option in features {
        match option.split_once('=') {
            Some((name, value)) => set(name, OsStr::new(value))?,
            None => fsconfig_set_flag(&context, option)?,
        }
    }
    fsconfig_create(&context).map_err(|e| {
        let kind = io::Error::from(e).kind();
        io::Error::new(kind, format!("overlay: {e}: {}", kernel_log(&context)))
    })?;
    let mounted = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    move_mount(&mounted, "", rustix::fs::CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// What the kernel has to say about a refused mount.
fn kernel_log(context: &impl std::os::fd::AsFd) -> String {
    let mut text = Vec::new();
    let mut message = [0; 4096];
    while let Ok(length) = rustix::io::read(context, &mut message) {
        text.extend_from_slice(&message[..length]);
    }
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

/// Starts a FUSE daemon in the foreground and waits until its mount answers.
fn start(command: &mut Command, path: &Path) -> io::Result<Daemon> {
    // A file, not a pipe: a daemon that says much must not block on us.
    let messages_file = tempfile()?;
    sys::die_with_parent(command);
    let mut process =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages_file.try_clone()?).spawn()?;
    let mut file = messages_file;
    let deadline = Instant::now() + PATIENCE;
    let minor = loop {
        if let Some(minor) = fuse_minor(path)? {
            break minor;
        }
        if let Some(status) = process.try_wait()? {
            return Err(io::Error::other(format!("{command:?}: {status}: {}", messages(&mut file)?)));
        }
        if Instant::now() > deadline {
            process.kill()?;
            process.wait()?;
            return Err(io::Error::other(format!(
                "{command:?}: no mount appeared: {}",
                messages(&mut file)?
            )));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let watchdog = Watchdog::new(minor, LIFE)?;
    // The mount exists before the daemon serves it; this waits for the first answer.
    fs::metadata(path)?;
    Ok(Daemon { process, messages: file, watchdog })
}

/// The minor device number of the FUSE file system mounted on `path`, without
/// asking the file system itself.
fn fuse_minor(path: &Path) -> io::Result<Option<u32>> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo")?;
    let found = mounts.lines().rev().find_map(|line| {
        let (ours, theirs) = line.split_once(" - ")?;
        let fields: Vec<&str> = ours.split(' ').collect();
        let matches = Path::new(fields.get(4)?) == path && theirs.starts_with("fuse");
        if matches { fields.get(2)?.split_once(':')?.1.parse().ok() } else { None }
    });
    Ok(found)
}

fn tempfile() -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC;
    Ok(open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)?.into())
}

fn messages(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn wait(process: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = process.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
