//! `runion events`.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use layerstore::store::Store;
use serde_json::Value;

use crate::events::{Event, Kind, Reader};
use crate::failure::{Context, Failure, Result};
use crate::output::template::Template;
use crate::output::{self, time};

/// Tell what happens to containers, images, networks and volumes
///
/// Nobody watches: each command, and each container's monitor, tells what it
/// does. Of what happened long ago the oldest is forgotten.
#[derive(Args)]
#[command(after_help = "Filters: container=, image=, network=, volume=, label=KEY[=VALUE], type=, event=")]
pub struct Events {
    /// Tell only of events of which this is true
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,

    /// `json`, or a template of Go's
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Begin with what happened at this moment: 10m, 2024-05-06, …
    #[arg(long, value_name = "MOMENT")]
    since: Option<String>,

    /// End with this moment
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,
}

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(100);

impl Events {
    /// Tells, and goes on until the moment that was named, or for ever.
    pub fn run(self, store: &Store) -> Result<u8> {
        let format = self.format.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let shape = match format {
            None => Shape::Plain,
            Some("json") => Shape::Json,
            Some(text) => Shape::Template { template: Template::parse(text)?, text: text.to_owned() },
        };
        let filters = self.filter.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>>>()?;
        let now = nanoseconds(Timestamp::now());
        let since = self.since.as_deref().map(moment).transpose()?;
        let until = self.until.as_deref().map(moment).transpose()?;
        let is_meant = |event: &Event| {
            // Without --since it is what happens from now on.
            event.time_nano >= since.unwrap_or(now)
                && until.is_none_or(|until| event.time_nano <= until)
                && Filter::all_hold(&filters, event)
        };
        let mut reader = Reader::open(store.root())?;
        loop {
            let is_over = until.is_some_and(|until| nanoseconds(Timestamp::now()) > until);
            let mut said = String::new();
            for event in reader.read()?.iter().filter(|event| is_meant(event)) {
                said.push_str(&shape.line(event)?);
            }
            output::print(&said)?;
            if is_over {
                return Ok(0);
            }
            // A pipe that nobody reads any more is noticed with the next event.
            std::io::stdout().flush().map_err(output::unwritten)?;
            std::thread::sleep(PAUSE);
        }
    }
}

/// How an event is told.
enum Shape {
    Plain,
    Json,
    Template { template: Template, text: String },
}

impl Shape {
    fn line(&self, event: &Event) -> Result<String> {
        let context = || "cannot show an event".to_owned();
        let (template, text) = match self {
            Shape::Plain => return Ok(plain(event)),
            Shape::Json => return Ok(serde_json::to_string(event).context(context)? + "\n"),
            Shape::Template { template, text } => (template, text),
        };
        let mut shown = serde_json::to_value(event).context(context)?;
        if let Value::Object(fields) = &mut shown {
            // What Go calls otherwise than JSON does, where a template names it.
            let names: [(&str, Value); 6] = [
                ("Status", event.status.as_str().into()),
                ("ID", event.id.as_str().into()),
                ("From", event.from.as_str().into()),
                ("Scope", event.scope.as_str().into()),
                ("Time", event.time.into()),
                ("TimeNano", event.time_nano.into()),
            ];
            let named = names.into_iter().filter(|(name, _)| text.contains(&format!(".{name}")));
            fields.extend(named.map(|(name, value)| (name.to_owned(), value)));
        }
        Ok(template.render(&shown)? + "\n")
    }
}

/// `2024-05-06T07:08:09.000000000+02:00 container start ID (image=box, name=web)`
fn plain(event: &Event) -> String {
    let time = Timestamp::from_nanosecond(event.time_nano.into()).unwrap_or_default();
    let time = time.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string();
    let time = time.strip_suffix("+00:00").map_or(time.clone(), |utc| format!("{utc}Z"));
    let words = event.actor.attributes.iter().map(|(name, value)| format!("{name}={value}"));
    let words = words.collect::<Vec<_>>().join(", ");
    let words = if words.is_empty() { String::new() } else { format!(" ({words})") };
    format!("{time} {} {} {}{words}\n", word(event.kind), event.action, event.actor.id)
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Container => "container",
        Kind::Image => "image",
        Kind::Network => "network",
        Kind::Volume => "volume",
    }
}

