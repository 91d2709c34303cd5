//! Amounts as docker's users type them: bytes with a unit, parts of a
//! processor, sets of numbers, rates of a disk.

use std::collections::BTreeSet;

/// `512m`, `1.5g`, `4096`: units are powers of 1024, in either case, with or
/// without `b` or `ib` behind them.
pub fn bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let end = text.rfind(|letter: char| letter.is_ascii_digit() || letter == '.' || letter == ' ');
    let (number, unit) = text.split_at(end.ok_or_else(invalid)? + 1);
    let power = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        unit => return Err(format!("invalid suffix: '{unit}'")),
    };
    let number = number.trim_end();
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let factor = 1_i64 << (10 * power);
    // Whole numbers do not go through a fraction's rounding.
    if let (true, Ok(whole)) = (is_plain, number.parse::<i64>()) {
        return whole.checked_mul(factor).ok_or_else(invalid);
    }
    let value: f64 = number.parse().ok().filter(|_| is_plain).ok_or_else(invalid)?;
    let value = value * factor as f64;
    if value < i64::MAX as f64 { Ok(value as i64) } else { Err(invalid()) }
}

/// The same, and -1 for no limit.
pub fn bytes_or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// Processors in billionths: `1.5`.
pub fn cpus(text: &str) -> Result<i64, String> {
    const DIGITS: usize = 9;
    let invalid = || format!("failed to parse {text} as a rational number");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = text.bytes().any(|byte| byte.is_ascii_digit())
        && whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(invalid());
    }
    let part = part.trim_end_matches('0');
    if part.len() > DIGITS {
        return Err("value is too precise".to_owned());
    }
    let digits = format!("{whole}{part:0<DIGITS$}");
    digits.parse().map_err(|_| invalid())
}

/// `0-2,5`
pub fn set(text: &str) -> Option<BTreeSet<u32>> {
    /// More than any kernel has.
    const MOST: u32 = 8192;
    let mut set = BTreeSet::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        set.extend(first..=last);
    }
    Some(set)
}

/// A disk by its path, and a number for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDisk {
    /// Below /dev.
    pub path: String,
    /// A weight, bytes, or operations.
    pub value: u64,
}

fn on_disk(text: &str) -> Result<(&str, &str), String> {
    match text.split_once(':') {
        Some(("", _)) | None => Err(format!("bad format: {text}")),
        Some((path, _)) if !path.starts_with("/dev/") => Err(format!("bad format for device path: {text}")),
        Some(halves) => Ok(halves),
    }
}

/// `/dev/sda:500`, 10 to 1000; 0 is none.
pub fn weight(text: &str) -> Result<OnDisk, String> {
    let (path, number) = on_disk(text)?;
    match number.parse() {
        Ok(value @ (0 | 10..=1000)) => Ok(OnDisk { path: path.to_owned(), value }),
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

/// `/dev/sda:1mb`
pub fn bytes_a_second(text: &str) -> Result<OnDisk, String> {
    let (path, number) = on_disk(text)?;
    let value = bytes(number).ok().and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(|| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must \
             be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(OnDisk { path: path.to_owned(), value })
}

/// `/dev/sda:1000`
pub fn operations_a_second(text: &str) -> Result<OnDisk, String> {
    let (path, number) = on_disk(text)?;
    let value = number.parse().map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a \
             positive integer"
        )
    })?;
    Ok(OnDisk { path: path.to_owned(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_docker_s() {
        for (text, amount) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32K", 32 << 10),
            ("32kb", 32 << 10),
            ("32 MiB", 32 << 20),
            ("1.5g", 3 << 29),
            (".5k", 512),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
            ("9007199254740993", 9_007_199_254_740_993),
        ] {
            assert_eq!(bytes(text), Ok(amount), "{text}");
        }
        for bad in ["", "m", "-1", "1.2.3", "1e3", "9999999p", "inf", "nan", "1 2"] {
            assert_eq!(bytes(bad), Err(format!("invalid size: '{bad}'")), "{bad}");
        }
        assert_eq!(bytes("32mm"), Err("invalid suffix: 'mm'".into()));
        assert_eq!(bytes_or_unlimited("-1"), Ok(-1));
    }

    #[test]
    fn parts_of_processors_are_exact() {
        for (text, billionths) in
            [("1.5", 1_500_000_000), ("2", 2_000_000_000), (".1", 100_000_000), ("0", 0)]
        {
            assert_eq!(cpus(text), Ok(billionths), "{text}");
        }
        assert_eq!(cpus("1.0000000001"), Err("value is too precise".into()));
        for bad in ["", ".", "x", "-1", "1,5", "1.5.1"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sets_are_the_kernel_s() {
        assert_eq!(set("0-2,5\n"), Some([0, 1, 2, 5].into()));
        assert_eq!(set(""), Some([].into()));
        for bad in ["x", "2-1", "1-", "-1", "0-4000000000"] {
            assert_eq!(set(bad), None, "{bad}");
        }
    }

    #[test]
    fn disks_are_paths_with_a_number() {
        assert_eq!(weight("/dev/sda:500"), Ok(OnDisk { path: "/dev/sda".into(), value: 500 }));
        assert_eq!(bytes_a_second("/dev/sda:1mb"), Ok(OnDisk { path: "/dev/sda".into(), value: 1 << 20 }));
        assert_eq!(operations_a_second("/dev/sda:7").unwrap().value, 7);
        assert_eq!(weight("/dev/sda"), Err("bad format: /dev/sda".into()));
        assert_eq!(weight("sda:5"), Err("bad format for device path: sda:5".into()));
        assert_eq!(weight("/dev/sda:5"), Err("invalid weight for device: /dev/sda:5".into()));
        assert!(bytes_a_second("/dev/sda:-1").is_err() && operations_a_second("/dev/sda:1mb").is_err());
    }
}
