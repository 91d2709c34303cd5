//! Uppers of every make, and what they are said to change.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::{ConflictKind, apply, conflicts, list};
use crate::config::Namespace;
use crate::sys::scratch::Scratch;

/// Runs a shell script in `dir`, with its own mounts.
fn shell(dir: &Path, script: &str) {
    let script = format!("set -e\n{script}");
    let unshare = ["--mount", "--propagation", "private", "sh", "-c", &script];
    let output = Command::new("unshare").args(unshare).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whether marks of root's and mounts can be made here; says why not.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: not root");
    }
    is_root
}

fn listed(dir: &Path, lowers: &[&str]) -> Vec<String> {
    let lowers: Vec<PathBuf> = lowers.iter().map(|lower| dir.join(lower)).collect();
    let changes = list(&dir.join("upper"), &lowers, Namespace::Trusted).unwrap();
    changes.iter().map(|change| format!("{} {}", change.kind.letter(), change.path.display())).collect()
}

const LOWER: &str = "mkdir -p lower/dir/sub lower/other upper work merged
    echo 1 > lower/dir/file; echo 2 > lower/dir/sub/deep; echo 3 > lower/other/x; echo 4 > lower/top\n";

#[test]
fn uppers_of_kernel_overlayfs() {
    if !is_root() {
        return;
    }
    for dir in Scratch::on_each_file_system("changes-kernel") {
        shell(
            dir.path(),
            &format!(
                "{LOWER} mount -t overlay overlay merged \
                 -o lowerdir=lower,upperdir=upper,workdir=work,redirect_dir=on,metacopy=on
                 mv merged/dir merged/moved; chmod 600 merged/top; rm -r merged/other; mkdir merged/other
                 echo > merged/other/y; echo > merged/moved/sub/new; mv merged/moved/file merged/file
                 touch merged/passing; rm merged/passing; umount merged"
            ),
        );
        let expected = [
            "D /dir",
            "A /file",
            "A /moved",
            "A /moved/sub",
            "A /moved/sub/deep",
            "A /moved/sub/new",
            "C /other",
            "D /other/x",
            "A /other/y",
            "C /top",
        ];
        assert_eq!(listed(dir.path(), &["lower"]), expected);
    }
}

#[test]
fn whiteouts_and_opaque_directories_in_every_form() {
    if !is_root() {
        return;
    }
    let forms = [
        // Kernel overlayfs, by device and by attribute.
        "mknod upper/top c 0 0; mkdir upper/dir; setfattr -n trusted.overlay.opaque -v y upper/dir",
        "touch upper/top; setfattr -n trusted.overlay.opaque -v x upper
         setfattr -n trusted.overlay.whiteout -v y upper/top
         mkdir upper/dir; setfattr -n trusted.overlay.opaque -v y upper/dir",
        // Archives, and fuse-overlayfs.
        "touch upper/.wh.top upper/.wh..wh.plnk; mkdir upper/dir; touch upper/dir/.wh..wh..opq",
        "touch upper/.wh.top; mkdir upper/dir; setfattr -n user.fuseoverlayfs.opaque -v y upper/dir",
    ];
    for form in forms {
        let dir = Scratch::new("changes-forms");
        shell(dir.path(), &format!("{LOWER} {form}\n touch upper/dir/file upper/dir/new"));
        let expected = ["C /dir", "C /dir/file", "A /dir/new", "D /dir/sub", "D /top"];
        assert_eq!(listed(dir.path(), &["lower"]), expected, "{form}");
    }
}

