//! Layers and options.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use rustix::io::Errno;
use tests::mount::{Driver, Layers, Mount};
use tests::scratch::{Backing, Scratch};
use tests::stage::put;

use crate::scene::{Plan, answer, names, set_xattr, xattr};

#[test]
fn s01_any_number_of_lowers() {
    let plan = Plan::new(130, |lowers| {
        for (number, lower) in lowers.iter().enumerate() {
            put(lower, &format!("d/{number}"), number.to_string()).unwrap();
            put(lower, "d/all", number.to_string()).unwrap();
        }
    });
    let (count, top) = plan.same(|s| (names(&s.at("d")).len(), fs::read(s.at("d/all")).unwrap()));
    assert_eq!((count, &top[..]), (131, &b"0"[..]));
}

#[test]
fn s02_paths_of_layers_may_hold_any_byte() {
    let scratch = Scratch::new(Backing::Tmpfs).unwrap();
    let [merged, plain] = ["merged", "plain"].map(|name| scratch.dir(name).unwrap());
    let odd: Vec<PathBuf> =
        ["a:b", "c,d", "e\\f", "g\\:h,i", "j\nk"].iter().map(|n| scratch.dir(n).unwrap()).collect();
    for (number, dir) in odd.iter().enumerate() {
        put(dir, &number.to_string(), "x").unwrap();
    }
    let lowers: Vec<_> = odd.iter().chain([&plain]).map(|path| path.as_path()).collect();
    for driver in [Driver::under_test(), Driver::Kernel] {
        let mount = Mount::new(driver, &Layers::read_only(&lowers), &merged).unwrap();
        assert_eq!(names(&merged), ["0", "1", "2", "3", "4"]);
        mount.unmount().unwrap();
    }
    // As upper and work directory too.
    let (upper, work) = (scratch.dir("u:,\\u").unwrap(), scratch.dir("w:,\\w").unwrap());
    let mount = Mount::new(Driver::under_test(), &Layers::writable(&lowers, &upper, &work), &merged).unwrap();
    fs::write(merged.join("new"), "").unwrap();
    mount.unmount().unwrap();
    assert!(upper.join("new").exists());
}

#[test]
fn s03_options_of_any_length() {
    let scratch = Scratch::new(Backing::Tmpfs).unwrap();
    let merged = scratch.dir("merged").unwrap();
    let lower = |number: usize| {
        let dir = scratch.dir(&format!("{number}-{}", "long".repeat(50))).unwrap();
        put(&dir, &number.to_string(), "x").unwrap();
        dir
    };
    let dirs: Vec<PathBuf> = (0..90).map(lower).collect();
    let list = scratch.path().join("list");
    let lines: Vec<String> = dirs[60..].iter().map(|dir| dir.display().to_string()).collect();
    fs::write(&list, lines.join("\n") + "\n").unwrap();
    let mut layers = Layers::read_only(&dirs[..30].iter().map(PathBuf::as_path).collect::<Vec<_>>());
    layers.options.extend(dirs[30..60].iter().map(|dir| format!("lowerdir+={}", dir.display())));
    layers.options.push(format!("lowersfile={}", list.display()));
    assert!(layers.options.concat().len() > 3 * 2048, "not long enough to prove anything");
    let mount = Mount::new(Driver::Runionfs, &layers, &merged).unwrap();
    assert_eq!(names(&merged).len(), 90);
    mount.unmount().unwrap();
}

#[test]
fn s04_without_an_upper_it_is_read_only() {
    let scratch = Scratch::new(Backing::Tmpfs).unwrap();
    let [a, b, merged] = ["a", "b", "merged"].map(|name| scratch.dir(name).unwrap());
    put(&a, "f", "x").unwrap();
    put(&b, "d/f", "y").unwrap();
    let errors = [Driver::under_test(), Driver::Kernel].map(|driver| {
        let mount = Mount::new(driver, &Layers::read_only(&[&a, &b]), &merged).unwrap();
        assert_eq!(fs::read(merged.join("d/f")).unwrap(), b"y");
        let at = |name: &str| merged.join(name);
        let errors = [
            answer(OpenOptions::new().write(true).open(at("f")).map(drop)),
            answer(fs::write(at("new"), "")),
            answer(fs::create_dir(at("dir"))),
            answer(fs::remove_file(at("f"))),
            answer(fs::remove_dir(at("d"))),
            answer(fs::rename(at("f"), at("g"))),
            answer(fs::hard_link(at("f"), at("g"))),
            answer(fs::set_permissions(at("f"), Permissions::from_mode(0o600))),
            answer(set_xattr(&at("f"), "user.x", "y")),
        ];
        mount.unmount().unwrap();
        errors
    });
    assert_eq!(errors, [[Err(Errno::ROFS); 9]; 2]);
}

