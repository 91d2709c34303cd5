//! Sizes in docker's words: powers of a thousand, three digits that count.

const BINARY_UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// `72.7MB`, as images are listed.
pub fn human(bytes: u64) -> String {
    digits(bytes, 3)
}

/// `1.093GB`, as sums are told.
pub fn human_sum(bytes: u64) -> String {
    digits(bytes, 4)
}

/// `15.57GiB`, as memory is told: powers of 1024.
pub fn binary(bytes: u64) -> String {
    scaled(bytes, 4, 1024.0, &BINARY_UNITS)
}

fn digits(bytes: u64, digits: usize) -> String {
    scaled(bytes, digits, 1000.0, &UNITS)
}

fn scaled(bytes: u64, digits: usize, base: f64, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut units = units.iter().peekable();
    // What rounds to the next unit's one is one of that.
    let most = base - 0.5 / 10_f64.powi(digits as i32 - 3);
    while let Some(unit) = units.next() {
        if value >= most && units.peek().is_some() {
            value /= base;
            continue;
        }
        let before = if value >= 1000.0 {
            4
        } else if value >= 100.0 {
            3
        } else if value >= 10.0 {
            2
        } else {
            1
        };
        let number = format!("{value:.*}", digits.saturating_sub(before));
        let number = match number.contains('.') {
            true => number.trim_end_matches('0').trim_end_matches('.'),
            false => &number,
        };
        return format!("{number}{unit}");
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::{binary, human, human_sum};

    #[test]
    fn as_docker_says_them() {
        for (bytes, said) in [
            (0, "0B"),
            (5, "5B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (72_749_123, "72.7MB"),
            (133_000_000, "133MB"),
            (999_600, "1MB"),
            (1_000_000_000, "1GB"),
            (12_345_678_901_234, "12.3TB"),
        ] {
            assert_eq!(human(bytes), said, "{bytes}");
        }
        assert_eq!(human_sum(1_093_456_000), "1.093GB");
        assert_eq!(human_sum(16_430_000), "16.43MB");
        assert_eq!(human_sum(0), "0B");
        for (bytes, said) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (57_344, "56KiB"),
            (34_456_207, "32.86MiB"),
            (16_717_911_163, "15.57GiB"),
            (1020 << 20, "1020MiB"),
            (1 << 40, "1TiB"),
        ] {
            assert_eq!(binary(bytes), said, "{bytes}");
        }
        assert_eq!(human(u64::MAX), "18.4EB");
    }
}
