//! One file of a group: the kernel's text, read and written whole.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Writes one value in one call, as the kernel wants it. Never makes the file.
pub fn write(dir: &Path, file: &str, content: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(dir.join(file))?.write_all(content.as_bytes())
}

/// The whole of a file.
pub fn read(dir: &Path, file: &str) -> io::Result<String> {
    fs::read_to_string(dir.join(file))
}

/// A file of one number; `max` is none.
pub fn number(dir: &Path, file: &str) -> io::Result<Option<u64>> {
    let text = read(dir, file)?;
    match text.trim() {
        "max" => Ok(None),
        digits => digits.parse().map(Some).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("not a number: {:?}", text.trim()))
        }),
    }
}

/// The number after a word that begins a line.
pub fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (word, value) = line.split_once(' ')?;
        (word == key).then(|| value.trim().parse().ok()).flatten()
    })
}

/// Whether a list of words has this one.
pub fn lists(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|listed| listed == word)
}

/// Asks again and again, with longer and longer pauses, until it is so; `false`
/// where it has not become so in time.
pub fn wait<E>(longest: Duration, mut so: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if so()? {
            return Ok(true);
        }
        if start.elapsed() >= longest {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole() {
        assert_eq!(keyed("oom 1\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(keyed("total_inactive_file 7\ninactive_file 5\n", "inactive_file"), Some(5));
        assert_eq!(keyed("oom_kill\n", "oom_kill"), None);
        assert!(lists("cpuset cpu io\n", "cpu") && !lists("cpuset io", "cpu"));
    }
}
