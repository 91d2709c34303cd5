//! The same as an ordinary user: with subordinate ids, and without.
//!
//! `/dev/fuse` is open to everybody on most machines and not on all; where it
//! is not, these tests open a node of their own in a mount namespace of their
//! own. The users are made up there as well.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Command, Output};

use crate::setup::{Scratch, can_mount, runion, stderr, stdout};

const USER: u32 = 48_765;

/// What the user has in /etc/subuid.
#[derive(Clone, Copy, PartialEq)]
enum Subordinate {
    Ids,
    None,
}

/// Runs a shell line in a view, as an ordinary user.
fn sh(scratch: &Scratch, subordinate: Subordinate, fuse_mode: &str, options: &[&str], line: &str) -> Output {
    let arguments = [options, &["--", "sh", "-c", line]].concat();
    try_(scratch, subordinate, fuse_mode, &arguments)
}

/// Runs `runion try` as an ordinary user.
fn try_(scratch: &Scratch, subordinate: Subordinate, fuse_mode: &str, arguments: &[&str]) -> Output {
    let bin = scratch.join("bin");
    if !bin.exists() {
        std::fs::create_dir(&bin).unwrap();
        for program in ["runion", "mount-runionfs"] {
            std::fs::copy(runion().with_file_name(program), bin.join(program)).unwrap();
        }
        std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).unwrap();
        chown(scratch.state(), Some(USER), Some(USER)).unwrap();
    }
    let ids =
        if subordinate == Subordinate::Ids { format!("tried:{}:65536", 600_000) } else { String::new() };
    let script = format!(
        "set -e; cd {scratch}; mkdir -p node; mount -t tmpfs node node; mknod -m {fuse_mode} node/fuse c 10 229
         (cat /etc/passwd; echo 'tried:x:{USER}:{USER}::/:/bin/sh') > node/passwd; echo '{ids}' > node/subids
         mount --bind node/fuse /dev/fuse; mount --bind node/passwd /etc/passwd
         touch node/none; for f in /etc/subuid /etc/subgid; do mount --bind node/subids $f; done
         cd /; exec setpriv --reuid {USER} --regid {USER} --clear-groups \"$@\"",
        scratch = scratch.path().display(),
    );
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"])
        .arg(bin.join("runion"))
        .arg("try")
        .args(arguments)
        .env("TMPDIR", scratch.state())
        .env_remove("XDG_CACHE_HOME")
        .output()
        .unwrap()
}

/// Whether user namespaces with subordinate ids can be tested; says why not.
fn can_map() -> bool {
    let has = |path: &str| std::path::Path::new(path).exists();
    if !has("/usr/bin/newuidmap") || !has("/etc/subuid") || !has("/etc/subgid") {
        println!("skipped: no newuidmap or /etc/subuid (apt-get install uidmap)");
        return false;
    }
    can_mount()
}

#[test]
fn a_user_stays_who_he_is_and_root_s_files_root_s() {
    if !can_map() {
        return;
    }
    let scratch = Scratch::new("user");
    let line = "id -u; id -g; stat -c %u / /etc/passwd /tmp; touch /tmp/mine && stat -c %u /tmp/mine; \
                echo x >> /etc/hostname; mkdir /usr/new; cat /etc/shadow";
    let output = sh(&scratch, Subordinate::Ids, "666", &[], line);
    let user = USER.to_string();
    let lines: Vec<_> = stdout(&output).lines().collect();
    assert_eq!(lines, [&user, &user, "0", "0", "0", &user], "{}", stderr(&output));
    assert!(stderr(&output).ends_with("C /tmp\nA /tmp/mine\n"), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("ermission denied").count(), 3, "{}", stderr(&output));
    assert!(!std::path::Path::new("/tmp/mine").exists());
    assert_eq!(scratch.left_over(), Vec::<String>::new());
}

#[test]
fn a_user_may_be_root_of_the_view() {
    if !can_map() {
        return;
    }
    let scratch = Scratch::new("fakeroot");
    let before = std::fs::read("/etc/hosts").ok();
    let line = "id -u; echo x >> /etc/hosts; mkdir /usr/new; touch /usr/new/f; chown 33:33 /usr/new/f; \
                stat -c '%u %g' /usr/new /usr/new/f /etc/hosts; rm -r /usr/share/doc; \
                setpriv --reuid 33 --regid 33 --clear-groups id -u";
    // As dpkg's lock: nothing in it, so nothing of it has to be read.
    let lock = scratch.join("lock");
    std::fs::write(&lock, "").unwrap();
    std::fs::set_permissions(&lock, PermissionsExt::from_mode(0o600)).unwrap();
    let line = format!("{line}; echo locked >> {0} && cat {0}", lock.display());
    let output = sh(&scratch, Subordinate::Ids, "666", &["--root"], &line);
    assert_eq!(stdout(&output), "0\n0 0\n33 33\n0 0\n33\nlocked\n", "{}", stderr(&output));
    for change in ["C /etc/hosts", "A /usr/new/f", "D /usr/share/doc"] {
        assert!(stderr(&output).lines().any(|line| line == change), "{change}: {}", stderr(&output));
    }
    assert_eq!(std::fs::read("/etc/hosts").ok(), before);
    assert!(!std::path::Path::new("/usr/new").exists());
    assert_eq!(scratch.left_over(), Vec::<String>::new());
}

