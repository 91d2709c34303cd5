//! One upper after another: what each union wrote becomes the topmost lower of
//! the next, as image builds stack their layers. Marks then lead through several
//! layers, and each step must lead on from where the last one ended.

use std::fs;
use std::path::{Path, PathBuf};

use tests::mount::{Driver, Layers, Mount};
use tests::scratch::{Backing, Scratch};
use tests::skipped;
use tests::tree::{Aspect, Tree};

/// Applies each step in a union of its own, whose lowers are all uppers before
/// it, by ours and by kernel overlayfs in turn; at the end both show the same.
fn rotate(test: &str, fill: fn(&Path), steps: &[fn(&Path)]) {
    if !rustix::process::geteuid().is_root() {
        return skipped(test, "needs root");
    }
    for first in [Driver::Runionfs, Driver::Kernel] {
        let scratch = Scratch::new(Backing::Tmpfs).unwrap();
        let merged = scratch.dir("merged").unwrap();
        let mut lowers = vec![scratch.dir("base").unwrap()];
        fill(&lowers[0]);
        for (i, step) in steps.iter().enumerate() {
            let [upper, work] = ["upper", "work"].map(|kind| scratch.dir(&format!("{kind}{i}")).unwrap());
            let driver =
                if (i % 2 == 0) == (first == Driver::Runionfs) { Driver::Runionfs } else { Driver::Kernel };
            let mount =
                Mount::new(driver, &Layers::writable(&borrowed(&lowers), &upper, &work), &merged).unwrap();
            step(&merged);
            mount.unmount().unwrap();
            lowers.insert(0, upper);
        }
        let shown = [Driver::Runionfs, Driver::Kernel].map(|driver| {
            let layers = Layers::read_only(&borrowed(&lowers)).with("redirect_dir=on").with("metacopy=on");
            let mount = Mount::new(driver, &layers, &merged).unwrap();
            let tree = Tree::read(&merged).unwrap();
            mount.unmount().unwrap();
            tree
        });
        let differences = shown[0].differences(&shown[1], &[Aspect::DirNlink, Aspect::Ino]);
        assert_eq!(differences, Vec::<String>::new(), "ours / kernel overlayfs, {first:?} first");
    }
}

fn borrowed(lowers: &[PathBuf]) -> Vec<&Path> {
    lowers.iter().map(PathBuf::as_path).collect()
}

fn rename(root: &Path, from: &str, to: &str) {
    fs::rename(root.join(from), root.join(to)).unwrap();
}

#[test]
fn a_directory_renamed_then_moved() {
    let fill = |base: &Path| {
        fs::create_dir_all(base.join("a/dir/sub")).unwrap();
        fs::create_dir(base.join("a/other")).unwrap();
        fs::write(base.join("a/dir/sub/file"), "data").unwrap();
    };
    rotate(
        "a directory renamed then moved",
        fill,
        &[
            |root| rename(root, "a/dir", "a/renamed"),
            // An absolute redirect now leads to a relative one.
            |root| rename(root, "a/renamed", "a/other/dir"),
            |root| assert_eq!(fs::read(root.join("a/other/dir/sub/file")).unwrap(), b"data"),
            |root| rename(root, "a/other", "back"),
            |root| fs::write(root.join("back/dir/sub/new"), "new").unwrap(),
            |root| rename(root, "back/dir/sub", "a/sub"),
        ],
    );
}

#[test]
fn a_metacopy_renamed_then_moved() {
    use std::os::unix::fs::PermissionsExt;
    let fill = |base: &Path| {
        fs::create_dir_all(base.join("a/other")).unwrap();
        fs::write(base.join("a/file"), vec![7; 100_000]).unwrap();
    };
    rotate(
        "a metacopy renamed then moved",
        fill,
        &[
            |root| {
                fs::set_permissions(root.join("a/file"), fs::Permissions::from_mode(0o600)).unwrap();
                rename(root, "a/file", "a/renamed");
            },
            |root| rename(root, "a/renamed", "a/other/file"),
            |root| assert_eq!(fs::read(root.join("a/other/file")).unwrap(), vec![7; 100_000]),
            |root| rename(root, "a/other", "back"),
            |root| rename(root, "back/file", "file"),
        ],
    );
}
