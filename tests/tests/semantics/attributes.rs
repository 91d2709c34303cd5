//! Attributes: times, extended attributes, ours and everybody's, statfs.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, StatxFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags, lremovexattr,
    lsetxattr, statx, utimensat,
};
use rustix::io::Errno;
use tests::scratch::{Backing, Scratch};
use tests::stage::put;

use crate::files::{CAPABILITY, set_times};
use crate::scene::{Plan, as_user, set_xattr, xattr, xattrs};

fn times(path: &Path) -> [(i64, i64); 2] {
    let stat = fs::symlink_metadata(path).unwrap();
    [(stat.atime(), stat.atime_nsec()), (stat.mtime(), stat.mtime_nsec())]
}

#[test]
fn s48_times_are_set_to_the_nanosecond() {
    let plan = Plan::new(1, |l| {
        for name in ["both", "modified", "neither", "now"] {
            put(&l[0], name, "x").unwrap();
            set_times(&l[0].join(name), 1000);
        }
        symlink("x", l[0].join("link")).unwrap();
        fs::create_dir(l[0].join("dir")).unwrap();
    });
    let seen = plan.same(|s| {
        let set = |name: &str, atime: (i64, i64), mtime: (i64, i64)| {
            let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
            let times = Timestamps { last_access: time(atime), last_modification: time(mtime) };
            utimensat(CWD, s.at(name), &times, AtFlags::SYMLINK_NOFOLLOW)
        };
        let (omit, now) = ((0, UTIME_OMIT), (0, UTIME_NOW));
        let answers = [
            set("both", (-5, 999_999_999), (4_000_000_000, 1)),
            set("modified", omit, (7, 8)),
            set("neither", omit, omit),
            set("now", omit, now),
            set("link", (1, 2), (3, 4)),
            set("dir", (5, 6), (7, 8)),
            set("both", (0, 1_000_000_000), (0, 0)),
        ];
        assert!(times(&s.at("now"))[1].0 > 1_000_000_000);
        // Reading the files before may have moved the times of access.
        let mtimes = ["modified", "neither"].map(|name| times(&s.at(name))[1]);
        (answers, ["both", "link", "dir"].map(|name| times(&s.at(name))), mtimes)
    });
    assert_eq!(seen.0[6], Err(Errno::INVAL));
    assert_eq!(seen.1[0], [(-5, 999_999_999), (4_000_000_000, 1)]);
    assert_eq!(seen.1[1..], [[(1, 2), (3, 4)], [(5, 6), (7, 8)]]);
    assert_eq!(seen.2, [(7, 8), (1000, 987_654_321)]);
}

#[test]
fn s57_extended_attributes_of_every_namespace() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "f", "x").unwrap();
        set_xattr(&l[0].join("f"), "user.lower", "kept").unwrap();
        set_xattr(&l[0].join("f"), "user.gone", "x").unwrap();
        symlink("f", l[0].join("link")).unwrap();
    });
    for backing in [Backing::Tmpfs, Backing::Ext4(64)] {
        let plan = Plan { backing, ..plan };
        let seen = plan.same(|s| {
            let f = s.at("f");
            let set = |name: &str, flags| lsetxattr(&f, name, b"value", flags);
            let answers = [
                set("user.new", XattrFlags::CREATE),
                set("user.new", XattrFlags::CREATE),
                set("user.none", XattrFlags::REPLACE),
                set("user.lower", XattrFlags::REPLACE),
                set("trusted.new", XattrFlags::empty()),
                set("security.new", XattrFlags::empty()),
                set("nonsense.new", XattrFlags::empty()),
                set(&format!("user.{}", "n".repeat(250)), XattrFlags::empty()),
                set(&format!("user.{}", "n".repeat(251)), XattrFlags::empty()),
                rustix::fs::lremovexattr(&f, "user.gone"),
                rustix::fs::lremovexattr(&f, "user.gone"),
                lsetxattr(s.at("link"), "user.new", b"x", XattrFlags::empty()),
                lsetxattr(s.at("link"), "trusted.new", b"x", XattrFlags::empty()),
            ];
            let sizes = [
                rustix::fs::lgetxattr(&f, "user.new", &mut [0_u8; 0][..]),
                rustix::fs::lgetxattr(&f, "user.new", &mut [0_u8; 3][..]),
                rustix::fs::llistxattr(&f, &mut [0_u8; 3][..]),
            ];
            let as_root = xattrs(&f);
            let as_other = as_user(1000, &[1000], || (xattrs(&f), xattr(&f, "trusted.new")));
            s.remount();
            assert_eq!(xattrs(&s.at("f")), as_root);
            (answers, sizes, as_root, as_other)
        });
        assert_eq!(seen.0[..4], [Ok(()), Err(Errno::EXIST), Err(Errno::NODATA), Ok(())], "{backing:?}");
        assert_eq!(seen.3.1, Err(Errno::NODATA), "what is trusted is root's to see");
    }
}

