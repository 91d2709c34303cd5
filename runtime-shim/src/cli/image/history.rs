//! `runion history`.

use clap::{ArgAction, Args};
use layerstore::document;
use layerstore::store::Store;
use serde_json::{Value, json};

use super::Ids;
use super::find::{self, Layers};
use super::platform::OfPlatform;
use crate::failure::Result;
use crate::output::{self, Format, size, time};

/// Show how an image was made: the newest step first
#[derive(Args)]
#[command(after_help = "Fields of --format: .ID .CreatedSince .CreatedAt .CreatedBy .Size .Comment")]
pub struct History {
    /// Print by a template: table, json, 'table TEMPLATE', or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Sizes and dates for people; =false for programs
    #[arg(long, short = 'H', action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "true", default_missing_value = "true", value_name = "BOOL")]
    human: bool,

    /// Show ids and commands in full
    #[arg(long)]
    no_trunc: bool,

    /// Show ids only
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    platform: OfPlatform,

    /// A name or an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

const FOR_PEOPLE: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const FOR_PROGRAMS: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const HEADERS: [(&str, &str); 6] = [
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// Only the image itself has an id.
const MISSING: &str = "<missing>";
/// A command is shown up to this many characters.
const WIDEST: usize = 45;

impl History {
    /// Prints the steps.
    pub fn run(self, store: &Store) -> Result<u8> {
        let format = match (self.format.as_deref(), self.quiet) {
            (None | Some("table"), true) => Format::rows("{{.ID}}")?,
            (given, _) => Format::parse(given, if self.human { FOR_PEOPLE } else { FOR_PROGRAMS })?,
        };
        let image = find::image(store, &self.image)?;
        self.platform.check(store, &image, &self.image)?;
        let config = store.config(&image.record)?;
        let mut steps = config.history;
        // Some builders write less than they do.
        let named = steps.iter().filter(|step| !step.empty_layer).count();
        let nameless = image.record.layers.len().saturating_sub(named);
        steps.extend(std::iter::repeat_n(document::History::default(), nameless));
        let (mut layers, mut left, now) = (Layers::default(), image.record.layers.iter(), time::now());
        let mut rows = Vec::new();
        for step in &steps {
            let bytes = match step.empty_layer {
                true => 0,
                false => match left.next() {
                    Some(layer) => layers.get(store, *layer)?.map_or(0, |layer| layer.contents),
                    None => 0,
                },
            };
            rows.push(self.row(step, bytes, now));
        }
        if let Some(Value::Object(top)) = rows.last_mut() {
            let id = image.id();
            top.insert("ID".into(), Ids::truncated_unless(self.no_trunc).show(&id).into());
        }
        rows.reverse();
        format.print(&HEADERS, &rows)?;
        Ok(0)
    }

    fn row(&self, step: &document::History, bytes: u64, now: i64) -> Value {
        let created = time::parse(step.created.as_deref());
        let command = step.created_by.as_deref().unwrap_or_default().replace(['\t', '\n'], " ");
        json!({
            "ID": MISSING,
            "CreatedSince": time::ago(created, now),
            "CreatedAt": time::local_in_documents(created),
            "CreatedBy": if self.no_trunc { command } else { output::shortened(&command, WIDEST) },
            "Size": if self.human { size::human(bytes) } else { bytes.to_string() },
            "Comment": step.comment.as_deref().unwrap_or_default(),
        })
    }
}
