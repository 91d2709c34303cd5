//! Limits set on a group that is there: each by the version that has its
//! controller, and words for those that neither has.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::controller::Controller;
use super::plan::{self, Plan, Write, lost};
use super::v2::Present;
use super::{Group, Place, Refusals, devices, file, filter, v1, v2};
use crate::bundle::Resources;
use crate::failure::Result;
use crate::sys::bpf;

/// Whether a group is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It has no limits yet, not even of devices.
    AtFirst,
    /// What is not mentioned stays.
    Later,
}

/// Where those go that were in the way.
const ASIDE: &str = "runion-caller";
const SUBTREE: &str = "cgroup.subtree_control";

/// The controllers that limits are asked of.
pub fn needed(resources: &Resources) -> Result<BTreeSet<Controller>> {
    let plans = v1::plans(resources).into_iter().map(|plan| plan.controller);
    let named = v2::verbatim(resources)?.into_iter().filter_map(|(controller, _)| controller);
    Ok(plans.chain(named).collect())
}

/// Sets limits, and says which could not be.
pub fn apply(group: &Group, resources: &Resources, refusals: &Refusals, when: When) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let of_v2 = v2::plans(resources, &present(group))?;
    for v1 in v1::plans(resources) {
        let v2 = of_v2.iter().find(|plan| plan.controller == v1.controller);
        warnings.extend(apply_one(group, &v1, v2, refusals)?);
    }
    for (controller, write) in v2::verbatim(resources)? {
        warnings.extend(apply_verbatim(group, controller, write, refusals)?);
    }
    if when == When::AtFirst || !resources.devices.is_empty() {
        warnings.extend(limit_devices(group, resources, refusals)?);
    }
    Ok(warnings)
}

fn apply_one(group: &Group, v1: &Plan, v2: Option<&Plan>, refusals: &Refusals) -> Result<Vec<String>> {
    let controller = v1.controller;
    let reason = match (group.place(controller), v2) {
        (Some(Place::V1(dir)), _) => return v1.apply(dir),
        (Some(Place::V2(dir)), Some(v2)) => match refusals.get(&controller) {
            // What v2 does not have at all is told so.
            None => return v2.apply(dir),
            Some(_) if v2.writes.is_empty() => return v2.apply(dir),
            Some(reason) => reason.clone(),
        },
        _ => refusals.get(&controller).cloned().unwrap_or_else(|| absent(controller)),
    };
    Ok(v1.asked().into_iter().map(|what| lost(what, &reason)).collect())
}

fn apply_verbatim(
    group: &Group,
    controller: Option<Controller>,
    write: Write,
    refusals: &Refusals,
) -> Result<Vec<String>> {
    let in_v1 = controller.is_some_and(|controller| group.v1.contains_key(&controller));
    let refusal = controller.and_then(|controller| refusals.get(&controller)).map(String::as_str);
    let reason = match (&group.v2, refusal) {
        (Some(_), _) if in_v1 => "this host has its controller on cgroup v1",
        (Some(dir), None) => return plan::apply(&[write], dir),
        (_, Some(reason)) => reason,
        (None, None) => "the container has no group of cgroup v2",
    };
    Ok(vec![lost(write.what, reason)])
}

fn absent(controller: Controller) -> String {
    format!("there is no group of the controller {} for it", controller.name())
}

/// What v2's files say, where a new limit depends on it.
fn present(group: &Group) -> Present {
    let Some(dir) = &group.v2 else { return Present::default() };
    let memory = file::number(dir, "memory.max").ok();
    Present {
        memory: memory.map(|limit| limit.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1)),
        cpu: file::read(dir, "cpu.max").ok(),
    }
}

/// Devices: the only limit that every container has without asking for it.
///
/// An ordinary user's container can neither make nodes of devices nor be shown
/// any that its user may not use: there, nothing is lost.
fn limit_devices(group: &Group, resources: &Resources, refusals: &Refusals) -> Result<Vec<String>> {
    let rules = devices::rules(&resources.devices)?;
    let (what, applied) = match group.place(Controller::Devices) {
        Some(Place::V1(dir)) => ("devices.allow", devices::apply_v1(dir, &devices::v1_lines(&rules)?)),
        Some(Place::V2(dir)) => ("BPF", filter_devices(dir, &filter::assemble(&rules))),
        None => {
            let reason = refusals.get(&Controller::Devices).cloned();
            return Ok(unlimited_devices(&reason.unwrap_or_else(|| absent(Controller::Devices))));
        }
    };
    match applied {
        Ok(()) => Ok(Vec::new()),
        Err(error) => Ok(unlimited_devices(&format!("{what}: {error}"))),
    }
}

fn unlimited_devices(reason: &str) -> Vec<String> {
    // The initial user namespace maps every id onto itself.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_initial = map.split_whitespace().eq(["0", "0", "4294967295"]);
    match rustix::process::geteuid().is_root() && is_initial {
        true => vec![lost("limit of devices", reason)],
        false => Vec::new(),
    }
}

/// A program decides from now on, and no earlier one any more.
fn filter_devices(dir: &Path, program: &[bpf::Instruction]) -> std::io::Result<()> {
    let group = open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let earlier = bpf::device_filters(&group)?;
    let program = bpf::load_device_filter(program)?;
    bpf::attach_device_filter(&group, &program)?;
    earlier.iter().try_for_each(|earlier| bpf::detach_device_filter(&group, earlier))
}

/// Lets a group of v2 have controllers, from the highest group down that does
/// not give them on; says which it cannot have, and why.
pub fn enable(dir: &Path, controllers: impl Iterator<Item = Controller>) -> Refusals {
    let named = controllers.filter_map(|controller| Some((controller, controller.enabled_as()?)));
    named.filter_map(|(controller, name)| Some((controller, enable_one(dir, name).err()?))).collect()
}