#[test]
fn s59_marks_can_neither_be_seen_nor_forged() {
    const MARKS: [&str; 5] = ["opaque", "redirect", "metacopy", "origin", "whiteout"];
    let plan = Plan::new(2, |l| {
        put(&l[1], "d/f", "data").unwrap();
        put(&l[1], "other", "another").unwrap();
        put(&l[0], "opaque/f", "").unwrap();
        set_xattr(&l[0].join("opaque"), "trusted.overlay.opaque", "y").unwrap();
    });
    let seen = plan.same(|s| {
        assert_eq!(xattrs(&s.at("opaque")), Vec::<String>::new());
        assert_eq!(xattr(&s.at("opaque"), "trusted.overlay.opaque"), Err(Errno::NODATA));
        for mark in MARKS {
            for name in ["d", "d/f"] {
                set_xattr(&s.at(name), &format!("trusted.overlay.{mark}"), "/other").unwrap();
            }
        }
        let f = (fs::read(s.at("d/f")).unwrap(), xattrs(&s.at("d/f")), xattrs(&s.upper("d/f")).len());
        s.remount();
        assert_eq!(fs::read(s.at("d/f")).unwrap(), b"data", "{:?}", s.driver);
        f
    });
    assert_eq!(seen.1.len(), MARKS.len());
    // Those of other programs are refused.
    plan.ours(|s| {
        for name in ["user.fuseoverlayfs.opaque", "user.containers.override_stat", "user.runionfs.layer"] {
            assert_eq!(set_xattr(&s.at("d"), name, "y"), Err(Errno::PERM), "{name}");
        }
        assert_eq!(xattr(&s.at("d"), "user.fuseoverlayfs.opaque"), Err(Errno::NODATA));
    });
}

#[test]
fn s60_virtual_attributes_answer_questions() {
    let plan = Plan::new(2, |l| {
        put(&l[0], "d/top", "x").unwrap();
        put(&l[1], "d/bottom", "x").unwrap();
    });
    plan.ours(|s| {
        let ask = |name: &str, question: &str| {
            let value = xattr(&s.at(name), &format!("user.runionfs.{question}")).unwrap();
            String::from_utf8(value).unwrap()
        };
        let path = |path: std::path::PathBuf| path.display().to_string().trim_end_matches('/').to_owned();
        assert_eq!(ask("d/top", "layer"), path(s.lower(0, "")));
        assert_eq!(ask("d/bottom", "path"), path(s.lower(1, "d/bottom")));
        fs::write(s.at("d/bottom"), "changed").unwrap();
        assert_eq!(ask("d/bottom", "layer"), path(s.upper("")));
        assert_eq!(ask("d/bottom", "path"), path(s.upper("d/bottom")));
        fs::rename(s.at("d"), s.at("e")).unwrap();
        assert_eq!(ask("e/top", "path"), path(s.lower(0, "d/top")), "where it really is");
        for counter in ["requests", "copy_ups", "copied_bytes", "cached_inodes", "LOOKUP"] {
            assert!(ask("", "stats").contains(&format!("\"{counter}\":")), "{counter}");
        }
        assert_eq!((s.stat("copy_ups"), s.stat("copied_bytes")), (2, 0));
        assert!(xattrs(&s.at("")).is_empty(), "they are not listed");
        assert_eq!(xattr(&s.at("e"), "user.runionfs.stats"), Err(Errno::NODATA), "of the root alone");
    });
}

