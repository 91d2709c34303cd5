//! Whether a container is well, as its checks found it: docker's states, its
//! counting and its times.

use std::time::Duration;

use layerstore::document::Healthcheck;
use serde::{Deserialize, Serialize};

/// What was found, in docker's names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// What follows from it.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last checks, the oldest first.
    pub log: Vec<Check>,
}

/// Whether a container is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nobody knows yet.
    Starting,
    /// It is.
    Healthy,
    /// It is not, or is not looked after at the moment.
    Unhealthy,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// When it began, in the words of RFC 3339.
    pub start: String,
    /// When it ended.
    pub end: String,
    /// 0 is well; -1 is none, or one that took too long.
    pub exit_code: i32,
    /// What it printed.
    pub output: String,
}

/// So many checks are remembered.
const REMEMBERED: usize = 5;
/// Docker's values for what a check does not say.
const INTERVAL: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;

impl Health {
    /// Of a container that starts; what was found in a former life is still told.
    pub fn begun(former: Option<Health>) -> Health {
        let log = former.map(|health| health.log).unwrap_or_default();
        Health { status: HealthStatus::Starting, failing_streak: 0, log }
    }

    /// Takes a check into account; gives the status if that is another now.
    pub fn note(&mut self, check: Check, how: &Healthcheck, running: Duration) -> Option<HealthStatus> {
        let before = self.status;
        if check.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if before != HealthStatus::Starting || running >= duration(how.start_period, Duration::ZERO) {
            self.failing_streak += 1;
            let retries = u32::try_from(how.retries).ok().filter(|retries| *retries > 0);
            if self.failing_streak >= retries.unwrap_or(RETRIES) {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(check);
        let old = self.log.len().saturating_sub(REMEMBERED);
        self.log.drain(..old);
        (self.status != before).then_some(self.status)
    }
}

impl HealthStatus {
    /// In docker's word.
    pub fn word(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// How long to wait for the next check of a container that runs so long.
pub fn interval(how: &Healthcheck, status: HealthStatus, running: Duration) -> Duration {
    match status == HealthStatus::Starting && running < duration(how.start_period, Duration::ZERO) {
        true => duration(how.start_interval, START_INTERVAL),
        false => duration(how.interval, INTERVAL),
    }
}

/// How long a check may take.
pub fn timeout(how: &Healthcheck) -> Duration {
    duration(how.timeout, TIMEOUT)
}

/// The words of a check; none for what is no check. `shell` runs those in shell form.
pub fn command(how: &Healthcheck, shell: &[String]) -> Option<Vec<String>> {
    let (form, words) = how.test.split_first()?;
    match form.as_str() {
        "CMD" if !words.is_empty() => Some(words.to_vec()),
        "CMD-SHELL" if !words.is_empty() => Some([shell, words].concat()),
        _ => None,
    }
}

fn duration(nanoseconds: i64, default: Duration) -> Duration {
    match u64::try_from(nanoseconds) {
        Ok(0) | Err(_) => default,
        Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exit_code: i32) -> Check {
        Check { start: String::new(), end: String::new(), exit_code, output: String::new() }
    }

    #[test]
    fn failures_in_a_row_are_counted_as_docker_does() {
        let how = Healthcheck { retries: 2, start_period: 10_000_000_000, ..Healthcheck::default() };
        let (early, late) = (Duration::from_secs(9), Duration::from_secs(10));
        let mut health = Health::begun(None);
        for (exit_code, running, changed, streak) in [
            (1, early, None, 0),
            (1, late, None, 1),
            (-1, late, Some(HealthStatus::Unhealthy), 2),
            (3, late, None, 3),
            (0, late, Some(HealthStatus::Healthy), 0),
            // Once it was well, failures count at any time.
            (1, early, None, 1),
            (1, early, Some(HealthStatus::Unhealthy), 2),
        ] {
            assert_eq!(health.note(check(exit_code), &how, running), changed);
            assert_eq!(health.failing_streak, streak);
        }
        let codes: Vec<i32> = health.log.iter().map(|check| check.exit_code).collect();
        assert_eq!(codes, [-1, 3, 0, 1, 1]);
        let again = Health::begun(Some(health));
        assert_eq!((again.status, again.failing_streak, again.log.len()), (HealthStatus::Starting, 0, 5));
    }

    #[test]
    fn times_are_dockers_where_none_are_said() {
        let none = Healthcheck::default();
        assert_eq!(interval(&none, HealthStatus::Starting, Duration::ZERO), INTERVAL);
        assert_eq!(timeout(&none), TIMEOUT);
        let some = Healthcheck { start_period: 1_000_000_000, interval: 1_000_000, ..none };
        let half = Duration::from_millis(500);
        assert_eq!(interval(&some, HealthStatus::Starting, half), START_INTERVAL);
        assert_eq!(interval(&some, HealthStatus::Healthy, half), Duration::from_millis(1));
        assert_eq!(interval(&some, HealthStatus::Starting, half * 2), Duration::from_millis(1));
    }

    #[test]
    fn what_is_no_check_has_no_command() {
        let words = |test: &[&str]| {
            let test = test.iter().map(|word| (*word).to_owned()).collect();
            command(&Healthcheck { test, ..Healthcheck::default() }, &["sh".to_owned(), "-c".to_owned()])
        };
        assert_eq!(words(&["CMD", "a", "b"]).unwrap(), ["a", "b"]);
        assert_eq!(words(&["CMD-SHELL", "a b"]).unwrap(), ["sh", "-c", "a b"]);
        for none in [&[][..], &["NONE"], &["CMD"], &["a", "b"]] {
            assert_eq!(words(none), None, "{none:?}");
        }
    }
}
