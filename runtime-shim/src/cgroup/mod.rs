//! Groups of processes with limits: cgroups v1, v2, or both beside each other.
//!
//! | module | what |
//! |---|---|
//! | [`hierarchy`] | where groups are on this host, from two texts |
//! | [`directory`] | groups as directories: made, found, removed |
//! | [`v1`], [`v2`], [`plan`] | limits as files and contents, before one is written |
//! | [`devices`], [`filter`] | rules for devices: lines of v1, a program for v2 |
//! | [`limit`] | limits set on a group that is there |
//! | [`processes`] | who is in a group: killed, stopped, let go on |
//! | [`stats`] | what a group has used |
//! | [`survey`] | what could be limited here |
//! | [`flags`] | limits in docker's words |
//!
//! A [`Group`] is one name in every hierarchy that the host has. A limit is
//! set where its controller is; what was asked for and cannot be had is told
//! in a warning with the reason, and what nobody asked for makes no noise. A
//! value that the kernel refuses is an error.
//!
//! Nothing is kept in memory: a group is found again by what a container's
//! state records of it, or by its path alone.
//!
//! # Who may have groups
//! Root has them below the top. Anybody else has them in what was delegated to
//! him: the highest group above his own that he may write to (with systemd,
//! `user@UID.service`, or a scope with `Delegate=yes`). A process in a login
//! session outside of those cannot be moved there by its user; limits are then
//! lost with a hint.
//!
//! # Processes in the way
//! cgroup v2 gives no controllers to groups below one that has processes of
//! its own. Where the caller himself is in it (a container without an init that
//! delegates, a scope with a shell) all processes of that group are moved into
//! a group `runion-caller` below it, as podman does: its limits hold for them
//! as before. Where he is not, they are not his to move, and limits are lost
//! with the reason.

mod controller;
mod devices;
mod directory;
mod file;
mod filter;
pub mod flags;
mod hierarchy;
mod limit;
mod plan;
mod processes;
pub mod quantity;
mod stats;
mod survey;
mod v1;
mod v2;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub use controller::Controller;
pub use hierarchy::{Hierarchy, Kind};
pub use stats::Stats;
pub use survey::Survey;

use crate::bundle::Resources;
use crate::failure::{Failure, Result};
use crate::launch::{Groups, REFUSED_ENTRY};

/// A group, as it is recorded: a directory in each hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Its path below the place where groups may be made.
    path: PathBuf,
    /// Its directory by controller of v1.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    v1: BTreeMap<Controller, PathBuf>,
    /// Its directory of v2.
    #[serde(skip_serializing_if = "Option::is_none")]
    v2: Option<PathBuf>,
}

/// Why a controller is not to be had, by controller.
pub type Refusals = BTreeMap<Controller, String>;

impl Group {
    /// Makes a group and sets its limits; gives the words about those that
    /// could not be set. What a crash left under the path is removed first.
    ///
    /// # Errors
    /// A group of this path has processes; a value that the kernel refuses.
    pub fn create(path: &Path, resources: &Resources) -> Result<(Group, Vec<String>)> {
        let relative = directory::checked(path)?;
        let needed = limit::needed(resources)?;
        let (group, refusals) = Group::make(&Hierarchy::find()?, relative, &needed)?;
        match limit::apply(&group, resources, &refusals, limit::When::AtFirst) {
            Ok(warnings) => Ok((group, warnings)),
            Err(failure) => Err(group.undo(failure)),
        }
    }

    /// Makes a group without limits in each hierarchy that may be needed, and
    /// says which may not be used, and why.
    pub fn make(
        hierarchy: &Hierarchy,
        relative: PathBuf,
        needed: &BTreeSet<Controller>,
    ) -> Result<(Group, Refusals)> {
        let mut group = Group { path: relative, ..Group::default() };
        let mut refusals = Refusals::new();
        let made = group.make_everywhere(hierarchy, needed, &mut refusals);
        match made {
            Ok(()) => Ok((group, refusals)),
            Err(failure) => Err(group.undo(failure)),
        }
    }

    fn make_everywhere(
        &mut self,
        hierarchy: &Hierarchy,
        needed: &BTreeSet<Controller>,
        refusals: &mut Refusals,
    ) -> Result<()> {
        let wanted = |controller: &Controller| controller.is_usual() || needed.contains(controller);
        for v1 in hierarchy.v1.iter().filter(|v1| v1.controllers.iter().any(wanted)) {
            let is_cpuset = v1.controllers.contains(&Controller::Cpuset);
            let seed = |dir: &Path| if is_cpuset { inherit_sets(dir) } else { Ok(()) };
            let bases = directory::bases(&v1.mounted);
            match self.made(directory::make(&bases, &self.path, &seed), &v1.mounted.top)? {
                Ok(dir) => self.v1.extend(v1.controllers.iter().map(|&controller| (controller, dir.clone()))),
                Err(reason) => refusals.extend(v1.controllers.iter().map(|&c| (c, reason.clone()))),
            }
        }
        let Some(v2) = &hierarchy.v2 else { return Ok(()) };
        let in_v1 =
            |controller: &Controller| hierarchy.v1.iter().any(|v1| v1.controllers.contains(controller));
        let left = Controller::ALL.into_iter().filter(|controller| !in_v1(controller));
        match self.made(directory::make(&directory::bases(v2), &self.path, &|_| Ok(())), &v2.top)? {
            Ok(dir) => {
                self.v2 = Some(dir.clone());
                let enabled =
                    left.filter(|controller| controller.is_counted() || needed.contains(controller));
                refusals.extend(limit::enable(&dir, enabled));
            }
            Err(reason) => refusals.extend(left.map(|controller| (controller, reason.clone()))),
        }
        Ok(())
    }

