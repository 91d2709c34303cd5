//! `--filter`: which volumes are meant.

use crate::cli::filter::Label;
use crate::failure::{Failure, Result};
use crate::volume::Volume;

/// Conditions; all must hold. Of several names one, of several labels all.
pub struct Filter {
    conditions: Vec<(String, String)>,
}

impl Filter {
    /// What was written: `key=value`, each of a key that the command knows.
    pub fn parse(written: &[String], known: &[&str]) -> Result<Filter> {
        let mut conditions = Vec::new();
        for condition in written {
            let (key, value) = condition.split_once('=').ok_or_else(|| {
                Failure::failed(format!("the filter {condition:?} is not of the form key=value"))
            })?;
            let is_known = known.contains(&key) && (key != "dangling" || truth(value).is_some());
            if !is_known {
                return Err(Failure::as_docker(format!("Invalid filter '{condition}'"))
                    .hint(format!("there are {}", known.join(", "))));
            }
            conditions.push((key.to_owned(), value.to_owned()));
        }
        Ok(Filter { conditions })
    }

    /// Whether a volume is meant, of which containers have it or not.
    pub fn means(&self, volume: &Volume, is_used: bool) -> bool {
        let mut names = self.conditions.iter().filter(|(key, _)| key == "name").peekable();
        let named = names.peek().is_none() || names.any(|(_, value)| volume.name.contains(value.as_str()));
        named
            && self.conditions.iter().all(|(key, value)| match key.as_str() {
                "dangling" => truth(value) == Some(!is_used),
                "driver" => value == "local",
                key => Label::of(key, value).is_none_or(|label| label.fits(&volume.labels)),
            })
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}