#[test]
fn s61_statfs_is_the_uppers() {
    let plan = Plan::new(1, |l| put(&l[0], "f", "x").unwrap()).on(Backing::Ext4(64)).served("transport=dev");
    plan.same(|s| {
        let numbers = |path: &Path| {
            let stat = rustix::fs::statvfs(path).unwrap();
            [
                stat.f_blocks,
                stat.f_bfree,
                stat.f_bavail,
                stat.f_files,
                stat.f_ffree,
                stat.f_frsize,
                stat.f_namemax,
            ]
        };
        assert_eq!(numbers(&s.at("f")), numbers(&s.upper("")), "{:?}", s.driver);
        drop(File::create(s.at("new")).unwrap());
        assert_eq!(numbers(&s.at("")), numbers(&s.upper("")), "{:?}", s.driver);
        // Without an upper, the topmost lower's, on whatever the others are.
        s.layers.upper = None;
        let other = Scratch::new(Backing::Tmpfs).unwrap();
        s.layers.lowers.push(other.path().into());
        s.remount();
        assert_eq!(numbers(&s.at(""))[..5], numbers(&s.lower(0, ""))[..5], "{:?}", s.driver);
        s.unmount();
    });
}

#[test]
fn s100_statx_tells_the_time_of_birth() {
    let plan = Plan::new(1, |l| put(&l[0], "f", "x").unwrap()).on(Backing::Ext4(64)).served("transport=dev");
    plan.same(|s| {
        let born = |path: &Path| {
            let stat = statx(CWD, path, AtFlags::empty(), StatxFlags::BTIME).unwrap();
            (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then_some(stat.stx_btime)
        };
        let time = |born: Option<rustix::fs::StatxTimestamp>| born.map(|time| (time.tv_sec, time.tv_nsec));
        assert_eq!(time(born(&s.at("f"))), time(born(&s.lower(0, "f"))));
        fs::set_permissions(s.at("f"), Permissions::from_mode(0o600)).unwrap();
        s.remount();
        // Of the copy, from then on.
        time(born(&s.at("f"))) == time(born(&s.upper("f")))
    });
}

#[test]
fn s109_a_mount_may_have_no_attributes() {
    let plan = Plan::new(1, |l| {
        for name in ["f", "written"] {
            put(&l[0], name, "x").unwrap();
            set_xattr(&l[0].join(name), "user.kept", "y").unwrap();
            set_xattr(&l[0].join(name), "security.capability", CAPABILITY).unwrap();
        }
    });
    plan.served("noxattrs=1").ours(|s| {
        let path = s.at("f");
        assert_eq!(xattr(&path, "user.kept"), Err(Errno::OPNOTSUPP));
        let set = lsetxattr(&path, "user.new", b"z", XattrFlags::empty());
        assert_eq!((set, lremovexattr(&path, "user.kept")), (Err(Errno::OPNOTSUPP), Err(Errno::OPNOTSUPP)));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(s.at("written"), "new").unwrap();
        let has = |name: &str, attribute: &str| xattr(&s.upper(name), attribute).is_ok();
        assert!(has("f", "user.kept") && has("f", "security.capability") && has("written", "user.kept"));
        assert!(!has("written", "security.capability"), "a write takes it");
    });
}
