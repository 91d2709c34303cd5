//! Where a container's root comes from: FUSE and the mount helper, overlayfs, or
//! a copy.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, mkdir, open};
use rustix::io::{Errno, read};
use rustix::mount::{MountFlags, mount};

use super::probe::{self, Bits, Refused};
use super::{Caller, Finding, State};
use crate::mounting;
use crate::sys::Namespaces;

/// What makes containers' roots, and which storage drivers that comes to.
pub fn look(caller: Caller) -> [Finding; 4] {
    let (fuse, helper, overlay) = (fuse(caller), helper(), overlay(caller));
    let drivers = drivers(caller, &fuse, &helper, &overlay);
    [fuse, helper, overlay, drivers]
}

fn drivers(caller: Caller, fuse: &Finding, helper: &Finding, overlay: &Finding) -> Finding {
    const CHECK: &str = "storage drivers";
    let has = |finding: &Finding| finding.state == State::Ok;
    match (has(fuse) && has(helper), has(overlay) && caller == Caller::Root) {
        (true, true) => Finding::ok(CHECK, "fuse, kernel, dir"),
        (true, false) => Finding::ok(CHECK, "fuse, dir"),
        (false, true) => {
            Finding::limited(CHECK, "kernel, dir", "run with --storage-driver kernel until fuse can be had")
        }
        (false, false) => Finding::limited(
            CHECK,
            "dir alone: every container is a copy of its image",
            "run with --storage-driver dir until fuse can be had",
        ),
    }
}

/// FUSE, by mounting something: a cgroup can deny the device that its mode
/// allows, and a user namespace what it allows its owner.
fn fuse(caller: Caller) -> Finding {
    const CHECK: &str = "fuse";
    if let Err(error) = File::options().read(true).write(true).open(DEVICE) {
        let remedy = match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => {
                "load the kernel's module as root (modprobe fuse), or give the container this runs in --device /dev/fuse"
            }
            Some(Errno::NODEV | Errno::NXIO) => "load the kernel's module as root: modprobe fuse",
            Some(Errno::PERM) => "a cgroup denies it: give the container this runs in --device /dev/fuse",
            _ => "as root: chmod 0666 /dev/fuse (which is how most distributions ship it)",
        };
        return Finding::missing(CHECK, format!("cannot open {DEVICE}: {error}"), remedy);
    }
    match probe::try_in(Namespaces::KEEPER, caller, mount_fuse) {
        Ok(offer) => Finding::ok(CHECK, format!("{DEVICE}; {}", features(offer, caller))),
        Err(Refused::Trial(errno)) => Finding::missing(
            CHECK,
            format!("{DEVICE} can be opened, and nothing mounted by it: {errno}"),
            "users can mount it in their namespaces since Linux 4.18; in a container, run that one with --privileged",
        ),
        // Told where namespaces are.
        Err(Refused::Namespaces(_)) => Finding::missing(
            CHECK,
            format!("{DEVICE} can be opened, and there is no namespace to mount in"),
            "see user namespaces",
        ),
    }
}

const DEVICE: &str = "/dev/fuse";
/// Of a server's first request: a header, version, read-ahead and two words of
/// flags (`struct fuse_init_in` of linux/fuse.h).
const FLAGS: usize = 52;
const FLAGS_2: usize = 56;
const INIT_EXT: u32 = 1 << 30;
/// In the second word.
const PASSTHROUGH: u32 = 1 << (37 - 32);
const OVER_IO_URING: u32 = 1 << (41 - 32);
/// The kernel gives no request to a smaller buffer (`FUSE_MIN_READ_BUFFER`).
const LONGEST: usize = 8192;

/// What of an offer is told.
const OFFERS_PASSTHROUGH: Bits = 1;
const OFFERS_IO_URING: Bits = 2;

/// Mounts, reads what the kernel offers first, and never answers.
fn mount_fuse() -> rustix::io::Result<Bits> {
    probe::keep_mounts()?;
    let device = open(DEVICE, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    mount("runion", "/proc", "fuse", MountFlags::NODEV | MountFlags::NOSUID, Some(options.as_c_str()))?;
    let mut request = [0_u8; LONGEST];
    let length = read(&device, &mut request[..])?;
    let word = |at: usize| {
        let bytes = request.get(..length)?.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(bytes))
    };
    let more = word(FLAGS).filter(|flags| flags & INIT_EXT != 0).and_then(|_| word(FLAGS_2)).unwrap_or(0);
    let bit = |flag: u32, bit: Bits| if more & flag != 0 { bit } else { 0 };
    Ok(bit(PASSTHROUGH, OFFERS_PASSTHROUGH) | bit(OVER_IO_URING, OFFERS_IO_URING))
}

/// What makes it faster.
fn features(offer: Bits, caller: Caller) -> String {
    let passthrough = match (offer & OFFERS_PASSTHROUGH != 0, caller) {
        (true, Caller::Root) => "yes",
        (true, Caller::Ordinary) => "for root alone",
        (false, _) => "no (since Linux 6.9)",
    };
    let can_be_set = Path::new("/sys/module/fuse/parameters/enable_uring").exists();
    let ring = match (offer & OFFERS_IO_URING != 0, can_be_set) {
        (true, _) => "on",
        (false, true) => "off (/sys/module/fuse/parameters/enable_uring)",
        (false, false) => "no (since Linux 6.14)",
    };
    format!("passthrough: {passthrough}; io_uring: {ring}")
}

/// The program that mounts.
fn helper() -> Finding {
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
fn overlay(caller: Caller) -> Finding {
    const CHECK: &str = "overlayfs";
    match probe::try_in(Namespaces::KEEPER, caller, mount_overlay) {
        Ok(_) => Finding::ok(CHECK, "can be mounted"),
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
fn mount_overlay() -> rustix::io::Result<Bits> {
    probe::keep_mounts()?;
    mount("runion", "/proc", "tmpfs", MountFlags::empty(), None)?;
    for name in ["/proc/lower", "/proc/upper", "/proc/work", "/proc/merged"] {
        mkdir(name, Mode::RWXU)?;
    }
    let options = c"lowerdir=/proc/lower,upperdir=/proc/upper,workdir=/proc/work,userxattr";
    mount("runion", "/proc/merged", "overlay", MountFlags::empty(), Some(options))?;
    Ok(0)
}
