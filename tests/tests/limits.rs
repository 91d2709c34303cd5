//! The edges: many layers, many names, odd names, deep paths, full disks.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, statat, unlinkat};
use tests::mount::{Driver, Layers, Mount};
use tests::scratch::{Backing, Scratch};
use tests::stage::{Stage, put};
use tests::tree::{Aspect, Tree};

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(bytes)
}

#[test]
fn five_hundred_lowers() {
    const LOWERS: usize = 500;
    let mut stage = Stage::new(Backing::Tmpfs, LOWERS).unwrap();
    for (number, lower) in stage.lowers.iter().enumerate() {
        put(lower, &format!("d/only-{number}"), number.to_string()).unwrap();
        put(lower, "d/everywhere", number.to_string()).unwrap();
    }
    stage.seal().unwrap();
    let mount = stage.mount(Driver::under_test()).unwrap();
    let merged = mount.path();
    assert_eq!(fs::read_dir(merged.join("d")).unwrap().count(), LOWERS + 1);
    assert_eq!(fs::read(merged.join("d/everywhere")).unwrap(), b"0", "the topmost wins");
    for number in [0, 1, 63, 64, 255, 256, 499] {
        let path = merged.join(format!("d/only-{number}"));
        assert_eq!(fs::read_to_string(&path).unwrap(), number.to_string());
        append(&path, b"!").unwrap();
    }
    fs::remove_file(merged.join("d/everywhere")).unwrap();
    assert!(!merged.join("d/everywhere").exists());
    fs::rename(merged.join("d"), merged.join("e")).unwrap();
    assert_eq!(fs::read(merged.join("e/only-499")).unwrap(), b"499!");
    mount.unmount().unwrap();
    assert_eq!(stage.damage().unwrap(), Vec::<String>::new());
}

#[test]
fn a_directory_of_a_hundred_thousand_names() {
    const NAMES: usize = 100_000;
    let stage = Stage::new(Backing::Tmpfs, 2).unwrap();
    for (number, lower) in stage.lowers.iter().enumerate() {
        fs::create_dir(lower.join("d")).unwrap();
        for name in (0..NAMES).filter(|name| name % 2 == number) {
            File::create(lower.join(format!("d/{name}"))).unwrap();
        }
    }
    let mount = stage.mount(Driver::under_test()).unwrap();
    let dir = mount.path().join("d");
    let names = || -> Vec<OsString> { fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect() };
    let listed = names();
    assert_eq!(listed.len(), NAMES);
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>().len(), NAMES, "a name was listed twice");
    for name in ["0", "1", "50000", "99999"] {
        fs::remove_file(dir.join(name)).unwrap();
    }
    File::create(dir.join("new")).unwrap();
    assert_eq!(names().len(), NAMES - 3);
    // Deleting while listing must neither skip a name nor repeat one.
    for entry in fs::read_dir(&dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(names(), Vec::<OsString>::new());
    fs::remove_dir(&dir).unwrap();
    mount.unmount().unwrap();
}

/// Every byte a name may hold, alone and in company, up to 255 bytes.
fn odd_names() -> Vec<OsString> {
    let bytes = (1..=255_u8).filter(|&byte| byte != b'/');
    let mut names: Vec<Vec<u8>> = bytes.clone().filter(|&byte| byte != b'.').map(|byte| vec![byte]).collect();
    names.push(bytes.collect());
    names.extend([vec![b'x'; 255], vec![0xff; 255], b"...".to_vec(), b" ".repeat(255), b"a\nb".to_vec()]);
    names.into_iter().map(|name| OsStr::from_bytes(&name).to_owned()).collect()
}

