//! Who may do what: modes, set-id bits, capabilities, ACLs.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::umask;
use tests::stage::put;

use crate::files::CAPABILITY;
use crate::scene::{Plan, Scene, answer, as_user, run, set_xattr, xattr};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// A lower file with this mode, writable by everybody.
fn file(layer: &Path, name: &str, mode: u32) {
    put(layer, name, "0123456789").unwrap();
    fs::set_permissions(layer.join(name), Permissions::from_mode(mode)).unwrap();
}

const SET_ID: [(&str, u32); 4] = [("both", 0o6777), ("suid", 0o4777), ("sgid", 0o2777), ("locked", 0o2767)];

/// The modes of files with set-id bits after `act` was done to each.
fn after(act: fn(&Path) -> io::Result<()>, user: Option<u32>) -> Vec<(u32, u32)> {
    let plan = Plan::new(1, |l| {
        for (name, mode) in SET_ID {
            file(&l[0], name, mode);
        }
    });
    plan.same(|s| {
        for in_upper in [false, true] {
            for (name, mode) in SET_ID.iter().filter(|_| in_upper) {
                // Made anew, so that the upper has it from the start.
                fs::write(s.at(&format!("new-{name}")), "0123456789").unwrap();
                fs::set_permissions(s.at(&format!("new-{name}")), Permissions::from_mode(*mode)).unwrap();
            }
        }
        let act = |name: &str| match user {
            Some(uid) => as_user(uid, &[uid], || act(&s.at(name))).unwrap(),
            None => act(&s.at(name)).unwrap(),
        };
        let modes = SET_ID.map(|(name, _)| {
            let new = format!("new-{name}");
            act(name);
            act(&new);
            (mode(&s.at(name)), mode(&s.at(&new)))
        });
        modes.to_vec()
    })
}

#[test]
fn s49_writing_takes_set_id_bits() {
    let write = |path: &Path| OpenOptions::new().write(true).open(path)?.write_all_at(b"x", 0);
    assert_eq!(after(write, Some(1000)), [(0o777, 0o777), (0o777, 0o777), (0o777, 0o777), (0o767, 0o767)]);
    assert_eq!(after(write, None), SET_ID.map(|(_, mode)| (mode, mode)), "root keeps them");
}

#[test]
fn s50_truncating_takes_set_id_bits() {
    let truncate = |path: &Path| OpenOptions::new().write(true).open(path)?.set_len(4);
    let lost = [(0o777, 0o777), (0o777, 0o777), (0o777, 0o777), (0o767, 0o767)];
    assert_eq!(after(truncate, Some(1000)), lost);
    let replace = |path: &Path| OpenOptions::new().write(true).truncate(true).open(path).map(drop);
    assert_eq!(after(replace, Some(1000)), lost);
}

#[test]
fn s51_changing_the_owner_takes_set_id_bits() {
    let seen = after(|path| chown(path, Some(5), Some(6)), None);
    assert_eq!(seen, [(0o777, 0o777), (0o777, 0o777), (0o777, 0o777), (0o2767, 0o2767)]);
    let plan = Plan::new(1, |l| {
        file(&l[0], "own", 0o6777);
        chown(l[0].join("own"), Some(1000), Some(1000)).unwrap();
    });
    let given = plan.same(|s| {
        let path = s.at("own");
        let answers = as_user(1000, &[1000, 2000], || {
            [chown(&path, None, Some(3000)), chown(&path, Some(1), None), chown(&path, None, Some(2000))]
                .map(answer)
        });
        (answers, mode(&path))
    });
    assert_eq!(
        given,
        ([Err(Errno::PERM), Err(Errno::PERM), Ok(())], 0o777),
        "by its owner, to another group"
    );
    let plan = Plan::new(1, |l| file(&l[0], "f", 0o644));
    let denied = plan.same(|s| {
        let path = s.at("f");
        as_user(1000, &[1000], || {
            (
                answer(chown(&path, Some(1000), None)),
                answer(fs::set_permissions(&path, Permissions::from_mode(0o777))),
            )
        })
    });
    assert_eq!(denied, (Err(Errno::PERM), Err(Errno::PERM)));
}

