//! What happened to containers, images, networks and volumes, told by those who
//! did it: there is no daemon that everybody could ask.
//!
//! ```text
//! STORE/events        one event a line, as JSON in docker's shape, oldest first
//! STORE/events.1      older ones: the file before, when this one had grown
//! STORE/events.lock   exclusive for who writes or turns the files over
//! ```
//! Telling is never in the way of doing: [`note`] has no result, and waits for
//! nobody longer than a moment. A line that is not whole, or no event, is
//! skipped by whoever reads.

mod journal;

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::container::Record;
use crate::failure::Result;

pub use journal::Reader;

/// What kind of object it happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

/// Something that happened, in docker's fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Docker's old name of `Action`; of containers and images.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Docker's old name of `Actor.ID`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// A container's image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// What kind of object it happened to.
    #[serde(rename = "Type")]
    pub kind: Kind,
    /// What happened.
    #[serde(rename = "Action")]
    pub action: String,
    /// To whom.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// Always `local`.
    pub scope: String,
    /// Seconds since 1970.
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// Whom something happened to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// A container's or network's id, an image's name or id, a volume's name.
    #[serde(rename = "ID")]
    pub id: String,
    /// Words about it.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// How a container ended last, by what was told.
pub fn exit_code(store: &Path, id: &str) -> Result<Option<i32>> {
    let told = Reader::open(store)?.read()?;
    let mut ends = told.iter().filter(|event| event.action == "die" && event.actor.id == id);
    Ok(ends.next_back().and_then(|event| event.actor.attributes.get("exitCode")?.parse().ok()))
}

/// Words about an event.
pub type Attributes<'a> = &'a [(&'a str, &'a str)];

/// Tells what happened. A store that cannot be written keeps nobody from doing
/// anything: what is not told is lost.
pub fn note(store: &Path, kind: Kind, action: &str, actor: &str, attributes: Attributes<'_>) {
    let attributes =
        attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    write(store, kind, action, Actor { id: actor.to_owned(), attributes });
}

/// The same of a container, with its image, its name and its labels.
pub fn of_container(store: &Path, record: &Record, action: &str, more: Attributes<'_>) {
    let mut attributes = record.config.labels.clone();
    let image = record.config.image.as_ref().map(|image| image.name.clone());
    attributes.insert("image".to_owned(), image.unwrap_or_default());
    attributes.insert("name".to_owned(), record.name.clone());
    attributes.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    write(store, Kind::Container, action, Actor { id: record.id.clone(), attributes });
}

fn write(store: &Path, kind: Kind, action: &str, actor: Actor) {
    let now = Timestamp::now();
    let is_old = matches!(kind, Kind::Container | Kind::Image);
    let old = |text: &str| if is_old { text.to_owned() } else { String::new() };
    let from = match kind {
        Kind::Container => actor.attributes.get("image").cloned().unwrap_or_default(),
        _ => String::new(),
    };
    let event = Event {
        status: old(action),
        id: old(&actor.id),
        from,
        kind,
        action: action.to_owned(),
        actor,
        scope: "local".to_owned(),
        time: now.as_second(),
        time_nano: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
    };
    // See `note`: nobody could do anything about it.
    let _lost_at_worst = journal::append(store, &event).is_ok();
}
