//! What is on disk: after a crash, below the mount, and for the kernel to read.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use tests::mount::Driver;
use tests::scratch::Backing;
use tests::stage::put;
use tests::tree::{Aspect, Tree};

use crate::scene::{Plan, bytes, names};

#[test]
fn s67_leftovers_of_a_crash_are_removed() {
    let plan = Plan::new(1, |l| put(&l[0], "f", "x").unwrap());
    let mut scene = plan.mount(Driver::under_test());
    scene.unmount();
    let work = scene.stage.work.join("work");
    put(&work, "#1f", "half a copy").unwrap();
    put(&work, "#20/below/deeper", "half a directory").unwrap();
    scene.remount();
    assert_eq!(names(&work), Vec::<String>::new());
    assert_eq!(names(&scene.at("")), ["f"]);
    scene.end();
}

#[test]
fn s68_a_killed_daemon_leaves_the_old_or_the_new() {
    let plan = Plan::new(1, |l| {
        for number in 0..200 {
            put(&l[0], &format!("d/{number}"), bytes(50_000)).unwrap();
        }
    })
    .on(Backing::Ext4(64));
    plan.ours(|s| {
        std::thread::scope(|scope| {
            let dir = s.at("d");
            let writer = scope.spawn(move || {
                // Until the daemon is gone. The length stays: a copy is all that happens.
                let copy = |number: usize| {
                    fs::OpenOptions::new().append(true).open(dir.join(format!("{number}")))?.set_len(50_000)
                };
                (0..200).take_while(|number| copy(*number).is_ok()).count()
            });
            while s.stat("copy_ups") < 20 {
                std::thread::yield_now();
            }
            let daemon = rustix::process::Pid::from_raw(s.daemon() as i32).unwrap();
            rustix::process::kill_process(daemon, rustix::process::Signal::KILL).unwrap();
            assert!(writer.join().unwrap() < 200, "it was too late for a crash");
        });
        s.crash();
        for number in 0..200 {
            assert!(fs::read(s.at(&format!("d/{number}"))).unwrap() == bytes(50_000), "{number}");
        }
        let copied = names(&s.upper("d")).len();
        assert!((19..200).contains(&copied), "{copied}");
    });
}

#[test]
fn s69_what_ours_writes_the_kernel_reads_and_the_reverse() {
    let plan = Plan::new(2, |l| {
        put(&l[0], "d/top", "x").unwrap();
        put(&l[1], "d/bottom", "x").unwrap();
        put(&l[1], "meta", bytes(50_000)).unwrap();
        put(&l[1], "one", "linked").unwrap();
        fs::hard_link(l[1].join("one"), l[1].join("two")).unwrap();
        put(&l[1], "gone/f", "x").unwrap();
    });
    for (writer, reader) in [(Driver::under_test(), Driver::Kernel), (Driver::Kernel, Driver::under_test())] {
        let mut scene = plan.mount(writer);
        fs::rename(scene.at("d"), scene.at("e")).unwrap();
        fs::remove_file(scene.at("e/top")).unwrap();
        fs::set_permissions(scene.at("meta"), Permissions::from_mode(0o600)).unwrap();
        fs::write(scene.at("one"), "changed").unwrap();
        fs::remove_dir_all(scene.at("gone")).unwrap();
        fs::create_dir(scene.at("gone")).unwrap();
        scene.remount();
        let written = Tree::read(&scene.at("")).unwrap();
        scene.driver = reader;
        scene.remount();
        let read = Tree::read(&scene.at("")).unwrap();
        let differences = written.differences(&read, &[Aspect::Ctime]);
        assert_eq!(differences, Vec::<String>::new(), "written by {writer:?}, read by {reader:?}");
        assert_eq!(read.nodes.len(), 7);
        // That the lowers are what they were is checked at every end.
        scene.end();
    }
}
