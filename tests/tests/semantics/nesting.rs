//! Unions on top of unions.

use std::fs;

use tests::mount::{Driver, Layers, Mount};
use tests::stage::put;
use tests::tree::{Aspect, Tree};

use crate::scene::{Plan, names, set_xattr, xattr};

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
