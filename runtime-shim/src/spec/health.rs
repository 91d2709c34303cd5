//! Docker's flags about a container's health, and what its image says of it.

use clap::Args;
use jiff::SignedDuration;
use layerstore::document::Healthcheck;

use crate::failure::{Failure, Result};

/// Flags of `run` and `create`.
#[derive(Args)]
#[group(id = "health")]
pub struct Flags {
    /// What tells whether the container is well: a shell's line that exits with 0
    #[arg(long, value_name = "CMD")]
    health_cmd: Option<String>,

    /// Between two checks; 30s
    #[arg(long, value_name = "DURATION")]
    health_interval: Option<String>,

    /// How long a check may take; 30s
    #[arg(long, value_name = "DURATION")]
    health_timeout: Option<String>,

    /// Failures in a row until it is unwell; 3
    #[arg(long, value_name = "COUNT")]
    health_retries: Option<u32>,

    /// How long failures of a fresh one do not count; 0s
    #[arg(long, value_name = "DURATION")]
    health_start_period: Option<String>,

    /// Between two checks meanwhile; 5s
    #[arg(long, value_name = "DURATION")]
    health_start_interval: Option<String>,

    /// Check nothing, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
}

impl Flags {
    /// How it is to be checked, of an image that says `image`.
    pub fn check(&self, image: Option<&Healthcheck>) -> Result<Option<Healthcheck>> {
        let durations = [
            ("interval", &self.health_interval),
            ("timeout", &self.health_timeout),
            ("start-period", &self.health_start_period),
            ("start-interval", &self.health_start_interval),
        ];
        let is_said = self.health_cmd.is_some()
            || self.health_retries.is_some()
            || durations.iter().any(|(_, text)| text.is_some());
        if self.no_healthcheck {
            return match is_said {
                true => Err(Failure::as_docker("--no-healthcheck conflicts with --health-* options")),
                false => Ok(Some(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() })),
            };
        }
        if !is_said && image.is_none() {
            return Ok(None);
        }
        let mut check = image.cloned().unwrap_or_default();
        if let Some(line) = self.health_cmd.as_ref().filter(|line| !line.is_empty()) {
            check.test = vec!["CMD-SHELL".to_owned(), line.clone()];
        }
        if let Some(retries) = self.health_retries.filter(|retries| *retries > 0) {
            check.retries = retries.into();
        }
        let said =
            [&mut check.interval, &mut check.timeout, &mut check.start_period, &mut check.start_interval];
        for (said, (name, text)) in said.into_iter().zip(durations) {
            let Some(text) = text else { continue };
            let wrong = |why| Failure::new(format!("invalid value {text:?} for --health-{name}: {why}"));
            match duration(text).map_err(wrong)? {
                0 => {}
                given => *said = given,
            }
        }
        Ok(Some(check))
    }
}

/// Nanoseconds of one of Go's durations: none at all, or a millisecond at least.
pub fn duration(text: &str) -> Result<i64, String> {
    let is_one = text == "0" || text.ends_with(|last: char| last.is_ascii_lowercase());
    let given = match text {
        "0" => Some(SignedDuration::ZERO),
        text => is_one.then(|| text.parse::<SignedDuration>().ok()).flatten(),
    };
    let given = given.and_then(|given| i64::try_from(given.as_nanos()).ok());
    match given.ok_or("write one as 30s, 1m30s or 500ms")? {
        i64::MIN..=-1 => Err("it cannot be negative".to_owned()),
        1..=999_999 => Err("it cannot be less than 1ms".to_owned()),
        given => Ok(given),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        flags: Flags,
    }

    fn check(words: &[&str], image: Option<&Healthcheck>) -> Result<Option<Healthcheck>> {
        Typed::parse_from([&["run"], words].concat()).flags.check(image)
    }

    #[test]
    fn flags_fill_in_what_the_image_says() {
        assert_eq!(check(&[], None).unwrap(), None);
        let image = Healthcheck {
            test: vec!["CMD".to_owned(), "a".to_owned()],
            interval: 7,
            retries: 5,
            ..Healthcheck::default()
        };
        assert_eq!(check(&[], Some(&image)).unwrap().as_ref(), Some(&image));
        let own = check(&["--health-timeout", "1m30s", "--health-retries", "2"], Some(&image)).unwrap();
        assert_eq!(own, Some(Healthcheck { timeout: 90_000_000_000, retries: 2, ..image.clone() }));
        let own = check(&["--health-cmd", "x y", "--health-interval=1.5s"], None).unwrap().unwrap();
        assert_eq!((own.test, own.interval), (vec!["CMD-SHELL".to_owned(), "x y".to_owned()], 1_500_000_000));
        assert_eq!(check(&["--no-healthcheck"], Some(&image)).unwrap().unwrap().test, ["NONE"]);
    }

    #[test]
    fn what_is_no_check_is_refused_in_words() {
        for (words, why) in [
            (
                &["--no-healthcheck", "--health-cmd", "x"][..],
                "--no-healthcheck conflicts with --health-* options",
            ),
            (&["--health-interval", "soon"], "write one as 30s"),
            (&["--health-interval", "30"], "write one as 30s"),
            (&["--health-timeout=-1s"], "cannot be negative"),
            (&["--health-start-period", "10us"], "cannot be less than 1ms"),
        ] {
            let said = check(words, None).unwrap_err().to_string();
            assert!(said.contains(why), "{words:?}: {said}");
        }
    }
}