#[test]
fn without_subordinate_ids_everything_is_the_user_s_in_the_view() {
    if !can_map() {
        return;
    }
    let scratch = Scratch::new("one-id");
    let line = "id -u; echo x >> /etc/hosts; mkdir /usr/new && stat -c %u /usr/new; mv /usr/share/doc /usr/share/docs";
    for (options, user) in [(&[][..], USER.to_string()), (&["--root"][..], "0".to_string())] {
        let output = sh(&scratch, Subordinate::None, "666", options, line);
        assert_eq!(stdout(&output), format!("{user}\n{user}\n"), "{}", stderr(&output));
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stderr(&output).contains("\nD /usr/share/doc\n"), "{}", stderr(&output));
    }
    assert!(!std::path::Path::new("/usr/new").exists());
    assert_eq!(scratch.left_over(), Vec::<String>::new());
}

#[test]
fn a_user_commits_what_is_his_and_nothing_else() {
    if !can_map() {
        return;
    }
    let scratch = Scratch::new("user-commit");
    let home = scratch.join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("old"), "old").unwrap();
    for path in [&home, &home.join("old")] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    for subordinate in [Subordinate::Ids, Subordinate::None] {
        let (home, kept) = (home.to_str().unwrap(), scratch.state().join("kept"));
        let kept = kept.to_str().unwrap();
        let line =
            format!("cd {home} && echo new > new && mkdir -p dir && mv old dir/moved && chmod 600 dir/moved");
        let output = sh(&scratch, subordinate, "666", &["--keep", kept], &line);
        assert!(output.status.success(), "{}", stderr(&output));
        let output = try_(&scratch, subordinate, "666", &["--commit", kept, "--yes"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let stat = std::fs::metadata(format!("{home}/dir/moved")).unwrap();
        assert_eq!((stat.uid(), stat.mode() & 0o777), (USER, 0o600));
        assert_eq!(std::fs::read_to_string(format!("{home}/dir/moved")).unwrap(), "old");
        std::fs::rename(format!("{home}/dir/moved"), format!("{home}/old")).unwrap();
        std::fs::remove_file(format!("{home}/new")).unwrap();
    }

    let kept = scratch.state().join("foreign");
    let kept = kept.to_str().unwrap();
    let before = std::fs::read("/etc/hosts").ok();
    sh(&scratch, Subordinate::None, "666", &["--keep", kept], "echo more >> /etc/hosts");
    let output = try_(&scratch, Subordinate::None, "666", &["--commit", kept, "--yes"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).starts_with("runion: /etc/hosts: not yours to change"), "{}", stderr(&output));
    assert_eq!(std::fs::read("/etc/hosts").ok(), before);
    let output = sh(&scratch, Subordinate::None, "666", &["--root", "--keep", kept], "true");
    assert!(stderr(&output).contains("cannot go on in"), "{}", stderr(&output));

    let kept = scratch.state().join("root");
    let kept = kept.to_str().unwrap();
    sh(
        &scratch,
        Subordinate::Ids,
        "666",
        &["--root", "--keep", kept],
        "mkdir -m 700 /x && touch /x/y && chown -R 9 /x",
    );
    let output = try_(&scratch, Subordinate::Ids, "666", &["--commit", kept, "--yes"]);
    assert!(stderr(&output).contains("its owners are made up"), "{}", stderr(&output));
    let output = try_(&scratch, Subordinate::Ids, "666", &[&format!("--discard={kept}")]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!std::path::Path::new(kept).exists());
}

#[test]
fn a_closed_device_is_named_with_a_hint() {
    if !can_map() {
        return;
    }
    let scratch = Scratch::new("closed");
    let output = sh(&scratch, Subordinate::None, "600", &[], "true");
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("cannot open /dev/fuse"), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: as root: chmod 0666 /dev/fuse"), "{}", stderr(&output));
}
