//! Options that change what is shown or stored, in process (root is needed to
//! give files away; without it the test says so and passes over).

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use unionfs::Union;
use unionfs::config::{Config, IdRange, OverrideStat, Squash, UpperDirs};
use unionfs::inode::ROOT;
use unionfs::ops::{Attr, Caller, Make, SetAttr};

const DAEMON: Caller = Caller { uid: 0, gid: 0, umask: 0o022 };

/// A lower with one file, and an upper, removed at the end.
struct Scene(PathBuf);

impl Scene {
    fn new(name: &str) -> Option<Scene> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: {name}: needs root");
            return None;
        }
        let base = std::env::temp_dir().join(format!("runionfs-options-{name}-{}", std::process::id()));
        for dir in ["lower", "upper", "work"] {
            std::fs::create_dir_all(base.join(dir)).unwrap();
        }
        std::fs::write(base.join("lower/file"), "content").unwrap();
        std::fs::set_permissions(base.join("lower/file"), PermissionsExt::from_mode(0o640)).unwrap();
        Some(Scene(base))
    }

    fn union(&self, change: impl FnOnce(&mut Config)) -> Union {
        let upper = UpperDirs { upper: self.0.join("upper"), work: self.0.join("work") };
        let mut config =
            Config { lowers: vec![self.0.join("lower")], upper: Some(upper), ..Config::default() };
        change(&mut config);
        Union::open(config).unwrap()
    }

    fn on_disk(&self, path: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.0.join(path)).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn attr(union: &Union, name: &str) -> Attr {
    union.lookup(ROOT, OsStr::new(name)).unwrap().attr
}

fn owner(attr: &Attr) -> (u32, u32, u32) {
    (attr.uid, attr.gid, attr.perm)
}

fn set(union: &Union, name: &str, change: SetAttr) {
    let entry = union.lookup(ROOT, OsStr::new(name)).unwrap();
    union.setattr(entry.id, &change, DAEMON).unwrap();
}

#[test]
fn owners_are_kept_in_an_attribute_where_asked() {
    let Some(scene) = Scene::new("override") else { return };
    for which in [OverrideStat::Containers, OverrideStat::Fuseoverlayfs] {
        let union = scene.union(|config| config.override_stat = which);
        let change = SetAttr { uid: Some(7), gid: Some(8), mode: Some(0o4711), ..SetAttr::default() };
        set(&union, "file", change);
        let caller = Caller { uid: 1000, gid: 1001, umask: 0o027 };
        let name = format!("made-{which:?}");
        union.make(ROOT, OsStr::new(&name), Make::Dir { mode: 0o777 }, caller).unwrap();
        drop(union);
        let union = scene.union(|config| config.override_stat = which);
        assert_eq!(owner(&attr(&union, "file")), (7, 8, 0o4711));
        assert_eq!(owner(&attr(&union, &name)), (1000, 1001, 0o750));
        assert_eq!(scene.on_disk("upper/file").uid(), 0, "the inode stays the daemon's");
        assert_eq!(scene.on_disk(&format!("upper/{name}")).mode() & 0o7777, 0o750, "no more than is meant");
    }
    assert_eq!(scene.on_disk("lower/file").mode() & 0o7777, 0o640);
}

#[test]
fn ids_are_mapped_both_ways() {
    let Some(scene) = Scene::new("mapped") else { return };
    let map = vec![IdRange { inside: 0, outside: 100_000, len: 65_536 }];
    std::os::unix::fs::chown(scene.0.join("lower/file"), Some(100_005), Some(100_006)).unwrap();
    let union = scene.union(|config| {
        config.uid_map = map.clone();
        config.gid_map = map.clone();
    });
    assert_eq!(owner(&attr(&union, "file")), (5, 6, 0o640));
    set(&union, "file", SetAttr { uid: Some(9), ..SetAttr::default() });
    assert_eq!(scene.on_disk("upper/file").uid(), 100_009);
    let beyond = SetAttr { uid: Some(70_000), ..SetAttr::default() };
    let entry = union.lookup(ROOT, OsStr::new("file")).unwrap();
    let refused = union.setattr(entry.id, &beyond, DAEMON).unwrap_err();
    assert_eq!(refused.errno(), rustix::io::Errno::OVERFLOW);
    assert_eq!(owner(&attr(&union, "file")).0, 9, "a refused change changes nothing");
}

#[test]
fn squashed_owners_and_static_links_are_shown_not_stored() {
    let Some(scene) = Scene::new("squashed") else { return };
    std::fs::hard_link(scene.0.join("lower/file"), scene.0.join("lower/other")).unwrap();
    let union = scene.union(|config| {
        config.squash = Squash::To { uid: Some(42), gid: Some(43) };
        config.static_nlink = true;
    });
    let shown = attr(&union, "file");
    assert_eq!(owner(&shown), (42, 43, 0o640));
    assert_eq!(shown.nlink, 1);
    assert_eq!((scene.on_disk("lower/file").uid(), scene.on_disk("lower/file").nlink()), (0, 2));
}

#[test]
fn without_an_upper_every_change_is_refused() {
    let Some(scene) = Scene::new("read-only") else { return };
    let union = scene.union(|config| config.upper = None);
    let made = union.make(ROOT, OsStr::new("new"), Make::File { mode: 0o644 }, DAEMON);
    assert_eq!(made.unwrap_err().errno(), rustix::io::Errno::ROFS);
    let entry = union.lookup(ROOT, OsStr::new("file")).unwrap();
    let change = SetAttr { mode: Some(0o777), ..SetAttr::default() };
    assert_eq!(union.setattr(entry.id, &change, DAEMON).unwrap_err().errno(), rustix::io::Errno::ROFS);
}
