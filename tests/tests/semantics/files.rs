//! Copy-up: what is copied, when, and how often.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tests::mount::{Driver, Layers, Mount};
use tests::scratch::{Backing, Scratch};
use tests::stage::put;
use tests::tree::{Aspect, Tree};

use crate::scene::{Plan, Scene, Stopped, bytes, names, run, set_xattr, xattr};

/// Sets both times, to the nanosecond.
pub fn set_times(path: &Path, seconds: i64) {
    let time = |nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time(123_456_789), last_modification: time(987_654_321) };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// `cap_net_raw=ep`, as it is kept in `security.capability`.
pub const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Files are copied when they are opened for writing.
const OPENS_ARE_TOLD: &str = "data=cached";

#[test]
fn s20_a_copy_is_exact() {
    let plan = Plan::new(1, |l| {
        let file = l[0].join("d/file");
        put(&l[0], "d/file", bytes(10_000)).unwrap();
        File::options().write(true).open(&file).unwrap().write_all_at(b"far", 40 << 20).unwrap();
        std::os::unix::fs::chown(&file, Some(1001), Some(1002)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o6751)).unwrap();
        set_xattr(&file, "user.long", bytes(500)).unwrap();
        set_xattr(&file, "trusted.secret", "t").unwrap();
        set_xattr(&file, "security.capability", CAPABILITY).unwrap();
        assert!(run("setfacl", &["-m", "u:7:rwx,g:8:r", file.to_str().unwrap()]).0);
        assert!(run("setfacl", &["-d", "-m", "u:7:rwx", l[0].join("d").to_str().unwrap()]).0);
        set_times(&file, -12_345);
        set_times(&l[0].join("d"), 54_321);
    })
    .served(OPENS_ARE_TOLD);
    for backing in [Backing::Tmpfs, Backing::Ext4(64)] {
        let plan = Plan { backing, ..plan };
        let copy = |s: &mut Scene| {
            let before = Tree::read(&s.at("")).unwrap();
            // Opened for writing, and nothing written.
            drop(OpenOptions::new().append(true).open(s.at("d/file")).unwrap());
            s.remount();
            let after = Tree::read(&s.at("")).unwrap();
            let unlike = [Aspect::Ctime, Aspect::DirNlink, Aspect::MergedDirNlink];
            assert_eq!(before.differences(&after, &unlike), Vec::<String>::new());
            let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
            let [lower, upper] = [s.lower(0, "d/file"), s.upper("d/file")];
            assert_eq!(fs::read(&upper).unwrap(), fs::read(&lower).unwrap());
            // The kernel copies by the MiB, holes in it included.
            let allowed = if s.driver == Driver::Kernel { 4096 } else { 16 };
            assert!(blocks(&upper) <= blocks(&lower) + allowed, "holes were filled: {}", blocks(&upper));
            after
        };
        let (ours, kernel) = plan.both(copy);
        let unlike = [Aspect::Ino, Aspect::Ctime];
        let differences = ours.differences(&kernel, &unlike);
        let real: Vec<_> = differences.into_iter().filter(|line| !line.starts_with("\"\":")).collect();
        assert_eq!(real, Vec::<String>::new());
    }
}

#[test]
fn s21_data_is_copied_when_it_is_opened_for_writing() {
    let plan = Plan::new(1, |l| {
        for name in ["read", "truncated", "written", "removed"] {
            put(&l[0], name, bytes(100_000)).unwrap();
        }
    });
    let copied = |s: &Scene| (s.stat("copy_ups"), s.stat("copied_bytes"));
    plan.served("transport=dev,data=unopened").ours(|s| {
        let file = OpenOptions::new().append(true).open(s.at("written")).unwrap();
        assert_eq!(copied(s), (0, 0), "opens are not told");
        file.write_all_at(b"x", 0).unwrap();
        assert_eq!(copied(s), (1, 100_000));
        fs::write(s.at("truncated"), "new").unwrap();
        assert_eq!(copied(s), (2, 100_000));
    });
    plan.served(OPENS_ARE_TOLD).ours(|s| {
        fs::read(s.at("read")).unwrap();
        fs::metadata(s.at("read")).unwrap();
        fs::remove_file(s.at("removed")).unwrap();
        assert_eq!(copied(s), (0, 0));
        fs::write(s.at("truncated"), "new").unwrap();
        assert_eq!(copied(s), (1, 0));
        drop(OpenOptions::new().append(true).open(s.at("written")).unwrap());
        assert_eq!(copied(s), (2, 100_000));
        drop(OpenOptions::new().append(true).open(s.at("written")).unwrap());
        assert_eq!(copied(s), (2, 100_000));
        assert!(!s.upper("read").exists());
    });
}

