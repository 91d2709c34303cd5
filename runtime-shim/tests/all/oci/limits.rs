//! Cgroups: where a process is, what limits it, pausing, and that none is left.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::bundle::{Bundle, Runtime, wait_until};
use crate::setup::{stderr, stdout};

/// Where pids are limited on a machine of v1.
fn pids_of_v1() -> Option<PathBuf> {
    let path = PathBuf::from("/sys/fs/cgroup/pids");
    if path.join("cgroup.procs").exists() && !path.join("cgroup.controllers").exists() {
        return Some(path);
    }
    println!("skipped: no pids controller of cgroup v1");
    None
}

fn name(bundle: &Bundle) -> String {
    bundle.scratch.path().file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn all_processes_are_in_it_and_it_goes_with_them() {
    let Some(mut bundle) = Bundle::new("limits") else { return };
    let Some(top) = pids_of_v1() else { return };
    let path = format!("/runion-tests/{}", name(&bundle));
    let dir = top.join(path.trim_start_matches('/'));
    bundle.config["linux"]["cgroupsPath"] = json!(path);
    bundle.config["linux"]["resources"] = json!({
        "pids": { "limit": 20 },
        "devices": [{ "allow": false, "access": "rwm" }],
    });
    bundle.line("echo x > /dev/null && echo begun; cat /proc/self/cgroup; sleep 1000");
    let running = bundle.start("limits");
    running.wait_for("begun");
    wait_until("its cgroup as the top", || running.said().lines().any(|line| line.ends_with("pids:/")));
    assert_eq!(std::fs::read_to_string(dir.join("pids.max")).unwrap(), "20\n");
    // One that joins is in it, too, from its first moment.
    let joined = running.exec(&["cat", "/proc/self/cgroup"]);
    assert!(stdout(&joined).lines().any(|line| line.ends_with("pids:/")), "{}", stdout(&joined));
    let listed: Vec<i64> =
        serde_json::from_slice(&running.try_(&["ps", "--format", "json", "limits"]).stdout).unwrap();
    assert!(listed == [running.pid()], "{listed:?}");
    running.try_(&["update", "--pids-limit", "30", "limits"]);
    assert_eq!(std::fs::read_to_string(dir.join("pids.max")).unwrap(), "30\n");
    running.do_("pause");
    assert_eq!(running.state()["status"], "paused");
    assert!(!running.exec(&["true"]).status.success());
    running.do_("resume");
    assert_eq!(running.state()["status"], "running");
    running.do_("pause");
    // Even one that is stopped.
    let deleted = running.try_(&["delete", "--force", "limits"]);
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    assert!(!dir.exists());
}

#[test]
fn nothing_is_left_of_one_that_could_not_be_made() {
    let Some(mut bundle) = Bundle::new("unmade") else { return };
    let Some(top) = pids_of_v1() else { return };
    for spoil in ["prestart", "command", "mount"] {
        bundle.config["hooks"] = json!(null);
        bundle.line("true");
        let mounts = bundle.config["mounts"].clone();
        match spoil {
            "prestart" => bundle.config["hooks"] = json!({ "prestart": [{ "path": "/nosuch" }] }),
            "command" => {
                bundle.words(&["nosuch"]);
            }
            _ => {
                bundle.mount(json!({ "destination": "/x", "type": "nosuchfs", "source": "x" }));
            }
        }
        bundle.config.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let output = bundle.run(Runtime::Ours);
        assert!(!output.status.success(), "{spoil}");
        assert!(!top.join(name(&bundle)).exists(), "{spoil}");
        assert_eq!(std::fs::read_dir(bundle.scratch.join("state-Ours")).unwrap().count(), 0, "{spoil}");
        bundle.config["mounts"] = mounts;
    }
}

#[test]
fn processes_that_outlive_the_first_end_with_the_container() {
    let Some(mut bundle) = Bundle::new("outlive") else { return };
    if pids_of_v1().is_none() {
        return;
    }
    // With the host's processes, the end of the first is not the end of others.
    bundle.without_namespace("pid");
    bundle.line("sleep 1000 & echo $! > /tmp/pid; echo begun");
    let running = bundle.start("outlive");
    running.wait_for("begun");
    wait_until("stopped", || running.state()["status"] == "stopped");
    let pid = std::fs::read_to_string(bundle.root().join("tmp/pid")).unwrap();
    let process = format!("/proc/{}", pid.trim());
    assert!(Path::new(&process).exists());
    running.do_("delete");
    // Its parent may take its time to wait for it.
    let is_gone = || std::fs::read_to_string(format!("{process}/cmdline")).unwrap_or_default().is_empty();
    wait_until("gone", is_gone);
}
