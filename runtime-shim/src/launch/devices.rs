//! What every container has in /dev, and what the bundle adds.
//!
//! Nodes are made where that is allowed; elsewhere the host's are bound, each
//! verified by its numbers.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Stat, Uid, chmodat, chownat, major, makedev, minor, mknodat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::filesystems::attach;
use super::mounts::host_node;
use super::target::{self, Links};
use crate::bundle::{Device, Spec};
use crate::failure::{Context, Failure, Result};

/// By the kernel's admin-guide/devices.txt.
const USUAL: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// Makes them all; nothing where the bundle binds a /dev of its own choice.
pub fn make(root: BorrowedFd<'_>, spec: &Spec) -> Result<()> {
    let dev = Path::new("dev");
    let is_bound = spec.mounts.iter().any(|mount| {
        target::clean(&mount.destination) == dev
            && (mount.kind.as_deref() == Some("bind")
                || mount.options.iter().any(|word| word == "bind" || word == "rbind"))
    });
    if is_bound {
        return Ok(());
    }
    let directory = target::directory(root, dev, 0o755, Links::None).map_err(|errno| match errno {
        Errno::LOOP => Failure::new("cannot make devices: the container's /dev is a symbolic link"),
        errno => Failure::new(format!("cannot make devices: the container's /dev: {errno}")),
    })?;
    let named: Vec<&Device> = spec.linux.iter().flat_map(|linux| &linux.devices).collect();
    for (path, major, minor) in USUAL {
        if named.iter().any(|device| device.path == Path::new(path)) {
            continue;
        }
        let device = Device {
            kind: "c".to_owned(),
            path: path.into(),
            major,
            minor,
            file_mode: Some(0o666),
            uid: Some(0),
            gid: Some(0),
        };
        make_one(root, &device)?;
    }
    for device in named {
        make_one(root, device)?;
    }
    let core = Path::new("/proc/kcore").exists().then_some(("/proc/kcore", "core"));
    for (to, name) in LINKS.into_iter().chain(core) {
        match symlinkat(to, &directory, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).context(|| format!("cannot make /dev/{name}")),
        }
    }
    link_ptmx(directory.as_fd())
}

/// The multiplexer is that of the container's own terminals.
fn link_ptmx(directory: BorrowedFd<'_>) -> Result<()> {
    let context = || "cannot make /dev/ptmx".to_string();
    match unlinkat(directory, "ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno).context(context),
    }
    symlinkat("pts/ptmx", directory, "ptmx").context(context)
}

fn make_one(root: BorrowedFd<'_>, device: &Device) -> Result<()> {
    let shown = device.path.display();
    let context = || format!("cannot make the device {shown}");
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => return Err(Failure::new(format!("{}: its type {other:?} is unknown", context()))),
    };
    let path = target::clean(&device.path);
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Failure::new(format!("{}: it names nothing", context())));
    };
    let number = makedev(device.major, device.minor);
    let is = |stat: &Stat| {
        let same = kind == FileType::Fifo || stat.st_rdev == number;
        FileType::from_raw_mode(stat.st_mode) == kind && same
    };
    let above = target::directory(root, above, 0o755, Links::Within).context(context)?;
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    match mknodat(&above, name, kind, mode, number) {
        Ok(()) => {
            chmodat(&above, name, mode, AtFlags::empty()).context(context)?;
            let uid = Some(Uid::from_raw(device.uid.unwrap_or(0)));
            let gid = Some(Gid::from_raw(device.gid.unwrap_or(0)));
            chownat(&above, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).context(context)
        }
        Err(Errno::EXIST) => {
            let stat = statat(&above, name, AtFlags::SYMLINK_NOFOLLOW).context(context)?;
            if is(&stat) || is_bound_already(&stat, number) {
                return Ok(());
            }
            Err(Failure::new(format!("{}: something else is there", context())))
        }
        Err(Errno::PERM | Errno::ACCESS) => {
            let node = host_node(&device.path, is)?;
            target::empty_file(above.as_fd(), name).context(context)?;
            let place = target::file(above.as_fd(), Path::new(name), Links::None).context(context)?;
            attach(&node, &place).context(context)
        }
        Err(errno) => Err(errno).context(context),
    }
}

/// Whether a device was put there by a mount of the bundle's.
fn is_bound_already(stat: &Stat, number: u64) -> bool {
    let kind = FileType::from_raw_mode(stat.st_mode);
    matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) && stat.st_rdev == number
}

/// The null device, verified: what hides files.
pub fn null() -> Result<std::os::fd::OwnedFd> {
    host_node(Path::new("/dev/null"), |stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3)
    })
}
