use serde_json::json;

use super::*;
use crate::digest::Digest;

fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() })
}

fn manifest() -> serde_json::Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, b"{}"),
        "layers": [descriptor(media::OCI_LAYER_GZIP, b"layer")],
        "annotations": { "a": "b" },
        "x-unknown": [1, { "deep": null }],
    })
}

fn index(platforms: &[&str]) -> Index {
    let descriptors = platforms.iter().map(|platform| {
        let mut descriptor = Descriptor::of(media::OCI_MANIFEST, platform.as_bytes());
        if !platform.is_empty() {
            let parts: Vec<_> = platform.split('/').chain([""]).collect();
            let (os, architecture, variant) = (parts[0], parts[1], parts[2]);
            let value = json!({ "os": os, "architecture": architecture, "variant": variant });
            descriptor.platform = serde_json::from_value(value).unwrap();
        }
        descriptor
    });
    Index::new(media::OCI_INDEX, descriptors.collect())
}

fn refused(document: &serde_json::Value, served: Option<&str>) -> Error {
    Document::parse(&serde_json::to_vec(document).unwrap(), served).unwrap_err()
}

/// The error of a document with some keys changed.
fn changed(document: serde_json::Value, changes: serde_json::Value, served: Option<&str>) -> String {
    let mut document = document;
    for (key, value) in changes.as_object().unwrap() {
        document[key] = value.clone();
    }
    refused(&document, served).message().to_owned()
}

#[test]
fn unknown_fields_survive() {
    let value = manifest();
    let parsed = Manifest::parse(&serde_json::to_vec(&value).unwrap(), None).unwrap();
    let written: serde_json::Value = serde_json::from_slice(&parsed.to_bytes().unwrap()).unwrap();
    assert_eq!(written, value);

    let value = json!({
        "created": "2026-01-01T00:00:00Z", "architecture": "amd64", "os": "linux", "docker_version": "27.0",
        "container_config": { "Hostname": "x" }, "os.features": ["a"],
        "config": {
            "User": "1:2", "Env": ["A=b"], "Entrypoint": ["/e"], "Cmd": ["c"], "WorkingDir": "/w",
            "Labels": { "l": "m" }, "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/v": {} },
            "StopSignal": "SIGQUIT", "OnBuild": ["RUN x"], "Shell": ["/bin/bash", "-c"], "ArgsEscaped": true,
            "Healthcheck": { "Test": ["CMD", "x"], "Interval": 3_000_000_000_i64, "Retries": 3, "New": 1 },
            "Hostname": "kept", "AttachStdin": false,
        },
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"a")], "extra": 1 },
        "history": [
            { "created": "x", "created_by": "ADD", "extra": true },
            { "created_by": "CMD", "empty_layer": true },
        ],
    });
    let parsed = ImageConfig::parse(&serde_json::to_vec(&value).unwrap()).unwrap();
    assert_eq!(parsed.config.healthcheck.as_ref().unwrap().retries, 3);
    let written: serde_json::Value = serde_json::from_slice(&parsed.to_bytes().unwrap()).unwrap();
    assert_eq!(written, value);
}

#[test]
fn nulls_of_go_are_empty() {
    let value = json!({
        "architecture": "arm", "variant": "v6", "os": "linux",
        "config": { "Env": null, "Cmd": null, "Volumes": null, "Labels": null, "OnBuild": null,
            "Entrypoint": null, "ExposedPorts": null, "Healthcheck": null },
        "rootfs": { "type": "layers", "diff_ids": null }, "history": null,
    });
    let parsed = ImageConfig::parse(&serde_json::to_vec(&value).unwrap()).unwrap();
    assert_eq!(parsed.config, Execution::default());
    assert_eq!(parsed.platform().to_string(), "linux/arm/v6");
    let no_config = json!({ "architecture": "", "os": "", "config": null, "rootfs": { "type": "layers" } });
    assert!(ImageConfig::parse(&serde_json::to_vec(&no_config).unwrap()).is_ok());
}

#[test]
fn a_document_is_one_thing() {
    let both = json!({ "manifests": [] });
    assert!(changed(manifest(), both, None).contains("CVE-2021-41190"));
    let list = serde_json::to_value(index(&["linux/amd64"])).unwrap();
    assert!(changed(list.clone(), json!({ "layers": [] }), None).contains("CVE-2021-41190"));
    assert!(changed(list.clone(), json!({ "config": {} }), None).contains("CVE-2021-41190"));
    for own in [media::OCI_INDEX, "text/html", ""] {
        assert!(changed(manifest(), json!({ "mediaType": own }), None).contains(own), "{own}");
    }
    assert!(refused(&manifest(), Some(media::DOCKER_MANIFEST)).message().contains("given as"));
    assert!(refused(&manifest(), Some(media::OCI_INDEX)).message().contains("given as"));
    assert!(refused(&json!({ "schemaVersion": 2 }), None).message().contains("neither"));
    let with_parameters = format!("{}; charset=utf-8", media::OCI_MANIFEST);
    for served in [None, Some(media::OCI_MANIFEST), Some("application/json"), Some(&with_parameters)] {
        assert!(Document::parse(&serde_json::to_vec(&manifest()).unwrap(), served).is_ok(), "{served:?}");
    }
}

#[test]
fn keys_that_only_others_would_see_are_refused() {
    assert!(changed(manifest(), json!({ "Manifests": [] }), None).contains("Manifests"));
    let twice = serde_json::to_string(&manifest()).unwrap().replacen('{', "{\"layers\":[],", 1);
    let error = Document::parse(twice.as_bytes(), None).unwrap_err();
    assert!(error.message().contains("occurs twice"), "{error}");
}

