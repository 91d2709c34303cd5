//! Digests that metacopies give of their data, in directories. (`image.rs` has
//! those of images; `tests/fs-verity` what a kernel with fs-verity makes of both.)

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use layerstore::object::ObjectId;
use rustix::io::Errno;
use tests::mount::{Driver, FEATURES, Layers, Mount};
use tests::scratch::{Backing, Scratch};
use tests::stage::put;
use unionfs::image::format::Metacopy;

use crate::scene::{answer, bytes, names, set_xattr, xattr};

const METACOPY: &str = "trusted.overlay.metacopy";

/// Metacopies over data that is what they say, is not, or of which nothing is said.
const FILES: [&str; 3] = ["right", "wrong", "unsaid"];

struct Scene {
    scratch: Scratch,
    layers: Layers,
}

impl Scene {
    fn new() -> Scene {
        let scratch = Scratch::new(Backing::Tmpfs).unwrap();
        let [top, data] = ["top", "data"].map(|name| scratch.dir(name).unwrap());
        let digest = ObjectId::of(&bytes(5000)).0;
        for (name, mark) in [
            ("right", Metacopy::with(&digest)),
            ("wrong", Metacopy::with(&ObjectId::of(b"other").0)),
            ("unsaid", Vec::new()),
        ] {
            put(&data, name, bytes(5000)).unwrap();
            File::create(top.join(name)).unwrap().set_len(5000).unwrap();
            set_xattr(&top.join(name), METACOPY, mark).unwrap();
            set_xattr(&top.join(name), "trusted.overlay.redirect", format!("/{name}")).unwrap();
        }
        put(&top, "own", "own").unwrap();
        let layers = Layers { lowers: vec![top], data_only: vec![data], ..Layers::default() };
        Scene { scratch, layers }
    }

    fn mount(&self, driver: Driver, verity: &str) -> Mount {
        let dir = |name: &str| {
            let path = self.scratch.path().join(name);
            fs::remove_dir_all(&path).unwrap_or_default();
            fs::create_dir(&path).unwrap();
            path
        };
        let upper = Some((dir("upper"), dir("work")));
        let mut layers = Layers { upper, ..self.layers.clone() }.with(&format!("verity={verity}"));
        if driver == Driver::Kernel {
            layers.options.extend(FEATURES.iter().map(|feature| (*feature).to_owned()));
        }
        Mount::new(driver, &layers, &dir("merged")).unwrap()
    }

    fn upper(&self, name: &str) -> std::path::PathBuf {
        self.scratch.path().join("upper").join(name)
    }
}

fn read(at: &Path) -> Vec<Result<usize, Errno>> {
    FILES.iter().chain(&["own"]).map(|name| answer(fs::read(at.join(name))).map(|read| read.len())).collect()
}

#[test]
fn s107_data_is_what_its_digest_says() {
    let scene = Scene::new();
    let read = |driver, verity: &str| {
        let mount = scene.mount(driver, verity);
        let read = read(mount.path());
        mount.unmount().unwrap();
        read
    };
    let (whole, refused) = (Ok(5000), Err(Errno::IO));
    for (verity, expected) in [
        ("off", [whole, whole, whole, Ok(3)]),
        ("on", [whole, refused, whole, Ok(3)]),
        ("require", [refused, refused, refused, Ok(3)]),
    ] {
        assert_eq!(read(Driver::under_test(), verity), expected, "{verity}");
        let mut kernels = read(Driver::Kernel, verity);
        if verity == "on" {
            // Where there is no fs-verity it takes nothing that has a digest.
            assert_eq!(std::mem::replace(&mut kernels[0], whole), refused);
        }
        assert_eq!(kernels, expected, "the kernel, {verity}");
    }
}

