//! Archives that skopeo and umoci made are loaded; what is saved comes back as it
//! was, and skopeo reads it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use layerstore::archive::{Format, Loading, load_dir, load_file, load_stream, save, save_dir};
use layerstore::digest::Digest;
use layerstore::reference::Reference;
use layerstore::store::{ImageRecord, Store};
use serde_json::Value;

use crate::made::{Part, Parts, docker, file, gzip, image, oci, other, pack};
use crate::state::{Scratch, State, assert_clean, assert_no_garbage, load, load_from_file, state, stream};

/// Whether the tools are here; says so where one is not.
fn are_here(tools: &[&str]) -> bool {
    tools.iter().all(|tool| {
        let is_here = Command::new(tool).arg("--version").output().is_ok();
        if !is_here {
            println!("skipped: no {tool}");
        }
        is_here
    })
}

#[track_caller]
fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(args).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {words}");
    output.stdout
}

fn skopeo_copy(from: &str, to: &str) {
    run("skopeo", &["--insecure-policy", "copy", "--quiet", from, to]);
}

/// Two images of umoci's in a layout: one layer, and one above it.
fn layout(scratch: &Scratch) -> PathBuf {
    let (layout, root) = (scratch.join("layout"), scratch.join("root"));
    std::fs::create_dir_all(root.join("dir")).unwrap();
    for (name, len) in [("empty", 0), ("inline", 100), ("object", 10_000), ("dir/large", 1 << 20)] {
        std::fs::write(root.join(name), name.bytes().cycle().take(len).collect::<Vec<u8>>()).unwrap();
    }
    std::os::unix::fs::symlink("dir/large", root.join("link")).unwrap();
    std::fs::hard_link(root.join("object"), root.join("dir/again")).unwrap();
    let (path, root) = (layout.to_str().unwrap(), root.to_str().unwrap());
    let image = |tag: &str| format!("{path}:{tag}");
    run("umoci", &["init", "--layout", path]);
    run("umoci", &["new", "--image", &image("base")]);
    run("umoci", &["insert", "--rootless", "--image", &image("base"), root, "/srv"]);
    run("umoci", &["insert", "--rootless", "--image", &image("base"), "--tag", "above", root, "/opt"]);
    layout
}

/// What skopeo says an image's layers and id are, by its configuration.
fn told(image: &str) -> (Digest, Vec<Digest>) {
    let config = run("skopeo", &["inspect", "--raw", "--config", image]);
    let parsed: Value = serde_json::from_slice(&config).unwrap();
    (Digest::of(&config), serde_json::from_value(parsed["rootfs"]["diff_ids"].clone()).unwrap())
}

/// The store has the image that skopeo sees, and its layers' streams.
#[track_caller]
fn assert_loaded(store: &Store, (id, layers): &(Digest, Vec<Digest>)) {
    let image = store.find(&id.to_string()).unwrap();
    assert_eq!(image.record.layers, *layers);
    for diff_id in layers {
        assert_eq!(Digest::of(&stream(store, *diff_id)), *diff_id);
    }
    assert_clean(store);
    assert_no_garbage(store);
}

#[test]
fn archives_of_skopeo_and_layouts_of_umoci() {
    if !are_here(&["skopeo", "umoci"]) {
        return;
    }
    let scratch = Scratch::new();
    let layout = layout(&scratch);
    let base = format!("oci:{}:base", layout.display());
    let above = told(&format!("oci:{}:above", layout.display()));
    let of_layout = told(&base);
    for kind in ["docker-archive", "oci-archive"] {
        let path = scratch.join(kind);
        let archive = format!("{kind}:{}", path.display());
        skopeo_copy(&base, &format!("{archive}:example.com/app:1"));
        let expected = told(&archive);
        let plain = std::fs::read(&path).unwrap();
        let zstd = zstd::encode_all(&plain[..], 3).unwrap();
        let mut xz = liblzma::read::XzEncoder::new(&plain[..], 0);
        let mut bzip2 = bzip2::read::BzEncoder::new(&plain[..], bzip2::Compression::fast());
        let (xz, bzip2) = (all_of(&mut xz), all_of(&mut bzip2));
        let forms =
            [("plain", plain.clone()), ("gzip", gzip(&plain)), ("zstd", zstd), ("xz", xz), ("bzip2", bzip2)];
        for (form, bytes) in forms {
            for (way, from_file) in [("a stream", false), ("a file", true)] {
                println!("{kind}, {form}, from {way}");
                let scratch = Scratch::new();
                let store = scratch.store();
                let loaded = match from_file {
                    false => load(&store, &bytes),
                    true => load_from_file(&scratch, &store, &bytes),
                };
                let loaded = loaded.unwrap();
                assert_eq!(loaded.len(), 1);
                assert_loaded(&store, &expected);
                let names: Vec<_> = state(&store).into_values().flatten().collect();
                assert_eq!(names, ["example.com/app:1"]);
            }
        }
    }
    let store = scratch.store();
    assert_eq!(load_dir(&store, &layout, &Loading::default()).unwrap().len(), 2);
    for expected in [of_layout, above] {
        assert_loaded(&store, &expected);
    }
}

fn all_of(from: &mut impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}

