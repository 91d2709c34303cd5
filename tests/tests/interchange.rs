//! What one union wrote, the other reads: each case is written by ours and
//! read by kernel overlayfs, and the reverse; then the reader changes it and
//! the writer reads again. Inode numbers and link counts are part of it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, XattrFlags, lsetxattr, mknodat, renameat_with};
use tests::mount::{Driver, Layers, Mount};
use tests::scratch::Backing;
use tests::stage::{Stage, put};
use tests::tree::{Aspect, Tree};

const TRUSTED: XattrFlags = XattrFlags::empty();

/// What a case does, in three parts.
struct Case {
    lowers: usize,
    prepare: fn(&[&Path]),
    write: fn(&Path),
    /// Done by the second driver, on what the first one wrote.
    rewrite: fn(&Path),
}

/// What upper marks a case must have left, so that it tests what it says.
type Marks = fn(&Path);

fn both_ways(case: &Case, marks: Marks) {
    for (writer, reader) in [(Driver::under_test(), Driver::Kernel), (Driver::Kernel, Driver::under_test())] {
        for backing in [Backing::Tmpfs, Backing::Ext4(64)] {
            one_way(case, marks, writer, reader, backing);
        }
    }
}

fn one_way(case: &Case, marks: Marks, writer: Driver, reader: Driver, backing: Backing) {
    let context = format!("written by {writer:?}, read by {reader:?}, on {backing:?}");
    println!("{context}");
    let mut stage = Stage::new(backing, case.lowers).unwrap();
    (case.prepare)(&stage.lowers.iter().map(|p| p.as_path()).collect::<Vec<_>>());
    stage.seal().unwrap();
    let seen = |driver: Driver, change: Option<fn(&Path)>| {
        let mount = stage.mount(driver).unwrap();
        if let Some(change) = change {
            change(mount.path());
        }
        let tree = Tree::read(mount.path()).unwrap();
        mount.unmount().unwrap();
        tree
    };
    let same = |what: &str, a: &Tree, b: &Tree| {
        let differences = a.differences(b, &[Aspect::Ctime]);
        assert!(differences.is_empty(), "{context}: {what}:\n{}", differences.join("\n"));
    };
    let written = seen(writer, Some(case.write));
    marks(&stage.upper);
    same("the writer after a remount", &written, &seen(writer, None));
    same("the reader", &written, &seen(reader, None));
    let rewritten = seen(reader, Some(case.rewrite));
    same("the reader after a remount", &rewritten, &seen(reader, None));
    same("the writer, of what the reader changed", &rewritten, &seen(writer, None));
    assert_eq!(stage.damage().unwrap(), Vec::<String>::new(), "{context}: lower layers changed");
}

fn no_marks(_: &Path) {}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn exchange(a: &Path, b: &Path) {
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
}

#[test]
fn files_made_changed_and_removed() {
    let case = Case {
        lowers: 2,
        prepare: |l| {
            put(l[0], "d/top", "top").unwrap();
            put(l[1], "d/bottom", "bottom").unwrap();
            put(l[1], "d/gone", "gone").unwrap();
            put(l[1], "kept", "kept").unwrap();
        },
        write: |m| {
            put(m, "new/file", "new").unwrap();
            append(&m.join("d/bottom"), " and more");
            fs::remove_file(m.join("d/gone")).unwrap();
            fs::remove_file(m.join("d/top")).unwrap();
        },
        rewrite: |m| {
            assert_eq!(fs::read(m.join("d/bottom")).unwrap(), b"bottom and more");
            put(m, "d/gone", "back").unwrap();
            append(&m.join("kept"), "!");
            fs::remove_dir_all(m.join("new")).unwrap();
        },
    };
    both_ways(&case, |upper| {
        let whiteout = fs::symlink_metadata(upper.join("d/gone")).unwrap();
        assert_eq!((whiteout.mode() & libc::S_IFMT, whiteout.rdev()), (libc::S_IFCHR, 0));
    });
}

