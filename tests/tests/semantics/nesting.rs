//! Unions on top of unions.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use tests::mount::{Driver, Layers, Mount};
use tests::stage::put;
use tests::tree::{Aspect, Tree};

use crate::scene::{Plan, Stopped, names, set_xattr, xattr};

#[test]
fn s58_a_union_keeps_its_marks_in_another() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "lower/d/gone", "x").unwrap();
        put(&l[0], "lower/d/kept", "x").unwrap();
        put(&l[0], "lower/moved/f", "x").unwrap();
    });
    let trees = [
        (Driver::Kernel, Driver::Kernel),
        (Driver::under_test(), Driver::Kernel),
        (Driver::under_test(), Driver::under_test()),
        (Driver::Kernel, Driver::under_test()),
    ]
    .map(|(outer, inner)| {
        let mut scene = plan.mount(outer);
        // What a nested union would have written, were its upper here.
        fs::create_dir(scene.at("middle")).unwrap();
        for (name, mark, value) in [("d", "opaque", "y"), ("renamed", "redirect", "/moved")] {
            fs::create_dir(scene.at(&format!("middle/{name}"))).unwrap();
            let mark = format!("trusted.overlay.{mark}");
            set_xattr(&scene.at(&format!("middle/{name}")), &mark, value).unwrap();
            assert_eq!(xattr(&scene.at(&format!("middle/{name}")), &mark).unwrap(), value.as_bytes());
        }
        // What was renamed is no longer under its old name.
        fs::write(scene.at("middle/moved"), "a file").unwrap();
        assert!(xattr(&scene.upper("middle/d"), "trusted.overlay.opaque").is_err(), "not escaped");
        assert_eq!(xattr(&scene.upper("middle/d"), "trusted.overlay.overlay.opaque").unwrap(), b"y");
        scene.remount();
        let dir = |name: &str| scene.stage.scratch.dir(name).unwrap();
        let (upper, work, merged) = (dir("inner-upper"), dir("inner-work"), dir("inner"));
        let lowers = [scene.at("middle"), scene.at("lower")];
        let layers = Layers::writable(&[&lowers[0], &lowers[1]], &upper, &work);
        let mount = Mount::new(inner, &layers, &merged).unwrap();
        assert_eq!(names(&merged), ["d", "moved", "renamed"], "{outer:?} below {inner:?}");
        assert_eq!(names(&merged.join("d")), Vec::<String>::new());
        assert_eq!(names(&merged.join("renamed")), ["f"]);
        fs::write(merged.join("d/new"), "x").unwrap();
        fs::write(merged.join("renamed/f"), "changed").unwrap();
        fs::remove_file(merged.join("moved")).unwrap();
        fs::rename(merged.join("renamed"), merged.join("again")).unwrap();
        let tree = Tree::read(&merged).unwrap();
        mount.unmount().unwrap();
        // The same with an upper that lies in the union itself.
        for dir in ["inner-upper", "inner-work"] {
            fs::create_dir(scene.at(dir)).unwrap();
        }
        let (upper, work) = (scene.at("inner-upper"), scene.at("inner-work"));
        let layers = Layers::writable(&[&lowers[0], &lowers[1]], &upper, &work);
        match Mount::new(inner, &layers, &merged) {
            Ok(mount) => {
                fs::remove_file(merged.join("moved")).unwrap();
                fs::rename(merged.join("renamed"), merged.join("again")).unwrap();
                mount.unmount().unwrap();
                let mount = Mount::new(inner, &layers, &merged).unwrap();
                assert_eq!(names(&merged), ["again", "d"]);
                assert_eq!(names(&merged.join("again")), ["f"]);
                mount.unmount().unwrap();
                assert_ne!(inner, Driver::Kernel, "the kernel has become better too");
            }
            Err(error) => assert_eq!(inner, Driver::Kernel, "{error}"),
        }
        scene.end();
        tree
    });
    let unlike = [Aspect::Ino, Aspect::Mtime, Aspect::Ctime, Aspect::DirNlink];
    for tree in &trees[1..] {
        assert_eq!(trees[0].differences(tree, &unlike), Vec::<String>::new());
    }
}

/// Requests that do not end: more than threads wait at first, on any machine.
const ENDLESS: usize = 7;

#[test]
fn s106_what_never_ends_holds_up_nobody_else() {
    if std::env::var("TESTS_OPTIONS").unwrap_or_default().contains("transport=fuser") {
        println!("skipped: s106: that crate has a fixed number of threads");
        return;
    }
    let plan = Plan::new(1, |l| {
        for number in 0..ENDLESS {
            put(&l[0], &format!("slow/{number}/f"), "slow").unwrap();
        }
    });
    let inner = plan.mount(Driver::under_test());
    let dir = |name: &str| inner.stage.scratch.dir(name).unwrap();
    let (quick, upper, work, outer) = (dir("quick"), dir("outer-upper"), dir("outer-work"), dir("outer"));
    put(&quick, "quick/f", "quick").unwrap();
    let layers = Layers::writable(&[&inner.stage.merged, &quick], &upper, &work);
    let mount = Mount::new(Driver::under_test(), &layers, &outer).unwrap();
    // Nobody asks for these again; of what is in them nothing is known yet.
    assert_eq!((names(&outer).len(), names(&outer.join("slow")).len()), (2, ENDLESS));
    let stopped = Stopped::new(inner.daemon());
    let waiting: Vec<_> = (0..ENDLESS)
        .map(|number| {
            let path = outer.join(format!("slow/{number}/f"));
            let waiting = std::thread::spawn(move || fs::read_to_string(path));
            // Until it does: the first ones leave no thread over.
            std::thread::sleep(Duration::from_millis(50));
            waiting
        })
        .collect();
    let (done, other) = mpsc::channel();
    let path = outer.clone();
    std::thread::spawn(move || done.send(use_it(&path)));
    let done = other.recv_timeout(Duration::from_secs(20));
    let still_waiting = waiting.iter().filter(|thread| !thread.is_finished()).count();
    drop(stopped);
    assert_eq!(done, Ok("quick".to_owned()), "the mount stands still");
    assert_eq!(still_waiting, ENDLESS);
    for thread in waiting {
        assert_eq!(thread.join().unwrap().unwrap(), "slow");
    }
    mount.unmount().unwrap();
    inner.end();
}

/// What another client does meanwhile.
fn use_it(outer: &Path) -> String {
    fs::write(outer.join("quick/new"), "x").unwrap();
    fs::rename(outer.join("quick/new"), outer.join("new")).unwrap();
    fs::remove_file(outer.join("new")).unwrap();
    fs::read_to_string(outer.join("quick/f")).unwrap()
}
