//! `runion system check`: as root, as an ordinary user, and where something was
//! taken away.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use crate::setup::{Scratch, can_mount, runion, stderr, stdout};
use crate::world::World;

const USER: u32 = 48_766;

/// A shell line in a mount namespace of its own; `$check` is the command.
fn sh(scratch: &Scratch, line: &str) -> Output {
    let bin = scratch.join("bin");
    if !bin.exists() {
        std::fs::create_dir(&bin).unwrap();
        for program in ["runion", "mount-runionfs"] {
            std::fs::copy(runion().with_file_name(program), bin.join(program)).unwrap();
        }
        std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let check = format!("{} system check --format json", bin.join("runion").display());
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", line])
        .env("check", check)
        .env("as_user", format!("setpriv --reuid {USER} --regid {USER} --clear-groups"))
        .current_dir("/")
        .output()
        .unwrap()
}

/// State and words by check.
fn findings(output: &Output) -> HashMap<String, (String, String)> {
    let word = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap().to_owned();
    let rows = stdout(output).lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let found: HashMap<_, _> = rows
        .map(|row| {
            assert_eq!(row["State"] == "ok", row["Remedy"] == "", "{row}");
            (word(&row, "Check"), (word(&row, "State"), word(&row, "Found")))
        })
        .collect();
    assert!(found.len() > 8, "{}: {}", stdout(output), stderr(output));
    found
}

fn assert_finding(output: &Output, check: &str, state: &str, words: &str) {
    let findings = findings(output);
    let (found_state, found) = &findings[check];
    assert_eq!((found_state.as_str(), found.contains(words)), (state, true), "{check}: {found}");
}

/// A container can run exactly if nothing is missing.
fn assert_code(output: &Output) {
    let is_missing = findings(output).values().any(|(state, _)| state == "missing");
    assert_eq!(output.status.code(), Some(i32::from(is_missing)), "{}", stderr(output));
}

#[test]
fn root_finds_what_containers_need() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("check");
    let output = sh(&scratch, "exec $check");
    assert_code(&output);
    assert_eq!(output.status.code(), Some(0));
    assert_finding(&output, "fuse", "ok", "/dev/fuse; passthrough: ");
    assert_finding(&output, "storage drivers", "ok", "fuse, ");
    assert_finding(&output, "mount helper", "ok", "bin/mount-runionfs");
    assert_finding(&output, "subordinate ids", "ok", "root needs none");

    let table = Command::new(runion()).args(["system", "check"]).output().unwrap();
    assert!(stdout(&table).starts_with("CHECK "), "{}", stdout(&table));
    assert!(stdout(&table).contains("\nmount helper "), "{}", stdout(&table));
    let by_template = Command::new(runion())
        .args(["system", "check", "--format", "{{.Check}}={{.State}}"])
        .output()
        .unwrap();
    assert!(stdout(&by_template).contains("fuse=ok\n"), "{}", stdout(&by_template));
}

#[test]
fn what_was_taken_away_is_told_with_what_helps() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("taken");
    // Devices, groups and nft.
    let output = sh(
        &scratch,
        "for nft in /usr/sbin/nft /sbin/nft /usr/bin/nft; do test ! -f $nft || mount --bind /dev/null $nft; done; \
         mount -t tmpfs none /dev && umount -l /sys/fs/cgroup && exec $check",
    );
    assert_finding(&output, "nftables", "limited", "nft is not installed");
    assert_finding(&output, "fuse", "missing", "cannot open /dev/fuse: No such file");
    assert_finding(&output, "storage drivers", "limited", "dir");
    assert_finding(&output, "cgroups", "limited", "none are mounted");
    assert_code(&output);

    // No user namespaces below this one.
    let output =
        sh(&scratch, "exec unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_user_namespaces; exec $check'");
    if stderr(&output).contains("unshare") {
        println!("skipped: no user namespaces");
        return;
    }
    assert_finding(&output, "user namespaces", "limited", "cannot be made: No space left");
    assert!(
        stdout(&output).contains("as root: sysctl user.max_user_namespaces=10000"),
        "{}",
        stdout(&output)
    );

    // No helper beside it, nor in PATH.
    let output = sh(
        &scratch,
        "mount -t tmpfs none /mnt && cp ${check%% *} /mnt/runion && PATH=/bin exec /mnt/runion system check --format json",
    );
    assert_finding(&output, "mount helper", "missing", "neither beside runion nor in PATH");
    assert_code(&output);
}

#[test]
fn an_ordinary_user_finds_what_he_may_do() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("user");
    let output = sh(
        &scratch,
        "mount -t tmpfs none /mnt && mknod -m 666 /mnt/fuse c 10 229 && mount --bind /mnt/fuse /dev/fuse && \
         exec $as_user $check",
    );
    assert_code(&output);
    assert_finding(&output, "fuse", "ok", "passthrough: ");
    assert_finding(&output, "subordinate ids", "limited", "");
    assert_finding(&output, "cgroups", "limited", "no group is delegated to this user");
    assert!(findings(&output).contains_key("rootless network"));

    let output = sh(&scratch, "chmod 600 /dev/fuse 2>/dev/null; exec $as_user $check");
    let (state, found) = &findings(&output)["fuse"];
    assert_eq!(*state == "missing", found.contains("cannot open"), "{found}");
    assert_code(&output);
}

#[test]
fn what_is_delegated_to_a_user_is_his_to_limit() {
    if !can_mount() {
        return;
    }
    let Some(pids) = ["/sys/fs/cgroup/pids"].into_iter().find(|dir| std::path::Path::new(dir).is_dir())
    else {
        println!("skipped: no controller pids of cgroup v1");
        return;
    };
    let scratch = Scratch::new("delegated");
    let group = format!("{pids}/runion-test-delegated-{}", std::process::id());
    std::fs::create_dir(&group).unwrap();
    let output = sh(
        &scratch,
        &format!(
            "chown {USER} {group} {group}/cgroup.procs && echo $$ > {group}/cgroup.procs && exec $as_user $check"
        ),
    );
    std::fs::remove_dir(&group).unwrap();
    assert_finding(&output, "cgroups", "limited", "limits: pids; without memory");
}

#[test]
fn packet_filters_that_were_flushed_are_missed_and_put_back() {
    let Some(world) = World::new("flushed") else { return };
    world.says(&["run", "-d", "--name", "web", "-p", "8000:80", "box", "sleep", "100"]);
    let check = || stdout(&world.output(&["system", "check"])).to_owned();
    let lost = "those of network bridge are gone";
    assert!(!check().contains(lost));
    let flushed = world.in_namespace("nft").args(["flush", "ruleset"]).status().unwrap();
    assert!(flushed.success());
    assert!(check().contains(lost), "{}", check());
    let said = stderr(&world.output(&["network", "inspect", "bridge"])).to_owned();
    assert_eq!(said, "runion: the packet filters of network bridge were gone: they are back\n");
    assert!(!check().contains(lost), "{}", check());
    assert_eq!(stderr(&world.output(&["network", "ls"])), "");
}
