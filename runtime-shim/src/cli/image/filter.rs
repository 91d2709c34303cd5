//! `--filter`: which images are meant.

use layerstore::document::ImageConfig;
use layerstore::reference::Reference;
use layerstore::store::{Image, Store};

use super::find;
use crate::cli::filter::Label;
use crate::failure::{Failure, Result};
use crate::output::time;

/// Conditions of `images` and `prune`; all must hold. Several of one kind:
/// labels all, references any, `before` the earliest and `since` the latest.
#[derive(Default)]
pub struct Filter {
    dangling: Option<bool>,
    labels: Vec<Label>,
    references: Vec<String>,
    /// Made before this second.
    before: Option<i64>,
    /// Made after it.
    since: Option<i64>,
}

/// An image with what filters look at.
pub struct Known {
    /// The image; of its names, those that are meant.
    pub image: Image,
    /// How it runs.
    pub config: ImageConfig,
    /// When it was made, in seconds since 1970.
    pub created: Option<i64>,
}

impl Known {
    /// Reads the image's configuration.
    pub fn of(store: &Store, image: Image) -> Result<Known> {
        let config = store.config(&image.record)?;
        let created = time::parse(config.created.as_deref());
        Ok(Known { image, config, created })
    }

    /// All images of the store. One that somebody removes meanwhile is none.
    pub fn all(store: &Store) -> Result<Vec<Known>> {
        let mut all = Vec::new();
        for image in store.images()? {
            let id = image.id().to_string();
            match Known::of(store, image) {
                Ok(known) => all.push(known),
                Err(_) if find::present(store, &id)?.is_none() => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(all)
    }

    /// When it was made, for comparisons: what nobody knows is long ago.
    pub fn age(&self) -> i64 {
        self.created.unwrap_or(i64::MIN)
    }
}

impl Filter {
    /// What was written: `key=value`, each of a key that the command knows.
    pub fn parse(store: &Store, written: &[String], known: &[&str]) -> Result<Filter> {
        let mut filter = Filter::default();
        for condition in written {
            let (key, value) = condition.split_once('=').ok_or_else(|| {
                Failure::failed(format!("the filter {condition:?} is not of the form key=value"))
            })?;
            if !known.contains(&key) {
                return Err(Failure::failed(format!("invalid filter '{key}'"))
                    .hint(format!("there are {}", known.join(", "))));
            }
            filter.add(store, key, value)?;
        }
        Ok(filter)
    }

    fn add(&mut self, store: &Store, key: &str, value: &str) -> Result<()> {
        match key {
            "dangling" => {
                self.dangling = Some(match value {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    _ => {
                        return Err(Failure::failed(format!("invalid filter 'dangling={value}'"))
                            .hint("it is true or false"));
                    }
                });
            }
            "label" | "label!" => self.labels.extend(Label::of(key, value)),
            "reference" => self.references.push(value.to_owned()),
            "before" => self.before = earliest(self.before, made(store, value)?),
            "since" => self.since = Some(self.since.unwrap_or(i64::MIN).max(made(store, value)?)),
            _ => self.before = earliest(self.before, time::moment(value, time::now())?),
        }
        Ok(())
    }

    /// Only images with such a name.
    pub fn and_reference(&mut self, pattern: &str) {
        self.references.push(pattern.to_owned());
    }

    /// The image with the names that are meant, if it is.
    pub fn apply(&self, mut known: Known) -> Option<Known> {
        let dangling = known.image.names.is_empty();
        let fits = self.dangling.is_none_or(|wanted| wanted == dangling)
            && self.before.is_none_or(|before| known.age() < before)
            && self.since.is_none_or(|since| known.age() > since)
            && self.labels.iter().all(|label| label.fits(&known.config.config.labels));
        if !fits {
            return None;
        }
        if !self.references.is_empty() {
            known.image.names.retain(|name| self.means(name));
            known
                .image
                .record
                .digests
                .retain(|digest| Reference::parse(digest).is_ok_and(|digest| self.means(&digest)));
            if known.image.names.is_empty() && known.image.record.digests.is_empty() {
                return None;
            }
        }
        Some(known)
    }

    fn means(&self, name: &Reference) -> bool {
        let repository = name.repository();
        // In full too: so `pull` says them.
        let written = [name.to_string(), repository.to_string(), name.canonical(), repository.canonical()];
        self.references
            .iter()
            .any(|pattern| written.iter().any(|written| matches(pattern.as_bytes(), written.as_bytes())))
    }
}

fn earliest(known: Option<i64>, new: i64) -> Option<i64> {
    Some(known.unwrap_or(i64::MAX).min(new))
}

/// When the image that is named was made.
fn made(store: &Store, text: &str) -> Result<i64> {
    Known::of(store, find::image(store, text)?).map(|known| known.age())
}

/// Shell patterns as Go's `path.Match` has them: `*` and `?` but for `/`, and
/// `[a-z]`, `[^a-z]`; a backslash takes the next as it is.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where the last star goes on, with one byte more below it.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (pattern, text) {
            ([], []) => return true,
            ([b'*', rest @ ..], _) => {
                again = Some((rest, text));
                Some((rest, text))
            }
            (_, [first, after @ ..]) => one(pattern, *first).map(|rest| (rest, after)),
            _ => None,
        };
        (pattern, text) = match (step, again) {
            (Some(next), _) => next,
            (None, Some((after_star, [first, after @ ..]))) if *first != b'/' => {
                again = Some((after_star, after));
                (after_star, after)
            }
            _ => return false,
        };
    }
}

/// What of a pattern is left once its first part stood for this byte.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => (byte != b'/').then_some(rest),
        [b'\\', same, rest @ ..] => (*same == byte).then_some(rest),
        [b'[', rest @ ..] => {
            let end = rest.iter().skip(1).position(|&byte| byte == b']')? + 1;
            let (set, rest) = (rest.get(..end)?, rest.get(end + 1..)?);
            let (set, wanted) = match set {
                [b'^', set @ ..] => (set, false),
                set => (set, true),
            };
            (in_set(set, byte) == wanted).then_some(rest)
        }
        [same, rest @ ..] => (*same == byte).then_some(rest),
        [] => None,
    }
}

fn in_set(mut set: &[u8], byte: u8) -> bool {
    loop {
        set = match set {
            [] => return false,
            [low, b'-', high, ..] if (*low..=*high).contains(&byte) => return true,
            [_, b'-', _, rest @ ..] => rest,
            [same, ..] if *same == byte => return true,
            [_, rest @ ..] => rest,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::matches;

    proptest! {
        /// Any text matches itself, escaped, and any bytes are a pattern.
        #[test]
        fn any_bytes(pattern in "[a\\[\\]^*?/\\\\-]{0,12}", text in "[a\\[\\]^*?/\\\\-]{0,12}") {
            matches(pattern.as_bytes(), text.as_bytes());
            let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert!(matches(escaped.as_bytes(), text.as_bytes()));
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("debian", "debian", true),
            ("debian", "debian:12", false),
            ("debian:*", "debian:12", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("*an:1?", "debian:12", true),
            ("d*b*n", "debian", true),
            ("d*x", "debian", false),
            ("[a-e]ebian", "debian", true),
            ("[^a-e]ebian", "debian", false),
            ("[", "[", false),
            ("[a", "a", false),
            ("\\*", "*", true),
            ("a**b", "axyb", true),
            ("", "", true),
            ("*", "", true),
            ("a*a*a*a*a*a*a*a*a*b", &"a".repeat(200), false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }
}
