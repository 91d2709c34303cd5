//! `runion ps`.

use std::collections::HashSet;

use clap::Args;
use layerstore::store::{Image, Store};
use serde_json::{Value, json};

use crate::cli::filter::{Label, Wanted};
use crate::cli::image::find::Layers;
use crate::cli::{image, space};
use crate::container::health::HealthStatus;
use crate::container::{Containers, Record, Status, Wish};
use crate::failure::{Failure, Result};
use crate::output::{Format, shortened, size, time};
use crate::settle;

/// List containers that run
#[derive(Args)]
#[command(
    after_help = "Filters: id=, name=, label=KEY[=VALUE], status=, exited=CODE, ancestor=IMAGE, before=, since=, \
                        volume=, network=, health=starting|healthy|unhealthy|none"
)]
pub struct List {
    /// List those too that do not run
    #[arg(long, short)]
    all: bool,

    /// List only containers of which this is true
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,

    /// `table`, `json`, or a template of Go's
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// List so many that were made last, running or not
    #[arg(long, short = 'n', value_name = "COUNT")]
    last: Option<usize>,

    /// List the one that was made last
    #[arg(long, short)]
    latest: bool,

    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,

    /// Print ids alone
    #[arg(long, short)]
    quiet: bool,

    /// How much each changed, and how much it sees
    #[arg(long, short)]
    size: bool,
}

const COLUMNS: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const WITH_SIZES: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";
const HEADERS: [(&str, &str); 14] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
];

impl List {
    /// Prints the list.
    pub fn run(self, store: &Store) -> Result<u8> {
        let format = match (self.format.as_deref(), self.quiet) {
            (None | Some("table"), true) => Format::rows("{{.ID}}")?,
            (given, _) => Format::parse(given, if self.size { WITH_SIZES } else { COLUMNS })?,
        };
        let mut records = Vec::new();
        for container in Containers::open(store.root())?.all()? {
            // One that goes meanwhile is none.
            match settle::read(&container) {
                Ok(record) => records.push(record),
                Err(_gone) if !container.dir().join("state.json").exists() => {}
                Err(failure) => drop(failure.report()),
            }
        }
        records.sort_by(|one, other| other.created.cmp(&one.created).then(one.id.cmp(&other.id)));
        let filters = Filters::parse(store, &self.filter, &records)?;
        let names_size = self.format.as_deref().is_some_and(|format| format.contains(".Size"));
        let mut sizes = (self.size || names_size).then(Sizes::default);
        let last = if self.latest { Some(1) } else { self.last };
        let is_shown = |record: &&Record| {
            self.all || last.is_some() || filters.names_a_status() || record.state.status.is_up()
        };
        let shown = records.iter().filter(is_shown).filter(|record| filters.apply(record));
        let now = time::now();
        let rows: Vec<Value> = shown
            .take(last.unwrap_or(usize::MAX))
            .map(|record| self.row(store, record, sizes.as_mut(), now))
            .collect::<Result<_>>()?;
        format.print(&HEADERS, &rows)?;
        Ok(0)
    }

    fn row(&self, store: &Store, record: &Record, sizes: Option<&mut Sizes>, now: i64) -> Result<Value> {
        let created = time::parse(Some(&record.created));
        let words = record.words().join(" ");
        let command = if self.no_trunc { words } else { shortened(&words, 20) };
        let labels: Vec<String> =
            record.config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let volumes = record.config.mounts.iter().filter(|wish| matches!(wish, Wish::Volume { .. })).count();
        Ok(json!({
            "ID": if self.no_trunc { record.id.as_str() } else { record.short() },
            "Image": image_name(record),
            "Command": format!("\"{command}\""),
            "RunningFor": time::ago(created, now),
            "CreatedAt": time::local(created),
            "Status": status(record, now),
            "State": record.state.status.word(),
            "Ports": super::network::ports(record, &super::network::endpoints(store, record)?),
            "Names": record.name,
            "Labels": labels.join(","),
            "Mounts": mounts(record, self.no_trunc),
            "Networks": super::network::names(record).join(","),
            "LocalVolumes": volumes.to_string(),
            "Size": sizes.map_or_else(|| Ok("0B".to_owned()), |sizes| sizes.of(store, record))?,
        }))
    }
}

pub fn image_name(record: &Record) -> String {
    match (&record.config.image, &record.config.rootfs) {
        (Some(image), _) => image.name.clone(),
        (None, Some(dir)) => dir.display().to_string(),
        (None, None) => String::new(),
    }
}

fn mounts(record: &Record, whole: bool) -> String {
    let names = record.config.mounts.iter().filter_map(|wish| match wish {
        Wish::Volume { name, .. } => Some(name.clone()),
        Wish::Mount(mount) => Some(mount.source.as_ref()?.display().to_string()),
    });
    let names: Vec<String> = names.map(|name| if whole { name } else { shortened(&name, 15) }).collect();
    names.join(",")
}

/// In docker's words.
pub fn status(record: &Record, now: i64) -> String {
    let state = &record.state;
    let since = |moment: &Option<String>| {
        time::parse(moment.as_deref()).map_or_else(String::new, |then| time::duration((now - then).max(0)))
    };
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => {
            let health = state.health.as_ref().map_or_else(String::new, |health| match health.status {
                HealthStatus::Starting => " (health: starting)".to_owned(),
                status => format!(" ({})", status.word()),
            });
            format!("Up {}{health}", since(&state.started))
        }
        Status::Paused => format!("Up {} (Paused)", since(&state.started)),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(&state.finished)),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(&state.finished)),
        Status::Removing => "Removal In Progress".to_owned(),
    }
}