fn enable_one(dir: &Path, name: &str) -> Result<(), String> {
    let has = |group: &Path, file: &str| file::read(group, file).is_ok_and(|text| file::lists(&text, name));
    if has(dir, "cgroup.controllers") {
        return Ok(());
    }
    let mut giving = Vec::new();
    for group in dir.ancestors().skip(1) {
        if !group.join(SUBTREE).exists() {
            return Err(format!("cgroup v2 has no controller {name} here"));
        }
        giving.push(group);
        if has(group, "cgroup.controllers") {
            break;
        }
    }
    giving.iter().rev().try_for_each(|group| give(group, name))
}

/// Lets the groups below one have a controller.
fn give(group: &Path, name: &str) -> Result<(), String> {
    let write = || file::write(group, SUBTREE, &format!("+{name}"));
    let written = match write() {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            set_aside(group)?;
            write()
        }
        written => written,
    };
    written.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => format!(
            "the controller {name} is not delegated to this user (with systemd: Delegate={name} for \
             user@.service); {}: {error}",
            group.display()
        ),
        _ => format!("{}/{SUBTREE}: {error}", group.display()),
    })
}

/// Moves the processes of the caller's own group out of the way.
fn set_aside(group: &Path) -> Result<(), String> {
    let own = rustix::process::getpid().as_raw_nonzero().to_string();
    let listed =
        file::read(group, "cgroup.procs").map_err(|error| format!("{}: {error}", group.display()))?;
    if !file::lists(&listed, &own) {
        return Err(format!(
            "processes are in {} itself, which keeps groups below it from having controllers; \
             move them into a group below it",
            group.display()
        ));
    }
    let aside = group.join(ASIDE);
    let move_all = || {
        match std::fs::create_dir(&aside) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Those that have ended by then are out of the way as well; 0 is a
        // process of another pid namespace.
        listed.split_whitespace().filter(|pid| *pid != "0").try_for_each(|pid| {
            match file::write(&aside, "cgroup.procs", pid) {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(()),
                moved => moved,
            }
        })
    };
    move_all().map_err(|error| format!("the processes in {} cannot be moved: {error}", group.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Memory, Pids};

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("runion-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn controllers_are_enabled_from_the_highest_group_down() {
        let top = scratch("enable");
        let dir = top.join("a/b");
        std::fs::create_dir_all(&dir).unwrap();
        for (group, controllers) in [("", "cpu memory pids\n"), ("a", "pids\n"), ("a/b", "\n")] {
            std::fs::write(top.join(group).join("cgroup.controllers"), controllers).unwrap();
            std::fs::write(top.join(group).join(SUBTREE), "").unwrap();
        }
        let refusals = enable(&dir, [Controller::Memory, Controller::HugePages].into_iter());
        assert_eq!(refusals.keys().copied().collect::<Vec<_>>(), [Controller::HugePages]);
        assert_eq!(std::fs::read_to_string(top.join(SUBTREE)).unwrap(), "+memory");
        assert_eq!(std::fs::read_to_string(top.join("a").join(SUBTREE)).unwrap(), "+memory");
        assert_eq!(std::fs::read_to_string(dir.join(SUBTREE)).unwrap(), "");
        // What the parent has needs no more from above.
        std::fs::write(top.join(SUBTREE), "").unwrap();
        assert!(enable(&dir, [Controller::Pids].into_iter()).is_empty());
        assert_eq!(std::fs::read_to_string(top.join(SUBTREE)).unwrap(), "");
        assert_eq!(std::fs::read_to_string(top.join("a").join(SUBTREE)).unwrap(), "+pidsry");
        std::fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn limits_go_to_the_version_that_has_them_and_the_others_are_told() {
        let top = scratch("versions");
        let (v1, v2) = (top.join("v1"), top.join("v2"));
        for (dir, files) in [(&v1, ["pids.max", "devices.deny"]), (&v2, ["memory.max", "memory.swap.max"])] {
            std::fs::create_dir(dir).unwrap();
            files.iter().for_each(|file| std::fs::write(dir.join(file), "").unwrap());
        }
        let group = Group {
            path: "runion/x".into(),
            v1: [(Controller::Pids, v1.clone())].into(),
            v2: Some(v2.clone()),
        };
        let resources = Resources {
            pids: Some(Pids { limit: 7 }),
            memory: Some(Memory {
                limit: Some(100),
                swap: Some(150),
                swappiness: Some(1),
                ..Memory::default()
            }),
            cpu: Some(crate::bundle::Cpu { shares: Some(9), ..Default::default() }),
            unified: [("memory.high".to_owned(), "5".to_owned())].into(),
            ..Resources::default()
        };
        let refusals = [(Controller::Cpu, "of a reason".to_owned())].into();
        let warnings = apply(&group, &resources, &refusals, When::Later).unwrap();
        let read = |dir: &Path, file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
        assert_eq!(read(&v1, "pids.max"), "7");
        assert_eq!((read(&v2, "memory.max"), read(&v2, "memory.swap.max")), ("100".into(), "50".into()));
        assert_eq!(
            warnings,
            [
                "cannot set the memory swappiness: cgroup v2 does not have it",
                "cannot set the CPU shares: of a reason",
                "cannot set the unified resource: this kernel has no memory.high",
            ]
        );
        // On its own, the new swap is seen against the memory that is set.
        let more = Memory { swap: Some(300), ..Memory::default() };
        let resources = Resources { memory: Some(more), ..Resources::default() };
        assert!(apply(&group, &resources, &refusals, When::Later).unwrap().is_empty());
        assert_eq!(read(&v2, "memory.swap.max"), "200");
        std::fs::remove_dir_all(&top).unwrap();
    }
}
