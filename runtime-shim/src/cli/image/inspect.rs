//! All that is known of an image.

use std::collections::BTreeMap;

use clap::Args;
use layerstore::reference::Reference;
use layerstore::store::Store;
use serde::Serialize;
use serde_json::Value;

use super::find::{self, Layers};
use super::platform::OfPlatform;
use crate::cli::inspect::{Kind, OfKind};
use crate::failure::{Failure, Result};

/// Show all that is known of images, as JSON
#[derive(Args)]
pub struct Inspect {
    #[command(flatten)]
    what: OfKind,

    #[command(flatten)]
    platform: OfPlatform,
}

impl Inspect {
    /// As [`OfKind::run`]. One of another platform keeps the others from being shown.
    pub fn run(self, store: &Store) -> Result<u8> {
        for name in self.what.names() {
            if let Some(image) = find::present_or_builtin(store, name)? {
                self.platform.check(store, &image, name)?;
            }
        }
        self.what.run(store, Kind::Image)
    }
}

/// In docker's names and order.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Shown {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: String,
    comment: String,
    created: String,
    docker_version: String,
    author: String,
    config: Value,
    architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
    os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    os_version: String,
    size: u64,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
    metadata: BTreeMap<String, String>,
}

/// Where the files are: what a union mounts.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: BTreeMap<String, String>,
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(rename = "Type")]
    kind: String,
    layers: Vec<String>,
}

/// What is known of an image, if there is one.
pub fn shown(store: &Store, text: &str) -> Result<Option<Shown>> {
    let Some(image) = find::present_or_builtin(store, text)? else { return Ok(None) };
    let config = store.config(&image.record)?;
    let digests = image.record.digests.iter().filter_map(|digest| Reference::parse(digest).ok());
    let paths = [("Index", store.index_file(&image.record)), ("Objects", store.objects())];
    let failed = |error: serde_json::Error| Failure::failed(format!("cannot show an image: {error}"));
    let author = config.author.clone().unwrap_or_default();
    let of_document =
        |name: &str| config.other.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Some(Shown {
        id: image.id().to_string(),
        repo_tags: image.names.iter().map(Reference::to_string).collect(),
        repo_digests: digests.map(|digest| digest.to_string()).collect(),
        parent: String::new(),
        comment: config.history.last().and_then(|step| step.comment.clone()).unwrap_or_default(),
        created: config.created.clone().unwrap_or_default(),
        docker_version: of_document("docker_version"),
        author,
        config: serde_json::to_value(&config.config).map_err(failed)?,
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        os: config.os.clone(),
        os_version: config.os_version.clone().unwrap_or_default(),
        size: Layers::default().size(store, &image)?,
        graph_driver: GraphDriver {
            data: paths.map(|(name, path)| (name.to_owned(), path.display().to_string())).into(),
            name: "runionfs".to_owned(),
        },
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: image.record.layers.iter().map(ToString::to_string).collect(),
        },
        metadata: BTreeMap::new(),
    }))
}
