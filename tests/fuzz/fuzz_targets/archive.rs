//! Archives of images: the documents are anything, the rest is sound.
//!
//! The first byte says what the others are: docker's `manifest.json`, an OCI
//! layout's `index.json`, a manifest, an index or a configuration.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use layerstore::archive::{Loading, load_stream};
use layerstore::digest::Digest;
use layerstore::document::{Document, ImageConfig};
use layerstore::store::{Repair, Store};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fuzz_target!(|bytes: &[u8]| {
    let Some((form, document)) = bytes.split_first() else { return };
    for media_type in [None, Some(MANIFEST), Some("application/vnd.oci.image.index.v1+json")] {
        drop(Document::parse(document, media_type));
    }
    drop(ImageConfig::parse(document).map(|config| config.platform().to_string()));

    let mut archive = Archive::default();
    let layer = archive.blob(LAYER, &[0; 1024]);
    let sound = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
    let config = if form % 5 == 4 { document.to_vec() } else { sound.to_string().into_bytes() };
    archive.file("config.json", &config);
    archive.file("layer.tar", &[0; 1024]);
    let config = archive.blob(CONFIG, &config);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
    let listed = json!([{"Config": "config.json", "RepoTags": ["a:1"], "Layers": ["layer.tar"]}]).to_string();
    match form % 5 {
        0 => archive.file("manifest.json", document),
        1 => archive.file("index.json", document),
        2 | 3 => {
            let described = archive.blob(MANIFEST, document);
            archive.file(
                "index.json",
                json!({"schemaVersion": 2, "manifests": [described]}).to_string().as_bytes(),
            );
        }
        _ => archive.file("manifest.json", listed.as_bytes()),
    }
    archive.blob(MANIFEST, manifest.as_bytes());

    let store = store();
    match load_stream(store, &archive.0.into_inner().unwrap()[..], &Loading::default()) {
        // Whatever came of it is whole.
        Ok(loaded) => {
            assert_eq!(store.fsck(Repair::No).unwrap(), []);
            for image in loaded {
                store.find(&image.id.to_string()).unwrap();
                drop(store.remove_image(image.id));
            }
            store.collect().unwrap();
        }
        Err(error) => assert_ne!(error.kind(), layerstore::error::Kind::System, "{error}"),
    }
});

/// A store in memory, emptied at each start.
fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| {
        let path = PathBuf::from("/dev/shm/runionfs-fuzz-archive");
        std::fs::remove_dir_all(&path).ok();
        Store::open(path).unwrap()
    })
}

struct Archive(tar::Builder<Vec<u8>>);

impl Default for Archive {
    fn default() -> Archive {
        Archive(tar::Builder::new(Vec::new()))
    }
}

impl Archive {
    fn file(&mut self, path: &str, contents: &[u8]) {
        let mut header = tar::Header::new_ustar();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        self.0.append_data(&mut header, path, contents).unwrap();
    }

    fn blob(&mut self, media_type: &str, contents: &[u8]) -> serde_json::Value {
        let digest = Digest::of(contents);
        self.file(&format!("blobs/sha256/{}", digest.hex()), contents);
        json!({"mediaType": media_type, "digest": digest, "size": contents.len()})
    }
}
