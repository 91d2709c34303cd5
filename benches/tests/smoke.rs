//! The runner, run: two small workloads on the bare directory and on ours.

use std::path::Path;
use std::process::Command;

fn benches(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_benches")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn two_workloads_come_through() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: two_workloads_come_through: needs root");
        return;
    }
    if !Path::new("/dev/fuse").exists() {
        println!("skipped: two_workloads_come_through: no /dev/fuse");
        return;
    }
    let chosen = ["--workloads", "mount-1,storm", "--candidates", "bare,ours,ours:no-such-option"];
    let (success, text) = benches(&[&["--quick", "--rounds", "1"], &chosen[..]].concat());
    assert!(success, "{text}");
    for expected in [
        "mount-1 round 1: bare: done",
        "storm round 1: ours: done",
        "requests per operation, create, ours: CREATE 1.00",
        "ours:no-such-option: absent: ",
        "raw figures: ",
    ] {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
}

#[test]
fn an_image_is_loaded_and_mounted() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: an_image_is_loaded_and_mounted: needs root");
        return;
    }
    if !Path::new("/dev/fuse").exists() {
        println!("skipped: an_image_is_loaded_and_mounted: no /dev/fuse");
        return;
    }
    let (success, text) =
        benches(&["images", "--quick", "--rounds", "1", "--workloads", "load,mount-1,walk-1"]);
    assert!(success, "{text}");
    for expected in
        ["load round 1: runion: done", "mount-1 round 1: runion: done", "walk-1 round 1: overlay: done"]
    {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
}

#[test]
fn what_is_not_known_is_refused() {
    let (success, text) = benches(&["--list"]);
    assert!(success && text.contains("stat-walk-128"), "{text}");
    if !rustix::process::geteuid().is_root() {
        println!("skipped: what_is_not_known_is_refused: needs root");
        return;
    }
    let (success, text) = benches(&["--candidates", "theirs"]);
    assert!(!success && text.contains("unknown candidate theirs\nhint: one of bare, "), "{text}");
}
