//! Sizes in docker's words: powers of a thousand, three digits that count.

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// `72.7MB`, as images are listed.
pub fn human(bytes: u64) -> String {
    digits(bytes, 3)
}

/// `1.093GB`, as sums are told.
pub fn human_sum(bytes: u64) -> String {
    digits(bytes, 4)
}

fn digits(bytes: u64, digits: usize) -> String {
    let mut value = bytes as f64;
    let mut units = UNITS.iter().peekable();
    // What rounds to a thousand is one of the next unit.
    let most = 1000.0 - 0.5 / 10_f64.powi(digits as i32 - 3);
    while let Some(unit) = units.next() {
        if value >= most && units.peek().is_some() {
            value /= 1000.0;
            continue;
        }
        let before = if value >= 100.0 {
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
    use super::{human, human_sum};

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
        assert_eq!(human(u64::MAX), "18.4EB");
    }
}
