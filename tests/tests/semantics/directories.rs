//! Directories: moving, listing, removing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tests::stage::put;
use tests::tree::{Aspect, Tree};

use crate::files::set_times;
use crate::scene::{Plan, Scene, answer, names, xattr};

#[test]
fn s31_a_directory_moves_in_one_step() {
    let plan = Plan::new(2, |l| {
        for number in 0..500 {
            put(&l[1], &format!("big/sub/{number}"), "x").unwrap();
        }
        put(&l[0], "big/top", "x").unwrap();
        put(&l[0], "to/f", "x").unwrap();
    });
    let moved = plan.same(|s| {
        fs::rename(s.at("big"), s.at("to/moved")).unwrap();
        let redirect = xattr(&s.upper("to/moved"), "trusted.overlay.redirect").unwrap();
        s.remount();
        (redirect, names(&s.at("to/moved")), names(&s.at("to/moved/sub")).len(), s.at("big").exists())
    });
    assert_eq!(moved, (b"/big".to_vec(), vec!["sub".to_owned(), "top".to_owned()], 500, false));
    plan.ours(|s| {
        fs::rename(s.at("big"), s.at("to/moved")).unwrap();
        assert_eq!(s.stat("copy_ups"), 2, "the directory and the one it moved to, not what is in it");
    });
}

#[test]
fn s32_what_moved_is_found_again() {
    let plan = Plan::new(3, |l| {
        put(&l[2], "a/b/c/f", "1").unwrap();
        put(&l[1], "a/b/c/g", "2").unwrap();
        put(&l[0], "a/x/y", "3").unwrap();
    });
    let (ours, kernel) = plan.both(|s| {
        for (from, to) in [("a/b/c", "c"), ("a", "c/a"), ("c/a/x", "x"), ("c", "a"), ("a/a/b", "a/c")] {
            fs::rename(s.at(from), s.at(to)).unwrap();
        }
        fs::create_dir(s.at("c")).unwrap();
        fs::write(s.at("a/f"), "changed").unwrap();
        let before = Tree::read(&s.at("")).unwrap();
        s.remount();
        let after = Tree::read(&s.at("")).unwrap();
        assert_eq!(before.differences(&after, &[]), Vec::<String>::new(), "{:?}", s.driver);
        after
    });
    let unlike = [Aspect::Ino, Aspect::Mtime, Aspect::Ctime, Aspect::MergedDirNlink];
    assert_eq!(ours.differences(&kernel, &unlike), Vec::<String>::new());
}

fn rename(s: &Scene, from: &str, to: &str, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, s.at(from), CWD, s.at(to), flags)
}

#[test]
fn s33_every_flag_of_renameat2() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "a", "a").unwrap();
        put(&l[0], "b", "b").unwrap();
        put(&l[0], "d/in", "in").unwrap();
        put(&l[0], "empty/x", "").unwrap();
    });
    let seen = plan.same(|s| {
        fs::remove_file(s.at("empty/x")).unwrap();
        let read = |name: &str| fs::read(s.at(name)).ok();
        let answers = [
            rename(s, "a", "b", RenameFlags::NOREPLACE),
            rename(s, "a", "c", RenameFlags::NOREPLACE),
            rename(s, "c", "d", RenameFlags::EXCHANGE),
            rename(s, "c", "none", RenameFlags::EXCHANGE),
            rename(s, "c", "c/in", RenameFlags::EXCHANGE),
            rename(s, "b", "w", RenameFlags::WHITEOUT),
            rename(s, "b", "w", RenameFlags::NOREPLACE | RenameFlags::EXCHANGE),
            rename(s, "b", "empty", RenameFlags::empty()),
            rename(s, "empty", "b", RenameFlags::empty()),
            rename(s, "c", "c/below", RenameFlags::empty()),
            rename(s, "c", "empty", RenameFlags::empty()),
            rename(s, "none", "b", RenameFlags::empty()),
            rename(s, "b", "d", RenameFlags::empty()),
        ];
        (answers, [read("a"), read("c/in"), read("empty/in"), read("d"), read("b")])
    });
    use Errno as E;
    assert_eq!(
        seen.0,
        [
            Err(E::EXIST),
            Ok(()),
            Ok(()),
            Err(E::NOENT),
            Err(E::INVAL),
            Err(E::INVAL),
            Err(E::INVAL),
            Err(E::ISDIR),
            Err(E::NOTDIR),
            Err(E::INVAL),
            Ok(()),
            Err(E::NOENT),
            Ok(())
        ]
    );
    let bytes = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(seen.1, [None, None, bytes("in"), bytes("b"), None]);
}

#[test]
fn s34_listings_have_every_name_once() {
    let plan = Plan::new(3, |l| {
        for (layer, dir) in l.iter().enumerate() {
            for number in 0..3000 {
                put(dir, &format!("d/{}", number * (layer + 1)), "").unwrap();
            }
        }
    });
    let left = plan.same(|s| {
        let all = names(&s.at("d"));
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{:?}: listed twice", s.driver);
        // Removing while listing skips nothing.
        for entry in fs::read_dir(s.at("d")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        (all, names(&s.at("d")))
    });
    assert_eq!((left.0.len(), left.1), (6000, Vec::new()));
}

#[test]
fn s35_a_directory_of_whiteouts_is_empty() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "d/a", "").unwrap();
        put(&l[0], "d/b", "").unwrap();
    });
    let seen = plan.same(|s| {
        let rmdir = |name: &str| answer(fs::remove_dir(s.at(name)));
        let full = rmdir("d");
        fs::remove_file(s.at("d/a")).unwrap();
        let half = rmdir("d");
        fs::remove_file(s.at("d/b")).unwrap();
        (full, half, rmdir("d"), rmdir("d"), names(&s.at("")))
    });
    let full = Err(Errno::NOTEMPTY);
    assert_eq!(seen, (full, full, Ok(()), Err(Errno::NOENT), Vec::new()));
}

#[test]
fn s36_copy_up_leaves_the_times_of_directories_alone() {
    let plan = Plan::new(1, |l| {
        put(&l[0], "d/e/f", "x").unwrap();
        put(&l[0], "d/e/gone", "x").unwrap();
        set_times(&l[0].join("d/e"), 1000);
        set_times(&l[0].join("d"), 2000);
    });
    let mtime = |path: &Path| {
        let time = fs::metadata(path).unwrap().modified().unwrap();
        time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    };
    let seen = plan.same(|s| {
        fs::write(s.at("d/e/f"), "changed").unwrap();
        let copied = [mtime(&s.at("d")), mtime(&s.at("d/e"))];
        fs::remove_file(s.at("d/e/gone")).unwrap();
        (copied, mtime(&s.at("d")), mtime(&s.at("d/e")) > 1000)
    });
    assert_eq!(seen, ([2000, 1000], 2000, true));
}