const BIG: usize = 256 << 20;

/// What changes metadata, each on a file of its own.
fn change_metadata(s: &Scene) {
    fs::set_permissions(s.at("chmod"), Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(s.at("chown"), Some(1), Some(2)).unwrap();
    set_times(&s.at("utimens"), 99);
    set_xattr(&s.at("setxattr"), "user.note", "hello").unwrap();
    fs::rename(s.at("rename"), s.at("d/renamed")).unwrap();
}

#[test]
fn s22_metadata_alone_copies_no_data() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "d/f", "").unwrap();
        put(&l[0], "chmod", vec![7; BIG]).unwrap();
        for name in ["chown", "utimens", "setxattr", "rename"] {
            put(&l[0], name, bytes(1 << 20)).unwrap();
        }
    });
    let seen = |s: &mut Scene| {
        change_metadata(s);
        let marks = ["chmod", "chown", "utimens", "setxattr", "d/renamed"].map(|name| {
            let mark = xattr(&s.upper(name), "trusted.overlay.metacopy").is_ok();
            (mark, fs::metadata(s.upper(name)).unwrap().blocks(), fs::metadata(s.at(name)).unwrap().blocks())
        });
        s.remount();
        (
            marks,
            fs::read(s.at("d/renamed")).unwrap() == bytes(1 << 20),
            fs::metadata(s.at("chmod")).unwrap().len(),
        )
    };
    let (marks, is_whole, len) = plan.same(seen);
    assert!(marks.iter().all(|(mark, real, shown)| *mark && *real == 0 && *shown >= 2048), "{marks:?}");
    assert!(is_whole);
    assert_eq!(len, BIG as u64);
    plan.ours(|s| {
        change_metadata(s);
        assert_eq!((s.stat("copy_ups"), s.stat("copied_bytes")), (6, 0), "five files and a directory");
    });
}

#[test]
fn s23_data_follows_at_the_first_write() {
    let plan = Plan::new(1, |l| {
        for name in ["written", "grown", "emptied", "linked"] {
            put(&l[0], name, bytes(100_000)).unwrap();
        }
    });
    let contents = plan.same(|s| {
        for name in ["written", "grown", "emptied", "linked"] {
            fs::set_permissions(s.at(name), Permissions::from_mode(0o600)).unwrap();
        }
        File::options().write(true).open(s.at("written")).unwrap().write_all_at(b"new", 50_000).unwrap();
        File::options().write(true).open(s.at("grown")).unwrap().set_len(150_000).unwrap();
        File::options().write(true).open(s.at("emptied")).unwrap().set_len(0).unwrap();
        fs::hard_link(s.at("linked"), s.at("second")).unwrap();
        s.remount();
        let names = ["written", "grown", "emptied", "linked", "second"];
        let marks = names.map(|name| xattr(&s.upper(name), "trusted.overlay.metacopy").is_ok());
        (names.map(|name| fs::read(s.at(name)).unwrap()), marks[..3].to_vec())
    });
    let mut written = bytes(100_000);
    written[50_000..50_003].copy_from_slice(b"new");
    let grown = [bytes(100_000), vec![0; 50_000]].concat();
    assert!(contents.0 == [written, grown, Vec::new(), bytes(100_000), bytes(100_000)]);
    assert_eq!(contents.1, [false; 3]);
}

