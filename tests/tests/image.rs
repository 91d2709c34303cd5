//! An image's index as a lower layer: what is unpacked from an archive, what the
//! kernel shows of the index, and what ours shows are one tree; and a union over
//! it does what one over directories does.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use layerstore::document::{ImageConfig, RootFs};
use layerstore::store::Store;
use layerstore::upper::{Commit, Form, Upper, changes, commit};
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat};
use tests::mount::{Driver, Layers, Mount, enter_private_namespace};
use tests::scratch::{Backing, Scratch};
use tests::stage::put;
use tests::tree::{Aspect, Tree};
use unionfs::config::Namespace;

/// What an index does not say as a directory does: whether subdirectories count
/// as links, when an inode changed, and which number it has.
const NOT_OURS: [Aspect; 3] = [Aspect::DirNlink, Aspect::Ctime, Aspect::Ino];

/// A directory, and the same as an image.
struct Scene {
    scratch: Scratch,
    store: Store,
    index: PathBuf,
    root: PathBuf,
}

impl Scene {
    fn new(fill: fn(&Path)) -> Scene {
        enter_private_namespace().unwrap();
        let scratch = Scratch::new(Backing::Tmpfs).unwrap();
        let root = scratch.dir("root").unwrap();
        fill(&root);
        let store = Store::open(scratch.path().join("store")).unwrap();
        let index = image_of(&store, &root, &scratch.path().join("layer.tar"));
        Scene { scratch, store, index, root }
    }

    fn layers(&self, upper: &str) -> Layers {
        let [upper, work] = [format!("{upper}-upper"), format!("{upper}-work")];
        let dir = |name: &str| match self.scratch.path().join(name) {
            there if there.is_dir() => there,
            _ => {
                let new = self.scratch.dir(name).unwrap();
                // Those of two mounts that are compared are of one time.
                let then = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
                let times = Timestamps { last_access: then, last_modification: then };
                utimensat(CWD, &new, &times, rustix::fs::AtFlags::empty()).unwrap();
                new
            }
        };
        let (upper, work) = (dir(&upper), dir(&work));
        Layers { data_only: vec![self.store.objects()], ..Layers::writable(&[&self.index], &upper, &work) }
    }

    fn read_only(&self) -> Layers {
        Layers { data_only: vec![self.store.objects()], ..Layers::read_only(&[&self.index]) }
    }

    fn mount(&self, layers: &Layers) -> Mount {
        let at = self.scratch.path().join("merged");
        fs::create_dir_all(&at).unwrap();
        Mount::new(Driver::Runionfs, layers, &at).unwrap()
    }

    /// The same index under the kernel, if it has erofs and loop devices.
    fn kernel(&self, upper: &str) -> Option<(Erofs, Mount)> {
        let erofs = Erofs::mount(&self.index, &self.scratch.path().join("erofs"))?;
        let layers = Layers { lowers: vec![erofs.0.clone()], ..self.layers(upper) };
        let at = self.scratch.path().join("kernel");
        fs::create_dir_all(&at).unwrap();
        Some((erofs, Mount::new(Driver::Kernel, &layers, &at).unwrap()))
    }
}

/// The kernel's mount of an index, without contents.
struct Erofs(PathBuf);

impl Erofs {
    fn mount(index: &Path, at: &Path) -> Option<Erofs> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "erofs", "-o", "ro,loop"]).args([index, at]).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Erofs(at.to_owned())),
            Ok(output) => {
                println!("skipped: erofs: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: mount: {error}");
                None
            }
        }
    }
}

impl Drop for Erofs {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().unwrap();
    }
}

