//! Data: ranges, holes, copies, and putting it on disk.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{FallocateFlags, SeekFrom, copy_file_range, fallocate, fdatasync, fsync, seek};
use rustix::io::Errno;
use tests::mount::{Driver, Mount};
use tests::scratch::Backing;
use tests::stage::put;

use crate::open::edit;
use crate::scene::{Plan, bytes};

#[test]
fn s42_ranges_are_allocated_punched_and_zeroed() {
    let plan = Plan::new(1, |l| put(&l[0], "f", bytes(40_000)).unwrap()).on(Backing::Ext4(64));
    let seen = plan.same(|s| {
        let file = edit(&s.at("f"));
        let keep = FallocateFlags::KEEP_SIZE;
        let answers = [
            fallocate(&file, FallocateFlags::empty(), 30_000, 30_000),
            fallocate(&file, keep, 60_000, 100_000),
            fallocate(&file, FallocateFlags::PUNCH_HOLE | keep, 8192, 8192),
            fallocate(&file, FallocateFlags::ZERO_RANGE, 20_000, 5000),
            fallocate(&file, FallocateFlags::ZERO_RANGE | keep, 59_000, 50_000),
            fallocate(&file, FallocateFlags::PUNCH_HOLE, 0, 4096),
            fallocate(&file, FallocateFlags::empty(), 0, 0),
        ];
        let blocks = fs::metadata(s.at("f")).unwrap().blocks();
        (answers, fs::read(s.at("f")).unwrap(), blocks * 512 >= 150_000)
    });
    assert_eq!(seen.0[..5], [Ok(()); 5]);
    assert_eq!((seen.1.len(), seen.2), (60_000, true));
    assert!(seen.1[8192..16_384].iter().all(|&byte| byte == 0) && seen.1[16_384] != 0);
}

#[test]
fn s43_holes_are_found() {
    let plan = Plan::new(1, |l| {
        let file = File::create(l[0].join("f")).unwrap();
        file.write_all_at(&bytes(4096), 1 << 20).unwrap();
        file.set_len(3 << 20).unwrap();
        put(&l[0], "dense", bytes(4096)).unwrap();
    });
    for backing in [Backing::Tmpfs, Backing::Ext4(64)] {
        let plan = Plan { backing, ..plan };
        let found = plan.same(|s| {
            let look = |file: &File| {
                let from =
                    [SeekFrom::Data(0), SeekFrom::Hole(0), SeekFrom::Hole(1 << 20), SeekFrom::Data(2 << 20)];
                [0, 1, 2, 3].map(|n| seek(file, from[n]))
            };
            let lower = look(&File::open(s.at("f")).unwrap());
            let upper = look(&edit(&s.at("f")));
            // The kernel copies by the MiB, holes in it included.
            assert!(lower == upper || s.driver == Driver::Kernel, "{lower:?}, after copy-up {upper:?}");
            let dense = File::open(s.at("dense")).unwrap();
            (lower, seek(&dense, SeekFrom::Hole(0)), seek(&dense, SeekFrom::Data(4096)))
        });
        let expected = [Ok(1 << 20), Ok(0), Ok((1 << 20) + 4096), Err(Errno::NXIO)];
        assert_eq!(found, (expected, Ok(4096), Err(Errno::NXIO)));
    }
}

#[test]
fn s44_copies_between_files() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "from", bytes(100_000)).unwrap();
        put(&l[0], "to", "short").unwrap();
    });
    let seen = plan.same(|s| {
        let (from, to) = (File::open(s.at("from")).unwrap(), edit(&s.at("to")));
        let copy = |mut source: u64, mut target: u64, len: usize| {
            copy_file_range(&from, Some(&mut source), &to, Some(&mut target), len)
        };
        let copied = [copy(0, 3, 50_000), copy(90_000, 50_003, 50_000), copy(100_000, 0, 10)];
        let within = copy_file_range(&to, Some(&mut 0), &to, Some(&mut 70_000), 1000);
        let overlap = copy_file_range(&to, Some(&mut 0), &to, Some(&mut 10), 1000);
        (copied, within, overlap, fs::read(s.at("to")).unwrap())
    });
    assert_eq!(seen.0, [Ok(50_000), Ok(10_000), Ok(0)]);
    assert_eq!((seen.1, seen.2), (Ok(1000), Err(Errno::INVAL)));
    assert!(seen.3[3..50_003] == bytes(100_000)[..50_000]);
}

