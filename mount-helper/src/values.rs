//! Values of options: words, numbers, directories, id mappings. The sentence
//! each returns for what is none completes "option NAME=VALUE: …".

use std::path::{Path, PathBuf};

use unionfs::config::IdRange;

/// A path that is not empty.
pub fn directory(path: PathBuf) -> Result<PathBuf, String> {
    match path == Path::new("") {
        true => Err("expected a directory".into()),
        false => Ok(path),
    }
}

/// One of a few words, or a sentence that lists them.
pub fn word<T: Copy>(value: &[u8], words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| word.as_bytes() == value);
    found.map(|&(_, meaning)| meaning).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|&(word, _)| word).collect();
        match names.split_last() {
            Some((last, first)) if !first.is_empty() => format!("expected {} or {last}", first.join(", ")),
            _ => format!("expected {}", names.concat()),
        }
    })
}

/// A value that is text.
pub fn text(value: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(value).map_err(|_| "expected text".into())
}

/// A number of 32 bits.
pub fn number(value: &[u8]) -> Result<u32, String> {
    text(value)?.parse().map_err(|_| "expected a number below 4294967296".into())
}

/// `DISK:SHOWN:LENGTH[:DISK:SHOWN:LENGTH…]`, fuse-overlayfs's order: the id on
/// disk first. podman puts a colon before it all; its manual puts commas
/// between the triples.
pub fn mapping(value: &[u8]) -> Result<Vec<IdRange>, String> {
    let parts = value.split(|b| matches!(b, b':' | b',' | b'\\')).filter(|part| !part.is_empty());
    let numbers = parts.map(number).collect::<Result<Vec<u32>, String>>()?;
    let triples = numbers.chunks_exact(3);
    if numbers.is_empty() || !triples.remainder().is_empty() {
        return Err("expected triples ID-ON-DISK:ID-SHOWN:LENGTH".into());
    }
    let ranges: Vec<IdRange> = triples
        .filter_map(|triple| match *triple {
            [outside, inside, len] => Some(IdRange { inside, outside, len }),
            _ => None,
        })
        .collect();
    let fits = |start: u32, len: u32| u64::from(start) + u64::from(len) <= 1 << 32;
    match ranges
        .iter()
        .all(|range| range.len > 0 && fits(range.inside, range.len) && fits(range.outside, range.len))
    {
        true => Ok(ranges),
        false => Err("a range is empty or goes beyond 32 bits".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_in_podmans_and_in_the_manuals_spelling() {
        let one = IdRange { inside: 1, outside: 0, len: 1000 };
        let two = IdRange { inside: 5000, outside: 1000, len: 7 };
        for value in ["0:1:1000:1000:5000:7", ":0:1:1000:1000:5000:7", "0:1:1000\\,1000:5000:7"] {
            assert_eq!(mapping(value.as_bytes()), Ok(vec![one, two]), "{value}");
        }
        assert_eq!(mapping(b"0:0:4294967295").map(|map| map.len()), Ok(1));
        for bad in ["", ":", "0:1", "0:1:2:3", "a:b:c", "0:0:0", "4294967295:0:2", "0:-1:2"] {
            assert!(mapping(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
