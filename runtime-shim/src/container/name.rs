//! Names of containers: which are allowed, and ones for those who choose none.

use crate::failure::{Context, Failure, OURS, Result};
use crate::random;

/// Whether docker would take this as the name of a container or a volume: two
/// characters at least, a file's name at most.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let more = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    first && more && (2..=200).contains(&text.len())
}

/// Refuses what is none.
pub fn check(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    Err(Failure::as_docker(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    ))
    .code(OURS))
}

const LEFT: [&str; 48] = [
    "amber", "bold", "brisk", "bright", "calm", "clear", "clever", "cool", "crisp", "daring", "deft",
    "eager", "early", "fair", "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand",
    "happy", "hardy", "honest", "humble", "jolly", "keen", "kind", "light", "lively", "lucid", "mellow",
    "merry", "mild", "neat", "nimble", "noble", "patient", "plain", "proud", "quick", "quiet", "ready",
    "serene", "sharp", "steady", "warm",
];

const RIGHT: [&str; 48] = [
    "acorn", "alder", "anchor", "ash", "aspen", "badger", "beacon", "beech", "birch", "bramble", "brook",
    "cedar", "clover", "comet", "coral", "cove", "crane", "dune", "elm", "falcon", "fern", "finch", "fjord",
    "glen", "harbor", "hazel", "heron", "holly", "ibis", "juniper", "kestrel", "lagoon", "larch", "lark",
    "linden", "maple", "marten", "meadow", "osprey", "otter", "pine", "plover", "reed", "robin", "rowan",
    "sorrel", "thrush", "willow",
];

/// Two words at random; from the third attempt on with a number.
pub fn random(attempt: u32) -> Result<String> {
    let [left, right, high, low] = random::bytes().context(|| "cannot make up a name".to_owned())?;
    let pick = |words: &[&'static str], byte: u8| {
        words.get(usize::from(byte) % words.len().max(1)).copied().unwrap_or("plain")
    };
    let name = format!("{}_{}", pick(&LEFT, left), pick(&RIGHT, right));
    Ok(if attempt < 2 { name } else { format!("{name}{}", u16::from_be_bytes([high, low])) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_docker_takes_them() {
        for good in ["ab", "web-1", "a.b_c", "0x"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", ".a", "a/b", "a b", "ä1", "..", &"x".repeat(201)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn random_names_are_names() {
        for attempt in 0..5 {
            check(&random(attempt).unwrap()).unwrap();
        }
    }
}