#[test]
fn schema_1_is_refused_by_name() {
    let old = json!({ "schemaVersion": 1, "name": "a", "fsLayers": [], "history": [] });
    assert!(refused(&old, None).message().contains("schema 1"));
    let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    assert!(refused(&old, Some(media_type)).message().contains("schema 1"));
    assert!(changed(manifest(), json!({ "fsLayers": [] }), None).contains("schema 1"));
}

#[test]
fn sizes_and_digests_are_checked() {
    for wrong in [json!(-1), json!(1.5), json!("1"), json!(null)] {
        let mut document = manifest();
        document["layers"][0]["size"] = wrong;
        assert!(refused(&document, None).message().contains("malformed"));
    }
    let mut document = manifest();
    document["layers"][0]["digest"] = json!("sha256:12");
    assert!(refused(&document, None).message().contains("is no digest"));

    let long = vec![b' '; DOCUMENT_LIMIT as usize + 1];
    let error = Document::parse(&long, None).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    assert!(error.message().contains("4 MiB"), "{error}");
    assert_eq!(ImageConfig::parse(&long).unwrap_err().kind(), Kind::Limit);

    let described = Descriptor::of(media::OCI_LAYER, b"bytes");
    described.verify(b"bytes").unwrap();
    assert_eq!(described.verify(b"bytez").unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(described.verify(b"byte").unwrap_err().kind(), Kind::Corrupt);
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = format!("{{\"layers\":{}", "[".repeat(1 << 20));
    assert!(Document::parse(deep.as_bytes(), None).is_err());
    let deep = format!("{{\"rootfs\":{{\"type\":\"layers\"}},\"x\":{}", "[".repeat(1 << 20));
    assert!(ImageConfig::parse(deep.as_bytes()).is_err());
}

#[test]
fn layers_and_history_agree() {
    let parse = |layers: usize, history: serde_json::Value| {
        let diff_ids = vec![Digest::of(b"a"); layers];
        let value = json!({ "rootfs": { "type": "layers", "diff_ids": diff_ids }, "history": history });
        ImageConfig::parse(&serde_json::to_vec(&value).unwrap())
    };
    let one_layer = json!([{}, { "empty_layer": true }]);
    let config = parse(1, one_layer.clone()).unwrap();
    assert!(parse(2, one_layer.clone()).is_ok(), "builders that write little");
    assert!(parse(0, one_layer).unwrap_err().message().contains("history"));

    let manifest = Manifest::parse(&serde_json::to_vec(&manifest()).unwrap(), None).unwrap();
    config.check_layers(&manifest).unwrap();
    let error = parse(2, json!(null)).unwrap().check_layers(&manifest).unwrap_err();
    assert_eq!(error.message(), "the manifest lists 1 layers and the configuration 2");
}

fn choose<'a>(offered: &[&'a str], wanted: &str) -> Result<&'a str> {
    let index = index(offered);
    let chosen = index.choose(&wanted.parse().unwrap())?.digest;
    Ok(offered.iter().find(|name| Digest::of(name.as_bytes()) == chosen).unwrap())
}

#[test]
fn the_nearest_platform_is_chosen() {
    let all =
        ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6", "linux/arm64/v8", "linux/amd64", "windows/amd64"];
    assert_eq!(choose(&all, "linux/amd64").unwrap(), "linux/amd64");
    assert_eq!(choose(&all, "x86_64").unwrap(), "linux/amd64");
    assert_eq!(choose(&all, "linux/arm64").unwrap(), "linux/arm64/v8");
    assert_eq!(choose(&all, "linux/arm").unwrap(), "linux/arm/v7");
    assert_eq!(choose(&all, "linux/arm/v6").unwrap(), "linux/arm/v6");
    assert_eq!(choose(&["linux/amd64/v3", "linux/amd64"], "linux/amd64").unwrap(), "linux/amd64");
    assert_eq!(choose(&["linux/amd64", "linux/amd64/v2"], "linux/amd64/v3").unwrap(), "linux/amd64/v2");
    assert_eq!(choose(&["", "linux/amd64"], "linux/amd64").unwrap(), "linux/amd64");
    assert_eq!(choose(&["", "linux/amd64"], "linux/s390x").unwrap(), "");
    let error = choose(&["linux/arm/v7", "unknown/unknown", "linux/s390x"], "linux/arm/v6").unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.remedy(), Some("there are images for linux/arm/v7, linux/s390x"));
    for text in ["", "linux/", "a/b/c/d", "linux/a b"] {
        assert!(text.parse::<Platform>().is_err(), "{text}");
    }
    let host = Platform::host();
    assert_eq!(choose(&[&host.to_string()], &host.to_string()).unwrap(), host.to_string());
}

#[test]
fn layers_say_how_they_are_packed() {
    for (media_type, compression) in [
        (media::OCI_LAYER, Compression::None),
        (media::OCI_LAYER_GZIP, Compression::Gzip),
        (media::OCI_LAYER_ZSTD, Compression::Zstd),
        (media::DOCKER_LAYER, Compression::None),
        (media::DOCKER_LAYER_GZIP, Compression::Gzip),
    ] {
        assert_eq!(Compression::of_layer(media_type).unwrap(), compression);
    }
    for other in ["", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "text/plain"] {
        assert!(Compression::of_layer(other).is_err(), "{other}");
    }
}
