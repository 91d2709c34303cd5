//! Namespaces joined by path, clocks, parameters, id-mapped mounts, cgroups.

use std::path::Path;

use serde_json::{Value, json};

use super::bundle::{Bundle, Runtime};
use crate::setup::{stderr, stdout};

const NAMES: &str = "for n in pid net ipc uts cgroup time user; do readlink /proc/self/ns/$n; done";

#[test]
fn those_of_another_container_are_joined() {
    for mapped in [false, true] {
        let Some(mut first) = Bundle::new("first") else { return };
        if mapped {
            users(&mut first);
        }
        first.line(&format!("{NAMES}; echo begun; sleep 1000"));
        let running = first.start("first");
        running.wait_for("begun");
        let pid = running.pid();
        let Some(mut second) = Bundle::new("second") else { return };
        let kinds =
            [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup")];
        for (kind, name) in kinds {
            second.namespace(json!({ "type": kind, "path": format!("/proc/{pid}/ns/{name}") }));
        }
        if mapped {
            second.namespace(json!({ "type": "user", "path": format!("/proc/{pid}/ns/user") }));
        }
        second.config.as_object_mut().unwrap().remove("hostname");
        second.line(&format!("{NAMES}; echo begun; hostname; test $$ = 1 || echo not the first"));
        let output = second.run(Runtime::Ours);
        assert!(output.status.success(), "{}", stderr(&output));
        let expected = format!("{}runion-test\nnot the first\n", running.said());
        assert_eq!(stdout(&output), expected, "mapped: {mapped}");
        // Its own users over another's network.
        if mapped {
            continue;
        }
        users(&mut second);
        for kind in ["pid", "ipc", "uts", "cgroup"] {
            second.namespace(json!({ "type": kind }));
        }
        second.line(NAMES);
        let output = second.run(Runtime::Ours);
        let net = stdout(&output).lines().nth(1).unwrap_or_default().to_owned();
        assert!(
            running.said().contains(&net) && net.starts_with("net:"),
            "{}{}",
            stdout(&output),
            stderr(&output)
        );
    }
}

#[test]
fn what_is_no_such_namespace_is_refused_by_name() {
    let Some(mut bundle) = Bundle::new("refused") else { return };
    let mut refused = |kind: &str, path: &Path, words: &str| {
        let before = bundle.config.clone();
        bundle.namespace(json!({ "type": kind, "path": path }));
        let output = bundle.run(Runtime::Ours);
        assert_eq!(output.status.code(), Some(125), "{kind} {}", path.display());
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
        bundle.config = before;
    };
    refused("network", Path::new("/nosuch"), "cannot open the namespace /nosuch");
    refused("network", Path::new("/proc/self/ns/ipc"), "cannot join the namespace /proc/self/ns/ipc");
    refused("network", Path::new("/etc/passwd"), "cannot join the namespace /etc/passwd");
    refused("mount", Path::new("/proc/self/ns/mnt"), "cannot join the namespace");
    bundle.without_namespace("mount");
    let output = bundle.run(Runtime::Ours);
    assert!(stderr(&output).contains("without a mount namespace"), "{}", stderr(&output));
}

fn users(bundle: &mut Bundle) {
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    bundle.namespace(json!({ "type": "user" }));
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
}

#[test]
fn clocks_are_ahead() {
    let Some(mut bundle) = Bundle::new("clocks") else { return };
    if !Path::new("/proc/self/ns/time").exists() {
        println!("skipped: no time namespaces");
        return;
    }
    bundle.namespace(json!({ "type": "time" }));
    bundle.config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000_000 } });
    for mapped in [false, true] {
        if mapped {
            users(&mut bundle);
        }
        bundle.line("cut -d. -f1 /proc/uptime");
        let output = bundle.run(Runtime::Ours);
        let up: u64 = stdout(&output).trim().parse().unwrap_or_default();
        assert!(up > 1_000_000_000, "{up}: {}", stderr(&output));
    }
}

