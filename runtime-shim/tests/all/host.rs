//! Nothing a command does to files reaches the host.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::setup::{Scratch, can_mount, snapshot, stderr, stdout};

#[test]
fn whatever_the_command_does_the_host_stays_as_it_is() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("host");
    let tree = scratch.join("tree");
    std::fs::create_dir_all(tree.join("dir/deep")).unwrap();
    std::fs::write(tree.join("dir/file"), "content").unwrap();
    std::fs::write(tree.join("dir/deep/file"), "deep").unwrap();
    std::fs::hard_link(tree.join("dir/file"), tree.join("link")).unwrap();
    let before = (snapshot(&tree), snapshot(Path::new("/etc")), state_of_root());

    // The first word is for the machine that runs a broken runion: 65735546 is
    // FUSE's number, and nothing is removed anywhere else.
    let line = format!(
        "test $(stat -f -c %t /) = 65735546 && cd {} && echo more >> dir/file && mv dir moved && rm -r moved/deep && chmod 0 link && \
         mkfifo pipe && mkdir dir && setfattr -n user.x -v y dir && \
         rm -rf /etc/* /srv /opt /home && echo x > /etc/new && touch /new && rm -r /usr/share/doc && \
         test ! -e /etc/passwd && test -e /new",
        tree.display()
    );
    let output = scratch.sh(&[], &line);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).lines().any(|line| line == "A /new"), "{}", stderr(&output));

    assert_eq!((snapshot(&tree), snapshot(Path::new("/etc")), state_of_root()), before);
    assert_eq!(scratch.left_over(), Vec::<String>::new());
}

#[test]
fn file_systems_mounted_below_the_root_are_part_of_the_view() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("submount");
    let mounted = scratch.join("mounted");
    std::fs::create_dir(&mounted).unwrap();
    // A mount of its own, in a mount namespace of its own.
    let script = format!(
        "mount -t tmpfs scratch {0} && echo below > {0}/file && \"$@\" && test $(cat {0}/file) = below",
        mounted.display()
    );
    let line = format!("cat {0}/file && echo changed > {0}/file && cat {0}/file", mounted.display());
    let try_ = scratch.try_(&["--", "sh", "-c", &line]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command.arg(try_.get_program()).args(try_.get_args()).env("TMPDIR", scratch.state());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "below\nchanged\n");
    let changed = format!("C {}/file", mounted.display());
    assert!(stderr(&output).lines().any(|line| line == changed), "{}", stderr(&output));
}

/// Inodes, modes and times of what the test's command removes or changes.
fn state_of_root() -> Vec<(u64, u32, i64, i64)> {
    let of = |path: &str| {
        std::fs::symlink_metadata(path)
            .map_or((0, 0, 0, 0), |stat| (stat.ino(), stat.mode(), stat.ctime(), stat.ctime_nsec()))
    };
    ["/", "/etc", "/srv", "/opt", "/home", "/usr/share/doc", "/new", "/etc/passwd"].map(of).to_vec()
}
