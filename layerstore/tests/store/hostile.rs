//! Archives that lie: refused in words, and nothing of them is an image.

use layerstore::archive::{Loading, load_dir};
use layerstore::digest::Digest;
use layerstore::error::{Error, Kind};
use layerstore::store::Store;
use serde_json::{Value, json};

use crate::made::{
    Made, Part, Parts, blob, bytes, docker, edit, file, get, gzip, image, lay_out, layer, oci, pack,
};
use crate::state::{Scratch, assert_clean, assert_no_garbage, load, load_from_file, state};

/// A store with an image that has nothing to do with what comes.
fn with_one(scratch: &Scratch) -> Store {
    let store = scratch.store();
    load(&store, &pack(&docker(&[(&Made::new("here", &[layer(&[("here", 600)])]), &["here:1"])]))).unwrap();
    store
}

/// Loads it as a stream, a file and, if that can be, a directory.
#[track_caller]
fn refused(parts: &Parts, words: &str) {
    let scratch = Scratch::new();
    let store = with_one(&scratch);
    let before = state(&store);
    let archive = pack(parts);
    let check = |way: &str, error: Option<Error>| {
        let error = error.unwrap_or_else(|| panic!("{way}: it was loaded"));
        assert!(error.message().contains(words), "{way}: {error}");
        assert_ne!(error.kind(), Kind::System, "{way}: {error}");
        assert_eq!(state(&store), before, "{way}");
        assert_clean(&store);
        assert_no_garbage(&store);
    };
    check("a stream", load(&store, &archive).err());
    check("a file", load_from_file(&scratch, &store, &archive).err());
    if parts.iter().any(|(path, _)| path == "index.json") {
        let dir = scratch.join("layout");
        lay_out(parts, &dir);
        check("a directory", load_dir(&store, &dir, &Loading::default()).err());
    }
}

fn docker_with(change: impl FnOnce(&mut Value)) -> Parts {
    let mut parts = docker(&[(&image(), &["name:1"])]);
    edit(&mut parts, "manifest.json", |manifest| change(&mut manifest[0]));
    parts
}

/// The archive lists another path for this layer, which is not there: one that is
/// in the archive by another name is the layer all the same.
fn without_layer(at: usize, path: &str) -> Parts {
    let mut parts = docker_with(|image| image["Layers"][at] = path.into());
    let lost = format!("{}.tar", Digest::of(&image().layers[at]).hex());
    parts.retain(|(path, _)| *path != lost);
    parts
}

#[test]
fn parts_that_are_not_there() {
    refused(&docker_with(|image| image["Config"] = "gone.json".into()), "lacks gone.json");
    refused(&without_layer(1, "gone.tar"), "lacks gone.tar");
    refused(&docker_with(|image| image["Config"] = "".into()), "lacks");
}

#[test]
fn paths_that_lead_out() {
    for path in ["../x", "/etc/passwd", "a/../../x", "./../x"] {
        refused(&docker_with(|image| image["Config"] = path.into()), "lacks");
        refused(&without_layer(0, path), "lacks");
    }
    let mut parts = without_layer(0, "out.tar");
    parts.insert(0, ("out.tar".into(), Part::Symlink("../../../etc/passwd".into())));
    refused(&parts, "link out.tar is malformed");
    let mut parts = without_layer(0, "out.tar");
    parts.insert(0, ("out.tar".into(), Part::Symlink("/etc/passwd".into())));
    refused(&parts, "lacks");
}

#[test]
fn links_in_cycles() {
    let mut parts = without_layer(0, "a");
    parts.push(("a".into(), Part::Symlink("b".into())));
    parts.push(("b".into(), Part::HardLink("a".into())));
    refused(&parts, "too many links");
    let mut parts = docker(&[(&image(), &["name:1"])]);
    parts.retain(|(path, _)| path != "manifest.json");
    parts.push(("manifest.json".into(), Part::Symlink("manifest.json".into())));
    refused(&parts, "too many links");
}

#[test]
fn counts_of_layers_that_differ() {
    let drop_one = |image: &mut Value| drop(image["Layers"].as_array_mut().unwrap().pop());
    refused(&docker_with(drop_one), "lists 1 layers");
    refused(&docker_with(|image| image["Layers"] = Value::Null), "lists 0 layers");
    let mut parts = oci(&[(&image(), "name:1")]);
    edit_manifest(&mut parts, |manifest| drop(manifest["layers"].as_array_mut().unwrap().pop()));
    refused(&parts, "lists 1 layers");
}