#[test]
fn parameters_of_the_host_s_are_refused() {
    let Some(mut bundle) = Bundle::new("host-parameters") else { return };
    let mut said = |name: &str| {
        bundle.config["linux"]["sysctl"] = json!({ name: "1" });
        let output = bundle.run(Runtime::Ours);
        assert_eq!(output.status.code(), Some(125), "{name}");
        stderr(&output).to_owned()
    };
    assert!(said("kernel.panic").contains("it is not of a namespace"));
    assert!(said("net.ipv4.nosuch").contains("cannot set the parameter \"net.ipv4.nosuch\""));
    assert!(said("net/../kernel/panic").contains("cannot set the parameter"));
    bundle.without_namespace("network");
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    let output = bundle.run(Runtime::Ours);
    assert!(stderr(&output).contains("it is the host's"), "{}", stderr(&output));
}

#[test]
fn owners_are_mapped_by_a_mount() {
    let Some(mut bundle) = Bundle::new("idmap") else { return };
    let host = bundle.scratch.join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "").unwrap();
    std::os::unix::fs::chown(host.join("file"), Some(7), Some(8)).unwrap();
    let own: Value = json!([{ "containerID": 0, "hostID": 5000, "size": 100 }]);
    bundle.mount(json!({
        "destination": "/mapped", "type": "bind", "source": host, "options": ["bind"],
        "uidMappings": own, "gidMappings": own,
    }));
    bundle.line("stat -c '%u:%g' /mapped/file");
    let output = bundle.run(Runtime::Ours);
    if stderr(&output).contains("cannot be id-mapped") {
        println!("skipped: this file system cannot be id-mapped");
        return;
    }
    assert_eq!(stdout(&output), "5007:5008\n", "{}", stderr(&output));
    // By the container's own users: owners look as they are.
    users(&mut bundle);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.pop();
    mounts.push(json!({
        "destination": "/mapped", "type": "bind", "source": host, "options": ["bind", "idmap"],
    }));
    std::fs::create_dir_all(bundle.root().join("mapped")).unwrap();
    let output = bundle.run(Runtime::Ours);
    assert_eq!(stdout(&output), "7:8\n", "{}", stderr(&output));
}

#[test]
fn cgroups_are_shown_as_the_machine_has_them() {
    let Some(mut bundle) = Bundle::new("cgroups") else { return };
    bundle.mount(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "ro"],
    }));
    let list = "awk '$5 ~ \"^/sys/fs/cgroup\" {print $5}' /proc/self/mountinfo | sort";
    let host = std::process::Command::new("sh").args(["-c", list]).output().unwrap();
    for own in [true, false] {
        if !own {
            bundle.without_namespace("cgroup");
        }
        bundle.line(list);
        let output = bundle.run(Runtime::Ours);
        assert_eq!(stdout(&output), stdout(&host), "own: {own}: {}", stderr(&output));
        bundle.line(
            "find /sys/fs/cgroup -name cgroup.procs -maxdepth 2 | head -1 | grep -q . && echo procs; \
             for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x 2>&1 | grep -v 'ead-only'; done; true",
        );
        let output = bundle.run(Runtime::Ours);
        assert_eq!(stdout(&output), "procs\n", "own: {own}: {}", stderr(&output));
    }
}

