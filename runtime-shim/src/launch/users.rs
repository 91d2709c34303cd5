//! The maps of a user namespace, written from outside.
//!
//! Root of the caller's namespace writes them itself; anybody else may map one
//! id of his own, or has `newuidmap` and `newgidmap` map subordinate ones.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getegid, geteuid, set_parent_process_death_signal, waitpid};

use super::namespaces::{self, Users};
use crate::bundle::IdMapping;
use crate::failure::{Context, Failure, Result};
use crate::sys::process::{Relation, clone3};
use crate::sys::{Namespaces, Side, kill};

/// Writes both maps of a process that was just made in a user namespace.
pub fn write(pid: Pid, users: &Users) -> Result<()> {
    let Users::Own { uids, gids } = users else { return Ok(()) };
    let pid = pid.as_raw_nonzero().get();
    if geteuid().is_root() {
        write_file(pid, "uid_map", &lines(uids))?;
        return write_file(pid, "gid_map", &lines(gids));
    }
    let own = |maps: &[IdMapping], id: u32| matches!(maps, [one] if one.size == 1 && one.host_id == id);
    if own(uids, geteuid().as_raw()) && own(gids, getegid().as_raw()) {
        // The kernel maps a group to a process that can no longer drop any.
        write_file(pid, "setgroups", "deny")?;
        write_file(pid, "uid_map", &lines(uids))?;
        return write_file(pid, "gid_map", &lines(gids));
    }
    by_program("newuidmap", pid, uids)?;
    by_program("newgidmap", pid, gids)
}

fn lines(maps: &[IdMapping]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.container_id, map.host_id, map.size)).collect()
}

fn write_file(pid: i32, name: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    fs::write(&path, text).map_err(|error| {
        Failure::new(format!("cannot map the container's ids: {}: {error}", text.trim_end()))
            .hint("the ids mapped must be ids of whoever runs runion, and none twice")
    })
}

fn by_program(program: &str, pid: i32, maps: &[IdMapping]) -> Result<()> {
    let numbers = maps.iter().flat_map(|map| [map.container_id, map.host_id, map.size]);
    let output = Command::new(program)
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .stdin(Stdio::null())
        .output()
        .context(|| format!("cannot run {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("cannot map the container's ids: {program}: {}", said.trim()))
        .hint("check your lines in /etc/subuid and /etc/subgid, and that newuidmap is set-user-id root"))
}

/// A user namespace with such maps that nobody is in: for mounts whose owners
/// are mapped.
pub fn namespace(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    let users = Users::Own { uids: uids.to_vec(), gids: gids.to_vec() };
    let made = clone3(Namespaces::USER, None, Relation::Child);
    let pid = match made.context(|| "cannot make a user namespace".to_string())? {
        Side::Child => wait_to_be_killed(),
        Side::Parent(pid) => pid,
    };
    let opened = write(pid, &users).and_then(|()| namespaces::open(pid, "user"));
    kill(pid.as_raw_nonzero().get(), libc::SIGKILL).context(|| "cannot end a process".to_string())?;
    waitpid(Some(pid), WaitOptions::empty()).context(|| "cannot wait for a process".to_string())?;
    opened
}

fn wait_to_be_killed() -> ! {
    let tied = set_parent_process_death_signal(Some(Signal::KILL));
    while tied.is_ok() {
        std::thread::sleep(Duration::from_secs(3600));
    }
    std::process::exit(1)
}
