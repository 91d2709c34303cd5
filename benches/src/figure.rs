//! What a run measures: figures with units, and the arithmetic over rounds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Seconds for the whole; less is better.
    Seconds,
    /// Seconds for one of many operations; less is better.
    SecondsEach,
    /// Bytes a second, shown as MiB/s; more is better.
    BytesPerSecond,
    /// Operations a second; more is better.
    OperationsPerSecond,
    /// Bytes; less is better.
    Bytes,
}

impl Unit {
    /// How many times as dear `value` is as `reference`: above 1 is worse,
    /// whatever the unit. `None` where there is nothing to divide by.
    pub fn ratio(self, value: f64, reference: f64) -> Option<f64> {
        let (dear, cheap) = match self {
            Unit::Seconds | Unit::SecondsEach | Unit::Bytes => (value, reference),
            Unit::BytesPerSecond | Unit::OperationsPerSecond => (reference, value),
        };
        (dear > 0.0 && cheap > 0.0).then(|| dear / cheap)
    }

    /// The unit in which a value of this size is shown, and how many of it one
    /// of ours is.
    pub fn shown(self, value: f64) -> (&'static str, f64) {
        let mebi = 1.0 / f64::from(1 << 20);
        match self {
            Unit::Seconds | Unit::SecondsEach if value < 1e-3 => ("µs", 1e6),
            Unit::Seconds | Unit::SecondsEach if value < 1.0 => ("ms", 1e3),
            Unit::Seconds | Unit::SecondsEach => ("s", 1.0),
            Unit::BytesPerSecond => ("MiB/s", mebi),
            Unit::OperationsPerSecond => ("op/s", 1.0),
            Unit::Bytes if value * mebi < 1.0 => ("B", 1.0),
            Unit::Bytes => ("MiB", mebi),
        }
    }
}

/// Three significant digits, without an exponent.
pub fn digits(value: f64) -> String {
    match value.abs() {
        size if size == 0.0 || size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size => {
            let zeros = (-size.log10()).floor().max(0.0) as usize;
            format!("{value:.*}", zeros + 3)
        }
    }
}

/// One measured number of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Which part of the workload: `cold`, `warm`, …
    pub name: String,
    /// In the unit's terms.
    pub value: f64,
    /// What it counts.
    pub unit: Unit,
    /// Operations done meanwhile, for requests per operation.
    pub operations: u64,
    /// Requests served meanwhile, by opcode; empty where nobody counts.
    pub requests: BTreeMap<String, u64>,
}

/// What the daemons used until the unmount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// User and system time, seconds.
    pub cpu: f64,
    /// Resident memory at the end, bytes.
    pub resident: u64,
    /// The most that was ever resident, bytes.
    pub peak: u64,
}

/// Median, smallest and greatest of several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one; the mean of the middle two of an even number.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = match sorted.len() % 2 {
            0 => (sorted.get(middle - 1)? + upper) / 2.0,
            _ => upper,
        };
        Some(Spread { median, min, max })
    }
}

impl Spread {
    /// The median with its unit, and the extremes in the same unit.
    pub fn shown(&self, unit: Unit) -> (String, String) {
        let (name, factor) = unit.shown(self.median);
        let extremes = format!("{}..{}", digits(self.min * factor), digits(self.max * factor));
        (format!("{} {name}", digits(self.median * factor)), extremes)
    }
}

/// The value below which `percent` of the sorted values lie.
pub fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let index = (sorted.len() * percent / 100).min(sorted.len().checked_sub(1)?);
    sorted.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_ratio_above_one_is_always_worse() {
        assert_eq!(Unit::Seconds.ratio(3.0, 2.0), Some(1.5));
        assert_eq!(Unit::BytesPerSecond.ratio(50.0, 100.0), Some(2.0));
        assert_eq!(Unit::Bytes.ratio(1.0, 0.0), None);
    }

    #[test]
    fn figures_have_three_digits() {
        let shown: Vec<String> =
            [1234.5, 12.34, 1.234, 0.1234, 0.00012345, 0.0].iter().map(|v| digits(*v)).collect();
        assert_eq!(shown, ["1234", "12.3", "1.23", "0.123", "0.000123", "0"]);
    }

    #[test]
    fn a_spread_is_shown_in_the_unit_of_its_median() {
        let spread = Spread { median: 1.5e-3, min: 0.5e-3, max: 2.0 };
        assert_eq!(spread.shown(Unit::Seconds), ("1.50 ms".to_owned(), "0.500..2000".to_owned()));
        let same = |value| Spread { median: value, min: value, max: value };
        assert_eq!(same(12.5e-6).shown(Unit::SecondsEach).0, "12.5 µs");
        assert_eq!(same(f64::from(3 << 20)).shown(Unit::BytesPerSecond).0, "3.00 MiB/s");
        assert_eq!(same(350.0).shown(Unit::Bytes).0, "350 B");
    }

    #[test]
    fn percentiles_stay_inside() {
        let sorted: Vec<f64> = (0..200).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 50), Some(100.0));
        assert_eq!(percentile(&sorted, 99), Some(198.0));
        assert_eq!(percentile(&sorted[..1], 99), Some(0.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
