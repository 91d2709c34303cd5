//! `runion images`.

use clap::Args;
use layerstore::reference::Reference;
use layerstore::store::Store;
use serde_json::{Value, json};

use super::filter::{Filter, Known};
use super::find::Layers;
use super::users::Users;
use super::{Ids, tree};
use crate::failure::{Failure, Result};
use crate::output::{Format, size, time};

/// List images, newest first
#[derive(Args)]
#[command(
    after_help = "Fields of --format: .Repository .Tag .ID .Digest .CreatedSince .CreatedAt .Size .Containers\n\
Filters: dangling=true|false, label=KEY[=VALUE], label!=KEY[=VALUE], reference=PATTERN, before=IMAGE, \
since=IMAGE, until=MOMENT"
)]
pub struct List {
    /// Show all images: there are no intermediate ones, so this changes nothing
    #[arg(long, short)]
    all: bool,

    /// Show the digests that registries have
    #[arg(long)]
    digests: bool,

    /// Show only images of which this is true
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,

    /// Print by a template: table, json, 'table TEMPLATE', or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Show ids and digests in full
    #[arg(long)]
    no_trunc: bool,

    /// Show ids only
    #[arg(long, short)]
    quiet: bool,

    /// Show which images share which layers
    #[arg(long, conflicts_with_all = ["quiet", "format", "digests"])]
    tree: bool,

    /// Only images of this name; * and ? stand for anything but a slash
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

/// Show which images share which layers
#[derive(Args)]
pub struct Tree {
    /// Show ids in full
    #[arg(long)]
    no_trunc: bool,
}

const FILTERS: [&str; 7] = ["dangling", "label", "label!", "reference", "before", "since", "until"];
const COLUMNS: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const WITH_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const HEADERS: [(&str, &str); 12] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
    ("Platform", "PLATFORM"),
];

/// What an image has no name for.
const NONE: &str = "<none>";

impl List {
    /// Prints the list.
    pub fn run(self, store: &Store) -> Result<u8> {
        let format = match (self.format.as_deref(), self.quiet) {
            (None | Some("table"), true) => Format::rows("{{.ID}}")?,
            (given, _) => Format::parse(given, if self.digests { WITH_DIGESTS } else { COLUMNS })?,
        };
        let mut filter = Filter::parse(store, &self.filter, &FILTERS)?;
        if let Some(name) = &self.repository {
            if name.is_empty() {
                return Err(Failure::failed("the name of a repository is empty"));
            }
            filter.and_reference(name);
        }
        let known = Known::all(store)?.into_iter();
        let mut images: Vec<Known> = known.filter_map(|known| filter.apply(known)).collect();
        if self.tree {
            return tree::print(store, images, Ids::truncated_unless(self.no_trunc));
        }
        // The id makes the order the same every time.
        images.sort_by_key(|known| {
            (std::cmp::Reverse(known.age()), known.image.names.first().cloned(), known.image.id())
        });
        let (mut rows, mut layers) = (Vec::new(), Layers::default());
        let asks = |field| self.format.as_deref().is_some_and(|format| format.contains(field));
        // Reading all containers is for who asks.
        let users = match asks(".Containers") || asks("json") {
            true => Users::find(store)?,
            false => Users::default(),
        };
        let needs_digests = self.digests || asks(".Digest");
        for known in &images {
            let bytes = layers.size(store, &known.image)?;
            for name in names(known, needs_digests) {
                rows.push(row(known, &users, &name, bytes, Ids::truncated_unless(self.no_trunc)));
            }
        }
        format.print(&HEADERS, &rows)?;
        Ok(0)
    }
}

impl Tree {
    /// As `images --tree`.
    pub fn run(self, store: &Store) -> Result<u8> {
        tree::print(store, Known::all(store)?, Ids::truncated_unless(self.no_trunc))
    }
}

/// Repository, tag and digest of each line of an image.
fn names(known: &Known, needs_digests: bool) -> Vec<[String; 3]> {
    let none = || NONE.to_owned();
    let digests: Vec<Reference> =
        known.image.record.digests.iter().filter_map(|digest| Reference::parse(digest).ok()).collect();
    let of = |repository| digests.iter().filter(move |digest| digest.repository() == repository);
    let shown = |digest: &Reference| digest.digest().map_or_else(none, |digest| digest.to_string());
    let mut lines = Vec::new();
    for name in &known.image.names {
        let (repository, tag) = (name.repository(), name.tag().unwrap_or(NONE).to_owned());
        let before = lines.len();
        if needs_digests {
            lines.extend(of(repository).map(|digest| [repository.to_string(), tag.clone(), shown(digest)]));
        }
        if lines.len() == before {
            lines.push([repository.to_string(), tag, none()]);
        }
    }
    let has_name =
        |digest: &&Reference| known.image.names.iter().any(|name| name.repository() == digest.repository());
    for digest in digests.iter().filter(|digest| !has_name(digest)) {
        let line = [digest.repository().to_string(), none(), shown(digest)];
        if needs_digests || !lines.iter().any(|known| known.first() == line.first()) {
            lines.push(line);
        }
    }
    if lines.is_empty() {
        lines.push([none(), none(), none()]);
    }
    lines
}

fn row(known: &Known, users: &Users, [repository, tag, digest]: &[String; 3], bytes: u64, ids: Ids) -> Value {
    let (id, now) = (known.image.id(), time::now());
    json!({
        "Repository": repository,
        "Tag": tag,
        "Digest": digest,
        "ID": ids.show(&id),
        "CreatedSince": time::ago(known.created, now),
        "CreatedAt": time::local(known.created),
        "Size": size::human(bytes),
        "VirtualSize": size::human(bytes),
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": users.count(&id).to_string(),
        "Platform": known.config.platform().to_string(),
    })
}