#[test]
fn names_of_all_bytes_and_255_of_them() {
    let mut stage = Stage::new(Backing::Ext4(64), 2).unwrap();
    for (number, name) in odd_names().iter().enumerate() {
        fs::write(stage.lowers[number % 2].join(name), name.as_bytes()).unwrap();
    }
    stage.seal().unwrap();
    let expected: BTreeSet<OsString> = odd_names().into_iter().collect();
    let listed = |dir: &Path| -> BTreeSet<OsString> {
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect()
    };
    let mount = stage.mount(Driver::under_test()).unwrap();
    let merged = mount.path();
    assert_eq!(listed(merged), expected);
    fs::create_dir(merged.join("moved")).unwrap();
    for name in &expected {
        // Copy-up, whiteout, rename and link: each makes the name again.
        fs::set_permissions(merged.join(name), Permissions::from_mode(0o600)).unwrap();
        append(&merged.join(name), b"!").unwrap();
        fs::rename(merged.join(name), merged.join("moved").join(name)).unwrap();
        fs::hard_link(merged.join("moved").join(name), merged.join(name)).unwrap();
        fs::remove_file(merged.join(name)).unwrap();
        let content = fs::read(merged.join("moved").join(name)).unwrap();
        assert_eq!(content, [name.as_bytes(), b"!"].concat());
    }
    let too_long = OsString::from("x".repeat(256));
    let error = File::create(merged.join(&too_long)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    assert_eq!(fs::metadata(merged.join(&too_long)).unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
    mount.unmount().unwrap();
    let mount = stage.mount(Driver::Kernel).unwrap();
    assert_eq!(listed(&mount.path().join("moved")), expected, "as the kernel reads it");
    mount.unmount().unwrap();
    assert_eq!(stage.damage().unwrap(), Vec::<String>::new());
}

/// Goes down `depth` directories called `d`, making them where asked.
fn descend(root: &Path, depth: usize, step: fn(&OwnedFd) -> rustix::io::Result<()>) -> OwnedFd {
    let open = |at: &OwnedFd| openat(at, "d", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let mut dir = openat(CWD, root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    for level in 0..depth {
        step(&dir).unwrap_or_else(|e| panic!("level {level}: {e}"));
        dir = open(&dir).unwrap_or_else(|e| panic!("level {level}: {e}"));
    }
    dir
}

#[test]
fn a_path_four_thousand_directories_deep() {
    const DEPTH: usize = 4000;
    let stage = Stage::new(Backing::Tmpfs, 1).unwrap();
    let make = |dir: &OwnedFd| mkdirat(dir, "d", Mode::from_raw_mode(0o755));
    let write = |dir: &OwnedFd, flags| {
        let file = openat(dir, "file", OFlags::WRONLY | flags, Mode::from_raw_mode(0o644)).unwrap();
        rustix::io::write(&file, b"deep").unwrap();
    };
    write(&descend(&stage.lowers[0], DEPTH, make), OFlags::CREATE);
    let mount = stage.mount(Driver::under_test()).unwrap();
    let bottom = descend(mount.path(), DEPTH, |_| Ok(()));
    // Copies up four thousand parents.
    write(&bottom, OFlags::APPEND);
    assert_eq!(statat(&bottom, "file", AtFlags::empty()).unwrap().st_size, 8);
    // And as deep again, in the upper only.
    mkdirat(&bottom, "new", Mode::from_raw_mode(0o755)).unwrap();
    unlinkat(&bottom, "new", AtFlags::REMOVEDIR).unwrap();
    drop(bottom);
    fs::rename(mount.path().join("d"), mount.path().join("top")).unwrap();
    let top = openat(CWD, mount.path().join("top"), OFlags::DIRECTORY, Mode::empty()).unwrap();
    assert_eq!(statat(&top, "d", AtFlags::empty()).unwrap().st_mode & libc::S_IFMT, libc::S_IFDIR);
    drop(top);
    mount.unmount().unwrap();
}

/// An operation that needs room, with the path whose presence tells whether it
/// happened.
type Needy = (&'static str, fn(&Path) -> io::Result<()>);

const NEEDY: [Needy; 10] = [
    ("create in a deep lower directory", |m| File::create(m.join("a/b/c/new")).map(drop)),
    ("write to a lower file", |m| append(&m.join("a/b/file"), b"tail")),
    ("chmod of a lower file", |m| fs::set_permissions(m.join("a/b/file"), Permissions::from_mode(0o600))),
    ("mkdir", |m| fs::create_dir(m.join("a/dir"))),
    ("unlink of a lower file", |m| fs::remove_file(m.join("a/b/file"))),
    ("rename of a lower file", |m| fs::rename(m.join("a/b/file"), m.join("a/moved"))),
    ("rename of a lower directory", |m| fs::rename(m.join("a/b"), m.join("b-moved"))),
    ("link to a lower file", |m| fs::hard_link(m.join("a/b/file"), m.join("a/link"))),
    ("rmdir of a lower directory", |m| fs::remove_dir(m.join("a/empty"))),
    ("symlink", |m| std::os::unix::fs::symlink("target", m.join("a/b/symlink"))),
];

fn lower_for_needy(lower: &Path) {
    put(lower, "a/b/c/leaf", "leaf").unwrap();
    put(lower, "a/b/file", vec![5; 300_000]).unwrap();
    fs::hard_link(lower.join("a/b/file"), lower.join("a/twin")).unwrap();
    fs::create_dir(lower.join("a/empty")).unwrap();
}

fn tree(merged: &Path) -> Tree {
    Tree::read(merged).unwrap()
}

/// What an attempt that failed may have moved: parents that were copied up are
/// merged now, and have been touched.
const IGNORED: [Aspect; 3] = [Aspect::Mtime, Aspect::Ctime, Aspect::DirNlink];

/// Every operation with room for 0, 1, 2, … inodes until it succeeds: each
/// failure is ENOSPC and changes nothing, and with room it then works.
#[test]
fn no_inode_left_at_each_step() {
    for (name, act) in NEEDY {
        let mut steps = 0;
        for free in 0..40 {
            if attempt_with_inodes(name, act, free) {
                break;
            }
            steps += 1;
        }
        println!("{name}: fails with room for fewer than {steps} inodes");
        assert!(steps < 40, "{name} never succeeded");
    }
}

fn remove(ballast: &Path) {
    if ballast.exists() {
        fs::remove_dir_all(ballast).unwrap();
    }
}

fn attempt_with_inodes(name: &str, act: fn(&Path) -> io::Result<()>, free: usize) -> bool {
    let lower = Scratch::new(Backing::Tmpfs).unwrap();
    lower_for_needy(lower.path());
    let stage = Stage::new(Backing::FewInodes(100), 0).unwrap();
    let layers = Layers::writable(&[lower.path()], &stage.upper, &stage.work);
    let mount = Mount::new(Driver::under_test(), &layers, &stage.merged).unwrap();
    let before = tree(mount.path());
    let ballast = stage.scratch.path().join("ballast");
    fs::create_dir(&ballast).unwrap();
    let mut fillers: Vec<PathBuf> = Vec::new();
    loop {
        let path = ballast.join(fillers.len().to_string());
        if File::create(&path).is_err() {
            break;
        }
        fillers.push(path);
    }
    for path in fillers.iter().take(free) {
        fs::remove_file(path).unwrap();
    }
    let result = act(mount.path());
    let done = result.is_ok();
    if let Err(error) = result {
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{name} with {free} inodes: {error}");
        let differences = before.differences(&tree(mount.path()), &IGNORED);
        assert!(differences.is_empty(), "{name} with {free} inodes:\n{}", differences.join("\n"));
        remove(&ballast);
        act(mount.path()).unwrap_or_else(|e| panic!("{name}, with room again: {e}"));
    }
    let after = tree(mount.path());
    mount.unmount().unwrap();
    // Mounting needs an inode or two itself.
    remove(&ballast);
    let mount = Mount::new(Driver::under_test(), &layers, &stage.merged).unwrap();
    let differences = after.differences(&tree(mount.path()), &IGNORED);
    assert!(
        differences.is_empty(),
        "{name} with {free} inodes, after a remount:\n{}",
        differences.join("\n")
    );
    mount.unmount().unwrap();
    done
}

/// A copy-up that does not fit, on file systems that fill up differently.
#[test]
fn a_copy_up_that_does_not_fit() {
    for backing in [Backing::SmallTmpfs(4), Backing::Ext4(8)] {
        let lower = Scratch::new(Backing::Tmpfs).unwrap();
        put(lower.path(), "d/big", vec![6; 32 << 20]).unwrap();
        put(lower.path(), "d/small", "small").unwrap();
        let stage = Stage::new(backing, 0).unwrap();
        let layers = Layers::writable(&[lower.path()], &stage.upper, &stage.work);
        let mount = Mount::new(Driver::under_test(), &layers, &stage.merged).unwrap();
        let before = tree(mount.path());
        for _ in 0..3 {
            let error = append(&mount.path().join("d/big"), b"tail").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{backing:?}: {error}");
            let differences = before.differences(&tree(mount.path()), &IGNORED);
            assert!(differences.is_empty(), "{backing:?}:\n{}", differences.join("\n"));
        }
        // What was staged is gone: there is room for what fits.
        append(&mount.path().join("d/small"), b"!").unwrap();
        fs::write(mount.path().join("fits"), vec![7; 2 << 20]).unwrap();
        let error = fs::write(mount.path().join("fits-not"), vec![7; 32 << 20]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{backing:?}: {error}");
        fs::remove_file(mount.path().join("fits-not")).unwrap();
        // A hole needs no room.
        let size = fs::metadata(mount.path().join("d/big")).unwrap().size();
        assert_eq!(size, 32 << 20);
        OpenOptions::new().write(true).open(mount.path().join("fits")).unwrap().set_len(1 << 30).unwrap();
        mount.unmount().unwrap();
    }
}

#[test]
fn a_sparse_giant_is_copied_up_with_its_holes() {
    let stage = Stage::new(Backing::Ext4(64), 1).unwrap();
    let file = File::create(stage.lowers[0].join("sparse")).unwrap();
    file.set_len(10 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 5 << 30).unwrap();
    drop(file);
    let mount = stage.mount(Driver::under_test()).unwrap();
    append(&mount.path().join("sparse"), b"tail").unwrap();
    let metadata = fs::metadata(stage.upper.join("sparse")).unwrap();
    assert_eq!(metadata.size(), (10 << 30) + 4);
    // The kernel copies a whole MiB around the data.
    assert!(metadata.blocks() < 4096, "{} blocks of 512 bytes", metadata.blocks());
    mount.unmount().unwrap();
}

#[test]
fn attributes_of_64_kib_are_copied_up() {
    let stage = Stage::new(Backing::Tmpfs, 1).unwrap();
    put(&stage.lowers[0], "f", "f").unwrap();
    let value = vec![b'v'; 65_536];
    let set = |path: &Path, name: &str| {
        rustix::fs::setxattr(path, CString::new(name).unwrap(), &value, rustix::fs::XattrFlags::empty())
    };
    set(&stage.lowers[0].join("f"), "trusted.big").unwrap();
    for number in 0..100 {
        let name = format!("trusted.number-{number}");
        let path = stage.lowers[0].join("f");
        rustix::fs::setxattr(&path, name.as_str(), b"x", rustix::fs::XattrFlags::empty()).unwrap();
    }
    let before = Tree::read(&stage.lowers[0]).unwrap().nodes[Path::new("f")].xattrs.clone();
    let mount = stage.mount(Driver::under_test()).unwrap();
    append(&mount.path().join("f"), b"!").unwrap();
    let after = Tree::read(mount.path()).unwrap().nodes[Path::new("f")].xattrs.clone();
    assert_eq!(before.len(), 101);
    assert!(before == after, "attributes were lost");
    mount.unmount().unwrap();
}

#[test]
fn a_daemon_ends_whenever_it_is_unmounted() {
    // At whatever its threads are just then: after a rush, with releases and
    // forgets still on their way.
    let stage = Stage::new(Backing::Tmpfs, 1).unwrap();
    for round in 0..30 {
        let mount = stage.mount(Driver::under_test()).unwrap();
        for name in 0..3 * round {
            fs::write(mount.path().join(name.to_string()), "x").unwrap();
        }
        mount.unmount().unwrap();
    }
}
