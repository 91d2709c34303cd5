//! Where a container's root comes from: FUSE and the mount helper, or overlayfs.

use std::fs::File;

use rustix::fs::{Mode, mkdir};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::probe::{self, Refused};
use super::{Caller, Finding, kernel};
use crate::mounting;
use crate::sys::Namespaces;

/// Reads and writes go past the server since this kernel.
const PASSTHROUGH: (u32, u32) = (6, 9);

/// /dev/fuse, by opening it: a cgroup can deny what its mode allows.
pub fn fuse(caller: Caller) -> Finding {
    let opened = File::options().read(true).write(true).open("/dev/fuse");
    let error = match opened {
        Ok(_) => return Finding::ok("fuse", format!("/dev/fuse; {}", features(caller))),
        Err(error) => error,
    };
    let remedy = match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => {
            "load the kernel's module as root (modprobe fuse), or give the container this runs in --device /dev/fuse"
        }
        Some(Errno::NODEV | Errno::NXIO) => "load the kernel's module as root: modprobe fuse",
        Some(Errno::PERM) => "a cgroup denies it: give the container this runs in --device /dev/fuse",
        _ => "as root: chmod 0666 /dev/fuse (which is how most distributions ship it)",
    };
    Finding::missing("fuse", format!("cannot open /dev/fuse: {error}"), remedy)
}

/// What makes it faster.
fn features(caller: Caller) -> String {
    let uname = rustix::system::uname();
    let is_new =
        kernel::numbers(&uname.release().to_string_lossy()).is_some_and(|version| version >= PASSTHROUGH);
    let passthrough = match (is_new, caller) {
        (true, Caller::Root) => "yes",
        (true, Caller::Ordinary) => "for root alone",
        (false, _) => "since Linux 6.9",
    };
    let ring =
        match std::fs::read_to_string("/sys/module/fuse/parameters/enable_uring").as_deref().map(str::trim) {
            Ok("Y") => "on",
            Ok(_) => "off (/sys/module/fuse/parameters/enable_uring)",
            Err(_) => "since Linux 6.14",
        };
    format!("passthrough: {passthrough}; io_uring: {ring}")
}

/// The program that mounts.
pub fn helper() -> Finding {
    match mounting::find() {
        Ok(path) => Finding::ok("mount helper", path.display().to_string()),
        Err(_) => Finding::missing(
            "mount helper",
            "neither beside runion nor in PATH",
            "install mount.runionfs, or build the whole workspace: cargo build --release",
        ),
    }
}

/// overlayfs, for the driver `kernel`.
pub fn overlay(caller: Caller) -> Finding {
    const CHECK: &str = "overlayfs";
    match probe::try_in(Namespaces::KEEPER, caller, mount_overlay) {
        Ok(()) => Finding::ok(CHECK, "can be mounted"),
        Err(Refused::Trial(Errno::NODEV)) => Finding::limited(
            CHECK,
            "this kernel has none",
            "as root: modprobe overlay; the driver fuse does without",
        ),
        Err(Refused::Trial(errno)) => Finding::limited(
            CHECK,
            format!("cannot be mounted: {errno}"),
            match caller {
                Caller::Root => "the driver fuse does without",
                Caller::Ordinary => "users can mount it since Linux 5.11; the driver fuse does without",
            },
        ),
        Err(Refused::Namespaces(_)) => {
            Finding::limited(CHECK, "cannot be tried without namespaces", "the driver fuse does without")
        }
    }
}

/// On a file system of its own, over a directory that surely exists.
fn mount_overlay() -> rustix::io::Result<()> {
    probe::keep_mounts()?;
    mount("runion", "/proc", "tmpfs", MountFlags::empty(), None)?;
    for name in ["/proc/lower", "/proc/upper", "/proc/work", "/proc/merged"] {
        mkdir(name, Mode::RWXU)?;
    }
    let options = c"lowerdir=/proc/lower,upperdir=/proc/upper,workdir=/proc/work,userxattr";
    mount("runion", "/proc/merged", "overlay", MountFlags::empty(), Some(options))
}
