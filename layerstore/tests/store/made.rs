//! Images made by hand, and archives of them.

use layerstore::digest::Digest;
use serde_json::{Value, json};

/// One part of an archive.
#[derive(Clone, Debug)]
pub enum Part {
    File(Vec<u8>),
    Symlink(String),
    HardLink(String),
}

/// An archive's parts, in order.
pub type Parts = Vec<(String, Part)>;

/// An image: its configuration and its layers' tar streams.
#[derive(Clone)]
pub struct Made {
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
}

impl Made {
    /// Two images of the same layers and other comments are two images.
    pub fn new(comment: &str, layers: &[Vec<u8>]) -> Made {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "comment": comment,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Made { config: bytes(&config), layers: layers.to_vec() }
    }

    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    /// A manifest of it as a registry would have it.
    pub fn manifest(&self) -> Vec<u8> {
        let mut parts = oci(&[(self, "")]);
        let index: Value = serde_json::from_slice(get(&parts, "index.json")).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        let path = digest.replace("sha256:", "blobs/sha256/");
        parts.retain(|(there, _)| *there == path);
        get(&parts, &path).to_vec()
    }
}

/// A layer of files of these lengths; what they contain depends on their names.
pub fn layer(files: &[(&str, usize)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, len) in files {
        let contents: Vec<u8> = name.bytes().cycle().take(*len).collect();
        append(&mut tar, name, &contents);
    }
    tar.into_inner().unwrap()
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, contents: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(contents.len() as u64);
    header.set_mode(0o644);
    // What is to climb out has to be written by hand.
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    tar.append(&header, contents).unwrap();
}

/// What most tests load: a layer of all sizes, and one above it.
pub fn image() -> Made {
    Made::new("an image", &[base(), layer(&[("etc/above", 3000), ("etc/small", 7)])])
}

/// Shares a layer with [`image`].
pub fn other() -> Made {
    Made::new("another image", &[base(), layer(&[("srv/other", 5000)])])
}

fn base() -> Vec<u8> {
    layer(&[("etc/empty", 0), ("etc/inline", 500), ("bin/object", 4000), ("bin/large", 300_000)])
}

/// The parts of docker's archive of these images.
pub fn docker(images: &[(&Made, &[&str])]) -> Parts {
    let mut parts = Parts::new();
    let mut listed = Vec::new();
    for (image, names) in images {
        let config = format!("{}.json", image.id().hex());
        let layers: Vec<String> =
            image.layers.iter().map(|layer| format!("{}.tar", Digest::of(layer).hex())).collect();
        for (path, layer) in layers.iter().zip(&image.layers) {
            file(&mut parts, path, layer);
        }
        file(&mut parts, &config, &image.config);
        listed.push(json!({"Config": config, "RepoTags": names, "Layers": layers}));
    }
    file(&mut parts, "manifest.json", &bytes(&Value::from(listed)));
    parts
}

/// The parts of an OCI layout of these images.
pub fn oci(images: &[(&Made, &str)]) -> Parts {
    let mut parts = Parts::new();
    let mut manifests = Vec::new();
    for (image, name) in images {
        let layers: Vec<Value> = image
            .layers
            .iter()
            .map(|layer| blob(&mut parts, "application/vnd.oci.image.layer.v1.tar+gzip", &gzip(layer)))
            .collect();
        let config = blob(&mut parts, "application/vnd.oci.image.config.v1+json", &image.config);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let mut manifest = blob(&mut parts, "application/vnd.oci.image.manifest.v1+json", &bytes(&manifest));
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        manifests.push(manifest);
    }
    file(&mut parts, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    file(&mut parts, "index.json", &bytes(&json!({"schemaVersion": 2, "manifests": manifests})));
    parts
}

/// Adds a blob, unless it is there, and gives its descriptor.
pub fn blob(parts: &mut Parts, media_type: &str, contents: &[u8]) -> Value {
    let digest = Digest::of(contents);
    let path = format!("blobs/sha256/{}", digest.hex());
    if parts.iter().all(|(there, _)| *there != path) {
        file(parts, &path, contents);
    }
    json!({"mediaType": media_type, "digest": digest, "size": contents.len()})
}

/// Adds a file, or replaces it.
pub fn file(parts: &mut Parts, path: &str, contents: &[u8]) {
    parts.retain(|(there, _)| there != path);
    parts.push((path.to_owned(), Part::File(contents.to_vec())));
}

/// A file's contents.
pub fn get<'p>(parts: &'p Parts, path: &str) -> &'p [u8] {
    match parts.iter().find(|(there, _)| there == path) {
        Some((_, Part::File(contents))) => contents,
        other => panic!("{path}: {other:?}"),
    }
}

/// Changes a document of an archive.
pub fn edit(parts: &mut Parts, path: &str, change: impl FnOnce(&mut Value)) {
    let mut document = serde_json::from_slice(get(parts, path)).unwrap();
    change(&mut document);
    file(parts, path, &bytes(&document));
}

/// The archive of these parts.
pub fn pack(parts: &Parts) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, part) in parts {
        let (kind, target) = match part {
            Part::File(contents) => {
                append(&mut tar, path, contents);
                continue;
            }
            Part::Symlink(target) => (tar::EntryType::Symlink, target),
            Part::HardLink(target) => (tar::EntryType::Link, target),
        };
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, path, target).unwrap();
    }
    tar.into_inner().unwrap()
}

/// The parts as a directory.
pub fn lay_out(parts: &Parts, dir: &std::path::Path) {
    for (path, part) in parts {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match part {
            Part::File(contents) => std::fs::write(path, contents).unwrap(),
            Part::Symlink(target) => std::os::unix::fs::symlink(target, path).unwrap(),
            Part::HardLink(target) => std::fs::hard_link(dir.join(target), path).unwrap(),
        }
    }
}

pub fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