#[test]
fn s24_layers_of_data_alone() {
    let scratch = Scratch::new(Backing::Tmpfs).unwrap();
    let [top, data, more, upper, work, merged] =
        ["top", "data", "more", "upper", "work", "merged"].map(|name| scratch.dir(name).unwrap());
    put(&data, "objects/aa", bytes(5000)).unwrap();
    put(&more, "objects/bb", "second").unwrap();
    for (name, object, size) in [("one", "/objects/aa", 5000), ("two", "/objects/bb", 6)] {
        File::create(top.join(name)).unwrap().set_len(size).unwrap();
        set_xattr(&top.join(name), "trusted.overlay.metacopy", "").unwrap();
        set_xattr(&top.join(name), "trusted.overlay.redirect", object).unwrap();
    }
    let mut layers = Layers::writable(&[&top], &upper, &work);
    layers.data_only = vec![data, more];
    let seen = [Driver::under_test(), Driver::Kernel].map(|driver| {
        for dir in [&upper, &work] {
            fs::remove_dir_all(dir).unwrap();
            fs::create_dir(dir).unwrap();
        }
        let mount = Mount::new(driver, &layers, &merged).unwrap();
        let names = crate::scene::names(&merged);
        let one = fs::read(merged.join("one")).unwrap() == bytes(5000);
        File::options().write(true).open(merged.join("two")).unwrap().write_all_at(b"S", 0).unwrap();
        let two = fs::read(merged.join("two")).unwrap();
        mount.unmount().unwrap();
        (names, one, two, xattr(&upper.join("two"), "trusted.overlay.metacopy"))
    });
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].0, ["one", "two"], "the objects themselves are not shown");
    assert_eq!((seen[0].1, &seen[0].2[..]), (true, &b"Second"[..]));
}

#[test]
fn s25_hard_links_survive_copy_up() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "one", "x").unwrap();
        for name in ["two", "d/three"] {
            fs::create_dir_all(l[0].join("d")).unwrap();
            fs::hard_link(l[0].join("one"), l[0].join(name)).unwrap();
        }
    });
    let seen = plan.same(|s| {
        let all = |s: &Scene| {
            ["one", "two", "d/three", "four"].map(|name| {
                let found = fs::metadata(s.at(name)).ok()?;
                Some((found.nlink(), fs::read(s.at(name)).unwrap()))
            })
        };
        let mut seen = vec![all(s)];
        fs::write(s.at("two"), "changed").unwrap();
        seen.push(all(s));
        fs::remove_file(s.at("one")).unwrap();
        seen.push(all(s));
        fs::hard_link(s.at("d/three"), s.at("four")).unwrap();
        fs::remove_file(s.at("two")).unwrap();
        seen.push(all(s));
        s.remount();
        seen.push(all(s));
        let [three, four] = ["d/three", "four"].map(|name| fs::metadata(s.at(name)).unwrap().ino());
        assert_eq!(three, four);
        seen
    });
    let file = |nlink, content: &str| Some((nlink, content.as_bytes().to_vec()));
    assert_eq!(seen[1], [file(3, "changed"), file(3, "changed"), file(3, "changed"), None]);
    assert_eq!(seen[2], [None, file(2, "changed"), file(2, "changed"), None]);
    assert_eq!(seen[3], [None, None, file(2, "changed"), file(2, "changed")]);
    assert_eq!(seen[4], seen[3]);
}

#[test]
fn s26_two_racers_make_one_copy() {
    const FILES: usize = 40;
    let plan = Plan::new(1, |l| {
        for number in 0..FILES {
            put(&l[0], &number.to_string(), bytes(1 << 20)).unwrap();
        }
    });
    plan.ours(|s| {
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            for offset in [0, 1] {
                let (s, barrier) = (&*s, &barrier);
                scope.spawn(move || {
                    for number in 0..FILES {
                        barrier.wait();
                        let file = File::options().write(true).open(s.at(&number.to_string())).unwrap();
                        file.write_all_at(b"!", offset).unwrap();
                    }
                });
            }
        });
        assert_eq!((s.stat("copy_ups"), s.stat("copied_bytes")), (FILES as u64, (FILES as u64) << 20));
        for number in 0..FILES {
            assert_eq!(fs::read(s.at(&number.to_string())).unwrap()[..2], *b"!!", "{number}");
        }
    });
}

/// Keeps the calling thread on a processor, the same for all who call this: a
/// server may have its threads wait for those of each processor apart.
fn stay_on_one_processor() {
    let allowed = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).unwrap();
    let mut only = CpuSet::new();
    only.set(first);
    sched_setaffinity(None, &only).unwrap();
}

