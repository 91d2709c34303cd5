//! Inode numbers and link counts.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tests::mount::{Driver, Layers, Mount};
use tests::scratch::{Backing, Scratch};
use tests::stage::put;

use crate::scene::{Plan, Scene};

fn ino(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn s28_numbers_outlive_copy_up_and_remount() {
    let plan = Plan::new(2, |l| {
        put(&l[0], "d/top", "").unwrap();
        put(&l[1], "d/file", "x").unwrap();
        put(&l[1], "pure/moved", "x").unwrap();
        symlink("x", l[1].join("link")).unwrap();
        put(&l[1], "meta", vec![1; 10_000]).unwrap();
    });
    let all = |s: &Scene, d: &str| -> Vec<u64> {
        let file = format!("{d}/file");
        [d, &file, "link", "meta", "pure"].iter().map(|name| ino(&s.at(name))).collect()
    };
    let (ours, kernel) = plan.both(|s| {
        let before = all(s, "d");
        let lowers = [s.lower(1, "d/file"), s.lower(1, "link"), s.lower(1, "meta")].map(|path| ino(&path));
        assert_eq!([before[1], before[2], before[3]], lowers, "{:?}: one file system's own", s.driver);
        fs::write(s.at("d/file"), "changed").unwrap();
        std::os::unix::fs::lchown(s.at("link"), Some(1), Some(1)).unwrap();
        fs::set_permissions(s.at("meta"), Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(s.at("pure"), Permissions::from_mode(0o700)).unwrap();
        fs::rename(s.at("d"), s.at("e")).unwrap();
        let moved = ino(&s.at("pure/moved"));
        fs::rename(s.at("pure/moved"), s.at("e/moved")).unwrap();
        let changed = all(s, "e");
        s.remount();
        assert_eq!(ino(&s.at("e/moved")), moved, "{:?}", s.driver);
        [before, changed, all(s, "e")]
    });
    assert_eq!(ours[0], ours[1], "over copy-up");
    assert_eq!(ours[0], ours[2], "over a remount");
    assert_eq!((&kernel[0], &kernel[0]), (&kernel[1], &kernel[2]), "what the oracle does");
}

/// Every path's number, as stat and as readdir tell it.
fn numbers(root: &Path, found: &mut BTreeMap<PathBuf, (u64, u64)>) {
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        found.insert(entry.path(), (ino(&entry.path()), entry.ino()));
        if entry.file_type().unwrap().is_dir() {
            numbers(&entry.path(), found);
        }
    }
}

#[test]
fn s29_numbers_are_unique_and_the_same_in_listings() {
    let (one, two) = (Scratch::new(Backing::Tmpfs).unwrap(), Scratch::new(Backing::Tmpfs).unwrap());
    let [upper, work, merged, top] = ["upper", "work", "merged", "top"].map(|name| one.dir(name).unwrap());
    let [_, _, bottom] = ["a", "b", "bottom"].map(|name| two.dir(name).unwrap());
    for number in 0..50 {
        put(&top, &format!("d/top-{number}"), "x").unwrap();
        put(&bottom, &format!("d/bottom-{number}"), "x").unwrap();
    }
    let real = |dir: &Path| -> Vec<u64> {
        let mut found = BTreeMap::new();
        numbers(dir, &mut found);
        found.values().map(|numbers| numbers.0).collect()
    };
    let of_top = real(&top);
    assert!(real(&bottom).iter().any(|number| of_top.contains(number)), "nothing collides: no test");
    let layers = Layers::writable(&[&top, &bottom], &upper, &work);
    for driver in [Driver::Kernel, Driver::under_test()] {
        let mount = Mount::new(driver, &layers, &merged).unwrap();
        let read = || {
            let mut found = BTreeMap::new();
            numbers(&merged, &mut found);
            found
        };
        let before = read();
        for number in 0..10 {
            fs::write(merged.join(format!("d/bottom-{number}")), "changed").unwrap();
        }
        let after = read();
        assert_eq!(before, after, "{driver:?}");
        let mut all: Vec<u64> = after.values().map(|numbers| numbers.0).collect();
        assert!(after.values().all(|(stat, listed)| stat == listed), "{driver:?}: {after:?}");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 101, "{driver:?}");
        mount.unmount().unwrap();
    }
}

#[test]
fn s30_a_merged_directory_has_one_link() {
    let plan = Plan::new(2, |l| {
        put(&l[0], "merged/a/f", "").unwrap();
        put(&l[1], "merged/b/f", "").unwrap();
        put(&l[1], "pure/a/f", "").unwrap();
        put(&l[1], "pure/b/f", "").unwrap();
    });
    let counts = plan.same(|s| {
        let nlink = |name: &str| fs::metadata(s.at(name)).unwrap().nlink();
        let before = ["merged", "pure"].map(nlink);
        fs::write(s.at("pure/new"), "").unwrap();
        (before, nlink("pure"))
    });
    assert_eq!(counts, ([1, 4], 1));
}
