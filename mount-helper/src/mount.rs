//! Making the mount, and taking it away.
//!
//! With the right to mount, the file system is made detached (fsopen, fsmount)
//! and moved into the tree only after the FUSE handshake: nobody ever sees a
//! mount that does not answer, and a failure leaves nothing behind. Without
//! it, set-user-id `fusermount3` mounts; what it made is unmounted again when
//! dropped before [`Pending::attach`].

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::failure::{Failure, Result};
use crate::fusermount;
use crate::mountinfo;
use crate::request::{Access, MountRequest};
use crate::standing::Standing;

/// A mount that is made but must not be used yet.
#[must_use]
pub struct Pending {
    place: Place,
    mounted: Mounted,
}

/// Where the mount is.
enum Place {
    /// Nowhere: to be moved to the target.
    Detached { mount: OwnedFd, target: OwnedFd },
    /// On the mount point, by fusermount3: to be taken away if nothing comes of it.
    Attached,
    /// Where it shall stay.
    Settled,
}

/// A mount in use: by its device number, whatever it may be called by then.
#[derive(Clone, Copy, Debug)]
pub struct Mounted {
    device: (u32, u32),
    standing: Standing,
}

/// Makes the mount and opens its `/dev/fuse`.
///
/// # Errors
/// A sentence: no device, no right, or what the kernel refused.
pub fn make(request: &MountRequest, target: OwnedFd) -> Result<(OwnedFd, Pending)> {
    if request.standing == Standing::User {
        return by_fusermount(request);
    }
    let device = open_device()?;
    match detached(request, &device) {
        Ok(mount) => {
            let mounted = Mounted::of(&mount, "", request)?;
            Ok((device, Pending { place: Place::Detached { mount, target }, mounted }))
        }
        // Root of a user namespace that has no mount namespace of its own.
        Err(Refusal { errno: Errno::PERM, .. }) => by_fusermount(request),
        Err(refusal) => Err(refusal.into()),
    }
}

fn by_fusermount(request: &MountRequest) -> Result<(OwnedFd, Pending)> {
    let device = fusermount::mount(request)?;
    let mounted = Mounted::of(CWD, request.mountpoint.as_os_str(), request);
    match mounted {
        Ok(mounted) => Ok((device, Pending { place: Place::Attached, mounted })),
        Err(failure) => {
            fusermount::unmount(&request.mountpoint)?;
            Err(failure)
        }
    }
}

fn open_device() -> Result<OwnedFd> {
    rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(
        |errno| match errno {
            Errno::NOENT => Failure::mount("there is no /dev/fuse")
                .hint("modprobe fuse; in a container, give it the device (--device /dev/fuse)"),
            Errno::NODEV | Errno::NXIO => {
                Failure::mount("the kernel has no FUSE behind /dev/fuse").hint("modprobe fuse")
            }
            Errno::ACCESS | Errno::PERM => Failure::refused("cannot open /dev/fuse", errno)
                .hint("who mounts must be able to read and write it, in a user namespace as outside"),
            errno => Failure::refused("cannot open /dev/fuse", errno),
        },
    )
}

/// What the kernel refused, and its words.
struct Refusal {
    errno: Errno,
    action: String,
    log: String,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let failure = Failure::refused(refusal.action, refusal.errno);
        match refusal.log.is_empty() {
            true => failure,
            false => failure.hint(format!("the kernel says: {}", refusal.log)),
        }
    }
}

/// A FUSE mount on `device` that is not in the tree.
fn detached(request: &MountRequest, device: &OwnedFd) -> std::result::Result<OwnedFd, Refusal> {
    let refused = |action: &str, log: String| {
        let action = action.to_owned();
        move |errno| Refusal { errno, action, log }
    };
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(refused("cannot make a FUSE file system", String::new()))?;
    for (key, value) in parameters(request, device) {
        let set = match &value {
            Some(value) => fsconfig_set_string(&context, key, value.as_slice()),
            None => fsconfig_set_flag(&context, key),
        };
        let shown = value.map(|value| format!("={}", String::from_utf8_lossy(&value))).unwrap_or_default();
        set.map_err(|errno| refused(&format!("cannot set {key}{shown}"), log(&context))(errno))?;
    }
    fsconfig_create(&context).map_err(|errno| refused("cannot make the FUSE mount", log(&context))(errno))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(request.flags))
        .map_err(|errno| refused("cannot make the FUSE mount", log(&context))(errno))
}

