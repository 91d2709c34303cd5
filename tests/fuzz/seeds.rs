//! What the fuzzers begin with: one small valid input of each kind, written to
//! `DIR/TARGET/`.

use std::path::{Path, PathBuf};

// The counters of instrumented crates are libFuzzer's.
use layerstore::layer::Limits;
use layerstore::layer::apply::apply;
use layerstore::layer::framing::Framing;
use layerstore::layer::unpack::unpack;
use layerstore::pool::Pool;
use layerstore::tree::Tree;
use libfuzzer_sys as _;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn main() {
    let dir = PathBuf::from(std::env::args_os().nth(1).expect("usage: seeds DIR"));
    let layers = [plain(), long(), pax()];
    for (number, layer) in layers.iter().enumerate() {
        write(&dir, "layer", number, layer);
        write(&dir, "index", number, &index(&dir, layer));
    }
    let references =
        ["debian", "docker.io/library/nginx:1.27", "localhost:5000/a/b-c_d__e.f", "[::1]:80/x:y"];
    for (number, text) in references.iter().enumerate() {
        write(&dir, "reference", number, text.as_bytes());
        write(&dir, "reference", number + 10, format!("{text}@{DIGEST}").as_bytes());
    }
    for (number, (form, document)) in documents().iter().enumerate() {
        write(&dir, "archive", number, &[&[*form], document.to_string().as_bytes()].concat());
    }
}

fn write(dir: &Path, target: &str, number: usize, bytes: &[u8]) {
    let dir = dir.join(target);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(format!("seed-{number}")), bytes).unwrap();
}

/// The index of an image of this layer.
fn index(dir: &Path, layer: &[u8]) -> Vec<u8> {
    let pool = Pool::open(dir.join("pool")).unwrap();
    let path = dir.join("framing");
    let file =
        std::fs::File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    let (_, file) = unpack(layer, &pool, &Limits::default(), file).unwrap();
    let framing = Framing::open(file).unwrap();
    let mut tree = Tree::new();
    apply(&mut tree, framing.entries(&Limits::default()).unwrap(), &Limits::default()).unwrap();
    let mut index = Vec::new();
    layerstore::index::write(&tree, [7; 16], &mut index).unwrap();
    index
}

fn header(kind: tar::EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o755);
    header
}

fn file(tar: &mut tar::Builder<Vec<u8>>, path: &str, contents: &[u8]) {
    tar.append_data(&mut header(tar::EntryType::Regular, contents.len()), path, contents).unwrap();
}

/// Every kind of entry, and whiteouts.
fn plain() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header(tar::EntryType::Directory, 0), "d/", &[][..]).unwrap();
    file(&mut tar, "d/small", b"small");
    file(&mut tar, "d/object", &[9; 600]);
    tar.append_link(&mut header(tar::EntryType::Symlink, 0), "soft", "d").unwrap();
    tar.append_link(&mut header(tar::EntryType::Link, 0), "soft/hard", "d/small").unwrap();
    let mut device = header(tar::EntryType::Char, 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    tar.append_data(&mut device, "null", &[][..]).unwrap();
    tar.append_data(&mut header(tar::EntryType::Fifo, 0), "fifo", &[][..]).unwrap();
    file(&mut tar, "d/.wh.gone", b"");
    file(&mut tar, "d/.wh..wh..opq", b"");
    tar.into_inner().unwrap()
}

/// GNU's headers for what is long.
fn long() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let name = "n".repeat(150);
    let mut gnu = tar::Header::new_gnu();
    gnu.set_size(3);
    tar.append_data(&mut gnu, &name, &b"abc"[..]).unwrap();
    let mut gnu = tar::Header::new_gnu();
    gnu.set_entry_type(tar::EntryType::Symlink);
    gnu.set_size(0);
    tar.append_link(&mut gnu, "link", &name).unwrap();
    tar.into_inner().unwrap()
}

/// PAX: a path, a time, attributes, and a sparse file.
fn pax() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let extended = |tar: &mut tar::Builder<Vec<u8>>, keys: &[(&str, &str)]| {
        tar.append_pax_extensions(keys.iter().map(|(key, value)| (*key, value.as_bytes()))).unwrap();
    };
    extended(
        &mut tar,
        &[("path", "other"), ("mtime", "1.5"), ("uid", "70000"), ("SCHILY.xattr.user.x", "value")],
    );
    file(&mut tar, "name", b"contents");
    extended(
        &mut tar,
        &[("GNU.sparse.major", "0"), ("GNU.sparse.size", "5000"), ("GNU.sparse.map", "0,3,4000,3")],
    );
    file(&mut tar, "sparse", b"abcdef");
    tar.into_inner().unwrap()
}

/// Documents of each form; see `fuzz_targets/archive.rs`.
fn documents() -> Vec<(u8, serde_json::Value)> {
    use serde_json::json;
    let descriptor = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": DIGEST,
        "size": 0, "platform": {"os": "linux", "architecture": "amd64"},
        "annotations": {"io.containerd.image.name": "a:1"}});
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 0},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": DIGEST, "size": 1024}]});
    let layer = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    let config = json!({"architecture": "amd64", "os": "linux", "created": "2024-05-06T07:08:09Z",
        "config": {"Cmd": ["/bin/sh"], "Env": ["A=B"], "ExposedPorts": {"80/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": [layer]}, "history": [{"created_by": "x"}]});
    vec![
        (0, json!([{"Config": "config.json", "RepoTags": ["a:1", "b"], "Layers": ["layer.tar"]}])),
        (1, json!({"schemaVersion": 2, "manifests": [descriptor]})),
        (2, manifest),
        (
            3,
            json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [descriptor]}),
        ),
        (4, config),
    ]
}