#[test]
fn s52_file_capabilities_go_with_what_they_were_given_for() {
    let plan = Plan::new(1, |l| {
        for name in ["written", "truncated", "chowned", "chmodded"] {
            file(&l[0], name, 0o777);
            set_xattr(&l[0].join(name), "security.capability", CAPABILITY).unwrap();
        }
    });
    let left = plan.same(|s| {
        let edit = |name: &str| OpenOptions::new().write(true).open(s.at(name)).unwrap();
        edit("written").write_all_at(b"x", 0).unwrap();
        edit("truncated").set_len(3).unwrap();
        chown(s.at("chowned"), Some(1), None).unwrap();
        fs::set_permissions(s.at("chmodded"), Permissions::from_mode(0o700)).unwrap();
        let names = ["written", "truncated", "chowned", "chmodded"];
        names.map(|name| xattr(&s.at(name), "security.capability").is_ok())
    });
    assert_eq!(left, [false, false, false, true]);
}

#[test]
fn s53_sticky_directories() {
    let plan = Plan::new(1, |l| {
        for name in ["tmp/mine", "tmp/theirs", "tmp/theirs-too"] {
            put(&l[0], name, "x").unwrap();
        }
        chown(l[0].join("tmp/mine"), Some(1000), None).unwrap();
        chown(l[0].join("tmp/theirs-too"), Some(2000), None).unwrap();
        fs::set_permissions(l[0].join("tmp"), Permissions::from_mode(0o1777)).unwrap();
    });
    let seen = plan.same(|s| {
        let tmp = s.at("tmp");
        as_user(1000, &[1000], || {
            [
                answer(fs::remove_file(tmp.join("theirs"))),
                answer(fs::rename(tmp.join("theirs-too"), tmp.join("x"))),
                answer(fs::rename(tmp.join("mine"), tmp.join("theirs"))),
                answer(fs::write(tmp.join("new"), "")),
                answer(fs::remove_file(tmp.join("mine"))),
                answer(fs::remove_file(tmp.join("new"))),
            ]
        })
    });
    let denied = Err(Errno::PERM);
    assert_eq!(seen, [denied, denied, denied, Ok(()), Ok(()), Ok(())]);
}

fn owner(path: &Path) -> (u32, u32, u32) {
    let stat = fs::symlink_metadata(path).unwrap();
    (stat.uid(), stat.gid(), stat.mode() & 0o7777)
}

/// What user 1000 makes in a directory of group 2000, in place and over
/// whiteouts.
fn made_below(s: &Scene, dir: &str) -> Vec<(u32, u32, u32)> {
    for name in ["file", "dir"] {
        fs::remove_file(s.at(&format!("{dir}/whiteout-{name}"))).unwrap();
    }
    let dir = s.at(dir);
    as_user(1000, &[1000], || {
        let create =
            |name: &str| OpenOptions::new().write(true).create_new(true).mode(0o2775).open(dir.join(name));
        create("file").unwrap();
        create("whiteout-file").unwrap();
        fs::create_dir(dir.join("dir")).unwrap();
        fs::create_dir(dir.join("whiteout-dir")).unwrap();
        std::os::unix::fs::symlink("x", dir.join("link")).unwrap();
    });
    ["file", "whiteout-file", "dir", "whiteout-dir", "link"].map(|name| owner(&dir.join(name))).to_vec()
}

