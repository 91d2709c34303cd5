//! Conditions of `--filter` that commands share: labels, and when something was
//! made.

use std::collections::BTreeMap;

use crate::failure::{Failure, Result};
use crate::output::time;

/// Labels by their keys.
pub type Labels = BTreeMap<String, String>;

/// A label, and perhaps its value.
#[derive(Clone, Debug)]
pub struct Label {
    key: String,
    value: Option<String>,
    wanted: Wanted,
}

/// Whether it has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It has.
    Yes,
    /// It must not be.
    No,
}

impl Label {
    /// `KEY` or `KEY=VALUE`.
    pub fn new(text: &str, wanted: Wanted) -> Label {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        Label { key: key.to_owned(), value, wanted }
    }

    /// Of a condition `label=…` or `label!=…`, which is `label!` and what follows.
    pub fn of(key: &str, text: &str) -> Option<Label> {
        match key {
            "label" => Some(Label::new(text, Wanted::Yes)),
            "label!" => Some(Label::new(text, Wanted::No)),
            _ => None,
        }
    }

    /// Whether something with these labels is meant.
    pub fn fits(&self, labels: &Labels) -> bool {
        let found = labels.get(&self.key);
        let is_there = found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found));
        is_there == (self.wanted == Wanted::Yes)
    }
}

/// What is pruned: all conditions must hold.
#[derive(Default)]
pub struct Pruned {
    /// Made before each of these seconds.
    until: Vec<i64>,
    labels: Vec<Label>,
}

impl Pruned {
    /// What was written: `until=MOMENT`, `label=…`, `label!=…`.
    pub fn parse(written: &[String]) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        let now = time::now();
        for filter in written {
            let invalid = || Failure::as_docker(format!("Invalid filter '{filter}'"));
            let (key, value) = filter.split_once('=').ok_or_else(invalid)?;
            match key {
                "until" => pruned.until.push(time::moment(value, now)?),
                _ => pruned.labels.push(Label::of(key, value).ok_or_else(invalid)?),
            }
        }
        Ok(pruned)
    }

    /// Whether something is meant that was made then and has these labels.
    pub fn means(&self, created: &str, labels: &Labels) -> bool {
        let created = time::parse(Some(created));
        self.until.iter().all(|moment| created.is_some_and(|created| created < *moment))
            && self.labels.iter().all(|label| label.fits(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_moments() {
        let labels: Labels = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())].into();
        let means = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Pruned::parse(&words).map(|pruned| pruned.means("2024-05-06T07:08:09Z", &labels)).ok()
        };
        for (words, holds) in [
            (&[][..], true),
            (&["label=a"], true),
            (&["label=a=1", "label=b"], true),
            (&["label=a=2"], false),
            (&["label=b="], true),
            (&["label!=a"], false),
            (&["label!=a=2", "label!=c"], true),
            (&["until=2024-05-07"], true),
            (&["until=2024-05-06"], false),
        ] {
            assert_eq!(means(words), Some(holds), "{words:?}");
        }
        for bad in ["label", "until=yesterday", "name=x", "labels=a"] {
            assert_eq!(means(&[bad]), None, "{bad}");
        }
    }
}
