//! Files that the kernel reads and writes by itself.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::io::Errno;
use tests::mount::Driver;
use tests::stage::put;
use tests::sys;

use crate::open::edit;
use crate::scene::{Plan, Scene, answer, as_user, bytes};

/// All that can be is passed through.
const ALL: &str = "transport=auto,data=passthrough";

/// What the daemon was asked to read and write itself.
fn served(s: &Scene) -> [u64; 2] {
    ["READ", "WRITE"].map(|name| s.stat(name))
}

fn start(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; 7];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn s101_readers_of_a_passed_through_lower_go_on_reading_it() {
    let plan = Plan::new(1, |l| {
        for name in ["f", "truncated", "one", "reopened", "changed"] {
            put(&l[0], name, bytes(2 << 20)).unwrap();
        }
        fs::hard_link(l[0].join("one"), l[0].join("two")).unwrap();
    })
    .served(ALL);
    plan.ours(|s| {
        let old = &bytes(2 << 20)[..7];
        let ino = fs::metadata(s.at("f")).unwrap().ino();
        let reader = File::open(s.at("f")).unwrap();
        assert_eq!(start(&reader), old);
        // The name is open for whom writes to it, and shows what he writes.
        let writer = edit(&s.at("f"));
        writer.write_all_at(b"written", 0).unwrap();
        assert_eq!(start(&File::open(s.at("f")).unwrap()), b"written");
        assert_eq!(start(&reader), old);
        assert_eq!(sys::read_mapped(reader.as_fd(), 7).unwrap(), old);
        writer.set_len(10).unwrap();
        // All that is not data is of the one file.
        for told in [reader.metadata().unwrap(), fs::metadata(s.at("f")).unwrap()] {
            assert_eq!((told.ino(), told.len()), (ino, 10));
        }
        reader.set_permissions(Permissions::from_mode(0o600)).unwrap();
        assert_eq!(writer.metadata().unwrap().mode() & 0o7777, 0o600);
        let again = format!("/proc/self/fd/{}", reader.as_raw_fd());
        assert_eq!(answer(OpenOptions::new().write(true).open(&again).map(drop)), Err(Errno::STALE));
        drop((reader, writer));
        assert_eq!(start(&File::open(s.at("f")).unwrap()), b"written");
        // Emptied, by name and by open.
        let readers = ["truncated", "reopened"].map(|name| File::open(s.at(name)).unwrap());
        let path = std::ffi::CString::new(s.at("truncated").into_os_string().into_vec()).unwrap();
        sys::truncate(&path, 3).unwrap();
        fs::write(s.at("reopened"), "written").unwrap();
        assert_eq!(fs::read(s.at("truncated")).unwrap(), &old[..3]);
        assert_eq!(fs::read(s.at("reopened")).unwrap(), b"written");
        assert!(readers.iter().all(|reader| start(reader) == old));
        // Through one name, seen by the other.
        let reader = File::open(s.at("two")).unwrap();
        edit(&s.at("one")).write_all_at(b"written", 0).unwrap();
        assert_eq!(start(&File::open(s.at("two")).unwrap()), b"written");
        assert_eq!(start(&reader), old);
        fs::remove_file(s.at("one")).unwrap();
        fs::rename(s.at("two"), s.at("three")).unwrap();
        assert_eq!(reader.metadata().unwrap().nlink(), 1);
        drop(reader);
        // A change of metadata alone leaves everybody with the one file.
        let reader = File::open(s.at("changed")).unwrap();
        fs::set_permissions(s.at("changed"), Permissions::from_mode(0o600)).unwrap();
        assert_eq!(start(&File::open(s.at("changed")).unwrap()), old);
        edit(&s.at("changed")).write_all_at(b"written", 0).unwrap();
        assert_eq!(start(&File::open(s.at("changed")).unwrap()), b"written");
        drop(reader);
        drop(readers);
        assert_eq!(served(s), [0, 0]);
        s.remount();
        for name in ["f", "three", "changed", "reopened"] {
            assert_eq!(start(&File::open(s.at(name)).unwrap()), b"written", "{name}");
        }
        assert_eq!(fs::metadata(s.at("f")).unwrap().ino(), ino);
    });
}

#[test]
fn s101_readers_and_writers_race() {
    const FILES: usize = 40;
    let plan = Plan::new(1, |l| {
        for number in 0..FILES {
            put(&l[0], &format!("{number}"), bytes(10_000)).unwrap();
            fs::set_permissions(l[0].join(format!("{number}")), Permissions::from_mode(0o755)).unwrap();
        }
    })
    .served("transport=auto,data=programs");
    plan.ours(|s| {
        let (is_over, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        for number in 0..FILES {
                            let file = File::open(s.at(&format!("{number}"))).unwrap();
                            let seen = start(&file);
                            assert!(seen == bytes(7) || seen == b"written", "{number}: {seen:?}");
                            opened.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for number in 0..FILES {
                while opened.load(Ordering::Relaxed) < number * 3 {
                    std::thread::yield_now();
                }
                edit(&s.at(&format!("{number}"))).write_all_at(b"written", 0).unwrap();
                assert_eq!(start(&File::open(s.at(&format!("{number}"))).unwrap()), b"written");
            }
            is_over.store(true, Ordering::Relaxed);
        });
        s.remount();
        for number in 0..FILES {
            assert_eq!(start(&File::open(s.at(&format!("{number}"))).unwrap()), b"written");
        }
    });
}

#[test]
fn s101_running_programs_are_not_written() {
    let plan = Plan::new(1, |l| assert!(fs::copy("/bin/sleep", l[0].join("program")).unwrap() > 0))
        .served("transport=auto,data=programs");
    let seen = plan.same(|s| {
        let mut program = std::process::Command::new(s.at("program")).arg("1000").spawn().unwrap();
        let written = answer(OpenOptions::new().write(true).open(s.at("program")).map(drop));
        program.kill().unwrap();
        program.wait().unwrap();
        edit(&s.at("program")).set_len(10).unwrap();
        (written, fs::metadata(s.at("program")).unwrap().len())
    });
    assert_eq!(seen, (Err(Errno::TXTBSY), 10));
}

#[test]
fn s102_writing_to_a_passed_through_file_takes_set_id_bits() {
    let plan = Plan::new(1, |_| {}).served(ALL);
    let seen = plan.same(|s| {
        let create = |name: &str| {
            let new = OpenOptions::new().write(true).create_new(true).mode(0o777).open(s.at(name)).unwrap();
            new.set_permissions(Permissions::from_mode(0o777)).unwrap();
        };
        create("open");
        create("closed");
        let set = |name: &str| fs::set_permissions(s.at(name), Permissions::from_mode(0o6777)).unwrap();
        set("closed");
        let [open, closed] = ["open", "closed"].map(|name| s.at(name));
        let writers = as_user(1000, &[1000], || {
            [&open, &closed].map(|path| OpenOptions::new().write(true).open(path).unwrap())
        });
        // While it is open, too.
        set("open");
        as_user(1000, &[1000], || writers.iter().for_each(|file| file.write_all_at(b"x", 0).unwrap()));
        assert!(s.driver == Driver::Kernel || served(s) == [0, 0]);
        [open, closed].map(|path| fs::metadata(path).unwrap().mode() & 0o7777)
    });
    assert_eq!(seen, [0o777, 0o777]);
}