/// Archives a directory and takes it into the store as an image.
fn image_of(store: &Store, root: &Path, archive: &Path) -> PathBuf {
    let made = Command::new("tar")
        .args(["--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--sparse", "-cf"])
        .args([archive, Path::new("-C"), root, Path::new(".")])
        .status()
        .unwrap();
    assert!(made.success());
    let adding = store.adding().unwrap();
    let layer = store.add_layer(&adding, None, fs::File::open(archive).unwrap()).unwrap();
    let rootfs = RootFs { diff_ids: vec![layer.diff_id], ..RootFs::default() };
    let config =
        ImageConfig { architecture: "amd64".into(), os: "linux".into(), rootfs, ..ImageConfig::default() };
    let image = store.add_image(&adding, &config.to_bytes().unwrap(), None).unwrap();
    store.index_file(&image)
}

/// A file of every kind, and of every way to be kept.
fn everything(root: &Path) {
    for (path, len) in [("empty", 0), ("small", 10), ("inline", 512), ("object", 513), ("d/e/large", 3 << 20)]
    {
        put(root, path, vec![b'x'; len]).unwrap();
    }
    put(root, "same", vec![b'x'; 513]).unwrap();
    fs::hard_link(root.join("object"), root.join("d/linked")).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 5 << 20).unwrap();
    symlink("d/e/large", root.join("link")).unwrap();
    symlink("x".repeat(4000), root.join("long-link")).unwrap();
    for (name, kind, dev) in [
        ("fifo", FileType::Fifo, (0, 0)),
        ("null", FileType::CharacterDevice, (1, 3)),
        ("loop", FileType::BlockDevice, (7, 300)),
    ] {
        let dev = rustix::fs::makedev(dev.0, dev.1);
        mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), dev).unwrap();
    }
    fs::set_permissions(root.join("small"), Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("d"), Permissions::from_mode(0o2775)).unwrap();
    std::os::unix::fs::chown(root.join("inline"), Some(4_000_000_000), Some(70_000)).unwrap();
    lsetxattr(root.join("object"), "user.note", &[7; 300], XattrFlags::empty()).unwrap();
    lsetxattr(root.join("d"), "trusted.note", b"of a directory", XattrFlags::empty()).unwrap();
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    lsetxattr(root.join("same"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    put(root, std::ffi::OsStr::from_bytes(b"not-\xfftext").to_str().unwrap_or("text"), "n").unwrap();
    for number in 0..3000 {
        put(root, &format!("many/{number:05}"), number.to_string()).unwrap();
    }
    for (path, sec) in [("same", 1), ("d/e", -5), ("many", 4_000_000_000)] {
        let time = Timespec { tv_sec: sec, tv_nsec: 123_456_789 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, root.join(path), &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn same(what: &str, a: &Tree, b: &Tree, ignored: &[Aspect]) {
    let differences = a.differences(b, ignored);
    assert!(differences.is_empty(), "{what}:\n{}", differences.join("\n"));
}

#[test]
fn s103_an_image_shows_what_was_archived() {
    let scene = Scene::new(everything);
    let archived = Tree::read(&scene.root).unwrap();
    let mount = scene.mount(&scene.read_only());
    same("archived, ours", &archived, &Tree::read(mount.path()).unwrap(), &NOT_OURS);
    mount.unmount().unwrap();
    if let Some((_erofs, kernel)) = scene.kernel("kernels") {
        let mount = scene.mount(&scene.layers("ours"));
        let ours = Tree::read(mount.path()).unwrap();
        same("kernel, ours", &Tree::read(kernel.path()).unwrap(), &ours, &NOT_OURS);
        kernel.unmount().unwrap();
    }
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Changes of every kind.
fn change(root: &Path) {
    append(&root.join("small"), "more");
    append(&root.join("d/linked"), "more");
    append(&root.join("sparse"), "more");
    fs::set_permissions(root.join("d/e/large"), Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(root.join("many/00007")).unwrap();
    fs::remove_file(root.join("null")).unwrap();
    fs::rename(root.join("d/e"), root.join("moved")).unwrap();
    fs::rename(root.join("fifo"), root.join("many/fifo")).unwrap();
    fs::create_dir(root.join("d/e")).unwrap();
    put(root, "d/e/new", "new").unwrap();
    lsetxattr(root.join("same"), "user.note", b"a note", XattrFlags::empty()).unwrap();
    std::os::unix::fs::lchown(root.join("long-link"), Some(5), Some(6)).unwrap();
}

#[test]
fn s104_a_union_over_an_image_changes_as_one_over_the_kernels_mount_does() {
    let scene = Scene::new(everything);
    let objects = Tree::read(&scene.store.objects()).unwrap();
    let index = fs::read(&scene.index).unwrap();
    let mount = scene.mount(&scene.layers("ours"));
    change(mount.path());
    let ours = Tree::read(mount.path()).unwrap();
    assert_eq!(fs::metadata(mount.path().join("object")).unwrap().len(), 517, "links stay together");
    mount.unmount().unwrap();
    let mount = scene.mount(&scene.layers("ours"));
    let again = Tree::read(mount.path()).unwrap();
    same("ours, ours mounted again", &ours, &again, &[Aspect::Ctime, Aspect::Mtime]);
    mount.unmount().unwrap();
    if let Some((_erofs, kernel)) = scene.kernel("kernels") {
        change(kernel.path());
        let theirs = Tree::read(kernel.path()).unwrap();
        same("kernel, ours", &theirs, &ours, &[Aspect::DirNlink, Aspect::Ctime, Aspect::Mtime, Aspect::Ino]);
        kernel.unmount().unwrap();
    }
    assert_eq!(index, fs::read(&scene.index).unwrap(), "the index was changed");
    same("objects before, after", &objects, &Tree::read(&scene.store.objects()).unwrap(), &[]);
}

/// More changes, that a layer has its own words for.
fn change_more(root: &Path) {
    change(root);
    fs::remove_dir_all(root.join("many")).unwrap();
    fs::create_dir(root.join("many")).unwrap();
    put(root, "many/00001", "again").unwrap();
    fs::remove_file(root.join("object")).unwrap();
    fs::create_dir(root.join("object")).unwrap();
    put(root, "object/file", "in a directory that was a file").unwrap();
    put(root, "moved/deep/new", "new").unwrap();
    fs::rename(root.join("moved"), root.join("d/moved-again")).unwrap();
    fs::hard_link(root.join("small"), root.join("d/small-too")).unwrap();
}

/// What a union shows is what the image shows that its upper was committed to.
fn committed(scene: &Scene, upper: &str, shown: &Tree) {
    let base = scene.store.images().unwrap().remove(0).record;
    let path = scene.scratch.path().join(format!("{upper}-upper"));
    let upper = Upper { path, form: Form::Union(Namespace::Trusted) };
    let image = commit(&scene.store, &base, &upper, Commit::default()).unwrap();
    assert_eq!(image.layers.len(), 2);
    let index = scene.store.index_file(&image);
    let layers = Layers { data_only: vec![scene.store.objects()], ..Layers::read_only(&[&index]) };
    let mount = scene.mount(&layers);
    same("the union, the image", shown, &Tree::read(mount.path()).unwrap(), &NOT_OURS);
    mount.unmount().unwrap();
    scene.store.remove_image(image.id).unwrap();
}

#[test]
fn an_upper_becomes_a_layer_that_shows_the_same() {
    for change in [change, change_more] {
        let scene = Scene::new(everything);
        let mount = scene.mount(&scene.layers("ours"));
        change(mount.path());
        let ours = Tree::read(mount.path()).unwrap();
        mount.unmount().unwrap();
        committed(&scene, "ours", &ours);
        if let Some((_erofs, kernel)) = scene.kernel("kernels") {
            change(kernel.path());
            let theirs = Tree::read(kernel.path()).unwrap();
            kernel.unmount().unwrap();
            committed(&scene, "kernels", &theirs);
        }
    }
}

#[test]
fn changes_are_worded_as_docker_words_them() {
    let scene = Scene::new(|root| {
        for path in ["d/kept", "d/changed", "d/gone", "old/file", "again/old", "again/both"] {
            put(root, path, "o").unwrap();
        }
    });
    let mount = scene.mount(&scene.layers("ours"));
    let at = |path: &str| mount.path().join(path);
    append(&at("d/changed"), "more");
    fs::remove_file(at("d/gone")).unwrap();
    put(mount.path(), "d/new/file", "n").unwrap();
    fs::rename(at("old"), at("new")).unwrap();
    fs::remove_dir_all(at("again")).unwrap();
    put(mount.path(), "again/both", "n").unwrap();
    mount.unmount().unwrap();
    let image = scene.store.images().unwrap().remove(0).record;
    let tree = scene.store.tree(&image.layers).unwrap();
    let upper =
        Upper { path: scene.scratch.path().join("ours-upper"), form: Form::Union(Namespace::Trusted) };
    let lines: Vec<String> = changes(&upper, &tree)
        .unwrap()
        .iter()
        .map(|change| format!("{} {}", change.kind.letter(), change.path.escape_ascii()))
        .collect();
    let expected = [
        "C /again",
        "C /again/both",
        "D /again/old",
        "C /d",
        "C /d/changed",
        "D /d/gone",
        "A /d/new",
        "A /d/new/file",
        "A /new",
        "A /new/file",
        "D /old",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn s104_directories_and_images_lie_on_each_other() {
    let scene = Scene::new(|root| {
        put(root, "d/image", "i").unwrap();
        put(root, "d/hidden", "i").unwrap();
        put(root, "d/both", "i".repeat(1000)).unwrap();
        put(root, "gone/file", "i").unwrap();
    });
    let above = scene.scratch.dir("above").unwrap();
    put(&above, "d/above", "a").unwrap();
    put(&above, "d/both", "a").unwrap();
    mknodat(CWD, above.join("d/hidden"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    mknodat(CWD, above.join("gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    let below = scene.scratch.dir("below").unwrap();
    put(&below, "d/below", "b").unwrap();
    put(&below, "d/hidden", "b").unwrap();
    let mut layers = scene.layers("ours");
    layers.lowers = vec![above, scene.index.clone(), below];
    let mount = scene.mount(&layers);
    let mut names: Vec<_> =
        fs::read_dir(mount.path().join("d")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["above", "below", "both", "image"]);
    assert_eq!(fs::read(mount.path().join("d/both")).unwrap(), b"a");
    assert!(!mount.path().join("gone").exists());
    fs::rename(mount.path().join("d"), mount.path().join("e")).unwrap();
    mount.unmount().unwrap();
    let mount = scene.mount(&layers);
    assert_eq!(fs::read(mount.path().join("e/image")).unwrap(), b"i");
    assert_eq!(fs::read(mount.path().join("e/below")).unwrap(), b"b");
    mount.unmount().unwrap();
}

#[test]
fn s105_an_object_that_is_lost_or_cut_is_an_error_of_that_file_alone() {
    let scene = Scene::new(|root| {
        put(root, "whole", vec![1; 1000]).unwrap();
        put(root, "cut", vec![2; 1000]).unwrap();
        put(root, "lost", vec![3; 1000]).unwrap();
    });
    for (byte, harm) in [(2_u8, "cut"), (3, "lost")] {
        let object = scene.store.objects().join(layerstore::object::ObjectId::of(&vec![byte; 1000]).path());
        match harm {
            "cut" => OpenOptions::new().write(true).open(&object).unwrap().set_len(10).unwrap(),
            _ => fs::remove_file(&object).unwrap(),
        }
    }
    let mount = scene.mount(&scene.layers("ours"));
    assert_eq!(fs::read(mount.path().join("whole")).unwrap(), vec![1; 1000]);
    for name in ["cut", "lost"] {
        assert_eq!(fs::read(mount.path().join(name)).unwrap_err().raw_os_error(), Some(libc::EIO), "{name}");
        assert_eq!(fs::metadata(mount.path().join(name)).unwrap().size(), 1000);
    }
    mount.unmount().unwrap();
}

/// Changes a byte of an object, whose length stays.
fn tamper(scene: &Scene, contents: &[u8]) -> String {
    let path = layerstore::object::ObjectId::of(contents).path();
    let mut bytes = contents.to_vec();
    bytes[7] ^= 1;
    let object = scene.store.objects().join(&path);
    fs::remove_file(&object).unwrap();
    fs::write(object, bytes).unwrap();
    path
}

#[test]
fn s107_a_file_of_an_image_is_what_the_index_says() {
    let scene = Scene::new(|root| {
        put(root, "whole", vec![1; 1000]).unwrap();
        put(root, "bad", vec![2; 100_000]).unwrap();
        put(root, "inline", vec![3; 10]).unwrap();
    });
    let object = tamper(&scene, &[2; 100_000]);
    let read =
        |at: &Path, name: &str| fs::read(at.join(name)).map(|read| read.len()).map_err(|e| e.raw_os_error());
    let refused = Err(Some(libc::EIO));
    let mount = scene.mount(&scene.layers("off"));
    assert_eq!(
        ["whole", "bad", "inline"].map(|name| read(mount.path(), name)),
        [Ok(1000), Ok(100_000), Ok(10)]
    );
    mount.unmount().unwrap();
    let mut mount = scene.mount(&scene.layers("on").with("verity=on"));
    assert_eq!(["whole", "bad", "inline"].map(|name| read(mount.path(), name)), [Ok(1000), refused, Ok(10)]);
    let said = mount.said().unwrap();
    let line = format!("the object {object} has the digest ");
    assert!(said.contains(&line) && said.contains("hint: `runion fsck --repair`"), "{said}");
    assert_eq!(fs::metadata(mount.path().join("bad")).unwrap().len(), 100_000);
    let opened = OpenOptions::new().append(true).open(mount.path().join("bad"));
    let appended = opened.and_then(|mut file| file.write_all(b"more"));
    assert_eq!(appended.unwrap_err().raw_os_error(), Some(libc::EIO));
    mount.unmount().unwrap();
    let upper = scene.scratch.path().join("on-upper");
    assert_eq!(fs::read_dir(upper).unwrap().count(), 0);
    // No object of this file system is sealed.
    let mut mount = scene.mount(&scene.layers("require").with("verity=require"));
    assert_eq!(["whole", "bad", "inline"].map(|name| read(mount.path(), name)), [refused, refused, Ok(10)]);
    let said = mount.said().unwrap();
    assert!(said.contains("fs-verity") && said.contains("hint: "), "{said}");
    fs::set_permissions(mount.path().join("inline"), Permissions::from_mode(0o600)).unwrap();
    append(&mount.path().join("inline"), "more");
    assert_eq!(read(mount.path(), "inline"), Ok(14));
    mount.unmount().unwrap();
}

#[test]
fn s103_programs_of_an_image_are_read_by_the_kernel_itself() {
    let scene = Scene::new(|root| {
        for (name, mode) in [("program", 0o755), ("text", 0o644)] {
            put(root, name, vec![mode as u8; 100_000]).unwrap();
            fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
        }
    });
    let layers = Layers { served: "transport=auto,data=programs".to_owned(), ..scene.layers("ours") };
    let mount = scene.mount(&layers);
    assert_eq!(fs::read(mount.path().join("program")).unwrap(), vec![0o755_u32 as u8; 100_000]);
    assert_eq!(mount.stat("READ"), 0);
    assert_eq!(fs::read(mount.path().join("text")).unwrap(), vec![0o644_u32 as u8; 100_000]);
    assert!(mount.stat("READ") > 0);
    mount.unmount().unwrap();
}

#[test]
fn what_is_no_index_is_refused_by_name() {
    let scene = Scene::new(|root| put(root, "file", "f").unwrap());
    let bad = scene.scratch.path().join("bad.erofs");
    fs::write(&bad, vec![0; 8192]).unwrap();
    let at = scene.scratch.dir("merged").unwrap();
    let refused = Mount::new(Driver::Runionfs, &Layers::read_only(&[&bad]), &at).err().unwrap().to_string();
    assert!(refused.contains("bad.erofs") && refused.contains("erofs image"), "{refused}");
}