    /// A directory, or why this caller cannot have one.
    fn made(&self, made: io::Result<PathBuf>, top: &Path) -> Result<std::result::Result<PathBuf, String>> {
        match made {
            Ok(dir) => Ok(Ok(dir)),
            Err(error) if directory::is_refusal(&error) => {
                let is_v2 = top.join("cgroup.controllers").exists();
                let help = match (rustix::process::geteuid().is_root(), is_v2) {
                    (true, _) => "",
                    (false, true) => {
                        "; without root, it takes a group that is delegated: \
                                      systemd-run --user --scope -p Delegate=yes …"
                    }
                    (false, false) => "; without root, limits take cgroup v2",
                };
                Ok(Err(format!("no group can be made in {}: {error}{help}", top.display())))
            }
            Err(error) => {
                let failure = Failure::new(format!(
                    "cannot make the cgroup /{} in {}: {error}",
                    self.path.display(),
                    top.display()
                ));
                Err(match error.kind() {
                    ErrorKind::ResourceBusy => {
                        failure.hint("processes are in a group of that name: end them first")
                    }
                    _ => failure,
                })
            }
        }
    }

    /// The group of this path, if a process that is gone has left one.
    pub fn at(path: &Path) -> Result<Option<Group>> {
        let relative = directory::checked(path)?;
        let hierarchy = Hierarchy::find()?;
        let find = |mounted| {
            let candidates = directory::bases(mounted).into_iter().map(|base| base.join(&relative));
            candidates.into_iter().find(|dir| dir.is_dir())
        };
        let mut group = Group { path: relative.clone(), ..Group::default() };
        for v1 in &hierarchy.v1 {
            let dir = find(&v1.mounted);
            group.v1.extend(v1.controllers.iter().filter_map(|&controller| Some((controller, dir.clone()?))));
        }
        group.v2 = hierarchy.v2.as_ref().and_then(find);
        Ok((!group.is_empty()).then_some(group))
    }

    /// Whether it is nowhere: its processes are in the caller's own group.
    pub fn is_empty(&self) -> bool {
        self.v1.is_empty() && self.v2.is_none()
    }

    /// Its path, as cgroup namespaces and people see it.
    pub fn path(&self) -> PathBuf {
        Path::new("/").join(&self.path)
    }

    /// Its directories, each once.
    fn dirs(&self) -> BTreeSet<&Path> {
        self.v1.values().chain(&self.v2).map(PathBuf::as_path).collect()
    }

    /// The ways into it, for a process that is about to be made.
    pub fn ways_in(&self) -> Result<Groups> {
        let open = |path: PathBuf, flags: OFlags| {
            rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
                let failure =
                    Failure::new(format!("cannot enter the cgroup: cannot open {}: {errno}", path.display()));
                match errno {
                    Errno::ACCESS | Errno::PERM => failure.hint(REFUSED_ENTRY),
                    _ => failure,
                }
            })
        };
        let first: BTreeSet<&PathBuf> = self.v1.values().collect();
        let second = self.v2.as_ref().map(|dir| open(dir.clone(), OFlags::PATH | OFlags::DIRECTORY));
        Ok(Groups {
            second: second.transpose()?,
            first: first
                .into_iter()
                .map(|dir| open(dir.join("tasks"), OFlags::WRONLY))
                .collect::<Result<_>>()?,
        })
    }

    /// Sets limits anew; those that are not mentioned stay.
    pub fn update(&self, resources: &Resources) -> Result<Vec<String>> {
        let mut refusals = Refusals::new();
        if let Some(dir) = &self.v2 {
            let needed = limit::needed(resources)?;
            let here = needed.into_iter().filter(|controller| !self.v1.contains_key(controller));
            refusals.extend(limit::enable(dir, here));
        }
        limit::apply(self, resources, &refusals, limit::When::Later)
    }

    /// Removes it and the groups below it. What is gone already is fine.
    pub fn remove(&self) -> Result<()> {
        let depth = self.path.components().count();
        // All are tried: one that stays keeps no other.
        let mut failed = None;
        for dir in self.dirs() {
            if let Err(error) = directory::remove(dir, depth) {
                let failure = Failure::new(format!("cannot remove the cgroup {}: {error}", dir.display()));
                failed = Some(match error.kind() {
                    ErrorKind::ResourceBusy => failure.hint("processes are still in it"),
                    _ => failure,
                });
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Takes back what was made. What cannot be is found by its path later, and
    /// the first failure is the one to tell.
    fn undo(&self, failure: Failure) -> Failure {
        self.remove().map_or_else(|_left| (), |()| ());
        failure
    }

    /// Where a controller of this group is told its limits.
    fn place(&self, controller: Controller) -> Option<Place<'_>> {
        let v1 = self.v1.get(&controller).map(|dir| Place::V1(dir));
        v1.or_else(|| self.v2.as_deref().map(Place::V2))
    }
}

/// A directory of a group, and by which version it is.
#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    V1(&'a Path),
    V2(&'a Path),
}

/// A new group of v1 has no CPUs and no memory nodes, and no process can be in
/// it: it gets its parent's.
fn inherit_sets(dir: &Path) -> io::Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if file::read(dir, name)?.trim().is_empty() {
            file::write(dir, name, file::read(parent, name)?.trim())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod oracle_tests;
