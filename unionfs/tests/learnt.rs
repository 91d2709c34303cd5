//! What a file is known to lack is not asked for again, and is there once it is
//! set; in process, as root. That a layer was not asked is seen by changing it
//! behind the union's back, which nobody else may do.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use unionfs::Union;
use unionfs::config::{Config, UpperDirs};
use unionfs::inode::{NodeId, ROOT};
use unionfs::ops::{Caller, SetAttr, SetId, SetMode};

const CALLER: Caller = Caller { uid: 0, gid: 0, umask: 0o022 };
const CAPABILITY: &str = "security.capability";
/// `cap_net_raw+ep`, revision 2.
const VALUE: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A lower with one file, and an upper, removed at the end.
struct Scene(PathBuf);

impl Scene {
    fn new(name: &str) -> Option<Scene> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: {name}: needs root");
            return None;
        }
        let base = std::env::temp_dir().join(format!("runionfs-learnt-{name}-{}", std::process::id()));
        for dir in ["lower", "upper", "work"] {
            std::fs::create_dir_all(base.join(dir)).unwrap();
        }
        std::fs::write(base.join("lower/file"), "content").unwrap();
        Some(Scene(base))
    }

    fn union(&self) -> Union {
        let upper = UpperDirs { upper: self.0.join("upper"), work: self.0.join("work") };
        Union::open(Config { lowers: vec![self.0.join("lower")], upper: Some(upper), ..Config::default() })
            .unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn node(union: &Union, name: &str) -> NodeId {
    union.lookup(ROOT, OsStr::new(name)).unwrap().id
}

fn size(union: &Union, id: NodeId) -> Result<usize, Errno> {
    union.getxattr(id, OsStr::new(CAPABILITY), &mut []).map_err(|error| error.errno())
}

fn set_behind(path: &Path, name: &str) {
    rustix::fs::lsetxattr(path, name, &VALUE, XattrFlags::empty()).unwrap();
}

#[test]
fn what_is_absent_is_not_asked_for_again_until_it_is_set() {
    let Some(scene) = Scene::new("absent") else { return };
    let union = scene.union();
    let file = node(&union, "file");
    assert_eq!(size(&union, file), Err(Errno::NODATA));
    assert_eq!(union.listxattr(file, CALLER).unwrap(), b"");
    set_behind(&scene.0.join("lower/file"), CAPABILITY);
    assert_eq!(size(&union, file), Err(Errno::NODATA), "asked for again");
    assert_eq!(union.listxattr(file, CALLER).unwrap(), b"", "listed again");
    // A change of the mode copies the file up, the attribute with it.
    let change = SetAttr { mode: Some(0o755), ..SetAttr::default() };
    union.setattr(file, &change, CALLER).unwrap();
    assert_eq!(size(&union, file), Ok(VALUE.len()), "a copy is another file");
    union.removexattr(file, OsStr::new(CAPABILITY)).unwrap();
    assert_eq!(size(&union, file), Err(Errno::NODATA));
    union.setxattr(file, OsStr::new(CAPABILITY), &VALUE, SetMode::Create).unwrap();
    assert_eq!(size(&union, file), Ok(VALUE.len()));
    assert_eq!(union.listxattr(file, CALLER).unwrap(), b"security.capability\0");
}

#[test]
fn a_new_file_is_known_to_lack_what_another_could_say_it_lacks() {
    let Some(scene) = Scene::new("new") else { return };
    let union = scene.union();
    let make = |name: &str| union.create(ROOT, OsStr::new(name), 0o644, CALLER).unwrap().0.id;
    let first = make("first");
    assert_eq!(size(&union, first), Err(Errno::NODATA));
    let second = make("second");
    set_behind(&scene.0.join("upper/second"), CAPABILITY);
    assert_eq!(size(&union, second), Err(Errno::NODATA), "asked for");
    union.setxattr(second, OsStr::new("user.other"), b"x", SetMode::Any).unwrap();
    assert_eq!(size(&union, second), Ok(VALUE.len()), "remembered over a change");
    let listed = union.listxattr(second, CALLER).unwrap();
    assert_eq!(listed.split_inclusive(|&b| b == 0).count(), 2);
}

#[test]
fn set_id_bits_are_looked_for_until_there_are_none_and_once_they_are_set() {
    let Some(scene) = Scene::new("set-id") else { return };
    let union = scene.union();
    let file = node(&union, "file");
    let write = || union.write(file, 0, b"x", SetId::Drop, CALLER).unwrap();
    let chmod = |mode| {
        let change = SetAttr { mode: Some(mode), ..SetAttr::default() };
        union.setattr(file, &change, CALLER).unwrap();
    };
    let mode = || union.getattr(file).unwrap().perm;
    write();
    let behind = scene.0.join("upper/file");
    std::fs::set_permissions(&behind, std::fs::Permissions::from_mode(0o4755)).unwrap();
    write();
    assert_eq!(mode(), 0o4755, "looked for again");
    for set_id in [0o4755, 0o2755, 0o6755] {
        chmod(set_id);
        assert_eq!(mode(), set_id);
        write();
        assert_eq!(mode(), 0o755);
        chmod(0o700);
        write();
    }
}
