//! Where ours is better than kernel overlayfs, on purpose, or just different.
//! What the kernel does is asserted too, so that the difference is a fact.

use std::fs::{self, File, Permissions};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use tests::mount::Driver;
use tests::stage::put;
use tests::sys::{Mapping, write_mapped};

use crate::files::{CAPABILITY, set_times};
use crate::open::edit;
use crate::scene::{Plan, Scene, answer, names, set_xattr, xattr};

#[test]
fn s76_a_descriptor_opened_before_copy_up_sees_later_writes() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "f", "before").unwrap();
        put(&l[0], "meta", "before").unwrap();
    })
    .coherent();
    let seen = plan.same(|s| {
        let readers = ["f", "meta"].map(|name| File::open(s.at(name)).unwrap());
        let read = |file: &File| {
            let mut bytes = [0; 6];
            file.read_exact_at(&mut bytes, 0).unwrap();
            (bytes, file.metadata().unwrap().len())
        };
        assert_eq!(readers.each_ref().map(read), [(*b"before", 6), (*b"before", 6)]);
        fs::set_permissions(s.at("meta"), Permissions::from_mode(0o600)).unwrap();
        for name in ["f", "meta"] {
            edit(&s.at(name)).write_all_at(b"after and more", 0).unwrap();
        }
        readers.each_ref().map(read)
    });
    assert_eq!(seen, [(*b"after ", 14); 2]);
}

#[test]
fn s77_a_mapping_made_before_copy_up_sees_later_writes() {
    let plan = Plan::new(1, |l| put(&l[0], "f", vec![b'-'; 10_000]).unwrap()).coherent();
    let (ours, kernel) = plan.both(|s| {
        let reader = File::open(s.at("f")).unwrap();
        let mapping = Mapping::readable(reader.as_fd(), 10_000).unwrap();
        assert_eq!(mapping.read().unwrap(), vec![b'-'; 10_000]);
        edit(&s.at("f")).write_all_at(b"after", 8192).unwrap();
        mapping.read().unwrap()[8192..8197].to_vec()
    });
    assert_eq!((&ours[..], &kernel[..]), (&b"after"[..], &b"-----"[..]));
}

#[test]
fn s78_watches_outlive_copy_up() {
    let plan = Plan::new(1, |l| put(&l[0], "d/f", "before").unwrap());
    plan.ours(|s| {
        let watcher = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let events = WatchFlags::MODIFY | WatchFlags::ATTRIB;
        let on_file = inotify::add_watch(&watcher, s.at("d/f"), events).unwrap();
        let on_dir = inotify::add_watch(&watcher, s.at("d"), events | WatchFlags::CREATE).unwrap();
        let seen = || {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = inotify::Reader::new(&watcher, &mut buffer);
            let mut seen = Vec::new();
            while let Ok(event) = reader.next() {
                seen.push((event.wd(), event.events()));
            }
            seen
        };
        edit(&s.at("d/f")).write_all_at(b"after", 0).unwrap();
        let written = seen();
        assert!(written.contains(&(on_file, ReadFlags::MODIFY)), "{written:?}");
        assert!(written.contains(&(on_dir, ReadFlags::MODIFY)), "{written:?}");
        fs::set_permissions(s.at("d/f"), Permissions::from_mode(0o600)).unwrap();
        fs::write(s.at("d/new"), "").unwrap();
        let changed = seen();
        assert!(changed.contains(&(on_file, ReadFlags::ATTRIB)), "{changed:?}");
        assert!(changed.contains(&(on_dir, ReadFlags::CREATE)), "{changed:?}");
        // The same watch, not a new one.
        assert_eq!(inotify::add_watch(&watcher, s.at("d/f"), events), Ok(on_file));
    });
}

#[test]
fn s79_directories_always_move() {
    let plan = Plan::new(1, |l| {
        let deep = format!("{0}/{0}/f", "long".repeat(50));
        put(&l[0], &deep, "x").unwrap();
        put(&l[0], "to/f", "x").unwrap();
    });
    let (ours, kernel) = plan.both(|s| {
        let long = "long".repeat(50);
        let moved = answer(fs::rename(s.at(&format!("{long}/{long}")), s.at("to/moved")));
        if moved.is_ok() {
            s.remount();
            assert_eq!(names(&s.at("to/moved")), ["f"]);
            s.driver = Driver::Kernel;
            s.remount();
            assert_eq!(names(&s.at("to/moved")), ["f"], "the kernel reads what it does not write");
        }
        moved
    });
    assert_eq!((ours, kernel), (Ok(()), Err(Errno::XDEV)));
}

#[test]
fn s80_an_unlinked_file_has_a_link_less() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "f", "x").unwrap();
        put(&l[0], "twins/one", "x").unwrap();
        fs::hard_link(l[0].join("twins/one"), l[0].join("twins/two")).unwrap();
    });
    let (ours, kernel) = plan.both(|s| {
        let files = ["f", "twins/one"].map(|name| File::open(s.at(name)).unwrap());
        for name in ["f", "twins/one"] {
            fs::remove_file(s.at(name)).unwrap();
        }
        files.map(|file| file.metadata().unwrap().nlink())
    });
    assert_eq!(ours, [0, 1]);
    assert_eq!(kernel[0], 1, "the kernel has become better too");
}