#[test]
fn s05_an_upper_belongs_to_one_mount() {
    let scratch = Scratch::new(Backing::Tmpfs).unwrap();
    let [lower, upper, work, one, two] =
        ["lower", "upper", "work", "one", "two"].map(|name| scratch.dir(name).unwrap());
    let layers = Layers::writable(&[&lower], &upper, &work);
    for driver in [Driver::Kernel, Driver::under_test()] {
        let first = Mount::new(driver, &layers, &one).unwrap();
        let second = Mount::new(driver, &layers, &two).err().unwrap().to_string();
        assert!(second.contains("in use") || second.contains("EBUSY") || second.contains("busy"), "{second}");
        first.unmount().unwrap();
    }
    let other = Scratch::new(Backing::Tmpfs).unwrap();
    let elsewhere = other.dir("work").unwrap();
    let nested = upper.join("nested");
    fs::create_dir(&nested).unwrap();
    for (layers, both) in [
        (Layers::writable(&[&lower], &upper, &elsewhere), [&upper, &elsewhere]),
        (Layers::writable(&[&lower], &upper, &nested), [&upper, &nested]),
        (Layers::writable(&[&upper], &nested, &work), [&upper, &nested]),
    ] {
        let refusal = Mount::new(Driver::Runionfs, &layers, &one).err().unwrap().to_string();
        let named = both.iter().all(|dir| refusal.contains(&dir.display().to_string()));
        assert!(named, "{refusal}");
    }
}

/// What renaming a merged directory, changing a mode and writing to a file of
/// two names do.
fn feature_marks(plan: &Plan) -> (Result<(), Errno>, bool, bool) {
    plan.same(|s| {
        let renamed = answer(fs::rename(s.at("d"), s.at("e")));
        fs::set_permissions(s.at("big"), Permissions::from_mode(0o600)).unwrap();
        let is_metacopy = xattr(&s.upper("big"), "trusted.overlay.metacopy").is_ok();
        fs::write(s.at("one"), "changed").unwrap();
        let is_linked = fs::read(s.at("two")).unwrap() == b"changed";
        (renamed, is_metacopy, is_linked)
    })
}

const FEATURED: fn(&[PathBuf]) = |lowers| {
    put(&lowers[0], "d/f", "x").unwrap();
    put(&lowers[0], "big", vec![1; 100_000]).unwrap();
    put(&lowers[0], "one", "linked").unwrap();
    fs::hard_link(lowers[0].join("one"), lowers[0].join("two")).unwrap();
};

#[test]
fn s06_features_are_on_unless_turned_off() {
    let plan = Plan::new(1, FEATURED);
    assert_eq!(feature_marks(&plan), (Ok(()), true, true));
    let ours = Plan::new(1, FEATURED).with(&[]);
    ours.ours(|s| {
        fs::rename(s.at("d"), s.at("e")).unwrap();
        assert!(xattr(&s.upper("e"), "trusted.overlay.redirect").is_ok(), "on by default");
    });
    let plan = Plan::new(1, FEATURED).with(&["redirect_dir=on", "metacopy=off", "index=off"]);
    assert_eq!(feature_marks(&plan), (Ok(()), false, false));
    for limited in [
        &["redirect_dir=off", "metacopy=off", "index=on"],
        &["redirect_dir=follow", "metacopy=off", "index=on"],
        &["redirect_dir=nofollow", "metacopy=off", "index=on"],
    ] {
        let plan = Plan::new(1, FEATURED).with(limited);
        assert_eq!(feature_marks(&plan), (Err(Errno::XDEV), false, true));
    }
}

#[test]
fn s07_what_is_not_supported_is_refused_by_name() {
    let scratch = Scratch::new(Backing::Tmpfs).unwrap();
    let [lower, upper, work, merged] =
        ["lower", "upper", "work", "merged"].map(|name| scratch.dir(name).unwrap());
    let layers = Layers::writable(&[&lower], &upper, &work);
    for option in ["nfs_export=on", "verity=yes", "uuid=on", "nooverride_creds", "no-such-option"] {
        let refusal =
            Mount::new(Driver::Runionfs, &layers.clone().with(option), &merged).err().unwrap().to_string();
        let name = option.split('=').next().unwrap();
        // The command line itself is part of the message.
        let (_, said) = refusal.split_once("exit status").unwrap();
        assert!(said.contains(name), "{option}: {said}");
    }
}

