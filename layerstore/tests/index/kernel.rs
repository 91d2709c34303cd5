//! The kernel mounts an index by itself and shows the tree: erofs, and overlayfs
//! over it with the pool as a data-only layer.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use layerstore::tree::{Content, Device, NodeId, ROOT, Tree};

use crate::fixed::mixed;
use crate::reading::written;

/// A directory that goes away.
pub struct Scratch {
    pub path: PathBuf,
}

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("layerstore-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch { path }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).unwrap();
    }
}

const INSIDE: &str = "LAYERSTORE_INDEX_INSIDE";

/// Once more in a mount namespace of its own, with what is mounted there.
#[test]
fn the_kernel_shows_the_tree() {
    if let Some(place) = std::env::var_os(INSIDE) {
        return compare_mounted(Path::new(&place));
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    if !fs::read_to_string("/proc/filesystems").unwrap().contains("erofs") {
        println!("skipped: the kernel has no erofs");
        return;
    }
    let scratch = Scratch::new("kernel");
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
    unshare.args(["kernel::the_kernel_shows_the_tree", "--exact", "--nocapture"]).env(INSIDE, &scratch.path);
    let output = unshare.output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn compare_mounted(place: &Path) {
    let mixed = mixed();
    let at = |name: &str| place.join(name);
    fs::write(at("image"), written(&mixed.tree)).unwrap();
    for (id, bytes) in &mixed.objects {
        let path = at("objects").join(id.path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::create_dir(at("erofs")).unwrap();
    fs::create_dir(at("merged")).unwrap();
    let mount =
        |args: &[&OsStr]| assert!(Command::new("mount").args(args).status().unwrap().success(), "{args:?}");
    let word = OsStr::new;
    mount(&[
        word("-t"),
        word("erofs"),
        word("-o"),
        word("ro,loop"),
        at("image").as_ref(),
        at("erofs").as_ref(),
    ]);
    let layers = format!("lowerdir={}::{}", at("erofs").display(), at("objects").display());
    let options = format!("ro,metacopy=on,redirect_dir=on,{layers}");
    mount(&[word("-t"), word("overlay"), word("-o"), word(&options), word("overlay"), at("merged").as_ref()]);
    fs::write(at("prefix"), crate::fixed::with_long_prefix()).unwrap();
    fs::create_dir(at("other")).unwrap();
    mount(&[
        word("-t"),
        word("erofs"),
        word("-o"),
        word("ro,loop"),
        at("prefix").as_ref(),
        at("other").as_ref(),
    ]);
    let expected = BTreeMap::from([(Box::from(*b"trusted.middle.suffix"), Box::from(*b"value"))]);
    assert_eq!(xattrs_of(&at("other/file")), expected);
    let mut names = BTreeMap::new();
    count_names(&mixed.tree, ROOT, &mut names);
    let mut seen = 0;
    compare(&mixed, ROOT, &at("merged"), &names, &mut seen);
    assert_eq!(seen, names.values().sum::<u64>() + 1);
}

fn count_names(tree: &Tree, dir: NodeId, names: &mut BTreeMap<NodeId, u64>) {
    for (_, id) in tree.entries(dir) {
        *names.entry(id).or_default() += 1;
        count_names(tree, id, names);
    }
}

fn compare(
    mixed: &crate::fixed::Mixed,
    id: NodeId,
    path: &Path,
    names: &BTreeMap<NodeId, u64>,
    seen: &mut u64,
) {
    *seen += 1;
    let node = mixed.tree.get(id).unwrap();
    let stat = fs::symlink_metadata(path).unwrap();
    let meta = &node.meta;
    assert_eq!(stat.mode() & 0o7777, u32::from(meta.mode), "{path:?}");
    assert_eq!((stat.uid(), stat.gid()), (meta.uid, meta.gid), "{path:?}");
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (meta.mtime, i64::from(meta.mtime_nsec)), "{path:?}");
    let mut xattrs = node.xattrs.clone();
    let kind = match &node.content {
        Content::Dir(entries) => {
            let listed: Vec<_> =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(listed.len(), entries.len(), "{path:?}");
            for (name, &child) in entries {
                compare(mixed, child, &path.join(OsStr::from_bytes(name)), names, seen);
            }
            0o040000
        }
        Content::Inline(bytes) => {
            assert!(fs::read(path).unwrap() == **bytes && stat.len() == bytes.len() as u64, "{path:?}");
            0o100000
        }
        Content::Object { id, size } => {
            let (_, bytes) = mixed.objects.iter().find(|(object, _)| object == id).unwrap();
            assert!(&fs::read(path).unwrap() == bytes && stat.len() == *size, "{path:?}");
            0o100000
        }
        Content::Symlink(target) => {
            assert_eq!(fs::read_link(path).unwrap().as_os_str().as_bytes(), &**target, "{path:?}");
            0o120000
        }
        Content::Char(device) | Content::Block(device) => {
            let is_whiteout = *device == Device::default();
            if is_whiteout {
                // Its directory's marks are shown by the kernel as a layer's.
                for name in ["trusted.overlay.whiteout", "user.overlay.whiteout"] {
                    xattrs.insert(name.as_bytes().into(), [].into());
                }
            } else {
                let number = rustix::fs::makedev(device.major, device.minor);
                assert_eq!(stat.rdev(), number, "{path:?}");
            }
            match node.content {
                _ if is_whiteout => 0o100000,
                Content::Char(_) => 0o020000,
                _ => 0o060000,
            }
        }
        Content::Fifo => 0o010000,
        Content::Socket => 0o140000,
    };
    assert_eq!(stat.mode() & 0o170000, kind, "{path:?}");
    if kind != 0o040000 {
        assert_eq!(Some(&stat.nlink()), names.get(&id), "{path:?}");
    }
    if path.ends_with("layer") {
        for (name, value) in [("whiteouts", &b""[..]), ("opaque", b"x")] {
            for prefix in ["trusted.overlay.", "user.overlay."] {
                xattrs.insert(format!("{prefix}{name}").into_bytes().into(), value.into());
            }
        }
    }
    assert_eq!(xattrs_of(path), xattrs, "{path:?}");
}

fn xattrs_of(path: &Path) -> BTreeMap<Box<[u8]>, Box<[u8]>> {
    let mut list = vec![0; 65_536];
    let len = rustix::fs::llistxattr(path, &mut list).unwrap();
    let names = list[..len].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut value = vec![0; 65_536];
    names
        .map(|name| {
            let len = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value).unwrap();
            (name.into(), value[..len].into())
        })
        .collect()
}