#[test]
fn a_directory_removed_and_made_again_is_opaque() {
    let case = Case {
        lowers: 2,
        prepare: |l| {
            put(l[0], "d/sub/a", "a").unwrap();
            put(l[1], "d/sub/b", "b").unwrap();
            put(l[1], "e", "a file").unwrap();
        },
        write: |m| {
            fs::remove_dir_all(m.join("d")).unwrap();
            put(m, "d/fresh", "fresh").unwrap();
            fs::remove_file(m.join("e")).unwrap();
            fs::create_dir(m.join("e")).unwrap();
        },
        rewrite: |m| {
            assert!(!m.join("d/sub").exists());
            fs::create_dir(m.join("d/sub")).unwrap();
            fs::rename(m.join("d"), m.join("e/moved")).unwrap();
        },
    };
    both_ways(&case, |upper| {
        assert_eq!(xattr(&upper.join("d"), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
    });
}

#[test]
fn directories_moved_within_and_between_parents() {
    let case = Case {
        lowers: 2,
        prepare: |l| {
            put(l[0], "a/b/c/top", "top").unwrap();
            put(l[1], "a/b/c/bottom", "bottom").unwrap();
            put(l[1], "x/y/z/deep", "deep").unwrap();
            put(l[1], "p/q", "q").unwrap();
        },
        write: |m| {
            fs::rename(m.join("a/b"), m.join("a/beside")).unwrap();
            fs::rename(m.join("a/beside/c"), m.join("c-moved-out")).unwrap();
            fs::rename(m.join("a"), m.join("x/a-moved-in")).unwrap();
            fs::rename(m.join("x/y/z"), m.join("x/z")).unwrap();
            fs::rename(m.join("x"), m.join("x2")).unwrap();
            fs::create_dir(m.join("x")).unwrap();
            fs::remove_dir_all(m.join("p")).unwrap();
            fs::rename(m.join("x2/y"), m.join("p")).unwrap();
        },
        rewrite: |m| {
            assert_eq!(fs::read(m.join("c-moved-out/bottom")).unwrap(), b"bottom");
            assert_eq!(fs::read(m.join("x2/z/deep")).unwrap(), b"deep");
            fs::rename(m.join("x2/z"), m.join("x/z-again")).unwrap();
            append(&m.join("x/z-again/deep"), "!");
            fs::rename(m.join("c-moved-out"), m.join("x2/a-moved-in/beside/c")).unwrap();
            fs::remove_file(m.join("x2/a-moved-in/beside/c/top")).unwrap();
        },
    };
    both_ways(&case, |upper| {
        assert!(xattr(&upper.join("c-moved-out"), "trusted.overlay.redirect").unwrap().starts_with(b"/"));
        assert!(!xattr(&upper.join("x2"), "trusted.overlay.redirect").unwrap().is_empty());
    });
}

#[test]
fn metadata_changes_copy_no_data() {
    let case = Case {
        lowers: 2,
        prepare: |l| {
            put(l[1], "big", vec![7; 1 << 20]).unwrap();
            put(l[1], "d/owned", vec![8; 1 << 20]).unwrap();
            put(l[1], "d/renamed", vec![9; 1 << 20]).unwrap();
            put(l[0], "timed", vec![10; 100_000]).unwrap();
        },
        write: |m| {
            fs::set_permissions(m.join("big"), Permissions::from_mode(0o600)).unwrap();
            std::os::unix::fs::chown(m.join("d/owned"), Some(1000), Some(1001)).unwrap();
            fs::set_permissions(m.join("d/renamed"), Permissions::from_mode(0o640)).unwrap();
            fs::rename(m.join("d/renamed"), m.join("elsewhere")).unwrap();
            fs::rename(m.join("d"), m.join("d2")).unwrap();
            lsetxattr(m.join("timed"), "user.note", b"hello", TRUSTED).unwrap();
        },
        rewrite: |m| {
            assert_eq!(fs::read(m.join("elsewhere")).unwrap(), vec![9; 1 << 20]);
            append(&m.join("big"), "tail");
            fs::set_permissions(m.join("elsewhere"), Permissions::from_mode(0o604)).unwrap();
            fs::hard_link(m.join("d2/owned"), m.join("owned-too")).unwrap();
            OpenOptions::new().write(true).open(m.join("timed")).unwrap().set_len(5).unwrap();
        },
    };
    both_ways(&case, |upper| {
        for path in ["big", "d2/owned", "elsewhere", "timed"] {
            assert!(xattr(&upper.join(path), "trusted.overlay.metacopy").is_some(), "{path}");
            // ext4 may need a block of its own for the attributes.
            let sectors = fs::metadata(upper.join(path)).unwrap().blocks();
            assert!(sectors <= 8, "{path} holds data: {sectors} sectors");
        }
        assert_eq!(xattr(&upper.join("elsewhere"), "trusted.overlay.redirect").unwrap(), b"/d/renamed");
    });
}

#[test]
fn hard_links_survive_copy_up() {
    let case = Case {
        lowers: 2,
        prepare: |l| {
            put(l[1], "d/one", "linked").unwrap();
            fs::hard_link(l[1].join("d/one"), l[1].join("two")).unwrap();
            fs::hard_link(l[1].join("d/one"), l[1].join("three")).unwrap();
            put(l[1], "m/meta", "by metadata").unwrap();
            fs::hard_link(l[1].join("m/meta"), l[1].join("m/twin")).unwrap();
        },
        write: |m| {
            append(&m.join("d/one"), "!");
            assert_eq!(fs::read(m.join("two")).unwrap(), b"linked!");
            assert_eq!(fs::metadata(m.join("three")).unwrap().nlink(), 3);
            fs::remove_file(m.join("two")).unwrap();
            fs::hard_link(m.join("three"), m.join("four")).unwrap();
            fs::hard_link(m.join("d/one"), m.join("five")).unwrap();
            fs::set_permissions(m.join("m/meta"), Permissions::from_mode(0o600)).unwrap();
        },
        rewrite: |m| {
            assert_eq!(fs::metadata(m.join("four")).unwrap().nlink(), 4);
            append(&m.join("three"), "?");
            assert_eq!(fs::read(m.join("five")).unwrap(), b"linked!?");
            fs::remove_file(m.join("d/one")).unwrap();
            append(&m.join("m/twin"), "!");
            assert_eq!(fs::read(m.join("m/meta")).unwrap(), b"by metadata!");
            fs::rename(m.join("four"), m.join("three")).unwrap();
            fs::remove_file(m.join("m/meta")).unwrap();
        },
    };
    both_ways(&case, no_marks);
}

#[test]
fn the_last_link_of_an_indexed_file_frees_it() {
    let case = Case {
        lowers: 1,
        prepare: |l| {
            put(l[0], "one", "linked").unwrap();
            fs::hard_link(l[0].join("one"), l[0].join("two")).unwrap();
        },
        write: |m| {
            append(&m.join("one"), "!");
            fs::remove_file(m.join("one")).unwrap();
        },
        rewrite: |m| {
            assert_eq!(fs::metadata(m.join("two")).unwrap().nlink(), 1);
            fs::remove_file(m.join("two")).unwrap();
            put(m, "one", "another").unwrap();
        },
    };
    both_ways(&case, no_marks);
}

#[test]
fn objects_of_every_kind_are_copied_up_by_a_change_of_owner() {
    let case = Case {
        lowers: 1,
        prepare: |l| {
            let dir = l[0].join("d");
            fs::create_dir(&dir).unwrap();
            fs::set_permissions(&dir, Permissions::from_mode(0o3775)).unwrap();
            symlink("some/where", dir.join("link")).unwrap();
            put(&dir, "suid", "suid").unwrap();
            fs::set_permissions(dir.join("suid"), Permissions::from_mode(0o4755)).unwrap();
            lsetxattr(dir.join("suid"), "user.a", b"1", TRUSTED).unwrap();
            lsetxattr(dir.join("suid"), "trusted.b", b"2", TRUSTED).unwrap();
            let nodes = [
                ("fifo", FileType::Fifo, 0),
                ("socket", FileType::Socket, 0),
                ("null", FileType::CharacterDevice, 0x103),
                ("block", FileType::BlockDevice, 0x6301),
            ];
            for (name, kind, dev) in nodes {
                mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o640), dev).unwrap();
            }
        },
        write: |m| {
            for name in ["link", "suid", "fifo", "null"] {
                std::os::unix::fs::lchown(m.join("d").join(name), Some(1000), Some(1000)).unwrap();
            }
        },
        rewrite: |m| {
            for name in ["socket", "block", "link"] {
                std::os::unix::fs::lchown(m.join("d").join(name), Some(1001), Some(2000)).unwrap();
            }
            fs::rename(m.join("d/fifo"), m.join("fifo")).unwrap();
            fs::hard_link(m.join("d/null"), m.join("null")).unwrap();
        },
    };
    both_ways(&case, no_marks);
}