#[test]
fn s45_files_and_directories_are_synced() {
    let plan = Plan::new(1, |l| put(&l[0], "d/lower", "x").unwrap()).on(Backing::Ext4(64));
    let seen = plan.same(|s| {
        fs::write(s.at("d/new"), "x").unwrap();
        let sync = |name: &str| {
            let file = File::open(s.at(name)).unwrap();
            (fsync(&file), fdatasync(&file))
        };
        ["d/new", "d/lower", "d", ""].map(sync)
    });
    assert_eq!(seen, [(Ok(()), Ok(())); 4]);
    // What was synced is there when everything else is gone.
    plan.ours(|s| {
        fs::write(s.at("d/new"), "synced").unwrap();
        File::open(s.at("d/new")).unwrap().sync_all().unwrap();
        s.crash();
        assert_eq!(fs::read(s.at("d/new")).unwrap(), b"synced");
    });
}

#[test]
fn s66_volatile_never_waits_for_the_disk() {
    const VOLATILE: &[&str] = &["volatile", "redirect_dir=on", "metacopy=on", "index=on", "xino=on"];
    let plan = Plan::new(1, |l| put(&l[0], "f", "x").unwrap()).with(VOLATILE);
    plan.mount(Driver::Kernel).end();
    let mut scene = plan.mount(Driver::under_test());
    let file = edit(&scene.at("f"));
    file.write_all_at(b"y", 0).unwrap();
    assert_eq!((fsync(&file), fdatasync(&file)), (Ok(()), Ok(())));
    drop(file);
    scene.remount();
    assert_eq!(fs::read(scene.at("f")).unwrap(), b"y");
    scene.unmount();
    // What a volatile mount of the kernel's left is refused, by both.
    let kernel = Mount::new(Driver::Kernel, &scene.layers, &scene.stage.merged).unwrap();
    kernel.unmount().unwrap();
    for driver in [Driver::Kernel, Driver::Runionfs] {
        let refusal = Mount::new(driver, &scene.layers, &scene.stage.merged).err().unwrap().to_string();
        assert!(driver == Driver::Kernel || refusal.contains("volatile"), "{refusal}");
    }
    fs::remove_dir_all(scene.stage.work.join("work/incompat")).unwrap();
    scene.remount();
    scene.end();
}

const GATHERED: &str = "transport=auto,data=auto,writeback=1";

#[test]
fn s108_writes_are_gathered() {
    let plan = Plan::new(1, |l| put(&l[0], "f", bytes(10_000)).unwrap()).served(GATHERED);
    plan.ours(|s| {
        let mut file = fs::File::options().append(true).open(s.at("f")).unwrap();
        let mut expected = bytes(10_000);
        for number in 0..5000 {
            let line = format!("line {number}\n");
            file.write_all(line.as_bytes()).unwrap();
            expected.extend(line.bytes());
        }
        let len = expected.len() as u64;
        assert_eq!(fs::metadata(s.at("f")).unwrap().len(), len, "known before it is written");
        assert_eq!(fs::read(s.at("f")).unwrap(), expected);
        fdatasync(&file).unwrap();
        assert_eq!(fs::read(s.upper("f")).unwrap(), expected);
        file.write_all(b"end").unwrap();
        drop(file);
        expected.extend(b"end");
        assert_eq!(fs::read(s.upper("f")).unwrap(), expected, "a closed file is written");
        assert!(s.stat("WRITE") < 100, "{} requests", s.stat("WRITE"));
        let modified = fs::metadata(s.at("f")).unwrap().modified().unwrap();
        s.remount();
        assert_eq!(fs::read(s.at("f")).unwrap(), expected);
        assert_eq!(fs::metadata(s.at("f")).unwrap().modified().unwrap(), modified);
    });
}

#[test]
fn s108_what_is_written_late_can_fail_late() {
    let plan = Plan::new(1, |l| put(&l[0], "f", "x").unwrap()).on(Backing::Ext4(64)).served(GATHERED);
    plan.ours(|s| {
        let file = edit(&s.at("f"));
        let written = (0..100_u64).try_for_each(|at| file.write_all_at(&bytes(1 << 20), at << 20));
        let synced = fsync(&file);
        assert!(written.is_err() || synced == Err(Errno::NOSPC), "{written:?}, {synced:?}");
        file.set_len(1).unwrap();
        fsync(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 1);
    });
}