#[test]
fn layers_that_are_others() {
    let mut made = image();
    made.layers[0] = layer(&[("other", 1000)]);
    refused(&docker(&[(&made, &["name:1"])]), "sha256:");
    refused(&oci(&[(&made, "name:1")]), "sha256:");
}

#[test]
fn layers_that_are_no_layers() {
    let cut = gzip(&layer(&[("file", 200_000)]));
    let text = b"no tar at all, but long enough to be one. ".repeat(100);
    for no_layer in [text, b"short".to_vec(), cut[..cut.len() / 2].to_vec(), vec![0x1f; 2000]] {
        let mut made = image();
        made.layers[1] = no_layer;
        let config = Made::new("of what is no layer", &made.layers).config;
        refused(&docker(&[(&Made { config, ..made.clone() }, &["name:1"])]), "");
        refused(&oci(&[(&made, "name:1")]), "");
    }
}

#[test]
fn documents_that_are_malformed() {
    for manifest in [&b"{}"[..], b"[", b"[{}]", b"[{\"Config\":1}]", b"\"text\"", b"[[[[[["] {
        let mut parts = docker(&[(&image(), &["name:1"])]);
        file(&mut parts, "manifest.json", manifest);
        refused(&parts, if manifest == b"\"text\"" { "" } else { "manifest.json is malformed" });
    }
    let mut parts = docker(&[(&image(), &["name:1"])]);
    file(&mut parts, "manifest.json", "[".repeat(1 << 20).as_bytes());
    refused(&parts, "manifest.json is malformed");
    let config = format!("{}.json", image().id().hex());
    let mut parts = docker(&[(&image(), &["name:1"])]);
    edit(&mut parts, &config, |config| config["rootfs"]["type"] = "other".into());
    refused(&parts, "not \"layers\"");
    edit(&mut parts, &config, |config| config["rootfs"] = Value::Null);
    refused(&parts, "configuration is malformed");
    let mut parts = oci(&[(&image(), "name:1")]);
    file(&mut parts, "index.json", br#"{"schemaVersion":2,"manifests":[]}"#);
    refused(&parts, "no image");
    file(&mut parts, "index.json", br#"{"schemaVersion":2,"config":{},"layers":[]}"#);
    refused(&parts, "");
}

#[test]
fn documents_of_megabytes() {
    let config = format!("{}.json", image().id().hex());
    let mut parts = docker(&[(&image(), &["name:1"])]);
    edit(&mut parts, &config, |config| config["comment"] = "x".repeat(5 << 20).into());
    refused(&parts, "4 MiB");
    refused(&docker_with(|image| image["Padding"] = "x".repeat(5 << 20).into()), "4 MiB");
    let mut parts = oci(&[(&image(), "name:1")]);
    edit(&mut parts, "index.json", |index| index["padding"] = "x".repeat(5 << 20).into());
    refused(&parts, "4 MiB");
}

#[test]
fn names_that_are_none() {
    for name in ["UPPER:1", "name:", "name:tag:tag", "../x:1", "", "a b:1"] {
        refused(&docker_with(|image| image["RepoTags"] = json!(["good:1", name])), "");
    }
    let mut parts = oci(&[(&image(), "UPPER/name:1")]);
    refused(&parts, "");
    edit(&mut parts, "index.json", |index| {
        index["manifests"][0]["annotations"] = json!({"io.containerd.image.name": "UPPER/x"});
    });
    refused(&parts, "");
}

/// A name without a tag is one with the tag `latest`.
#[test]
fn names_without_tags() {
    let archives = [docker(&[(&image(), &["name"])]), oci(&[(&image(), "docker.io/library/name")])];
    for parts in archives {
        let scratch = Scratch::new();
        let store = scratch.store();
        load(&store, &pack(&parts)).unwrap();
        assert_eq!(state(&store)[&image().id()].iter().collect::<Vec<_>>(), ["name:latest"]);
    }
}

/// Changes the manifest, and the index with it.
fn edit_manifest(parts: &mut Parts, change: impl FnOnce(&mut Value)) {
    let index: Value = serde_json::from_slice(get(parts, "index.json")).unwrap();
    let old = digest_path(&index["manifests"][0]);
    let mut manifest: Value = serde_json::from_slice(get(parts, &old)).unwrap();
    change(&mut manifest);
    parts.retain(|(path, _)| *path != old);
    let descriptor = blob(parts, "application/vnd.oci.image.manifest.v1+json", &bytes(&manifest));
    edit(parts, "index.json", |index| index["manifests"] = json!([descriptor]));
}

fn digest_path(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/")
}

fn paths(parts: &Parts) -> (String, String, String) {
    let index: Value = serde_json::from_slice(get(parts, "index.json")).unwrap();
    let manifest = digest_path(&index["manifests"][0]);
    let document: Value = serde_json::from_slice(get(parts, &manifest)).unwrap();
    (manifest, digest_path(&document["config"]), digest_path(&document["layers"][0]))
}

#[test]
fn digests_that_do_not_match() {
    let good = oci(&[(&image(), "name:1")]);
    let (manifest, config, layer) = paths(&good);
    for document in [manifest, config] {
        let mut parts = good.clone();
        edit(&mut parts, &document, |document| document["padding"] = "more".into());
        refused(&parts, "sha256");
        // Of the same length.
        let mut parts = good.clone();
        let changed = String::from_utf8(get(&parts, &document).to_vec()).unwrap();
        file(&mut parts, &document, changed.replacen('{', " {", 1).replacen(", ", ",", 1).as_bytes());
        refused(&parts, "");
    }
    let mut parts = good.clone();
    let other = gzip(&crate::made::layer(&[("another", 1)]));
    file(&mut parts, &layer, &other);
    refused(&parts, "");
}

#[test]
fn sizes_that_do_not_match() {
    let good = oci(&[(&image(), "name:1")]);
    let mut parts = good.clone();
    edit(&mut parts, "index.json", |index| index["manifests"][0]["size"] = 7.into());
    refused(&parts, "bytes instead of 7");
    let mut parts = good.clone();
    edit_manifest(&mut parts, |manifest| manifest["config"]["size"] = 7.into());
    refused(&parts, "bytes instead of 7");
    let mut parts = good;
    edit_manifest(&mut parts, |manifest| manifest["layers"][0]["size"] = 7.into());
    refused(&parts, "bytes instead of 7");
}

/// CVE-2021-41190.
#[test]
fn documents_of_two_kinds() {
    let mut parts = oci(&[(&image(), "name:1")]);
    edit_manifest(&mut parts, |manifest| manifest["manifests"] = json!([]));
    refused(&parts, "at once");
    let mut parts = oci(&[(&image(), "name:1")]);
    edit(&mut parts, "index.json", |index| index["layers"] = json!([]));
    refused(&parts, "at once");
    let mut parts = oci(&[(&image(), "name:1")]);
    edit(&mut parts, "index.json", |index| {
        index["manifests"][0]["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
    });
    refused(&parts, "application/vnd.oci.image.index.v1+json");
}

#[test]
fn indexes_in_indexes() {
    let mut parts = oci(&[(&image(), "name:1")]);
    for _ in 0..6 {
        let index = get(&parts, "index.json").to_vec();
        let descriptor = blob(&mut parts, "application/vnd.oci.image.index.v1+json", &index);
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
        file(&mut parts, "index.json", &bytes(&index));
    }
    refused(&parts, "indexes lead to each other");
}

/// A layout's parts are regular files: no pipe holds a load up, no device is read.
#[test]
fn parts_that_are_no_files() {
    let scratch = Scratch::new();
    let store = with_one(&scratch);
    let parts = oci(&[(&image(), "name:1")]);
    let (manifest, config, layer) = paths(&parts);
    for (at, path) in ["index.json".to_owned(), manifest, config, layer].iter().enumerate() {
        for what in ["fifo", "/dev/zero", "a directory"] {
            let dir = scratch.join(&format!("layout-{at}-{}", what.len()));
            lay_out(&parts, &dir);
            let path = dir.join(path);
            std::fs::remove_file(&path).unwrap();
            match what {
                "fifo" => {
                    let made = std::process::Command::new("mkfifo").arg(&path).status();
                    assert!(made.unwrap().success());
                }
                "/dev/zero" => std::os::unix::fs::symlink(what, &path).unwrap(),
                _ => std::fs::create_dir(&path).unwrap(),
            }
            let error = load_dir(&store, &dir, &Loading::default()).unwrap_err();
            assert!(error.message().contains("is no file"), "{what}: {error}");
            assert_no_garbage(&store);
        }
    }
}

/// What no image needs may be anything.
#[test]
fn parts_nobody_asks_for() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let mut parts = docker(&[(&image(), &["name:1"])]);
    let cut = gzip(&layer(&[("file", 200_000)]));
    file(&mut parts, "cut.gz", &cut[..cut.len() / 2]);
    file(&mut parts, "text", &b"words ".repeat(1000));
    file(&mut parts, "document", &[&b"{"[..], &b" ".repeat(5 << 20)].concat());
    load(&store, &pack(&parts)).unwrap();
    assert_eq!(state(&store).into_keys().collect::<Vec<Digest>>(), [image().id()]);
    assert_no_garbage(&store);
}
