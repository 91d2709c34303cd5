//! `runion volume ls`.

use clap::Args;
use serde_json::{Value, json};

use super::filter::Filter;
use crate::failure::Result;
use crate::output::Format;
use crate::volume::Volumes;

/// List volumes
#[derive(Args)]
#[command(after_help = "Fields of --format: .Driver .Labels .Mountpoint .Name .Scope\n\
Filters: dangling=true|false, driver=, label=KEY[=VALUE], name=")]
pub struct List {
    /// List only volumes of which this is true
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,

    /// Print by a template: table, json, 'table TEMPLATE', or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Print names alone
    #[arg(long, short)]
    quiet: bool,
}

const COLUMNS: &str = "{{.Driver}}\t{{.Name}}";
const HEADERS: [(&str, &str); 7] = [
    ("Driver", "DRIVER"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Size", "SIZE"),
];

impl List {
    /// Prints the list.
    pub fn run(self, volumes: &Volumes) -> Result<u8> {
        let format = match (self.format.as_deref(), self.quiet) {
            (None | Some("table"), true) => Format::rows("{{.Name}}")?,
            (given, _) => Format::parse(given, COLUMNS)?,
        };
        let filter = Filter::parse(&self.filter, &["dangling", "driver", "label", "name"])?;
        let users = volumes.users()?;
        let all = volumes.all()?.into_iter();
        let rows: Vec<Value> = all
            .filter(|volume| filter.means(volume, users.contains_key(&volume.name)))
            .map(|volume| {
                let labels: Vec<String> =
                    volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                json!({
                    "Driver": "local",
                    "Labels": labels.join(","),
                    "Links": "N/A",
                    "Mountpoint": volumes.data(&volume.name),
                    "Name": volume.name,
                    "Scope": "local",
                    "Size": "N/A",
                })
            })
            .collect();
        format.print(&HEADERS, &rows)?;
        Ok(0)
    }
}
