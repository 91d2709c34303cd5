//! Which of an archive's images are loaded: all, those for a platform, and never
//! what only speaks of an image.

use layerstore::archive::{Loaded, Loading, load_stream};
use layerstore::error::Kind;
use serde_json::{Value, json};

use crate::made::{Made, Parts, blob, bytes, docker, edit, file, get, image, layer, oci, pack};
use crate::state::{Scratch, assert_no_garbage, load};

/// An image of `name` alone that runs on `architecture`.
fn of(architecture: &str, name: &str) -> Made {
    let made = Made::new(name, &[layer(&[(name, 100)])]);
    let mut config: Value = serde_json::from_slice(&made.config).unwrap();
    config["architecture"] = architecture.into();
    Made { config: bytes(&config), ..made }
}

fn loaded(parts: &Parts, platform: Option<&str>) -> layerstore::Result<Vec<Loaded>> {
    let scratch = Scratch::new();
    let store = scratch.store();
    let how = Loading { platform: platform.map(|platform| platform.parse().unwrap()) };
    let loaded = load_stream(&store, &pack(parts)[..], &how);
    assert_no_garbage(&store);
    loaded
}

/// Docker's archives, and layouts that list their images one beside the other.
#[test]
fn a_platform_chooses_among_what_is_listed() {
    let (intel, arm) = (of("amd64", "a"), of("arm64", "b"));
    let archives = [docker(&[(&intel, &["a:1"]), (&arm, &["b:1"])]), oci(&[(&intel, "a:1"), (&arm, "b:1")])];
    for parts in archives {
        let ids =
            |platform| loaded(&parts, platform).unwrap().into_iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!(ids(None), [intel.id(), arm.id()]);
        assert_eq!(ids(Some("linux/arm64")), [arm.id()]);
        assert_eq!(ids(Some("amd64")), [intel.id()]);
        let error = loaded(&parts, Some("linux/riscv64")).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert_eq!(error.message(), "the archive has no image for linux/riscv64");
        assert_eq!(error.remedy(), Some("there are images for linux/amd64, linux/arm64"));
    }
}

/// BuildKit files attestations beside the images they are about: as manifests
/// whose layers are no archives.
#[test]
fn attestations_are_no_images() {
    let mut parts = oci(&[(&image(), "name:1")]);
    let statement = blob(&mut parts, "application/vnd.in-toto+json", b"{\"_type\":\"statement\"}");
    let config = json!({
        "architecture": "unknown", "os": "unknown",
        "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]},
    });
    let config = blob(&mut parts, "application/vnd.oci.image.config.v1+json", &bytes(&config));
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [statement]});
    let mut manifest = blob(&mut parts, "application/vnd.oci.image.manifest.v1+json", &bytes(&manifest));
    manifest["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    edit(&mut parts, "index.json", |index| index["manifests"].as_array_mut().unwrap().push(manifest));
    let ids: Vec<_> = loaded(&parts, None).unwrap().into_iter().map(|one| one.id).collect();
    assert_eq!(ids, [image().id()]);
}

#[test]
fn an_archive_of_nothing_and_a_directory_of_skopeo() {
    let scratch = Scratch::new();
    let store = scratch.store();
    for nothing in [&[][..], &[0; 1024]] {
        assert_eq!(load(&store, nothing).unwrap_err().message(), "there is nothing in the archive");
    }
    let layout = oci(&[(&image(), "name:1")]);
    let index: Value = serde_json::from_slice(get(&layout, "index.json")).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let mut parts = Parts::new();
    file(&mut parts, "manifest.json", get(&layout, &digest.replace("sha256:", "blobs/sha256/")));
    let error = load(&store, &pack(&parts)).unwrap_err();
    assert!(error.remedy().is_some_and(|hint| hint.starts_with("skopeo copy dir:")), "{error}");
}