#[test]
fn exchanges_of_files_and_directories() {
    let case = Case {
        lowers: 2,
        prepare: |l| {
            put(l[0], "a/in-a", "top a").unwrap();
            put(l[1], "a/in-a2", "bottom a").unwrap();
            put(l[1], "b/in-b", "b").unwrap();
            put(l[1], "f", "file f").unwrap();
            put(l[1], "sub/g", "file g").unwrap();
        },
        write: |m| {
            exchange(&m.join("a"), &m.join("b"));
            exchange(&m.join("f"), &m.join("sub/g"));
            exchange(&m.join("f"), &m.join("a"));
        },
        rewrite: |m| {
            assert_eq!(fs::read(m.join("f/in-b")).unwrap(), b"b");
            exchange(&m.join("f"), &m.join("sub"));
            exchange(&m.join("b/in-a"), &m.join("b/in-a2"));
            exchange(&m.join("a"), &m.join("b"));
        },
    };
    both_ways(&case, no_marks);
}

#[test]
fn whiteouts_by_attribute_are_read() {
    let case = Case {
        lowers: 3,
        prepare: |l| {
            put(l[2], "d/hidden", "1").unwrap();
            put(l[2], "d/shown", "2").unwrap();
            put(l[1], "d/hidden", "").unwrap();
            lsetxattr(l[1].join("d/hidden"), "trusted.overlay.whiteout", b"y", TRUSTED).unwrap();
            lsetxattr(l[1].join("d"), "trusted.overlay.opaque", b"x", TRUSTED).unwrap();
            put(l[0], "other", "3").unwrap();
        },
        write: |m| {
            assert!(!m.join("d/hidden").exists());
            assert_eq!(fs::read_dir(m.join("d")).unwrap().count(), 1);
            put(m, "d/new", "4").unwrap();
        },
        rewrite: |m| {
            put(m, "d/hidden", "5").unwrap();
            fs::rename(m.join("d"), m.join("d2")).unwrap();
        },
    };
    both_ways(&case, no_marks);
}

