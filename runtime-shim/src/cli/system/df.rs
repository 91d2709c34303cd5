//! `runion system df`: where the bytes are, in docker's rows.

use clap::Args;
use layerstore::store::{Store, Usage};
use serde_json::{Value, json};

use crate::cli::container::list;
use crate::cli::image::filter::Known;
use crate::cli::image::users::Users;
use crate::cli::space;
use crate::container::{Containers, Record};
use crate::failure::Result;
use crate::output::{self, Format, shortened, size, table, time};
use crate::settle;
use crate::volume::{self, Volume, Volumes};

/// Show how much images, containers and volumes take
///
/// Images share files: their size is what lies on disk, each content once.
/// RECLAIMABLE is what goes with everything that nothing uses. `runion df`
/// tells more of images.
#[derive(Args)]
#[command(after_help = "Fields of --format: .Type .TotalCount .Active .Size .Reclaimable")]
pub struct Df {
    /// Print by a template: table, json, 'table TEMPLATE', or a Go template
    #[arg(long, value_name = "FORMAT", conflicts_with = "verbose")]
    format: Option<String>,

    /// Each image, container and volume
    #[arg(long, short)]
    verbose: bool,
}

const COLUMNS: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const HEADERS: [(&str, &str); 5] = [
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

/// All that is looked at.
struct Found {
    images: Vec<Known>,
    usage: Usage,
    users: Users,
    /// With the bytes that each changed.
    containers: Vec<(Record, u64)>,
    /// With how many containers have each, and its bytes.
    volumes: Vec<(Volume, usize, u64)>,
}

impl Df {
    /// Prints the table, or the tables.
    pub fn run(self, store: &Store) -> Result<u8> {
        let format = Format::parse(self.format.as_deref(), COLUMNS)?;
        let found = Found::look(store)?;
        match self.verbose {
            true => output::print(&found.verbose())?,
            false => format.print(&HEADERS, &found.rows())?,
        }
        Ok(0)
    }
}

impl Found {
    fn look(store: &Store) -> Result<Found> {
        let mut containers = Vec::new();
        for container in Containers::open(store.root())?.all()? {
            // One that goes meanwhile is none.
            let Ok(record) = settle::read(&container) else { continue };
            containers.push((record, space::of(&container.upper())));
        }
        containers.sort_by(|(one, _), (other, _)| other.created.cmp(&one.created));
        let kept = Volumes::open(store.root());
        let users = kept.users()?;
        let volumes = kept.all()?.into_iter().map(|volume| {
            let links = users.get(&volume.name).map_or(0, Vec::len);
            let bytes = space::of(&kept.data(&volume.name));
            (volume, links, bytes)
        });
        Ok(Found {
            images: Known::all(store)?,
            usage: store.usage()?,
            users: Users::find(store)?,
            containers,
            volumes: volumes.collect(),
        })
    }

    fn rows(&self) -> Vec<Value> {
        let usage = &self.usage;
        let is_used = |id| self.users.count(id) > 0;
        let unused = usage.images.iter().filter(|image| !is_used(&image.id)).map(|image| image.unique);
        let images = usage.objects.bytes + usage.metadata.bytes + usage.garbage.bytes;
        let is_up = |record: &Record| record.state.status.is_up();
        let stopped = self.containers.iter().filter(|(record, _)| !is_up(record)).map(|(_, bytes)| bytes);
        let free = self.volumes.iter().filter(|(_, links, _)| *links == 0).map(|(_, _, bytes)| bytes);
        vec![
            row(
                "Images",
                self.images.len(),
                usage.images.iter().filter(|image| is_used(&image.id)).count(),
                images,
                unused.sum::<u64>() + usage.garbage.bytes,
            ),
            row(
                "Containers",
                self.containers.len(),
                self.containers.iter().filter(|(record, _)| is_up(record)).count(),
                self.containers.iter().map(|(_, bytes)| bytes).sum(),
                stopped.sum(),
            ),
            row(
                "Local Volumes",
                self.volumes.len(),
                self.volumes.iter().filter(|(_, links, _)| *links > 0).count(),
                self.volumes.iter().map(|(_, _, bytes)| bytes).sum(),
                free.sum(),
            ),
        ]
    }

    fn verbose(&self) -> String {
        let titled =
            |title: &str, lines: &[String]| format!("{title} space usage:\n\n{}", table::aligned(lines));
        [
            titled("Images", &self.image_lines()),
            titled("Containers", &self.container_lines()),
            titled("Local Volumes", &self.volume_lines()),
        ]
        .join("\n")
    }

    fn image_lines(&self) -> Vec<String> {
        let header = "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS";
        let mut lines = vec![header.to_owned()];
        let mut images: Vec<&Known> = self.images.iter().collect();
        images.sort_by_key(|known| (std::cmp::Reverse(known.age()), known.image.id()));
        for known in images {
            let id = known.image.id();
            let Some(usage) = self.usage.images.iter().find(|usage| usage.id == id) else { continue };
            let rest = format!(
                "{}\t{}\t{}\t{}\t{}\t{}",
                layerstore::store::short(&id),
                time::ago(known.created, time::now()),
                size::human(usage.contents),
                size::human(usage.shared),
                size::human(usage.unique),
                self.users.count(&id),
            );
            for name in &known.image.names {
                lines.push(format!("{}\t{}\t{rest}", name.repository(), name.tag().unwrap_or("<none>")));
            }
            if known.image.names.is_empty() {
                lines.push(format!("<none>\t<none>\t{rest}"));
            }
        }
        lines
    }

    fn container_lines(&self) -> Vec<String> {
        let header = "CONTAINER ID\tIMAGE\tCOMMAND\tLOCAL VOLUMES\tSIZE\tCREATED\tSTATUS\tNAMES";
        let line = |(record, bytes): &(Record, u64)| {
            format!(
                "{}\t{}\t\"{}\"\t{}\t{}\t{}\t{}\t{}",
                record.short(),
                list::image_name(record),
                shortened(&record.words().join(" "), 20),
                volume::names(record).count(),
                size::human(*bytes),
                time::ago(time::parse(Some(&record.created)), time::now()),
                list::status(record, time::now()),
                record.name,
            )
        };
        std::iter::once(header.to_owned()).chain(self.containers.iter().map(line)).collect()
    }

    fn volume_lines(&self) -> Vec<String> {
        let line = |(volume, links, bytes): &(Volume, usize, u64)| {
            format!("{}\t{links}\t{}", volume.name, size::human(*bytes))
        };
        let header = "VOLUME NAME\tLINKS\tSIZE".to_owned();
        std::iter::once(header).chain(self.volumes.iter().map(line)).collect()
    }
}

fn row(kind: &str, total: usize, active: usize, bytes: u64, reclaimable: u64) -> Value {
    let part = match bytes {
        0 => String::new(),
        all => format!(" ({}%)", u128::from(reclaimable) * 100 / u128::from(all)),
    };
    json!({
        "Type": kind,
        "TotalCount": total.to_string(),
        "Active": active.to_string(),
        "Size": size::human(bytes),
        "Reclaimable": format!("{}{part}", size::human(reclaimable)),
    })
}