#[test]
fn s27_a_copy_up_keeps_nobody_else_waiting() {
    // A lower that does not answer: a mount of ours whose daemon is stopped.
    let scratch = Scratch::new(Backing::Tmpfs).unwrap();
    let [source, slow, fast, upper, work, merged] =
        ["source", "slow", "fast", "upper", "work", "merged"].map(|name| scratch.dir(name).unwrap());
    put(&source, "slow-file", bytes(1 << 20)).unwrap();
    put(&fast, "fast-file", "fast").unwrap();
    let mut layers = Layers::read_only(&[&source]);
    layers.served = OPENS_ARE_TOLD.to_owned();
    let lower = Mount::new(Driver::Runionfs, &layers, &slow).unwrap();
    let mut layers = Layers::writable(&[&fast, &slow], &upper, &work);
    layers.served = OPENS_ARE_TOLD.to_owned();
    let mount = Mount::new(Driver::Runionfs, &layers, &merged).unwrap();
    assert_eq!(fs::metadata(merged.join("slow-file")).unwrap().len(), 1 << 20);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopped = Stopped::new(lower.daemon().unwrap());
        let writer = scope.spawn(|| {
            stay_on_one_processor();
            let opened = File::options().write(true).open(merged.join("slow-file"));
            is_done.store(true, Ordering::SeqCst);
            opened.map(drop)
        });
        let opens = || {
            let json = xattr(&merged, "user.runionfs.stats").unwrap();
            String::from_utf8(json).unwrap().contains("\"OPEN\":1")
        };
        while !opens() {
            std::thread::yield_now();
        }
        let (tell, told) = channel();
        let merged = merged.clone();
        std::thread::spawn(move || {
            stay_on_one_processor();
            let read = fs::read(merged.join("fast-file")).unwrap();
            fs::write(merged.join("fast-file"), "changed").unwrap();
            fs::write(merged.join("new"), "new").unwrap();
            tell.send(read).unwrap();
        });
        let read = told.recv_timeout(Duration::from_secs(60));
        assert!(!is_done.load(Ordering::SeqCst), "the copy-up did not wait for its lower");
        drop(stopped);
        assert_eq!(read.expect("a reader of another file waited"), b"fast");
        writer.join().unwrap().unwrap();
    });
    mount.unmount().unwrap();
    lower.unmount().unwrap();
    assert!(fs::read(upper.join("slow-file")).unwrap() == bytes(1 << 20));
}

#[test]
fn s99_files_without_a_name_can_be_named() {
    let plan = Plan::new(1, |l| put(&l[0], "d/old", "old").unwrap()).served("transport=dev");
    for backing in [Backing::Tmpfs, Backing::Ext4(64)] {
        let seen = Plan { backing, ..plan }.same(|s| {
            let unnamed = |mode: u32| {
                let flags = libc::O_TMPFILE;
                OpenOptions::new().read(true).write(true).mode(mode).custom_flags(flags).open(s.at("d"))
            };
            let file = unnamed(0o6751).unwrap();
            file.write_all_at(b"written", 0).unwrap();
            let before = file.metadata().unwrap();
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, &path, CWD, s.at("d/new"), AtFlags::SYMLINK_FOLLOW).unwrap();
            fs::remove_file(s.at("d/old")).unwrap();
            // Another one takes a whiteout's place.
            let second = unnamed(0o600).unwrap();
            let path = format!("/proc/self/fd/{}", second.as_raw_fd());
            rustix::fs::linkat(CWD, &path, CWD, s.at("d/old"), AtFlags::SYMLINK_FOLLOW).unwrap();
            drop(second);
            let gone = unnamed(0o600).unwrap();
            gone.write_all_at(b"x", 0).unwrap();
            drop((gone, file));
            s.remount();
            let after = fs::metadata(s.at("d/new")).unwrap();
            let told = |m: &fs::Metadata| (m.mode(), m.uid(), m.len(), m.nlink());
            (told(&before), told(&after), fs::read(s.at("d/new")).unwrap(), names(&s.at("d")))
        });
        assert_eq!(seen.3, ["new", "old"]);
    }
}
