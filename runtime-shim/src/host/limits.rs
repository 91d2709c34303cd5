//! Cgroups: which version, and which limits will work for this caller.

use super::{Caller, Finding};
use crate::cgroup::{Controller, Hierarchy, Kind, Survey};

/// Which limits a container can have.
pub fn look(caller: Caller) -> Finding {
    match Hierarchy::find() {
        Ok(hierarchy) => told(&Survey::of(&hierarchy), caller),
        Err(failure) => Finding::limited(CHECK, failure.to_string(), "mount /proc"),
    }
}

const CHECK: &str = "cgroups";

fn told(survey: &Survey, caller: Caller) -> Finding {
    let version = match survey.kind {
        Kind::Nothing => {
            return Finding::limited(
                CHECK,
                "none are mounted: no limits work, nor do pause and stats",
                "as root: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            );
        }
        Kind::V1 => "v1",
        Kind::V2 => "v2",
        Kind::Hybrid => "v1 and v2 (hybrid)",
    };
    // What users of no root are shown of devices is the host's own.
    let is_lost = |(controller, _): &&(Controller, String)| match controller {
        Controller::Devices => caller == Caller::Root,
        // Few machines have any.
        Controller::HugePages => false,
        _ => true,
    };
    let names = |controllers: &[Controller]| {
        let names: Vec<&str> = controllers.iter().map(|controller| controller.name()).collect();
        names.join(" ")
    };
    let lost: Vec<&(Controller, String)> = survey.lost.iter().filter(is_lost).collect();
    let usable = match survey.usable.is_empty() {
        true => format!("{version}; limits: none"),
        false => format!("{version}; limits: {}", names(&survey.usable)),
    };
    let Some((_, reason)) = lost.first() else { return Finding::ok(CHECK, usable) };
    let lost_names: Vec<Controller> = lost.iter().map(|(controller, _)| *controller).collect();
    let has_one_reason = lost.iter().all(|(_, other)| other == reason);
    let why = match has_one_reason {
        true => format!("{}: {reason}", names(&lost_names)),
        false => {
            let each = lost.iter().map(|(controller, reason)| format!("{}: {reason}", controller.name()));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    let remedy = match (caller, survey.kind) {
        (Caller::Ordinary, Kind::V1 | Kind::Hybrid) => {
            "limits without root take cgroup v2: boot with systemd.unified_cgroup_hierarchy=1, or run runion as root"
        }
        (Caller::Ordinary, _) => {
            "with systemd: systemd-run --user --scope -p Delegate=yes runion …, and Delegate=yes for user@.service"
        }
        (Caller::Root, _) if survey.usable.is_empty() => {
            "mount /sys/fs/cgroup writable for the container that this runs in"
        }
        (Caller::Root, Kind::V1) => {
            "boot with cgroup_enable=memory swapaccount=1, or mount what is not mounted"
        }
        (Caller::Root, _) => {
            "boot without cgroup_disable= and without cgroup v1, which takes controllers from v2; in a container, \
             enable them for it (cgroup.subtree_control)"
        }
    };
    Finding::limited(CHECK, format!("{usable}; without {why}"), remedy)
}