#[test]
fn s08_userxattr_keeps_marks_in_the_user_namespace() {
    const OPTIONS: &[&str] = &["userxattr", "index=on", "xino=on"];
    let plan = Plan::new(2, |lowers| {
        put(&lowers[0], "opaque/top", "").unwrap();
        put(&lowers[1], "opaque/hidden", "").unwrap();
        set_xattr(&lowers[0].join("opaque"), "user.overlay.opaque", "y").unwrap();
        put(&lowers[0], "other/top", "").unwrap();
        put(&lowers[1], "other/seen", "").unwrap();
        set_xattr(&lowers[0].join("other"), "trusted.overlay.opaque", "y").unwrap();
        put(&lowers[1], "gone/f", "").unwrap();
    });
    let marks = |s: &mut crate::scene::Scene| {
        fs::remove_dir_all(s.at("gone")).unwrap();
        fs::create_dir(s.at("gone")).unwrap();
        (names(&s.at("opaque")), names(&s.at("other")), xattr(&s.upper("gone"), "user.overlay.opaque"))
    };
    let (opaque, other, written) = plan.with(OPTIONS).same(marks);
    assert_eq!((opaque, other), (vec!["top".into()], vec!["seen".into(), "top".to_owned()]));
    assert_eq!(written.unwrap(), b"y");
}

#[test]
fn s09_what_is_mounted_below_a_lower_is_not_part_of_it() {
    let scratch = Scratch::new(Backing::Tmpfs).unwrap();
    let [lower, other, merged] = ["lower", "other", "merged"].map(|name| scratch.dir(name).unwrap());
    put(&lower, "d/own", "").unwrap();
    put(&other, "mounted", "").unwrap();
    rustix::mount::mount_bind(&other, lower.join("d")).unwrap();
    for driver in [Driver::under_test(), Driver::Kernel] {
        let mount = Mount::new(driver, &Layers::read_only(&[&lower, &other]), &merged).unwrap();
        assert_eq!(names(&merged.join("d")), ["own"], "{driver:?}");
        mount.unmount().unwrap();
    }
    let layers = Layers::read_only(&[&lower, &other]).with("submounts=cross");
    let mount = Mount::new(Driver::Runionfs, &layers, &merged).unwrap();
    assert_eq!(names(&merged.join("d")), ["mounted"]);
    mount.unmount().unwrap();
    rustix::mount::unmount(lower.join("d"), rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn s10_owners_can_be_mapped_squashed_and_kept_in_an_attribute() {
    let owners = |options: &'static [&'static str]| {
        let plan = Plan::new(1, |lowers| {
            put(&lowers[0], "f", "x").unwrap();
            std::os::unix::fs::chown(lowers[0].join("f"), Some(100_005), Some(100_006)).unwrap();
        });
        plan.with(options).ours(|s| {
            fs::write(s.at("new"), "").unwrap();
            fs::set_permissions(s.at("new"), Permissions::from_mode(0o640)).unwrap();
            let [f, new] = ["f", "new"].map(|name| fs::metadata(s.at(name)).unwrap());
            let real = fs::metadata(s.upper("new")).unwrap();
            ((f.uid(), f.gid()), (new.uid(), new.mode() & 0o7777), (real.uid(), real.mode() & 0o7777))
        })
    };
    let mapped = owners(&["uidmapping=100000:0:65536", "gidmapping=100000:0:65536"]);
    assert_eq!(mapped, ((5, 6), (0, 0o640), (100_000, 0o640)));
    let plan = Plan::new(1, |lowers| put(&lowers[0], "unmapped", "x").unwrap());
    plan.with(&["uidmapping=100000:0:65536", "gidmapping=100000:0:65536"]).ours(|s| {
        let file = s.at("unmapped");
        assert_eq!(fs::metadata(&file).unwrap().uid(), 65534);
        fs::write(s.at("new"), "").unwrap();
        let chown = |uid| answer(std::os::unix::fs::chown(s.at("new"), Some(uid), None));
        assert_eq!((chown(70_000), chown(65_535)), (Err(Errno::OVERFLOW), Ok(())));
    });
    assert_eq!(owners(&["squash_to_uid=7", "squash_to_gid=8"]), ((7, 8), (7, 0o640), (0, 0o640)));
    let kept = owners(&["xattr_permissions=2"]);
    assert_eq!((kept.1, kept.2.0), ((0, 0o640), 0));
    let plan = Plan::new(1, |_| {}).with(&["xattr_permissions=2"]);
    plan.ours(|s| {
        fs::write(s.at("f"), "").unwrap();
        std::os::unix::fs::chown(s.at("f"), Some(5), Some(6)).unwrap();
        assert_eq!(fs::metadata(s.upper("f")).unwrap().uid(), 0);
        assert!(xattr(&s.upper("f"), "user.containers.override_stat").unwrap().starts_with(b"5:6:"));
    });
}