/// How much containers changed, and what they see.
#[derive(Default)]
struct Sizes {
    layers: Layers,
}

impl Sizes {
    /// `4kB (virtual 1.2MB)`
    fn of(&mut self, store: &Store, record: &Record) -> Result<String> {
        let changed = changed(store, record)?;
        let image = match &record.config.image {
            Some(image) => image::find::present(store, &image.id)?,
            None => None,
        };
        // A directory's files, or an image that is gone, are not counted.
        let seen = image.map_or(Ok(0), |image| self.layers.size(store, &image))?;
        Ok(format!("{} (virtual {})", size::human(changed), size::human(seen + changed)))
    }
}

/// Bytes of what a container changed.
pub fn changed(store: &Store, record: &Record) -> Result<u64> {
    let container = Containers::open(store.root())?.find(&record.id);
    // One that goes meanwhile has nothing any more.
    Ok(container.map_or(0, |container| space::of(&container.upper())))
}

/// Ids of the image that was named and of all that were built upon it.
fn descendants(store: &Store, text: &str) -> Result<HashSet<String>> {
    let Some(ancestor) = image::find::present(store, text)? else { return Ok(HashSet::new()) };
    let layers = &ancestor.record.layers;
    let is_one = |image: &Image| {
        image.id() == ancestor.id() || (!layers.is_empty() && image.record.layers.starts_with(layers))
    };
    Ok(store.images()?.iter().filter(|image| is_one(image)).map(|image| image.id().to_string()).collect())
}

/// Which containers are meant: of several filters of one kind one must hold, of
/// labels all; and of different kinds all.
struct Filters {
    wanted: Vec<(String, String)>,
    before: Option<String>,
    since: Option<String>,
    /// Of which images, if that was asked.
    images: Option<HashSet<String>>,
}

impl Filters {
    fn parse(store: &Store, filters: &[String], records: &[Record]) -> Result<Filters> {
        let known =
            ["id", "name", "label", "status", "exited", "before", "since", "volume", "network", "health"];
        let mut found = Filters { wanted: Vec::new(), before: None, since: None, images: None };
        let created = |text: &str| {
            let is_it = |record: &&Record| record.name == text || record.id.starts_with(text);
            records
                .iter()
                .find(is_it)
                .map(|record| record.created.clone())
                .ok_or_else(|| Failure::as_docker(format!("No such container: {text}")))
        };
        for filter in filters {
            match filter.split_once('=') {
                Some(("before", text)) => found.before = Some(created(text)?),
                Some(("since", text)) => found.since = Some(created(text)?),
                Some(("ancestor", text)) => {
                    found.images.get_or_insert_default().extend(descendants(store, text)?);
                }
                Some(("health", value)) if !["starting", "healthy", "unhealthy", "none"].contains(&value) => {
                    return Err(Failure::as_docker(format!("Unrecognised filter value for health: {value}")));
                }
                Some(("status", value)) if !Status::WORDS.contains(&value) => {
                    return Err(Failure::as_docker(format!("Invalid filter '{filter}'"))
                        .hint(format!("a status is one of {}", Status::WORDS.join(", "))));
                }
                Some((key, value)) if known.contains(&key) => {
                    found.wanted.push((key.to_owned(), value.to_owned()));
                }
                _ => return Err(Failure::as_docker(format!("Invalid filter '{filter}'"))),
            }
        }
        Ok(found)
    }

    fn names_a_status(&self) -> bool {
        self.wanted.iter().any(|(key, _)| matches!(key.as_str(), "status" | "exited"))
    }

    fn apply(&self, record: &Record) -> bool {
        let in_time = self.before.as_ref().is_none_or(|moment| record.created < *moment)
            && self.since.as_ref().is_none_or(|moment| record.created > *moment);
        let id = record.config.image.as_ref().map(|image| &image.id);
        let of_image = self.images.as_ref().is_none_or(|images| id.is_some_and(|id| images.contains(id)));
        in_time
            && of_image
            && self.wanted.iter().all(|(key, value)| {
                let same = self.wanted.iter().filter(|(other, _)| other == key && key != "label");
                same.clone().any(|(key, value)| holds(record, key, value))
                    || (key == "label" && holds(record, key, value))
            })
    }
}

fn holds(record: &Record, key: &str, value: &str) -> bool {
    match key {
        "id" => record.id.starts_with(value),
        "name" => record.name.contains(value.trim_start_matches('/')),
        "status" => record.state.status.word() == value,
        "exited" => record.state.status == Status::Exited && record.state.exit_code.to_string() == value,
        "label" => Label::new(value, Wanted::Yes).fits(&record.config.labels),
        "volume" => record.config.mounts.iter().any(|wish| match wish {
            Wish::Volume { name, destination, .. } => name == value || destination.as_os_str() == value,
            Wish::Mount(mount) => {
                mount.destination.as_os_str() == value
                    || mount.source.as_ref().is_some_and(|source| source.as_os_str() == value)
            }
        }),
        "health" => record.state.health.as_ref().map_or("none", |health| health.status.word()) == value,
        "network" => super::network::names(record).iter().any(|name| name == value),
        _ => false,
    }
}