#[test]
fn s107_a_metacopy_keeps_the_digest() {
    let scene = Scene::new();
    for verity in ["off", "on", "require"] {
        let mount = scene.mount(Driver::Runionfs, verity);
        let change = |name: &str| {
            let changed = fs::set_permissions(mount.path().join(name), Permissions::from_mode(0o600));
            answer(changed).map(|()| xattr(&scene.upper(name), METACOPY).map(|mark| mark.len()))
        };
        let changed = FILES.map(change);
        mount.unmount().unwrap();
        let expected = match verity {
            "off" => [Ok(Ok(0)), Ok(Ok(0)), Ok(Ok(0))],
            // What is not read is not verified.
            "on" => [Ok(Ok(36)), Ok(Ok(36)), Ok(Ok(0))],
            // Where no digest is known the data comes along, if it may be read.
            _ => [Ok(Ok(36)), Ok(Ok(36)), Err(Errno::IO)],
        };
        assert_eq!(changed, expected, "{verity}");
        if verity == "on" {
            let digest = ObjectId::of(&bytes(5000)).0;
            assert_eq!(xattr(&scene.upper("right"), METACOPY).unwrap(), Metacopy::with(&digest));
        }
    }
}

#[test]
fn s107_a_copy_up_takes_no_wrong_data() {
    let scene = Scene::new();
    let mut mount = scene.mount(Driver::Runionfs, "on");
    let append = |name: &str| {
        let open = OpenOptions::new().append(true).open(mount.path().join(name));
        answer(open.and_then(|mut file| file.write_all(b"more")))
    };
    assert_eq!(FILES.map(append), [Ok(()), Err(Errno::IO), Ok(())]);
    assert_eq!(names(&scene.scratch.path().join("upper")), ["right", "unsaid"]);
    // One that is in the upper already gets no data either.
    fs::set_permissions(mount.path().join("wrong"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(append("wrong"), Err(Errno::IO));
    assert_eq!(xattr(&scene.upper("wrong"), METACOPY).map(|mark| mark.len()), Ok(36));
    assert_eq!(fs::metadata(mount.path().join("wrong")).unwrap().len(), 5000);
    let said = mount.said().unwrap();
    assert!(said.contains("\"wrong\" in layer 2 has the digest"), "{said}");
    mount.unmount().unwrap();
    assert_eq!(fs::read(scene.upper("right")).unwrap().len(), 5004);
    let work = scene.scratch.path().join("work/work");
    assert_eq!(names(&work), Vec::<String>::new());
}

#[test]
fn s107_a_mark_that_is_no_digest_is_an_error() {
    let scene = Scene::new();
    let file = scene.layers.lowers[0].join("right");
    let sha512 = [&[0, 68, 0, 2][..], &[7; 64]].concat();
    for mark in [&[0, 36, 0, 1][..], &[0, 3, 0], &sha512] {
        set_xattr(&file, METACOPY, mark).unwrap();
        let mount = scene.mount(Driver::Runionfs, "on");
        assert_eq!(answer(fs::read(mount.path().join("right"))), Err(Errno::IO), "{mark:?}");
        mount.unmount().unwrap();
    }
}

/// Known to be right is a file as it was, not a file that was written since.
#[test]
fn s107_what_is_written_is_verified_again() {
    let scene = Scene::new();
    let mut mount = scene.mount(Driver::Runionfs, "on,data=cached");
    let right = mount.path().join("right");
    let read = || answer(fs::read(&right)).map(|read| read.len());
    assert_eq!([read(), read()], [Ok(5000), Ok(5000)]);
    let data = scene.layers.data_only[0].join("right");
    let mut changed = bytes(5000);
    changed[4999] ^= 1;
    fs::write(&data, &changed).unwrap();
    // An open file is not opened again for the next who opens it, and the kernel
    // tells of a close after the call has returned.
    let deadline = Instant::now() + Duration::from_secs(20);
    while read() != Err(Errno::IO) {
        assert!(Instant::now() < deadline, "changed data is taken for right");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(mount.said().unwrap().lines().filter(|line| line.contains("has the digest")).count(), 1);
    fs::write(&data, bytes(5000)).unwrap();
    assert_eq!(read(), Ok(5000));
    mount.unmount().unwrap();
}
