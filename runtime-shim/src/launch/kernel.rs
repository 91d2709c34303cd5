//! Names, parameters and clocks of the container's own namespaces, and what a
//! process says of itself through /proc.
//!
//! Never through a /proc that the container or its image could have made: a
//! procfs of our own, mounted nowhere, or the host's, verified.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::filesystems::make;
use super::target::{self, Links};
use crate::bundle::{Linux, NamespaceKind, Spec};
use crate::failure::{Context, Failure, Result};

/// A procfs that can be trusted.
pub struct Proc(OwnedFd);

impl Proc {
    /// Of the processes of the namespace that this process is in.
    pub fn open() -> Result<Proc> {
        let context = || "cannot open a /proc of my own".to_string();
        if let Ok(tree) = make("proc", "proc", &[] as &[&str], 0) {
            return Ok(Proc(tree));
        }
        // The host's processes, and none of one's own.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let host = openat(CWD, "/proc", flags, Mode::empty()).context(context)?;
        match target::is_on_proc(host.as_fd()).context(context)? {
            true => Ok(Proc(host)),
            false => Err(Failure::new(format!("{}: /proc is something else", context()))),
        }
    }

    /// Writes a file of it at once.
    pub fn write(&self, path: &str, text: &[u8]) -> std::io::Result<()> {
        // "self" is a link within the same procfs; what lies on top of it is not.
        let flags = OFlags::WRONLY | OFlags::NOCTTY;
        let opened = target::open(self.0.as_fd(), Path::new(path), flags, Links::Within)?;
        if !target::is_on_proc(opened.as_fd())? {
            return Err(std::io::Error::from_raw_os_error(libc::EXDEV));
        }
        File::from(opened).write_all(text)
    }
}

/// What a namespace must be of one's own for.
fn namespace_of(parameter: &str) -> Option<NamespaceKind> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    match parameter {
        "kernel.hostname" | "kernel.domainname" => Some(NamespaceKind::Uts),
        ipc if IPC.contains(&ipc) || ipc.starts_with("fs.mqueue.") => Some(NamespaceKind::Ipc),
        net if net.starts_with("net.") => Some(NamespaceKind::Network),
        user if user.starts_with("user.") => Some(NamespaceKind::User),
        _ => None,
    }
}

/// Refuses parameters that would change the host, before anything is made.
pub fn check_parameters(linux: &Linux) -> Result<()> {
    for name in linux.sysctl.keys() {
        let dotted = name.replace('/', ".");
        let refuse = |why: &str| Err(Failure::new(format!("cannot set the parameter {name:?}: {why}")));
        if dotted.split('.').any(str::is_empty) {
            return refuse("it is no name");
        }
        let Some(kind) = namespace_of(&dotted) else {
            return refuse("it is not of a namespace, so the whole machine's");
        };
        if linux.namespace(kind).is_none() {
            return refuse("it is the host's: the container has no such namespace of its own");
        }
    }
    Ok(())
}

/// Sets the parameters.
pub fn set_parameters(linux: &Linux) -> Result<()> {
    if linux.sysctl.is_empty() {
        return Ok(());
    }
    let proc = Proc::open()?;
    for (name, value) in &linux.sysctl {
        // A name may have dots of its own where it is written with slashes.
        let path = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
        proc.write(&format!("sys/{path}"), value.as_bytes())
            .context(|| format!("cannot set the parameter {name:?} to {value:?}"))?;
    }
    Ok(())
}

/// Names the machine.
pub fn set_names(spec: &Spec) -> Result<()> {
    let names = [("hostname", &spec.hostname), ("domainname", &spec.domainname)];
    for (what, name) in names {
        let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else { continue };
        let context = || format!("cannot set the {what} {name:?}");
        if spec.linux.as_ref().is_none_or(|linux| linux.namespace(NamespaceKind::Uts).is_none()) {
            return Err(Failure::new(format!("{}: the container has no uts namespace", context())));
        }
        match what {
            "hostname" => rustix::system::sethostname(name.as_bytes()),
            _ => rustix::system::setdomainname(name.as_bytes()),
        }
        .context(context)?;
    }
    Ok(())
}

/// Sets the clocks of a time namespace of one's own, which exec enters.
pub fn set_clocks(linux: &Linux) -> Result<()> {
    if linux.time_offsets.is_empty() {
        return Ok(());
    }
    let mut lines = String::new();
    for (clock, offset) in &linux.time_offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Failure::new(format!(
                "cannot set the clock {clock:?}: there are monotonic and boottime"
            )));
        }
        lines.push_str(&format!("{clock} {} {}\n", offset.secs, offset.nanosecs));
    }
    Proc::open()?
        .write("self/timens_offsets", lines.as_bytes())
        .context(|| "cannot set the clocks".to_string())
}

/// What AppArmor and SELinux are told to make of the command.
pub struct Labels {
    apparmor: Option<String>,
    selinux: Option<String>,
}

impl Labels {
    /// As a process asks for them; refused where the host has no such thing.
    pub fn of(process: &crate::bundle::Process) -> Result<Labels> {
        let asked =
            |label: &Option<String>| label.clone().filter(|label| !label.is_empty() && label != "unconfined");
        let (apparmor, selinux) = (asked(&process.apparmor_profile), asked(&process.selinux_label));
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
        if let Some(profile) = apparmor.as_ref().filter(|_| enabled.trim() != "Y") {
            return Err(Failure::new(format!(
                "cannot confine the container by the AppArmor profile {profile:?}: this host has no AppArmor"
            )));
        }
        if let Some(label) = selinux.as_ref().filter(|_| !has_selinux()) {
            return Err(Failure::new(format!(
                "cannot give the container the SELinux label {label:?}: this host has no SELinux"
            )));
        }
        Ok(Labels { apparmor, selinux })
    }

    /// Says so to the kernel, for the next exec of this process.
    pub fn apply(&self) -> Result<()> {
        if self.apparmor.is_none() && self.selinux.is_none() {
            return Ok(());
        }
        let proc = Proc::open()?;
        if let Some(profile) = &self.apparmor {
            let text = format!("exec {profile}");
            let said = match proc.write("thread-self/attr/apparmor/exec", text.as_bytes()) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    proc.write("thread-self/attr/exec", text.as_bytes())
                }
                said => said,
            };
            said.context(|| format!("cannot take on the AppArmor profile {profile:?}"))?;
        }
        if let Some(label) = &self.selinux {
            proc.write("thread-self/attr/exec", label.as_bytes())
                .context(|| format!("cannot take on the SELinux label {label:?}"))?;
        }
        Ok(())
    }
}

/// Whether this host has SELinux: without, labels of mounts mean nothing.
pub fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Namespace;

    #[test]
    fn only_a_namespace_s_own_parameters_are_taken() {
        let mut linux = Linux {
            namespaces: vec![Namespace { kind: NamespaceKind::Network, path: None }],
            ..Linux::default()
        };
        let mut check = |name: &str| {
            linux.sysctl = [(name.to_owned(), "1".to_owned())].into();
            check_parameters(&linux).is_ok()
        };
        assert!(check("net.ipv4.ip_forward") && check("net/ipv4/conf/eth0.1/forwarding"));
        for bad in ["kernel.panic", "kernel.hostname", "kernel.shmmax", "net..x", "net.ipv4/../../x", "vm.x"]
        {
            assert!(!check(bad), "{bad}");
        }
    }
}