#[test]
fn s54_what_is_made_in_a_set_gid_directory_is_its_groups() {
    let plan = Plan::new(1, |l| {
        for dir in ["plain", "sgid"] {
            for name in ["whiteout-file", "whiteout-dir"] {
                put(&l[0], &format!("{dir}/{name}"), "x").unwrap();
            }
            chown(l[0].join(dir), None, Some(2000)).unwrap();
        }
        fs::set_permissions(l[0].join("plain"), Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(l[0].join("sgid"), Permissions::from_mode(0o2777)).unwrap();
    });
    let seen = plan.same(|s| {
        let before = umask(Mode::from_raw_mode(0o022));
        let seen = [made_below(s, "plain"), made_below(s, "sgid")];
        umask(before);
        seen
    });
    let plain = (1000, 1000, 0o755);
    assert_eq!([seen[0][2], seen[0][3]], [plain; 2]);
    assert!(seen[1].iter().all(|made| made.1 == 2000), "{seen:?}");
    assert_eq!([seen[1][2], seen[1][3]], [(1000, 2000, 0o2755); 2]);
}

#[test]
fn s55_new_files_get_their_mode_from_umask_or_default_acl() {
    let plan = Plan::new(1, |l| {
        for dir in ["plain", "acl"] {
            for name in ["whiteout-file", "whiteout-dir"] {
                put(&l[0], &format!("{dir}/{name}"), "x").unwrap();
            }
            fs::set_permissions(l[0].join(dir), Permissions::from_mode(0o777)).unwrap();
        }
        let dir = l[0].join("acl");
        assert!(run("setfacl", &["-d", "-m", "u::rwx,u:7:rwx,g::rx,o::-", dir.to_str().unwrap()]).0);
    });
    for mask in [0o022, 0o077, 0] {
        let seen = plan.same(|s| {
            let before = umask(Mode::from_raw_mode(mask));
            let seen = [made_below(s, "plain"), made_below(s, "acl")];
            umask(before);
            let acl = |name: &str, kind: &str| xattr(&s.at(name), &format!("system.posix_acl_{kind}"));
            let acls = ["acl/file", "acl/whiteout-file", "acl/dir", "acl/whiteout-dir", "plain/file"]
                .map(|name| (acl(name, "access"), acl(name, "default")));
            (seen, acls)
        });
        assert_eq!(seen.0[0][2].2, 0o777 & !mask);
        assert_eq!(seen.0[1][2].2, 0o770, "the umask has no say under a default ACL");
        assert!(seen.1[0].0.is_ok() && seen.1[2].1.is_ok() && seen.1[4].0.is_err());
    }
}

#[test]
fn s56_acls_are_enforced() {
    let plan = Plan::new(1, |l| {
        file(&l[0], "f", 0o600);
        assert!(run("setfacl", &["-m", "u:1000:r,u:1001:rw,m::r", l[0].join("f").to_str().unwrap()]).0);
    });
    let seen = plan.same(|s| {
        let path = s.at("f");
        let may = |uid: u32| {
            as_user(uid, &[uid], || {
                let write = OpenOptions::new().write(true).open(&path).map(drop);
                (answer(File::open(&path).map(drop)), answer(write))
            })
        };
        let before = [1000, 1001, 1002].map(may);
        assert!(run("setfacl", &["-m", "u:1002:rw", path.to_str().unwrap()]).0);
        let after = [1000, 1001, 1002].map(may);
        assert!(run("setfacl", &["-b", path.to_str().unwrap()]).0);
        s.remount();
        (before, after, [1000, 1001, 1002].map(may), mode(&s.at("f")))
    });
    let denied = Err(Errno::ACCESS);
    assert_eq!(seen.0, [(Ok(()), denied), (Ok(()), denied), (denied, denied)]);
    assert_eq!(seen.1, [(Ok(()), denied), (Ok(()), Ok(())), (Ok(()), Ok(()))]);
    assert_eq!(seen.2, [(denied, denied); 3]);
}

#[test]
fn s62_modes_are_enforced_for_everybody() {
    let plan = Plan::new(1, |l| {
        file(&l[0], "closed/f", 0o666);
        fs::set_permissions(l[0].join("closed"), Permissions::from_mode(0o700)).unwrap();
        file(&l[0], "readable", 0o644);
        file(&l[0], "groups", 0o060);
        chown(l[0].join("groups"), None, Some(2000)).unwrap();
    });
    let seen = plan.same(|s| {
        let try_all = || {
            let open =
                |name: &str| answer(OpenOptions::new().read(true).write(true).open(s.at(name)).map(drop));
            [
                open("closed/f"),
                open("readable"),
                open("groups"),
                answer(fs::read_dir(s.at("closed")).map(drop)),
                answer(fs::write(s.at("new"), "")),
                answer(fs::remove_file(s.at("readable"))),
                answer(rustix::fs::access(s.at("readable"), rustix::fs::Access::WRITE_OK)),
            ]
        };
        [as_user(1000, &[1000], try_all), as_user(1000, &[1000, 2000], try_all)]
    });
    let denied = Err(Errno::ACCESS);
    assert_eq!(seen[0], [denied; 7]);
    assert_eq!(seen[1][2], Ok(()), "by a supplementary group");
}
