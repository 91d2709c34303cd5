//! Where ours is less than kernel overlayfs, for now. Each test fails on the
//! day that this ends: the paragraph goes then, too.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, StatxFlags, Timespec, Timestamps, fallocate, statx, utimensat,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tests::mount::{Driver, Layers, Mount};
use tests::scratch::{Backing, Scratch};
use tests::stage::put;
use tests::tree::{Aspect, Tree};

use crate::files::CAPABILITY;
use crate::open::edit;
use crate::scene::{Plan, answer, as_user, names, run, set_xattr};

#[test]
fn s87_no_unnamed_files() {
    let plan = Plan::new(1, |_| {}).served("transport=fuser,data=auto");
    let (ours, kernel) = plan.both(|s| {
        answer(OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(s.at("")).map(drop))
    });
    assert_eq!((ours, kernel), (Err(Errno::OPNOTSUPP), Ok(())));
}

#[test]
fn s88_no_time_of_birth() {
    let plan = Plan::new(1, |l| put(&l[0], "f", "x").unwrap())
        .on(Backing::Ext4(64))
        .served("transport=fuser,data=auto");
    let (ours, kernel) = plan.both(|s| {
        let stat = statx(CWD, s.at("f"), AtFlags::empty(), StatxFlags::BTIME).unwrap();
        stat.stx_mask & StatxFlags::BTIME.bits() != 0
    });
    assert_eq!((ours, kernel), (false, true));
}

#[test]
fn s89_syncfs_does_not_reach_the_upper() {
    let plan = Plan::new(1, |_| {});
    plan.ours(|s| {
        fs::write(s.at("f"), "x").unwrap();
        let file = File::open(s.at("f")).unwrap();
        rustix::fs::syncfs(&file).unwrap();
        assert_eq!([s.stat("SYNCFS"), s.stat("FSYNC"), s.stat("FSYNCDIR")], [0; 3]);
        file.sync_all().unwrap();
        assert_eq!(s.stat("FSYNC"), 1, "fsync does");
    });
}

#[test]
fn s90_reads_from_the_cache_move_no_time() {
    let plan = Plan::new(1, |_| {}).served("data=cached");
    let (ours, kernel) = plan.both(|s| {
        fs::write(s.at("f"), "x").unwrap();
        let file = File::open(s.at("f")).unwrap();
        file.read_exact_at(&mut [0], 0).unwrap();
        let old = Timespec { tv_sec: 1000, tv_nsec: 0 };
        let times = Timestamps { last_access: old, last_modification: Timespec { tv_sec: 2000, tv_nsec: 0 } };
        utimensat(CWD, s.at("f"), &times, AtFlags::empty()).unwrap();
        file.read_exact_at(&mut [0], 0).unwrap();
        fs::metadata(s.at("f")).unwrap().atime() == 1000
    });
    assert_eq!((ours, kernel), (true, false));
}

#[test]
fn s91_supplementary_groups_are_not_known() {
    let plan = Plan::new(1, |l| {
        fs::create_dir(l[0].join("d")).unwrap();
        chown(l[0].join("d"), None, Some(2000)).unwrap();
        fs::set_permissions(l[0].join("d"), Permissions::from_mode(0o2777)).unwrap();
        put(&l[0], "locked", "0123456789").unwrap();
        chown(l[0].join("locked"), None, Some(2000)).unwrap();
        fs::set_permissions(l[0].join("locked"), Permissions::from_mode(0o2767)).unwrap();
    })
    .served("data=cached");
    let (ours, kernel) = plan.both(|s| {
        let [new, locked] = ["d/new", "locked"].map(|name| s.at(name));
        as_user(1000, &[1000, 2000], || {
            OpenOptions::new().write(true).create_new(true).mode(0o2775).open(&new).unwrap();
            edit(&locked).write_all_at(b"x", 0).unwrap();
        });
        [new, locked].map(|path| fs::metadata(path).unwrap().mode() & 0o2000 != 0)
    });
    assert_eq!((ours, kernel), ([true, false], [true, true]));
}