#[test]
fn several_lowers_are_merged_first() {
    if !is_root() {
        return;
    }
    let dir = Scratch::new("changes-lowers");
    shell(
        dir.path(),
        "mkdir -p upper/a upper/b l1/a l1/b l2/a l2/b l2/c
         touch l2/a/hidden l2/a/low l1/a/high l2/b/x; mknod l1/a/hidden c 0 0
         setfattr -n trusted.overlay.opaque -v y l1/b
         touch upper/a/hidden upper/a/low upper/b/x; mknod upper/a/high c 0 0; mknod upper/c c 0 0
         mknod upper/b/nothing c 0 0; mkdir upper/a/high.d",
    );
    let expected = ["C /a", "A /a/hidden", "D /a/high", "A /a/high.d", "C /a/low", "C /b", "A /b/x", "D /c"];
    assert_eq!(listed(dir.path(), &["l1", "l2"]), expected);
}

#[test]
fn a_directory_counts_for_its_own_metadata_and_for_what_is_in_it() {
    if !is_root() {
        return;
    }
    let dir = Scratch::new("changes-dirs");
    shell(
        dir.path(),
        "mkdir -p lower/same lower/mode lower/owner lower/attribute lower/acl upper
         cp -a lower/. upper/; chmod 700 upper/mode; chown 5 upper/owner
         setfattr -n user.x -v y upper/attribute; setfacl -m d:u:5:r upper/acl
         setfattr -n trusted.overlay.impure -v y upper/same",
    );
    assert_eq!(listed(dir.path(), &["lower"]), ["C /acl", "C /attribute", "C /mode", "C /owner"]);
}

#[test]
fn conflicts_are_what_would_be_lost() {
    if !is_root() {
        return;
    }
    let dir = Scratch::new("changes-conflicts");
    shell(
        dir.path(),
        "mkdir -p lower/kept lower/gone/deep upper/kept; echo > lower/kept/a; echo > lower/kept/b; echo > lower/c
         echo 1 > upper/kept/a; echo 1 > upper/kept/b; echo 1 > upper/new; mknod upper/gone c 0 0
         cp -p upper/kept/b lower/kept/b",
    );
    let found = |since| {
        let found =
            conflicts(&dir.path().join("upper"), &dir.path().join("lower"), since, Namespace::Trusted)
                .unwrap();
        found.into_iter().map(|conflict| (conflict.path, conflict.kind)).collect::<Vec<_>>()
    };
    let now = || SystemTime::now() + Duration::from_millis(20);
    assert_eq!(found(now()), []);
    std::thread::sleep(Duration::from_millis(50));
    let since = SystemTime::now();
    std::thread::sleep(Duration::from_millis(50));
    shell(
        dir.path(),
        "echo 2 > lower/kept/a; echo 2 > lower/kept/other; echo 2 > lower/gone/deep/x; echo 2 > lower/new
         touch lower/kept/b",
    );
    // b is touched, and so no longer what the upper makes it.
    let expected = ["/gone", "/kept/a", "/kept/b", "/new"].map(|path| (path.into(), ConflictKind::Modified));
    assert_eq!(found(since), expected);
}

#[test]
fn an_interrupted_application_goes_on() {
    if !is_root() {
        return;
    }
    let dir = Scratch::new("changes-again");
    shell(
        dir.path(),
        &format!(
            "{LOWER} mount -t overlay overlay merged \
             -o lowerdir=lower,upperdir=upper,workdir=work,redirect_dir=on,metacopy=on
             mv merged/dir merged/moved; echo > merged/moved/sub/new; rm merged/top; umount merged
             cp -a lower before"
        ),
    );
    let paths = (dir.path().join("upper"), dir.path().join("lower"));
    apply(&paths.0, &paths.1, Namespace::Trusted).unwrap();
    shell(
        dir.path(),
        "test -e lower/moved/sub/new && test -e lower/moved/file && test ! -e lower/dir && ! test -e lower/top",
    );
    // Once more over what is there already.
    apply(&paths.0, &paths.1, Namespace::Trusted).unwrap();
    assert_eq!(listed(dir.path(), &["before"]).len(), 7);
    shell(dir.path(), "test -e lower/moved/sub/deep && test \"$(ls -A lower)\" = \"moved\nother\"");
}
