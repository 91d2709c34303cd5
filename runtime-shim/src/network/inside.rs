//! What is done inside a container's network namespace, and the settings of a
//! namespace under /proc/sys/net, which are those of the thread that looks.
//!
//! A namespace belongs to a thread: one is made for the visit and ends with it,
//! so that the caller never is anywhere else.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::failure::{Context, Failure, Result};

/// Runs `visit` in a network namespace.
pub fn inside<T: Send>(namespace: BorrowedFd, visit: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let there = || {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
            .context(|| "cannot enter the container's network namespace".to_owned())?;
        visit()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(256 * 1024)
            .spawn_scoped(scope, there)
            .context(|| "cannot start a thread".to_owned())?;
        thread.join().unwrap_or_else(|_| Err(Failure::new("cannot set up the container's network")))
    })
}

/// A setting of a link (`ipv4` or `ipv6`), where it has that.
///
/// A kernel without IPv6 has none of its settings, and needs none.
pub fn set_for_link(family: &str, link: &str, setting: &str, value: &str) -> Result<()> {
    // As a path, and not by sysctl's names: a link's name may have dots.
    set(&Path::new("/proc/sys/net").join(family).join("conf").join(link).join(setting), value)
}

/// Lets the host pass packets on.
///
/// A host that does so no longer listens to routers unless it is told to: the
/// links that did go on doing it.
pub fn forward(family: Forwarded) -> Result<()> {
    let (switch, listens) = match family {
        Forwarded::Ipv4 => ("/proc/sys/net/ipv4/ip_forward", None),
        Forwarded::Ipv6 => ("/proc/sys/net/ipv6/conf/all/forwarding", Some("/proc/sys/net/ipv6/conf")),
    };
    let state = match fs::read_to_string(switch) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        state => state.context(|| format!("cannot read {switch}"))?,
    };
    if state.trim_end() != "0" {
        return Ok(());
    }
    for link in listens.map(fs::read_dir).transpose().ok().flatten().into_iter().flatten().flatten() {
        let accept: PathBuf = link.path().join("accept_ra");
        let is_link = !["all", "default", "lo"].iter().any(|name| link.file_name() == *name);
        if is_link && fs::read_to_string(&accept).is_ok_and(|value| value.trim_end() == "1") {
            set(&accept, "2")?;
        }
    }
    set(Path::new(switch), "1").map_err(|failure| {
        failure.hint(format!("let the host forward packets: as root, `echo 1 > {switch}`"))
    })
}

/// What is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The older protocol.
    Ipv4,
    /// The newer.
    Ipv6,
}

/// Whether the kernel knows IPv6 here.
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

fn set(file: &Path, value: &str) -> Result<()> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // It may be read-only where it needs no change.
        Ok(found) if found.trim_end() == value => Ok(()),
        _ => fs::write(file, value).context(|| format!("cannot write {value} to {}", file.display())),
    }
}