#[test]
fn s92_an_upper_without_attributes_does_less() {
    let scratch = Scratch::new(Backing::Tmpfs).unwrap();
    let [lower, merged, ram] = ["lower", "merged", "ram"].map(|name| scratch.dir(name).unwrap());
    put(&lower, "d/f", "x").unwrap();
    put(&lower, "big", "x").unwrap();
    put(&lower, "gone/f", "x").unwrap();
    put(&lower, "data", "data").unwrap();
    put(&lower, "one", "linked").unwrap();
    fs::hard_link(lower.join("one"), lower.join("two")).unwrap();
    mount("ramfs", &ram, "ramfs", MountFlags::empty(), None).unwrap();
    let [upper, work] = ["upper", "work"].map(|name| ram.join(name));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let layers = Layers::writable(&[&lower], &upper, &work);
    let mount = Mount::new(Driver::under_test(), &layers, &merged).unwrap();
    let at = |name: &str| merged.join(name);
    fs::create_dir(at("new")).unwrap();
    fs::write(at("new/f"), "x").unwrap();
    fs::remove_file(at("big")).unwrap();
    fs::write(at("big"), "another").unwrap();
    // Copied up with its directory; a change of mode copies the data.
    fs::write(at("d/f"), "changed").unwrap();
    fs::set_permissions(at("data"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fs::read(upper.join("data")).unwrap(), b"data");
    fs::write(at("one"), "of its own").unwrap();
    assert_eq!(fs::read(at("two")).unwrap(), b"linked", "links are broken");
    assert_eq!(answer(fs::rename(at("d"), at("e"))), Err(Errno::XDEV));
    fs::remove_dir_all(at("gone")).unwrap();
    assert_eq!(answer(fs::create_dir(at("gone"))), Err(Errno::OPNOTSUPP), "it could not be opaque");
    fs::write(at("gone"), "a file").unwrap();
    let before = Tree::read(&merged).unwrap();
    mount.unmount().unwrap();
    let mount = Mount::new(Driver::under_test(), &layers, &merged).unwrap();
    let differences = before.differences(&Tree::read(&merged).unwrap(), &[Aspect::Ino, Aspect::Ctime]);
    assert_eq!(differences, Vec::<String>::new());
    mount.unmount().unwrap();
    unmount(&ram, UnmountFlags::DETACH).unwrap();
}

#[test]
fn s93_ranges_are_neither_collapsed_nor_inserted() {
    let plan = Plan::new(1, |l| put(&l[0], "f", vec![1; 40_960]).unwrap()).on(Backing::Ext4(64));
    let (ours, kernel) = plan.both(|s| {
        let file = edit(&s.at("f"));
        let mode = |flags| fallocate(&file, flags, 8192, 8192);
        [mode(FallocateFlags::COLLAPSE_RANGE), mode(FallocateFlags::INSERT_RANGE)]
    });
    assert_eq!((ours, kernel), ([Err(Errno::OPNOTSUPP); 2], [Ok(()); 2]));
}

#[test]
fn s94_names_of_aufs_whiteouts_are_reserved() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "f", "x").unwrap();
        put(&l[0], "d/f", "x").unwrap();
    });
    let (ours, kernel) = plan.both(|s| {
        let answers = [
            answer(fs::write(s.at(".wh.f"), "")),
            answer(fs::create_dir(s.at("d/.wh..wh..opq"))),
            answer(fs::rename(s.at("f"), s.at(".wh.f"))),
            answer(fs::hard_link(s.at("d/f"), s.at(".wh.g"))),
            answer(std::os::unix::fs::symlink("x", s.at(".wh.x"))),
        ];
        fs::write(s.upper(".wh.other"), "").unwrap();
        (answers, names(&s.at("d")))
    });
    assert_eq!(ours, ([Err(Errno::INVAL); 5], vec!["f".to_owned()]));
    assert!(kernel.0[0].is_ok());
}