/// Opens a lower file, removes it, lets something else take its name, and
/// changes it through the descriptor.
fn change_unlinked(s: &mut Scene) -> (Result<(), Errno>, Vec<String>) {
    let file = File::open(s.at("d/f")).unwrap();
    fs::remove_file(s.at("d/f")).unwrap();
    fs::create_dir(s.at("d/f")).unwrap();
    let changed = answer(file.set_permissions(Permissions::from_mode(0o600)));
    drop(file);
    s.remount();
    (changed, names(&s.at("d")))
}

#[test]
fn s81_metadata_of_an_unlinked_file_can_be_changed() {
    let plan = Plan::new(1, |l| put(&l[0], "d/f", "x").unwrap());
    let (ours, kernel) = plan.both(change_unlinked);
    assert_eq!(ours, (Ok(()), vec!["f".to_owned()]));
    assert!(kernel.0.is_err(), "the kernel has become better too");
}

#[test]
fn s82_nothing_comes_back_at_a_remount() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "d/f", "x").unwrap();
        put(&l[0], "d/g", "x").unwrap();
        put(&l[0], "kept/f", "x").unwrap();
        put(&l[0], "kept/twin", "x").unwrap();
        fs::hard_link(l[0].join("kept/twin"), l[0].join("kept/other")).unwrap();
    });
    plan.ours(|s| {
        let files = ["d/f", "d/g", "kept/f", "kept/twin"].map(|name| File::open(s.at(name)).unwrap());
        fs::remove_dir_all(s.at("d")).unwrap();
        fs::create_dir(s.at("d")).unwrap();
        fs::remove_file(s.at("kept/f")).unwrap();
        fs::remove_file(s.at("kept/twin")).unwrap();
        for file in files {
            file.set_permissions(Permissions::from_mode(0o600)).unwrap();
        }
        let listed = |s: &Scene| (names(&s.at("d")), names(&s.at("kept")));
        let before = listed(s);
        s.remount();
        assert_eq!(before, (Vec::new(), vec!["other".to_owned()]));
        assert_eq!(before, listed(s));
        assert_eq!(fs::metadata(s.at("kept/other")).unwrap().mode() & 0o7777, 0o600, "the same file");
    });
}

#[test]
fn s83_data_follows_metadata_without_moving_times() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "f", vec![1; 10_000]).unwrap();
        set_times(&l[0].join("f"), 1000);
    });
    let (ours, kernel) = plan.both(|s| {
        fs::set_permissions(s.at("f"), Permissions::from_mode(0o600)).unwrap();
        drop(edit(&s.at("f")));
        let stat = fs::metadata(s.at("f")).unwrap();
        (stat.mtime(), stat.mtime_nsec())
    });
    assert_eq!(ours, (1000, 987_654_321));
    assert_ne!(kernel, ours, "the kernel has become better too");
}

#[test]
fn s84_which_zeros_are_holes_may_differ() {
    let plan = Plan::new(1, |l| put(&l[0], "f", "x").unwrap());
    let (ours, kernel) = plan.both(|s| {
        let file = edit(&s.at("f"));
        file.set_len(1 << 20).unwrap();
        file.write_all_at(b"end", (1 << 20) - 3).unwrap();
        let content = fs::read(s.at("f")).unwrap();
        // In whichever way the zeros are told apart, the walk ends at the end
        // and everything outside of it is zero.
        let mut data = vec![0; 1 << 20];
        let mut at = 0;
        while let Ok(start) = seek(&file, SeekFrom::Data(at)) {
            at = seek(&file, SeekFrom::Hole(start)).unwrap();
            assert!(at > start, "{:?}", s.driver);
            data[start as usize..at as usize].copy_from_slice(&content[start as usize..at as usize]);
        }
        assert_eq!(at, 1 << 20, "{:?}", s.driver);
        assert!(data == content, "{:?}: data in a hole", s.driver);
        content
    });
    assert!(ours == kernel);
}

#[test]
fn s85_positions_in_directories_are_not_those_of_files() {
    let plan = Plan::new(1, |l| put(&l[0], "f", "x").unwrap());
    let read = |dir: &File| rustix::io::read(dir, &mut [0_u8; 8][..]).map(drop);
    let (ours, kernel) = plan.both(|s| {
        let dir = File::open(s.at("")).unwrap();
        let at_start = read(&dir);
        let places = [SeekFrom::End(0), SeekFrom::Data(0), SeekFrom::Hole(0)];
        (at_start, read(&dir), places.map(|place| seek(&dir, place).is_ok()))
    });
    assert_eq!((ours.0, ours.1), (Err(Errno::ISDIR), Err(Errno::ISDIR)));
    assert_eq!((kernel.0, ours.2, kernel.2), (Err(Errno::ISDIR), [true; 3], [false; 3]));
}

#[test]
fn s86_a_store_through_a_mapping_takes_capabilities() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "f", vec![1; 10_000]).unwrap();
        set_xattr(&l[0].join("f"), "security.capability", CAPABILITY).unwrap();
    })
    .served("data=cached");
    let (ours, kernel) = plan.both(|s| {
        let file = edit(&s.at("f"));
        let before = xattr(&s.at("f"), "security.capability").is_ok();
        write_mapped(file.as_fd(), 10_000, 5000, b"stored").unwrap();
        drop(file);
        s.remount();
        assert_eq!(fs::read(s.at("f")).unwrap()[5000..5006], *b"stored");
        (before, xattr(&s.at("f"), "security.capability").is_ok())
    });
    assert_eq!((ours, kernel), ((true, false), (true, true)));
}
