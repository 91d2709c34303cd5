//! The harness itself: what it mounts works, what it compares differs when it
//! should, and what hangs is aborted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tests::mount::{Driver, Layers, Mount};
use tests::scratch::{Backing, Scratch};
use tests::tree::{Aspect, Tree};

/// Lower with `kept`, `gone`, `changed`; through the mount the last two change.
fn edit_through(driver: Driver, backing: Backing) {
    let scratch = Scratch::new(backing).unwrap();
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|d| scratch.dir(d).unwrap());
    for name in ["kept", "gone", "changed"] {
        fs::write(lower.join(name), name).unwrap();
    }
    let before = Tree::read(&lower).unwrap();
    let mount = Mount::new(driver, &Layers::writable(&[&lower], &upper, &work), &merged).unwrap();
    fs::write(mount.path().join("changed"), "new").unwrap();
    fs::remove_file(mount.path().join("gone")).unwrap();
    let names: Vec<_> = Tree::read(mount.path()).unwrap().nodes.into_keys().collect();
    assert_eq!(names, [Path::new(""), Path::new("changed"), Path::new("kept")]);
    mount.unmount().unwrap();
    assert_eq!(before.differences(&Tree::read(&lower).unwrap(), &[]), Vec::<String>::new());
    assert_eq!(fs::read(upper.join("changed")).unwrap(), b"new");
}

#[test]
fn kernel_overlayfs_mounts_on_each_backing() {
    for backing in [Backing::Disk, Backing::Tmpfs, Backing::Ext4(32)] {
        edit_through(Driver::Kernel, backing);
    }
}

#[test]
fn runionfs_mounts_on_each_backing() {
    for backing in [Backing::Disk, Backing::Tmpfs, Backing::Ext4(32)] {
        edit_through(Driver::Runionfs, backing);
    }
}

#[test]
fn differences_are_seen_and_named() {
    let scratch = Scratch::new(Backing::Tmpfs).unwrap();
    let [a, b] = ["a", "b"].map(|d| scratch.dir(d).unwrap());
    for dir in [&a, &b] {
        fs::write(dir.join("same"), "x").unwrap();
    }
    let ignored = [Aspect::Ino, Aspect::Mtime, Aspect::Ctime];
    let differences = || Tree::read(&a).unwrap().differences(&Tree::read(&b).unwrap(), &ignored);
    assert_eq!(differences(), Vec::<String>::new());
    fs::write(b.join("same"), "y").unwrap();
    assert!(differences()[0].contains("content"), "{:?}", differences());
    fs::write(b.join("same"), "x").unwrap();
    fs::set_permissions(b.join("same"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(differences()[0].contains("mode 644 / 600"), "{:?}", differences());
    fs::hard_link(a.join("same"), a.join("twin")).unwrap();
    assert!(differences().iter().any(|l| l.contains("only in the first")), "{:?}", differences());
}

#[test]
fn a_refused_mount_says_why() {
    let scratch = Scratch::new(Backing::Tmpfs).unwrap();
    let merged = scratch.dir("merged").unwrap();
    let missing = scratch.path().join("missing");
    let layers = Layers::read_only(&[&missing, &missing]);
    let error = Mount::new(Driver::Kernel, &layers, &merged).err().unwrap().to_string();
    assert!(error.contains("missing"), "{error}");
}