/// As `docker save` wrote before its version 25: layers in directories, those
/// that are in the archive already as links.
#[test]
fn the_old_form_of_docker() {
    let (one, two) = (image(), other());
    let mut parts = Parts::new();
    let mut manifest = Vec::new();
    let mut there: Vec<(Digest, String)> = Vec::new();
    for (image, number) in [(&one, 1), (&two, 2)] {
        let mut layers = Vec::new();
        for (at, layer) in image.layers.iter().enumerate() {
            let id = format!("{number}{at}").repeat(32);
            let path = format!("{id}/layer.tar");
            file(&mut parts, &format!("{id}/VERSION"), b"1.0");
            file(&mut parts, &format!("{id}/json"), format!("{{\"id\":\"{id}\"}}").as_bytes());
            match there.iter().find(|(digest, _)| *digest == Digest::of(layer)) {
                Some((_, path_there)) => {
                    parts.push((path.clone(), Part::Symlink(format!("../{path_there}"))));
                }
                None => file(&mut parts, &path, layer),
            }
            there.push((Digest::of(layer), path.clone()));
            layers.push(path);
        }
        let config = format!("{}.json", image.id().hex());
        file(&mut parts, &config, &image.config);
        let tags = [format!("old:{number}")];
        manifest.push(serde_json::json!({"Config": config, "RepoTags": tags, "Layers": layers}));
    }
    file(&mut parts, "manifest.json", &crate::made::bytes(&manifest.into()));
    file(&mut parts, "repositories", br#"{"old":{"1":"","2":""}}"#);
    for from_file in [false, true] {
        let scratch = Scratch::new();
        let store = scratch.store();
        let archive = pack(&parts);
        match from_file {
            false => load(&store, &archive).unwrap(),
            true => load_from_file(&scratch, &store, &archive).unwrap(),
        };
        assert_eq!(state(&store), two_images("old:1", "old:2"));
        assert_clean(&store);
        assert_no_garbage(&store);
    }
}

fn two_images(one: &str, two: &str) -> State {
    [(image().id(), [one.to_owned()].into()), (other().id(), [two.to_owned()].into())].into()
}

/// A pipe is a file that cannot go back.
#[test]
fn a_pipe_given_as_a_file() {
    let archive = pack(&docker(&[(&image(), &["name:1"])]));
    let scratch = Scratch::new();
    let store = scratch.store();
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut writer, &archive).unwrap());
        load_file(&store, File::from(std::os::fd::OwnedFd::from(reader)), &Loading::default()).unwrap();
    });
    assert_eq!(state(&store).len(), 1);
}

/// Layers that are shorter than a block of tar when compressed, as the empty one
/// of old builders is.
#[test]
fn short_layers() {
    let mut made = image();
    made.layers[1] = vec![0; 1024];
    let made = crate::made::Made::new("with an empty layer", &made.layers);
    for parts in [oci(&[(&made, "name:1")]), docker(&[(&made, &["name:1"])])] {
        let scratch = Scratch::new();
        let store = scratch.store();
        load(&store, &pack(&parts)).unwrap();
        assert_clean(&store);
        assert_eq!(state(&store).len(), 1);
    }
}

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// Both images of the store, as they are saved.
fn saved(store: &Store) -> Vec<(ImageRecord, Vec<Reference>)> {
    let images = [(image().id(), "one:1"), (other().id(), "example.com/two:2")];
    images.map(|(id, text)| (store.find(&id.to_string()).unwrap().record, vec![name(text)])).into()
}

#[test]
fn what_is_saved_comes_back() {
    let scratch = Scratch::new();
    let store = scratch.store();
    load(&store, &pack(&docker(&[(&image(), &["one:1"]), (&other(), &["example.com/two:2"])]))).unwrap();
    let before = state(&store);
    assert_eq!(before, two_images("one:1", "example.com/two:2"));
    let has_skopeo = are_here(&["skopeo"]);
    for format in [Format::Docker, Format::Oci] {
        let path = scratch.join("saved");
        save(&store, &saved(&store), format, File::create(&path).unwrap()).unwrap();
        for from_file in [false, true] {
            let scratch = Scratch::new();
            let second = scratch.store();
            match from_file {
                true => load_file(&second, File::open(&path).unwrap(), &Loading::default()).unwrap(),
                false => load_stream(&second, File::open(&path).unwrap(), &Loading::default()).unwrap(),
            };
            same(&store, &second, &before);
        }
        if has_skopeo {
            skopeo_reads(format, &path);
        }
    }
    let dir = scratch.join("saved-layout");
    save_dir(&store, &saved(&store), &dir).unwrap();
    let scratch = Scratch::new();
    let second = scratch.store();
    load_dir(&second, &dir, &Loading::default()).unwrap();
    same(&store, &second, &before);
    assert!(save_dir(&store, &saved(&store), &dir).is_err(), "over a layout that is there");
}

fn same(one: &Store, two: &Store, before: &State) {
    assert_eq!(state(two), *before);
    for image in one.images().unwrap() {
        let again = two.find(&image.id().to_string()).unwrap();
        assert_eq!((&image.record.layers, image.record.index), (&again.record.layers, again.record.index));
        for diff_id in &image.record.layers {
            assert!(stream(one, *diff_id) == stream(two, *diff_id), "{diff_id}");
        }
    }
    assert_clean(two);
    assert_no_garbage(two);
}

fn skopeo_reads(format: Format, path: &Path) {
    let images = match format {
        Format::Docker => {
            [(image(), "docker-archive", "one:1"), (other(), "docker-archive", "example.com/two:2")]
        }
        Format::Oci => [(image(), "oci-archive", "1"), (other(), "oci-archive", "2")],
    };
    for (made, kind, name) in images {
        let (id, layers) = told(&format!("{kind}:{}:{name}", path.display()));
        assert_eq!(id, made.id(), "{kind} {name}");
        let expected: Vec<Digest> = made.layers.iter().map(|layer| Digest::of(layer)).collect();
        assert_eq!(layers, expected);
        let copied = path.with_extension(name.replace(['/', ':'], "-"));
        skopeo_copy(&format!("{kind}:{}:{name}", path.display()), &format!("dir:{}", copied.display()));
    }
}
