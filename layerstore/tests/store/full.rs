//! A disk that is full at any point of a load, a pull, a commit or a removal: an error that names it, no half
//! image, and success once there is room.

use std::path::Path;
use std::process::Command;

use layerstore::error::Kind;
use layerstore::store::Store;
use rustix::fs::StatVfs;

use crate::actions::{Action, assert_old_or_new};
use crate::state::{Scratch, assert_clean, assert_no_garbage, state};

const INSIDE: &str = "LAYERSTORE_TESTS_FULL";

#[test]
fn full_disks() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a small file system needs root");
        return;
    }
    let scratch = Scratch::new();
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
    unshare.args(["full::inside", "--exact", "--ignored", "--nocapture"]);
    let output = unshare.env(INSIDE, scratch.join("mount")).output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{words}{}", String::from_utf8_lossy(&output.stderr));
    println!("{words}");
}

fn mount(options: &str, at: &Path) {
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
    assert!(status.unwrap().success());
}

fn unmount(at: &Path) {
    assert!(Command::new("umount").arg(at).status().unwrap().success());
}

#[test]
#[ignore = "the body of full_disks, in a mount namespace of its own"]
fn inside() {
    let Some(at) = std::env::var_os(INSIDE) else { return };
    let at = Path::new(&at);
    std::fs::create_dir(at).unwrap();
    for action in [Action::Load, Action::LoadOther, Action::Add, Action::Pull, Action::Commit, Action::Tag] {
        let space = failures(action, at, |disk, more| {
            format!("size={}", (disk.f_blocks - disk.f_bfree + more) * disk.f_frsize)
        });
        let files =
            failures(action, at, |disk, more| format!("nr_inodes={}", disk.f_files - disk.f_ffree + more));
        println!("{action:?}: {space} times without space, {files} times without files");
        assert!(space > 0 && files > 0);
    }
    // What removes may need no room.
    for action in [Action::Remove, Action::Collect] {
        let failed = failures(action, at, |disk, more| {
            format!(
                "size={},nr_inodes={}",
                (disk.f_blocks - disk.f_bfree + more) * disk.f_frsize,
                disk.f_files - disk.f_ffree + more
            )
        });
        println!("{action:?}: {failed} times without space or files");
    }
}

/// Does it with ever more room, in blocks or files; how often it failed.
fn failures(action: Action, at: &Path, limit: impl Fn(&StatVfs, u64) -> String) -> usize {
    let rooms = std::iter::successors(Some(0), |room| Some(room + 1 + room / 3));
    for (failed, room) in rooms.take(40).enumerate() {
        mount("size=8m,nr_inodes=1000", at);
        let root = at.join("store");
        let store = action.prepare(&root);
        let before = state(&store);
        let limit = limit(&rustix::fs::statvfs(at).unwrap(), room);
        mount(&format!("remount,{limit}"), at);
        let Err(error) = action.run(&store) else {
            drop(store);
            unmount(at);
            return failed;
        };
        let is_named = error.message().contains(root.to_str().unwrap());
        assert!(is_named && error.message().contains("No space left"), "{limit}: {error}");
        assert_eq!(error.kind(), Kind::System, "{limit}: {error}");
        assert!(error.remedy().is_some_and(|hint| hint.contains("make room")), "{limit}: {error}");
        // On the full disk still.
        assert_old_or_new(&store, &before, &action.after());
        assert_clean(&store);
        assert_no_garbage(&store);
        mount("remount,size=8m,nr_inodes=1000", at);
        drop(store);
        let store = Store::open(&root).unwrap();
        action.run(&store).unwrap();
        assert_eq!(state(&store), action.after());
        assert_clean(&store);
        assert_no_garbage(&store);
        drop(store);
        unmount(at);
    }
    panic!("{action:?} never had room");
}
