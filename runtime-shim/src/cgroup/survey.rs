//! Which limits this caller could set on this host, found out without making a
//! group: for the words of `runion system check`.

use std::path::Path;

use super::controller::Controller;
use super::hierarchy::{Hierarchy, Kind, Mounted};
use super::{directory, file};

/// What can be limited.
#[derive(Debug)]
pub struct Survey {
    /// v1, v2, both, or nothing.
    pub kind: Kind,
    /// With what.
    pub usable: Vec<Controller>,
    /// And with what not, and why.
    pub lost: Vec<(Controller, String)>,
}

/// What flags of docker's can limit.
const ASKED: [Controller; 7] = [
    Controller::Memory,
    Controller::Cpu,
    Controller::Cpuset,
    Controller::Pids,
    Controller::Disks,
    Controller::Devices,
    Controller::HugePages,
];

impl Survey {
    /// Of these hierarchies.
    pub fn of(hierarchy: &Hierarchy) -> Survey {
        let mut survey = Survey { kind: hierarchy.kind(), usable: Vec::new(), lost: Vec::new() };
        for controller in ASKED {
            match state(hierarchy, controller) {
                Ok(()) => survey.usable.push(controller),
                Err(reason) => survey.lost.push((controller, reason)),
            }
        }
        survey
    }
}

fn state(hierarchy: &Hierarchy, controller: Controller) -> Result<(), String> {
    let v1 = hierarchy.v1.iter().find(|v1| v1.controllers.contains(&controller));
    if let Some(v1) = v1 {
        return base(&v1.mounted).map(|_| ());
    }
    let absent = || Err("not on this host".to_owned());
    let Some(v2) = &hierarchy.v2 else { return absent() };
    let base = base(v2)?;
    let Some(name) = controller.enabled_as() else {
        // BPF programs for devices are root's.
        return match controller {
            Controller::Devices if rustix::process::geteuid().is_root() => Ok(()),
            _ => Err("for root alone".to_owned()),
        };
    };
    let has = |file: &str| file::read(&base, file).is_ok_and(|text| file::lists(&text, name));
    match (has("cgroup.controllers"), has("cgroup.subtree_control")) {
        (_, true) => Ok(()),
        (false, false)
            if file::read(&v2.top, "cgroup.controllers").is_ok_and(|text| file::lists(&text, name)) =>
        {
            Err("not delegated to this user".to_owned())
        }
        (false, false) => absent(),
        (true, false) if is_in_the_way(&base, v2) => {
            Err(format!("processes are in {} itself", base.display()))
        }
        (true, false) => Ok(()),
    }
}

/// Where groups would be made.
fn base(mounted: &Mounted) -> Result<std::path::PathBuf, String> {
    let writable = |base: &std::path::PathBuf| directory::is_writable(base);
    directory::bases(mounted).into_iter().find(writable).ok_or_else(|| {
        match rustix::process::geteuid().is_root() {
            true => "no group can be made".to_owned(),
            false => "no group is delegated to this user".to_owned(),
        }
    })
}

/// The true root may have both processes and groups with controllers; other
/// groups give way only for the caller's own processes.
fn is_in_the_way(base: &Path, v2: &Mounted) -> bool {
    // The root is no group of anybody's, and has no type.
    let is_root = !base.join("cgroup.type").exists();
    let is_own = v2.own.as_deref() == Some(base);
    let is_empty = file::read(base, "cgroup.procs").is_ok_and(|text| text.trim().is_empty());
    !is_root && !is_own && !is_empty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_be_limited_by_nothing() {
        let survey = Survey::of(&Hierarchy::default());
        assert_eq!((survey.kind, survey.usable.len(), survey.lost.len()), (Kind::Nothing, 0, ASKED.len()));
    }

    #[test]
    fn what_is_delegated_can_be_limited() {
        let top = std::env::temp_dir().join(format!("runion-test-survey-{}", std::process::id()));
        std::fs::create_dir_all(&top).unwrap();
        for (file, text) in [
            ("cgroup.procs", "1\n"),
            ("cgroup.type", "domain\n"),
            ("cgroup.controllers", "cpu memory pids\n"),
            ("cgroup.subtree_control", "memory\n"),
        ] {
            std::fs::write(top.join(file), text).unwrap();
        }
        let of = |own: Option<&Path>| {
            let v2 = Mounted { top: top.clone(), own: own.map(Path::to_owned) };
            Survey::of(&Hierarchy { v1: Vec::new(), v2: Some(v2) })
        };
        let reason = |survey: &Survey, controller| {
            survey.lost.iter().find(|(lost, _)| *lost == controller).map(|(_, reason)| reason.clone())
        };
        let other = of(None);
        assert!(other.usable.contains(&Controller::Memory));
        assert!(reason(&other, Controller::Cpu).unwrap().contains("itself"));
        assert_eq!(reason(&other, Controller::Disks).unwrap(), "not on this host");
        let own = of(Some(&top));
        assert!(own.usable.contains(&Controller::Cpu), "{own:?}");
        std::fs::remove_dir_all(&top).unwrap();
    }
}
