//! `runion inspect`.

use std::collections::BTreeMap;

use clap::Args;
use layerstore::reference::Reference;
use layerstore::store::{Image, Store};
use serde::Serialize;
use serde_json::Value;

use super::find;
use super::find::Layers;
use crate::failure::{Failure, Result};
use crate::output::{self, template::Template};

/// Show all that is known of images, as JSON
#[derive(Args)]
pub struct Inspect {
    /// Print by a Go template, or json
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,

    /// Sizes: an image's is always there
    #[arg(long, short)]
    size: bool,

    /// What is inspected: there are only images yet
    #[arg(long = "type", value_name = "TYPE", value_parser = ["image"])]
    kind: Option<String>,

    /// Names or ids
    #[arg(required = true, value_name = "NAME|ID")]
    images: Vec<String>,
}

/// What one that is missing is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// `runion inspect`
    Object,
    /// `runion image inspect`
    Image,
}

/// In docker's names and order.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
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

/// Docker's fields of how an image runs, that an image may lack: a template
/// finds them empty, as docker's does.
const LISTS_AND_MAPS: [&str; 8] =
    ["Env", "Cmd", "Entrypoint", "OnBuild", "Shell", "Labels", "ExposedPorts", "Volumes"];
const TEXTS: [&str; 3] = ["User", "WorkingDir", "StopSignal"];

impl Inspect {
    /// Prints what there is; then says what is missing.
    pub fn run(self, store: &Store, missing: Missing) -> Result<u8> {
        let template = match self.format.as_deref() {
            None | Some("") => None,
            Some("json") => Some(Template::parse("{{json .}}")?),
            Some(format) => Some(Template::parse(format)?),
        };
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for text in &self.images {
            match find::image(store, text).and_then(|image| shown(store, &image)) {
                Ok(shown) => found.push(shown),
                Err(_)
                    if missing == Missing::Object
                        && find::present(store, text).is_ok_and(|it| it.is_none()) =>
                {
                    failures.push(Failure::as_docker(format!("No such object: {text}")));
                }
                Err(failure) => failures.push(failure),
            }
        }
        let text = match &template {
            Some(template) => rendered(template, &found)?,
            None => pretty(&found)?,
        };
        output::print(&text)?;
        Ok(failures.iter().map(Failure::report).max().unwrap_or(0))
    }
}

fn shown(store: &Store, image: &Image) -> Result<Shown> {
    let config = store.config(&image.record)?;
    let digests = image.record.digests.iter().filter_map(|digest| Reference::parse(digest).ok());
    let paths = [("Index", store.index_file(&image.record)), ("Objects", store.objects())];
    let failed = |error: serde_json::Error| Failure::failed(format!("cannot show an image: {error}"));
    let author = config.author.clone().unwrap_or_default();
    let of_document =
        |name: &str| config.other.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Shown {
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
        size: Layers::default().size(store, image)?,
        graph_driver: GraphDriver {
            data: paths.map(|(name, path)| (name.to_owned(), path.display().to_string())).into(),
            name: "runionfs".to_owned(),
        },
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: image.record.layers.iter().map(ToString::to_string).collect(),
        },
        metadata: BTreeMap::new(),
    })
}

/// As docker prints it: four spaces a level.
fn pretty(found: &[Shown]) -> Result<String> {
    let mut text = Vec::new();
    let indented = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, indented);
    let written = found.serialize(&mut serializer);
    written.map_err(|error| Failure::failed(format!("cannot show an image: {error}")))?;
    text.push(b'\n');
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn rendered(template: &Template, found: &[Shown]) -> Result<String> {
    let mut text = String::new();
    for shown in found {
        let value = serde_json::to_value(shown);
        let mut value = value.map_err(|error| Failure::failed(format!("cannot show an image: {error}")))?;
        if let Some(Value::Object(config)) = value.get_mut("Config") {
            let texts = TEXTS.map(|name| (name, Value::from("")));
            let all = LISTS_AND_MAPS.map(|name| (name, Value::Null)).into_iter().chain(texts);
            for (name, value) in all {
                config.entry(name).or_insert(value);
            }
        }
        text.push_str(&template.render(&value)?);
        text.push('\n');
    }
    Ok(text)
}
