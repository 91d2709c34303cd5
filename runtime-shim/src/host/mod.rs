//! What this host has for containers, and what it lacks: each found out by
//! trying it, as this caller, in namespaces that end with the trial.
//!
//! | module | what |
//! |---|---|
//! | [`kernel`] | its version, seccomp |
//! | [`storage`] | FUSE, the mount helper, overlayfs |
//! | [`users`] | user namespaces, subordinate ids |
//! | [`network`] | bridges, rules, ways out without root |
//! | [`limits`] | cgroups |
//! | [`probe`] | trials in namespaces |
//!
//! Nothing here changes the host, and nothing is left on it.

mod kernel;
mod limits;
mod network;
mod probe;
mod storage;
mod users;

use std::path::{Path, PathBuf};

use rustix::thread::{CapabilitySet, capabilities};
use serde::Serialize;

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Finding {
    /// What.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// What there is, or is not.
    pub found: String,
    /// What the user can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Containers run, and some of what they can do elsewhere does not work.
    Limited,
    /// Containers cannot run.
    Missing,
}

impl State {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Limited => "limited",
            State::Missing => "missing",
        }
    }
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding { check, state: State::Ok, found: found.into(), remedy: None }
    }

    fn limited(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { check, state: State::Limited, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn missing(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { state: State::Missing, ..Finding::limited(check, found, remedy) }
    }
}

/// Who looks: what has to work differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// May mount.
    Root,
    /// Needs a user namespace for that.
    Ordinary,
}

impl Caller {
    fn find() -> Caller {
        let may_mount =
            capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
        match rustix::process::geteuid().is_root() && may_mount {
            true => Caller::Root,
            false => Caller::Ordinary,
        }
    }
}

/// Looks at everything; of the store, at what its networks have in the kernel.
pub fn look(store: &Path) -> Vec<Finding> {
    let caller = Caller::find();
    let mut findings = vec![kernel::version(), kernel::seccomp()];
    findings.extend(storage::look(caller));
    findings.extend([users::namespaces(caller), users::subordinate(caller)]);
    findings.extend(network::look(caller, store));
    findings.push(limits::look(caller));
    findings
}

/// A program's place in `PATH`.
fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where an ordinary user's PATH does not lead, and what is run by name is.
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// A number of the kernel's, where it has it.
fn sysctl(name: &str) -> Option<u64> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