/// A file in the form an image index gives it: metadata here, data elsewhere.
fn data_only_file(lower: &Path, name: &str, object: &str, size: u64) {
    let path = lower.join(name);
    fs::File::create(&path).unwrap().set_len(size).unwrap();
    lsetxattr(&path, "trusted.overlay.metacopy", b"", TRUSTED).unwrap();
    lsetxattr(&path, "trusted.overlay.redirect", object.as_bytes(), TRUSTED).unwrap();
}

#[test]
fn data_only_layers_give_the_data_of_redirected_files() {
    let read = |driver: Driver| {
        let stage = Stage::new(Backing::Tmpfs, 1).unwrap();
        let data = stage.scratch.dir("data").unwrap();
        put(&data, "ab/cdef", "the object's data").unwrap();
        data_only_file(&stage.lowers[0], "file", "/ab/cdef", 17);
        let layers = Layers { data_only: vec![data], ..stage.layers() };
        let mount = Mount::new(driver, &layers, &stage.merged).unwrap();
        assert_eq!(fs::read(mount.path().join("file")).unwrap(), b"the object's data");
        assert!(!mount.path().join("ab").exists(), "a data-only layer is not listed");
        append(&mount.path().join("file"), " and more");
        let tree = Tree::read(mount.path()).unwrap();
        mount.unmount().unwrap();
        assert_eq!(fs::read(stage.upper.join("file")).unwrap(), b"the object's data and more");
        tree
    };
    let (kernel, ours) = (read(Driver::Kernel), read(Driver::under_test()));
    let differences = kernel.differences(&ours, &[Aspect::Ino, Aspect::Mtime, Aspect::Ctime]);
    assert_eq!(differences, Vec::<String>::new());
}

