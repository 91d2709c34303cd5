//! `runion stats`.

mod sample;

use std::time::{Duration, Instant};

use clap::Args;
use layerstore::store::Store;
use serde_json::{Value, json};

use super::find;
use crate::container::{Containers, Record, Status};
use crate::failure::Result;
use crate::output::{self, Format, size};
use crate::settle;
use sample::Sample;

/// Show what containers use
#[derive(Args)]
#[command(
    after_help = "Fields of --format: .Container .Name .ID .CPUPerc .MemUsage .MemPerc .NetIO .BlockIO .PIDs"
)]
pub struct Stats {
    /// Show those too that do not run
    #[arg(long, short)]
    all: bool,

    /// Print by a template: table, json, 'table TEMPLATE', or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Show it once
    #[arg(long)]
    no_stream: bool,

    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,

    /// Names or ids; all that run where none is given
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const COLUMNS: &str =
    "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
const HEADERS: [(&str, &str); 9] = [
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];
/// Between two looks that a share of the processors is told from.
const PERIOD: Duration = Duration::from_secs(1);
/// The cursor to the top of an empty screen.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// A container, as it was named, at one moment.
struct Seen {
    text: String,
    record: Record,
    sample: Option<Sample>,
    at: Instant,
}

impl Stats {
    /// Shows it, and goes on unless it was asked for once.
    pub fn run(self, store: &Store) -> Result<u8> {
        let format = Format::parse(self.format.as_deref(), COLUMNS)?;
        let mut before = self.look(store)?;
        loop {
            std::thread::sleep(PERIOD);
            let now = match self.look(store) {
                Ok(now) => now,
                // One that went meanwhile was there when it was named.
                Err(_gone) if !self.containers.is_empty() => return Ok(0),
                Err(failure) => return Err(failure),
            };
            let rows: Vec<Value> = now.iter().map(|seen| self.row(seen, &before)).collect();
            let text = format.text(&HEADERS, &rows)?;
            if !self.no_stream && output::is_screen() {
                output::steer(CLEAR)?;
            }
            output::print(&text)?;
            if self.no_stream {
                return Ok(0);
            }
            before = now;
        }
    }

    fn look(&self, store: &Store) -> Result<Vec<Seen>> {
        let mut found = Vec::new();
        if self.containers.is_empty() {
            for container in Containers::open(store.root())?.all()? {
                // One that goes meanwhile is none.
                let Ok(record) = settle::read(&container) else { continue };
                if self.all || runs(&record) {
                    found.push((record.short().to_owned(), record));
                }
            }
            found.sort_by(|(_, one), (_, other)| other.created.cmp(&one.created));
        } else {
            for text in &self.containers {
                found.push((text.clone(), find::container(store, text)?.1));
            }
        }
        Ok(found
            .into_iter()
            .map(|(text, record)| {
                let sample = if runs(&record) { Sample::take(&record) } else { None };
                Seen { text, record, sample, at: Instant::now() }
            })
            .collect())
    }

    fn row(&self, seen: &Seen, before: &[Seen]) -> Value {
        let record = &seen.record;
        let sample = seen.sample.clone().unwrap_or_default();
        let earlier = before.iter().find(|earlier| earlier.record.id == record.id);
        let share = earlier.and_then(|earlier| {
            let nanoseconds = sample.cpu.checked_sub(earlier.sample.as_ref()?.cpu)?;
            Some(nanoseconds as f64 / (seen.at - earlier.at).as_nanos() as f64 * 100.0)
        });
        let memory = match sample.limit {
            0 => 0.0,
            limit => sample.memory as f64 / limit as f64 * 100.0,
        };
        let pair = |one: u64, other: u64| format!("{} / {}", size::human(one), size::human(other));
        json!({
            "Container": seen.text,
            "ID": if self.no_trunc { record.id.as_str() } else { record.short() },
            "Name": record.name,
            "CPUPerc": format!("{:.2}%", share.unwrap_or(0.0)),
            "MemUsage": format!("{} / {}", size::binary(sample.memory), size::binary(sample.limit)),
            "MemPerc": format!("{memory:.2}%"),
            "NetIO": pair(sample.received, sample.sent),
            "BlockIO": pair(sample.read, sample.written),
            "PIDs": sample.pids.to_string(),
        })
    }
}

fn runs(record: &Record) -> bool {
    matches!(record.state.status, Status::Running | Status::Paused)
}
