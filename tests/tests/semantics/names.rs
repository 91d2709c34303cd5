//! Names: lookup, merge, opaque directories, whiteouts, type conflicts.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use tests::mount::{Driver, Layers, Mount};
use tests::scratch::Backing;
use tests::stage::put;
use tests::tree::{Aspect, Tree};

use crate::scene::{Plan, Scene, answer, names, set_xattr, xattr};

fn node(path: &Path, kind: FileType, device: u64) -> rustix::io::Result<()> {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device)
}

/// What is under a name: nothing, its type, a file's content.
fn shown(path: &Path) -> String {
    match fs::symlink_metadata(path) {
        Err(error) => format!("{:?}", error.kind()),
        Ok(found) if found.is_dir() => format!("directory {:?}", names(path)),
        Ok(_) => fs::read_to_string(path).unwrap(),
    }
}

#[test]
fn s11_the_topmost_layer_wins_and_directories_merge() {
    let plan = Plan::new(3, |l| {
        for (number, layer) in l.iter().enumerate() {
            put(layer, "d/every", number.to_string()).unwrap();
            put(layer, &format!("d/{number}"), number.to_string()).unwrap();
        }
        put(&l[1], "d/middle", "1").unwrap();
        put(&l[2], "d/middle", "2").unwrap();
    });
    let all = plan.same(|s| {
        fs::write(s.at("d/upper"), "u").unwrap();
        ["d", "d/every", "d/0", "d/2", "d/middle", "d/none"].map(|name| shown(&s.at(name)))
    });
    assert_eq!(all[0], r#"directory ["0", "1", "2", "every", "middle", "upper"]"#);
    assert_eq!(all[1..], ["0", "0", "2", "1", "NotFound"]);
}

#[test]
fn s12_opaque_directories_in_every_form() {
    let plan = Plan::new(2, |l| {
        for name in ["trusted", "fuse", "aufs", "none"] {
            put(&l[0], &format!("{name}/top"), "").unwrap();
            put(&l[1], &format!("{name}/bottom"), "").unwrap();
        }
        set_xattr(&l[0].join("trusted"), "trusted.overlay.opaque", "y").unwrap();
        set_xattr(&l[0].join("fuse"), "user.fuseoverlayfs.opaque", "y").unwrap();
        put(&l[0], "aufs/.wh..wh..opq", "").unwrap();
    });
    let list = |s: &mut Scene| ["trusted", "none", "fuse", "aufs"].map(|name| names(&s.at(name)));
    let (ours, kernel) = plan.both(list);
    assert_eq!(ours[..2], kernel[..2]);
    assert_eq!(ours, [vec!["top"], vec!["bottom", "top"], vec!["top"], vec!["top"]]);
}

#[test]
fn s13_whiteouts_in_every_form() {
    let plan = Plan::new(2, |l| {
        for name in ["char", "plain", "dir/inside", "x/hidden", "x/empty", "x/kept", "aufs"] {
            put(&l[1], name, "below").unwrap();
        }
        node(&l[0].join("char"), FileType::CharacterDevice, 0).unwrap();
        node(&l[0].join("dir"), FileType::CharacterDevice, 0).unwrap();
        put(&l[0], "x/hidden", "").unwrap();
        put(&l[0], "x/empty", "").unwrap();
        set_xattr(&l[0].join("x"), "trusted.overlay.opaque", "x").unwrap();
        set_xattr(&l[0].join("x/hidden"), "trusted.overlay.whiteout", "y").unwrap();
    });
    let all = ["char", "plain", "dir", "dir/inside", "x", "x/hidden", "x/empty", "x/kept"];
    let seen = plan.same(|s| all.map(|name| shown(&s.at(name))));
    assert_eq!(seen[..4], ["NotFound", "below", "NotFound", "NotFound"]);
    assert_eq!(seen[4..], [r#"directory ["empty", "kept"]"#, "NotFound", "", "below"]);
    let aufs = Plan::new(2, |l| {
        put(&l[1], "aufs", "below").unwrap();
        put(&l[0], ".wh.aufs", "").unwrap();
        put(&l[0], "both", "of this layer").unwrap();
        put(&l[0], ".wh.both", "").unwrap();
        put(&l[1], "both", "below").unwrap();
        put(&l[0], ".wh..wh.plnk", "").unwrap();
    });
    aufs.ours(|s| {
        assert_eq!(names(&s.at("")), ["both"]);
        assert_eq!(shown(&s.at("aufs")), "NotFound");
        assert_eq!(shown(&s.at("both")), "of this layer");
    });
}

#[test]
fn s14_whiteouts_are_devices_or_where_that_cannot_be_attributes() {
    let plan = Plan::new(1, |l| put(&l[0], "d/f", "x").unwrap());
    let kind = plan.same(|s| {
        fs::remove_file(s.at("d/f")).unwrap();
        let whiteout = fs::symlink_metadata(s.upper("d/f")).unwrap();
        (whiteout.file_type().is_char_device(), whiteout.rdev())
    });
    assert_eq!(kind, (true, 0));
    // Inside an overlay nobody can make a device 0/0.
    let outer = plan.mount(Driver::Kernel);
    let [upper, work, merged] = ["upper", "work", "merged"].map(|name| {
        fs::create_dir(outer.at(name)).unwrap();
        outer.at(name)
    });
    let merged_outside = outer.stage.scratch.dir("inner").unwrap();
    fs::remove_dir(merged).unwrap();
    let lower = outer.lower(0, "");
    let layers = Layers::writable(&[&lower], &upper, &work);
    let mount = Mount::new(Driver::under_test(), &layers, &merged_outside).unwrap();
    fs::remove_file(merged_outside.join("d/f")).unwrap();
    assert_eq!(names(&merged_outside.join("d")), Vec::<String>::new());
    mount.unmount().unwrap();
    assert_eq!(xattr(&upper.join("d"), "trusted.overlay.opaque").unwrap(), b"x");
    assert!(xattr(&upper.join("d/f"), "trusted.overlay.whiteout").is_ok());
    let mount = Mount::new(Driver::under_test(), &layers, &merged_outside).unwrap();
    assert_eq!(names(&merged_outside.join("d")), Vec::<String>::new(), "after a remount");
    mount.unmount().unwrap();
    outer.end();
}

#[test]
fn s15_types_in_conflict() {
    let plan = Plan::new(3, |l| {
        put(&l[0], "file-over-dir", "file").unwrap();
        put(&l[1], "file-over-dir/hidden", "").unwrap();
        put(&l[0], "dir-over-file/shown", "").unwrap();
        put(&l[1], "dir-over-file", "file").unwrap();
        put(&l[2], "dir-over-file/hidden", "").unwrap();
        put(&l[0], "dir-file-dir/a", "").unwrap();
        symlink("a", l[1].join("dir-file-dir")).unwrap();
        put(&l[2], "dir-file-dir/b", "").unwrap();
    });
    let all = ["file-over-dir", "dir-over-file", "dir-file-dir", "file-over-dir/hidden"];
    let seen = plan.same(|s| all.map(|name| shown(&s.at(name))));
    assert_eq!(seen, ["file", r#"directory ["shown"]"#, r#"directory ["a"]"#, "NotADirectory"]);
    let replaced = plan.same(|s| {
        fs::remove_file(s.at("file-over-dir")).unwrap();
        fs::create_dir(s.at("file-over-dir")).unwrap();
        fs::remove_dir_all(s.at("dir-over-file")).unwrap();
        fs::write(s.at("dir-over-file"), "again").unwrap();
        s.remount();
        all.map(|name| shown(&s.at(name)))
    });
    assert_eq!(replaced[..2], ["directory []", "again"]);
}

#[test]
fn s16_a_directory_made_anew_is_opaque() {
    let plan = Plan::new(1, |l| put(&l[0], "d/old", "x").unwrap());
    let (listed, mark) = plan.same(|s| {
        fs::remove_dir_all(s.at("d")).unwrap();
        fs::create_dir(s.at("d")).unwrap();
        s.remount();
        (names(&s.at("d")), xattr(&s.upper("d"), "trusted.overlay.opaque"))
    });
    assert_eq!((listed, mark), (Vec::new(), Ok(b"y".to_vec())));
}

#[test]
fn s17_nobody_inside_makes_a_whiteout() {
    let plan = Plan::new(1, |l| put(&l[0], "d/f", "x").unwrap());
    let made = plan.same(|s| {
        let made = node(&s.at("d/new"), FileType::CharacterDevice, 0);
        let over = fs::write(s.at("d/empty"), "");
        set_xattr(&s.at("d"), "trusted.overlay.opaque", "y").unwrap();
        s.remount();
        (made, answer(over), names(&s.at("d")))
    });
    assert_eq!(made, (Err(Errno::PERM), Ok(()), vec!["empty".to_owned(), "f".to_owned()]));
}

#[test]
fn s18_names_are_bytes() {
    let odd = |byte: u8| PathBuf::from(OsString::from_vec(vec![b'n', byte]));
    let plan = Plan::new(2, |l| {
        for byte in (1..=255_u8).filter(|&byte| byte != b'/') {
            fs::write(l[usize::from(byte % 2)].join(OsString::from_vec(vec![b'n', byte])), [byte]).unwrap();
        }
        fs::write(l[0].join("x".repeat(255)), "").unwrap();
    });
    let tree = |s: &mut Scene| {
        for byte in [1, 10, 127, 200, 255] {
            assert_eq!(fs::read(s.at("").join(odd(byte))).unwrap(), [byte]);
            fs::rename(s.at("").join(odd(byte)), s.at(&format!("{byte}"))).unwrap();
        }
        let long = answer(fs::write(s.at(&"y".repeat(255)), ""));
        let too_long = answer(fs::write(s.at(&"y".repeat(256)), ""));
        let absent = answer(fs::metadata(s.at(&"y".repeat(256))).map(drop));
        (long, too_long, absent, Tree::read(&s.at("")).unwrap())
    };
    let (ours, kernel) = plan.both(tree);
    assert_eq!((ours.0, ours.1, ours.2), (Ok(()), Err(Errno::NAMETOOLONG), Err(Errno::NAMETOOLONG)));
    assert_eq!((ours.0, ours.1, ours.2), (kernel.0, kernel.1, kernel.2));
    let unlike = [Aspect::Ino, Aspect::Mtime, Aspect::Ctime];
    assert_eq!(ours.3.differences(&kernel.3, &unlike), Vec::<String>::new());
    assert_eq!(ours.3.nodes.len(), 254 + 3);
}

#[test]
fn s19_every_kind_of_object() {
    let plan = Plan::new(1, |l| {
        symlink("../target of/any kind", l[0].join("symlink")).unwrap();
        node(&l[0].join("fifo"), FileType::Fifo, 0).unwrap();
        node(&l[0].join("socket"), FileType::Socket, 0).unwrap();
        node(&l[0].join("char"), FileType::CharacterDevice, makedev(1, 3)).unwrap();
        node(&l[0].join("block"), FileType::BlockDevice, makedev(300, 70_000)).unwrap();
        put(&l[0], "file", "x").unwrap();
        fs::create_dir(l[0].join("dir")).unwrap();
    })
    .on(Backing::Ext4(64));
    let act = |s: &mut Scene| {
        for name in ["symlink", "fifo", "socket", "char", "block", "file", "dir"] {
            // Copied up, with its data where it has any.
            std::os::unix::fs::lchown(s.at(name), Some(7), Some(8)).unwrap();
        }
        node(&s.at("new-fifo"), FileType::Fifo, 0).unwrap();
        node(&s.at("new-char"), FileType::CharacterDevice, makedev(1, 3)).unwrap();
        symlink("x".repeat(1000), s.at("new-symlink")).unwrap();
        let null = File::options().write(true).open(s.at("new-char")).is_ok();
        s.remount();
        (null, Tree::read(&s.at("")).unwrap())
    };
    let (ours, kernel) = plan.both(act);
    assert!(ours.0 && kernel.0, "a device of the mount is a device");
    let unlike = [Aspect::Ino, Aspect::Mtime, Aspect::Ctime];
    assert_eq!(ours.1.differences(&kernel.1, &unlike), Vec::<String>::new());
    assert_eq!(ours.1.nodes.len(), 11);
}