#[test]
fn an_upper_of_one_is_a_lower_of_the_other() {
    for (writer, reader) in [(Driver::under_test(), Driver::Kernel), (Driver::Kernel, Driver::under_test())] {
        let mut stage = Stage::new(Backing::Tmpfs, 2).unwrap();
        put(&stage.lowers[0], "d/top", "top").unwrap();
        put(&stage.lowers[1], "d/bottom", vec![1; 9000]).unwrap();
        put(&stage.lowers[1], "e/f/g", "g").unwrap();
        let mount = stage.mount(writer).unwrap();
        let m = mount.path();
        fs::rename(m.join("e/f"), m.join("f")).unwrap();
        fs::set_permissions(m.join("d/bottom"), Permissions::from_mode(0o600)).unwrap();
        fs::rename(m.join("d/bottom"), m.join("f/bottom")).unwrap();
        fs::remove_file(m.join("d/top")).unwrap();
        let written = Tree::read(m).unwrap();
        mount.unmount().unwrap();

        let upper = std::mem::replace(&mut stage.upper, stage.scratch.dir("upper2").unwrap());
        stage.work = stage.scratch.dir("work2").unwrap();
        stage.lowers.insert(0, upper);
        let mount = stage.mount(reader).unwrap();
        // The new upper's root has a time of its own, and other layers are on top.
        let ignored = [Aspect::Ctime, Aspect::Mtime, Aspect::Ino];
        let differences = written.differences(&Tree::read(mount.path()).unwrap(), &ignored);
        assert!(differences.is_empty(), "{writer:?} to {reader:?}:\n{}", differences.join("\n"));
        append(&mount.path().join("f/bottom"), "!");
        assert_eq!(fs::read(mount.path().join("f/bottom")).unwrap().len(), 9001);
        mount.unmount().unwrap();
    }
}

#[test]
fn attributes_in_the_user_namespace() {
    for (writer, reader) in [(Driver::under_test(), Driver::Kernel), (Driver::Kernel, Driver::under_test())] {
        let stage = Stage::new(Backing::Tmpfs, 1).unwrap();
        put(&stage.lowers[0], "d/sub/a", "a").unwrap();
        put(&stage.lowers[0], "f", "f").unwrap();
        let layers = stage.layers().with("userxattr");
        let mount = Mount::new(writer, &layers, &stage.merged).unwrap();
        fs::remove_dir_all(mount.path().join("d")).unwrap();
        put(mount.path(), "d/fresh", "fresh").unwrap();
        append(&mount.path().join("f"), "!");
        let written = Tree::read(mount.path()).unwrap();
        mount.unmount().unwrap();
        assert_eq!(xattr(&stage.upper.join("d"), "user.overlay.opaque").as_deref(), Some(&b"y"[..]));
        assert_eq!(xattr(&stage.upper.join("d"), "trusted.overlay.opaque"), None);
        let mount = Mount::new(reader, &layers, &stage.merged).unwrap();
        let differences = written.differences(&Tree::read(mount.path()).unwrap(), &[Aspect::Ctime]);
        assert!(differences.is_empty(), "{writer:?} to {reader:?}:\n{}", differences.join("\n"));
        mount.unmount().unwrap();
    }
}

#[test]
fn overlay_marks_set_inside_are_escaped_on_disk() {
    let case = Case {
        lowers: 1,
        prepare: |l| put(l[0], "d/f", "f").unwrap(),
        write: |m| {
            lsetxattr(m.join("d"), "trusted.overlay.opaque", b"y", TRUSTED).unwrap();
            mknodat(CWD, m.join("d/null"), FileType::CharacterDevice, Mode::empty(), 0x103).unwrap();
        },
        rewrite: |m| {
            assert_eq!(xattr(&m.join("d"), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
            assert_eq!(fs::read(m.join("d/f")).unwrap(), b"f", "the mark is data, not a mark");
        },
    };
    both_ways(&case, |upper| {
        let on_disk = xattr(&upper.join("d"), "trusted.overlay.overlay.opaque");
        assert_eq!(on_disk.as_deref(), Some(&b"y"[..]));
    });
}