/// A moment to the nanosecond: as everywhere, and seconds with a fraction.
fn moment(text: &str) -> Result<i64> {
    let now = Timestamp::now();
    if let Ok(seconds) = text.parse::<f64>()
        && text.contains('.')
    {
        return Ok((seconds * 1e9) as i64);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(nanoseconds(time));
    }
    if let Ok(ago) = text.parse::<SignedDuration>() {
        return Ok(nanoseconds(now.checked_sub(ago).unwrap_or(now)));
    }
    Ok(time::moment(text, now.as_second())?.saturating_mul(1_000_000_000))
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// A condition; of several of one kind one must hold, of labels all.
struct Filter {
    key: String,
    value: String,
}

impl Filter {
    fn parse(text: &str) -> Result<Filter> {
        let known = ["container", "image", "network", "volume", "label", "type", "event", "scope"];
        match text.split_once('=') {
            Some((key, value)) if known.contains(&key) => {
                Ok(Filter { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(Failure::as_docker(format!("invalid filter '{text}'"))
                .hint(format!("there are {}", known.join(", ")))),
        }
    }

    fn all_hold(filters: &[Filter], event: &Event) -> bool {
        filters.iter().all(|filter| {
            let mut same = filters.iter().filter(|other| other.key == filter.key);
            match filter.key.as_str() {
                "label" => filter.holds(event),
                _ => same.any(|filter| filter.holds(event)),
            }
        })
    }

    fn holds(&self, event: &Event) -> bool {
        let (value, actor) = (self.value.as_str(), &event.actor);
        let attribute = |name: &str| actor.attributes.get(name).map(String::as_str);
        let is_it =
            |kind| event.kind == kind && (actor.id.starts_with(value) || attribute("name") == Some(value));
        match self.key.as_str() {
            "container" => is_it(Kind::Container),
            "network" => is_it(Kind::Network),
            "volume" => is_it(Kind::Volume),
            "image" => {
                let untagged = |name: &str| name.rsplit_once(':').map_or(name, |(name, _)| name).to_owned();
                let name = if event.kind == Kind::Image { attribute("name") } else { attribute("image") };
                name.is_some_and(|name| name == value || untagged(name) == value)
                    || (event.kind == Kind::Image
                        && actor.id.trim_start_matches("sha256:").starts_with(value))
            }
            "type" => word(event.kind) == value,
            // `exec_start: sh -c …` is an exec_start.
            "event" => {
                event.action == value || event.action.split_once(':').is_some_and(|(word, _)| word == value)
            }
            "scope" => event.scope == value,
            _ => match value.split_once('=') {
                Some((key, value)) => attribute(key) == Some(value),
                None => attribute(value).is_some(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Actor;

    fn event() -> Event {
        let words = [("image", "box:1"), ("name", "web"), ("tier", "front")];
        Event {
            status: "exec_start: ls -l".to_owned(),
            id: "abcdef".to_owned(),
            from: "box:1".to_owned(),
            kind: Kind::Container,
            action: "exec_start: ls -l".to_owned(),
            actor: Actor {
                id: "abcdef".to_owned(),
                attributes: words.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            },
            scope: "local".to_owned(),
            time: 1,
            time_nano: 1_500_000_000,
        }
    }

    #[test]
    fn filters() {
        let hold = |words: &[&str]| {
            let filters: Vec<Filter> = words.iter().map(|word| Filter::parse(word).unwrap()).collect();
            Filter::all_hold(&filters, &event())
        };
        for words in [
            &["container=web"][..],
            &["container=abc"],
            &["image=box"],
            &["image=box:1"],
            &["event=exec_start"],
            &["event=die", "event=exec_start"],
            &["type=container", "label=tier=front", "label=tier"],
            &[],
        ] {
            assert!(hold(words), "{words:?}");
        }
        for words in [
            &["container=we"][..],
            &["image=bo"],
            &["event=exec"],
            &["type=image"],
            &["network=web"],
            &["label=tier", "label=other"],
            &["container=web", "event=die"],
        ] {
            assert!(!hold(words), "{words:?}");
        }
        assert!(Filter::parse("daemon=x").is_err() && Filter::parse("container").is_err());
    }

    #[test]
    fn lines_and_moments() {
        let line = plain(&event());
        let (_, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, "container exec_start: ls -l abcdef (image=box:1, name=web, tier=front)\n");
        assert!(line.starts_with("1970-01-01T") || line.starts_with("1969-12-31T"), "{line}");
        assert_eq!(moment("1.5").unwrap(), 1_500_000_000);
        assert_eq!(moment("7").unwrap(), 7_000_000_000);
        assert_eq!(moment("1970-01-01T00:00:01.25Z").unwrap(), 1_250_000_000);
    }
}