#[test]
fn s95_no_file_flags_and_no_maps_of_extents() {
    let plan = Plan::new(1, |l| put(&l[0], "f", "x").unwrap()).on(Backing::Ext4(64));
    let (ours, kernel) = plan.both(|s| {
        let file = s.at("f").display().to_string();
        let (_, extents) = run("filefrag", &["-v", &file]);
        (run("lsattr", &[&file]).0, extents.contains("1 extent found"))
    });
    assert_eq!((ours, kernel), ((false, false), (true, true)));
}

#[test]
fn s96_a_change_of_no_owner_is_a_guess() {
    let plan = Plan::new(1, |l| {
        for name in ["capable", "plain", "theirs"] {
            put(&l[0], name, "x").unwrap();
            fs::set_permissions(l[0].join(name), Permissions::from_mode(0o6755)).unwrap();
        }
        set_xattr(&l[0].join("capable"), "security.capability", CAPABILITY).unwrap();
    });
    let (ours, kernel) = plan.both(|s| {
        let writer = edit(&s.at("plain"));
        let modes = ["capable", "plain"].map(|name| {
            chown(s.at(name), None, None).unwrap();
            fs::metadata(s.at(name)).unwrap().mode() & 0o7777
        });
        drop(writer);
        modes
    });
    assert_eq!((ours, kernel), ([0o6755, 0o755], [0o755, 0o755]));
    let (ours, kernel) = plan.both(|s| {
        let path = s.at("theirs");
        let changed = as_user(1000, &[1000], || answer(chown(&path, None, None)));
        (changed, fs::metadata(path).unwrap().mode() & 0o7777)
    });
    assert_eq!((ours, kernel), ((Ok(()), 0o6755), (Err(Errno::PERM), 0o6755)));
}

#[test]
fn s97_an_acl_leaves_the_set_gid_bit() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "f", "x").unwrap();
        chown(l[0].join("f"), Some(1000), Some(2000)).unwrap();
        fs::set_permissions(l[0].join("f"), Permissions::from_mode(0o2755)).unwrap();
    })
    .served("transport=fuser,data=auto");
    let (ours, kernel) = plan.both(|s| {
        let path = s.at("f").display().to_string();
        let set = ["--reuid=1000", "--regid=1000", "--clear-groups", "setfacl", "-m", "u:7:rx", &path];
        assert!(run("setpriv", &set).0);
        fs::metadata(s.at("f")).unwrap().mode() & 0o7777
    });
    assert_eq!((ours, kernel), (0o2755, 0o755));
}

#[test]
fn s98_opening_a_running_program_to_empty_it_does() {
    let plan = Plan::new(1, |l| {
        for name in ["emptied", "written"] {
            fs::copy("/bin/sleep", l[0].join(name)).unwrap();
        }
    })
    .served("data=cached");
    let (ours, kernel) = plan.both(|s| {
        // In the upper: of a lower, the kernel copies up an empty file as well.
        for name in ["emptied", "written"] {
            drop(edit(&s.at(name)));
        }
        let mut programs =
            ["emptied", "written"].map(|name| Command::new(s.at(name)).arg("1000").spawn().unwrap());
        let open = |name: &str, flags: OFlags| rustix::fs::open(s.at(name), flags, Mode::empty()).map(drop);
        let written = open("written", OFlags::WRONLY | OFlags::TRUNC);
        // The answer depends on how soon the program dies of it.
        open("emptied", OFlags::RDONLY | OFlags::TRUNC).ok();
        let is_whole = ["emptied", "written"].map(|name| fs::metadata(s.at(name)).unwrap().len() > 0);
        for program in &mut programs {
            program.kill().unwrap();
            program.wait().unwrap();
        }
        (written, is_whole)
    });
    assert_eq!(ours, (Err(Errno::TXTBSY), [false, true]));
    assert_eq!(kernel, (Err(Errno::TXTBSY), [true, true]));
}
