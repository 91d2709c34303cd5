//! `--ulimit`.

use crate::bundle::Rlimit;
use crate::failure::{Failure, Result};

const NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `NAME=SOFT[:HARD]`; -1 is no limit.
pub fn parse(text: &str) -> Result<Rlimit> {
    let invalid = || Failure::new(format!("invalid ulimit argument: {text}"));
    let (name, values) = text.split_once('=').ok_or_else(invalid)?;
    if !NAMES.contains(&name) {
        return Err(Failure::new(format!("invalid ulimit type: {name}"))
            .hint(format!("there are {}", NAMES.join(", "))));
    }
    let number = |text: &str| match text {
        "-1" | "unlimited" => Some(u64::MAX),
        digits => digits.parse().ok(),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft).ok_or_else(invalid)?, number(hard).ok_or_else(invalid)?);
    if soft > hard {
        return Err(Failure::new(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    Ok(Rlimit { kind: format!("RLIMIT_{}", name.to_uppercase()), soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_reads_them() {
        let limit = |text| parse(text).map(|limit| (limit.kind, limit.soft, limit.hard)).ok();
        assert_eq!(limit("nofile=10:20"), Some(("RLIMIT_NOFILE".into(), 10, 20)));
        assert_eq!(limit("core=-1"), Some(("RLIMIT_CORE".into(), u64::MAX, u64::MAX)));
        for bad in ["nofile", "nofile=20:10", "what=1", "nofile=x", "nofile=1:2:3"] {
            assert_eq!(limit(bad), None, "{bad}");
        }
    }
}