/// The file system's parameters: a name, and a value unless it is a flag.
fn parameters(request: &MountRequest, device: &OwnedFd) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let number = |number: u32| Some(number.to_string().into_bytes());
    let text = |text: &OsStr| Some(text.as_bytes().to_vec());
    let mut parameters = vec![
        ("source", text(&request.source)),
        ("subtype", text(&request.subtype)),
        ("fd", Some(device.as_raw_fd().to_string().into_bytes())),
        // The root is a directory, in octal as FUSE wants it.
        ("rootmode", Some(b"40000".to_vec())),
        ("user_id", number(rustix::process::geteuid().as_raw())),
        ("group_id", number(rustix::process::getegid().as_raw())),
        ("default_permissions", None),
    ];
    if request.access == Access::Everyone {
        parameters.push(("allow_other", None));
    }
    parameters.extend(request.max_read.map(|bytes| ("max_read", number(bytes))));
    let flags = [
        (MountFlags::RDONLY, "ro"),
        (MountFlags::SYNCHRONOUS, "sync"),
        (MountFlags::DIRSYNC, "dirsync"),
        (MountFlags::LAZYTIME, "lazytime"),
    ];
    parameters.extend(
        flags.iter().filter(|(flag, _)| request.flags.contains(*flag)).map(|&(_, name)| (name, None)),
    );
    // As mount(8) does: where no SELinux is, labels mean nothing.
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        parameters.extend(request.labels.iter().map(|(name, label)| (*name, text(label))));
    }
    parameters
}

/// The mount's own attributes.
fn attributes(flags: MountFlags) -> MountAttrFlags {
    let table = [
        (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (MountFlags::NODIRATIME, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
        (MountFlags::NOSYMFOLLOW, MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let chosen = table.iter().filter(|(flag, _)| flags.contains(*flag)).map(|&(_, attribute)| attribute);
    let attributes: MountAttrFlags = chosen.collect();
    // One of three: strictatime wins, as in mount(2).
    if flags.contains(MountFlags::STRICTATIME) {
        attributes | MountAttrFlags::MOUNT_ATTR_STRICTATIME
    } else if flags.contains(MountFlags::NOATIME) {
        attributes | MountAttrFlags::MOUNT_ATTR_NOATIME
    } else {
        attributes
    }
}

/// What the kernel wrote about a context, one line: `e fuse: Bad value for 'x'`.
fn log(context: &OwnedFd) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
        lines.push(line.trim_start_matches(['e', 'w', 'i']).trim().to_owned());
    }
    lines.join("; ")
}

impl Pending {
    /// Puts the mount in its place, now that the server has greeted the kernel.
    ///
    /// # Errors
    /// What the kernel said; the mount is gone then.
    pub fn attach(mut self) -> Result<Mounted> {
        if let Place::Detached { mount, target } = &self.place {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            move_mount(mount, "", target, "", flags)
                .map_err(|errno| Failure::refused("cannot put the mount on its mount point", errno))?;
        }
        // Both descriptors must go: an open one keeps the mount below busy.
        self.place = Place::Settled;
        Ok(self.mounted)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Place::Attached = self.place {
            self.mounted.unmount_reporting();
        }
    }
}

impl Mounted {
    /// The mount that a path (or an empty one: a descriptor) leads to; the
    /// server is not asked, which does not answer yet.
    fn of(at: impl AsFd, path: impl rustix::path::Arg, request: &MountRequest) -> Result<Mounted> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = rustix::fs::statx(at, path, flags, StatxFlags::empty())
            .map_err(|errno| Failure::refused("cannot look at the new mount", errno))?;
        Ok(Mounted { device: (found.stx_dev_major, found.stx_dev_minor), standing: request.standing })
    }

    /// Takes the mount away wherever this namespace shows it; who still has a
    /// file open keeps it until then.
    ///
    /// # Errors
    /// The first refusal.
    pub fn unmount(self) -> Result<()> {
        let entries = mountinfo::entries().map_err(|error| Failure::refused("cannot list mounts", error))?;
        for entry in entries.iter().rev().filter(|entry| entry.device == self.device) {
            let top = entries.iter().rfind(|other| other.path == entry.path);
            if top.is_some_and(|top| top.device != self.device) {
                return Err(Failure::mount(format!("another mount lies over {}", entry.path.display())));
            }
            match self.standing {
                Standing::User => fusermount::unmount(&entry.path)?,
                Standing::Root | Standing::Namespace => {
                    rustix::mount::unmount(&entry.path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                        .or_else(|errno| match errno {
                            Errno::PERM => fusermount::unmount(&entry.path),
                            errno => Err(Failure::refused(
                                format!("cannot unmount {}", entry.path.display()),
                                errno,
                            )),
                        })?;
                }
            }
        }
        Ok(())
    }

    /// As [`Mounted::unmount`], where nobody is left to be told but the log.
    pub fn unmount_reporting(self) {
        if let Err(failure) = self.unmount() {
            eprintln!("runionfs: {failure}");
        }
    }
}
