//! Mounting through `fusermount3`, the set-user-id program of the FUSE
//! project, for those who may not mount themselves. It mounts, and hands the
//! `/dev/fuse` descriptor over a socket whose number is in the environment.

use std::ffi::{OsStr, OsString};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Output};

use rustix::mount::MountFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};

use crate::failure::{Failure, Result};
use crate::request::{Access, MountRequest};

/// The variable in which the program looks for its socket.
const SOCKET: &str = "_FUSE_COMMFD";
/// Its names, the newer first.
const PROGRAMS: [&str; 2] = ["fusermount3", "fusermount"];

/// Mounts, and returns the open `/dev/fuse`.
///
/// # Errors
/// What the program said.
pub fn mount(request: &MountRequest) -> Result<OwnedFd> {
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None);
    let (ours, theirs) = pair.map_err(|errno| Failure::system("cannot make a socket", errno))?;
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC)
        .map_err(|errno| Failure::system("cannot keep a socket", errno))?;
    let arguments = [OsStr::new("-o"), &options(request), OsStr::new("--"), request.mountpoint.as_os_str()];
    let output = run(&arguments, Some(theirs.as_raw_fd()))?;
    drop(theirs);
    match receive(&ours) {
        Ok(Some(device)) if output.status.success() => Ok(device),
        Ok(_) => Err(said(&output, "fusermount3 did not mount")),
        Err(errno) => Err(Failure::refused("fusermount3 did not hand over its device", errno)),
    }
}

/// Unmounts, lazily.
///
/// # Errors
/// What the program said.
pub fn unmount(mountpoint: &Path) -> Result<()> {
    let arguments = ["-u", "-z", "--"].map(OsStr::new);
    let output = run(&[&arguments[..], &[mountpoint.as_os_str()]].concat(), None)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(said(&output, "fusermount3 did not unmount")),
    }
}

fn run(arguments: &[&OsStr], socket: Option<i32>) -> Result<Output> {
    for program in PROGRAMS {
        let mut command = Command::new(program);
        command.args(arguments).stdin(std::process::Stdio::null());
        if let Some(socket) = socket {
            command.env(SOCKET, socket.to_string());
        }
        match command.output() {
            Ok(output) => return Ok(output),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::refused(format!("cannot run {program}"), error)),
        }
    }
    Err(Failure::mount("only root may mount, and there is no fusermount3 to do it for others")
        .hint("install the package fuse3, or mount in a user namespace (unshare -Urm)"))
}

/// The last line of what it wrote is the reason.
fn said(output: &Output, otherwise: &str) -> Failure {
    let text = String::from_utf8_lossy(&output.stderr);
    let reason = text.lines().rfind(|line| !line.trim().is_empty());
    let failure = Failure::mount(reason.unwrap_or(otherwise));
    if text.contains("user_allow_other") {
        failure.hint("root can write user_allow_other into /etc/fuse.conf")
    } else if text.contains("/dev/fuse") {
        failure.hint("who mounts must be able to read and write /dev/fuse")
    } else {
        failure
    }
}

fn options(request: &MountRequest) -> OsString {
    let mut options = b"default_permissions".to_vec();
    let mut add = |name: &str, value: &OsStr| {
        options.push(b',');
        options.extend_from_slice(name.as_bytes());
        for &byte in value.as_bytes() {
            if matches!(byte, b',' | b'\\') {
                options.push(b'\\');
            }
            options.push(byte);
        }
    };
    add("fsname=", &request.source);
    add("subtype=", &request.subtype);
    let flags = [
        (MountFlags::RDONLY, "ro"),
        (MountFlags::NOSUID, "nosuid"),
        (MountFlags::NODEV, "nodev"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::NOATIME, "noatime"),
        (MountFlags::SYNCHRONOUS, "sync"),
        (MountFlags::DIRSYNC, "dirsync"),
    ];
    for (_, name) in flags.iter().filter(|(flag, _)| request.flags.contains(*flag)) {
        add(name, OsStr::new(""));
    }
    if request.access == Access::Everyone {
        add("allow_other", OsStr::new(""));
    }
    if let Some(bytes) = request.max_read {
        add("max_read=", OsStr::new(&bytes.to_string()));
    }
    OsString::from_vec(options)
}

/// The descriptor in the one message there is, if it came.
fn receive(socket: &OwnedFd) -> rustix::io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(rights.flatten().next())
}