#[test]
fn mounts_from_the_host_arrive_only_where_they_are_asked_for() {
    let Some(mut bundle) = Bundle::new("propagation") else { return };
    let host = bundle.scratch.join("host");
    std::fs::create_dir_all(host.join("later")).unwrap();
    bundle.mount(
        json!({ "destination": "/slave", "type": "bind", "source": host, "options": ["rbind", "rslave"] }),
    );
    bundle.mount(json!({ "destination": "/private", "type": "bind", "source": host, "options": ["rbind"] }));
    bundle.line(
        "echo begun; until test -e /slave/later/file || test -e /tmp/stop; do sleep 0.02; done; \
        ls /slave/later /private/later; mount -t tmpfs x /slave/later 2>/dev/null || echo not mounted; echo done",
    );
    bundle.write();
    // All of it in a mount namespace of its own, the directory shared.
    let script = format!(
        "mount --bind {0} {0} && mount --make-shared {0} && \"$@\" create -b {1} prop </dev/null >{2} 2>&1 && \
         \"$@\" start prop && mount -t tmpfs x {0}/later && touch {0}/later/file && sleep 0.5; touch {1}/rootfs/tmp/stop; \
         for try in $(seq 600); do grep -q done {2} && break; sleep 0.1; done; \"$@\" delete --force prop; cat {2}",
        host.display(),
        bundle.path().display(),
        bundle.scratch.join("out").display(),
    );
    let state = bundle.scratch.join("state");
    let runion = crate::setup::runion();
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    let output = command.arg(runion).arg("--root").arg(state).output().unwrap();
    let said = stdout(&output);
    assert!(said.contains("/private/later:\n\n/slave/later:\nfile\n"), "{said}{}", stderr(&output));
}

#[test]
fn without_rights_over_the_host_what_cannot_be_is_the_host_s_or_a_warning() {
    let Some(mut bundle) = Bundle::new("rootless") else { return };
    bundle.mount(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "ro"],
    }));
    bundle.config["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_NOFILE", "soft": 1 << 30, "hard": 1 << 30 }]);
    bundle.config["process"]["oomScoreAdj"] = json!(-900);
    bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 0, "additionalGids": [5] });
    for shared in [false, true] {
        if shared {
            bundle.without_namespace("pid").without_namespace("network").without_namespace("ipc");
            let mounts = bundle.config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["type"] != "mqueue");
        }
        bundle.line(
            "id -u; echo x > /dev/null; test -d /proc/self && test -d /sys/class && echo shown; \
             touch /sys/x 2>/dev/null || echo read-only; ls /sys/fs/cgroup | grep -q . && echo groups",
        );
        bundle.write();
        let path = bundle.path();
        // One id, and no rights over what is not in its namespaces.
        let run = bundle.runtime(Runtime::Ours, &["run", "-b", path.to_str().unwrap(), "rootless"]);
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--propagation", "private"]);
        let output = command.arg(run.get_program()).args(run.get_args()).output().unwrap();
        let expected = "0\nshown\nread-only\ngroups\n";
        assert_eq!(stdout(&output), expected, "shared: {shared}: {}", stderr(&output));
        for warning in
            ["RLIMIT_NOFILE cannot be raised", "further groups cannot be had", "the oom score -900"]
        {
            assert!(stderr(&output).contains(warning), "{warning}: {}", stderr(&output));
        }
    }
}

#[test]
fn the_root_is_shared_as_it_is_asked_to() {
    let Some(mut bundle) = Bundle::new("root-propagation") else { return };
    let kinds = [("shared", "shared:"), ("slave", ""), ("private", ""), ("unbindable", "unbindable")];
    for (word, shown) in
        kinds.into_iter().flat_map(|(word, shown)| [(word.to_owned(), shown), (format!("r{word}"), shown)])
    {
        bundle.config["linux"]["rootfsPropagation"] = json!(word);
        bundle.line("awk '$5 == \"/\" {for (i = 7; $i != \"-\"; i++) print $i}' /proc/self/mountinfo");
        let output = bundle.run(Runtime::Ours);
        assert!(output.status.success(), "{word}: {}", stderr(&output));
        let said = stdout(&output);
        assert!(
            said.starts_with(shown) && (said.is_empty() == shown.is_empty() || word.ends_with("slave")),
            "{word}: {said}"
        );
    }
    bundle.config["linux"]["rootfsPropagation"] = json!("sideways");
    assert!(stderr(&bundle.run(Runtime::Ours)).contains("\"sideways\""));
}
