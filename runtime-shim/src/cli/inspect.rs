//! `runion inspect`: all that is known of an object, whatever kind it is of.

use clap::{Args, ValueEnum};
use layerstore::store::Store;
use serde::Serialize;
use serde_json::Value;

use super::{container, image, network, volume};
use crate::failure::{Failure, Result};
use crate::output::{self, template::Template};

/// Show all that is known of containers, images, volumes and networks, as JSON
#[derive(Args)]
pub struct Inspect {
    /// Print by a Go template, or json
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,

    /// Sizes: an image's is always there
    #[arg(long, short)]
    size: bool,

    /// Look for objects of this kind only
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Kind>,

    /// Names or ids
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

/// Show all that is known of objects of one kind, as JSON
#[derive(Args)]
pub struct OfKind {
    /// Print by a Go template, or json
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,

    /// Sizes: an image's is always there
    #[arg(long, short)]
    size: bool,

    /// Names or ids
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

/// What is inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Containers
    Container,
    /// Images
    Image,
    /// Networks
    Network,
    /// Volumes
    Volume,
}

/// What is known of one object.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown {
    Container(Box<container::inspect::Shown>),
    Image(Box<image::inspect::Shown>),
    Network(Box<network::inspect::Shown>),
    Volume(Value),
}

/// Docker's fields of what runs, that an object may lack: a template finds them
/// empty, as docker's does.
const LISTS_AND_MAPS: [&str; 8] =
    ["Env", "Cmd", "Entrypoint", "OnBuild", "Shell", "Labels", "ExposedPorts", "Volumes"];
const TEXTS: [&str; 3] = ["User", "WorkingDir", "StopSignal"];
/// The same of an image as a whole.
const IMAGE_TEXTS: [&str; 2] = ["Variant", "OsVersion"];

impl Inspect {
    /// Prints what there is; then says what is missing.
    pub fn run(self, store: &Store) -> Result<u8> {
        run(store, self.kind, self.format.as_deref(), &self.names)
    }
}

impl OfKind {
    /// Of what the user asks.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The same for one kind.
    pub fn run(self, store: &Store, kind: Kind) -> Result<u8> {
        run(store, Some(kind), self.format.as_deref(), &self.names)
    }
}

fn run(store: &Store, kind: Option<Kind>, format: Option<&str>, names: &[String]) -> Result<u8> {
    let template = match format {
        None | Some("") => None,
        Some("json") => Some(Template::parse("{{json .}}")?),
        Some(format) => Some(Template::parse(format)?),
    };
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        match shown(store, kind, name) {
            Ok(Some(shown)) => found.push(shown),
            Ok(None) => {
                failures.push(match kind {
                    None => Failure::as_docker(format!("No such object: {name}")),
                    Some(Kind::Container) => Failure::as_docker(format!("No such container: {name}")),
                    Some(Kind::Image) => image::find::no_such_image(name),
                    Some(Kind::Network) => Failure::as_docker(format!("No such network: {name}")),
                    Some(Kind::Volume) => Failure::as_docker(format!("No such volume: {name}")),
                });
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

fn shown(store: &Store, kind: Option<Kind>, name: &str) -> Result<Option<Shown>> {
    if kind.is_none_or(|kind| kind == Kind::Container)
        && let Some(shown) = container::inspect::shown(store, name)?
    {
        return Ok(Some(Shown::Container(Box::new(shown))));
    }
    if kind.is_none_or(|kind| kind == Kind::Image)
        && let Some(shown) = image::inspect::shown(store, name)?
    {
        return Ok(Some(Shown::Image(Box::new(shown))));
    }
    if kind.is_none_or(|kind| kind == Kind::Network)
        && let Some(shown) = network::inspect::shown(store, name)?
    {
        return Ok(Some(Shown::Network(Box::new(shown))));
    }
    if kind.is_none_or(|kind| kind == Kind::Volume)
        && let Some(shown) = volume::inspect::shown(store, name)?
    {
        return Ok(Some(Shown::Volume(shown)));
    }
    Ok(None)
}

/// As docker prints it: four spaces a level.
fn pretty(found: &[Shown]) -> Result<String> {
    let mut text = Vec::new();
    let indented = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, indented);
    let written = found.serialize(&mut serializer);
    written.map_err(|error| Failure::failed(format!("cannot show an object: {error}")))?;
    text.push(b'\n');
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn rendered(template: &Template, found: &[Shown]) -> Result<String> {
    let mut text = String::new();
    for shown in found {
        let value = serde_json::to_value(shown);
        let mut value = value.map_err(|error| Failure::failed(format!("cannot show an object: {error}")))?;
        if let Some(Value::Object(config)) = value.get_mut("Config") {
            let texts = TEXTS.map(|name| (name, Value::from("")));
            let all = LISTS_AND_MAPS.map(|name| (name, Value::Null)).into_iter().chain(texts);
            for (name, value) in all {
                config.entry(name).or_insert(value);
            }
            config.entry("Healthcheck").or_insert(Value::Null);
            config.entry("ArgsEscaped").or_insert(false.into());
        }
        if let (Shown::Image(_), Value::Object(image)) = (shown, &mut value) {
            for name in IMAGE_TEXTS {
                image.entry(name).or_insert("".into());
            }
        }
        text.push_str(&template.render(&value)?);
        text.push('\n');
    }
    Ok(text)
}
