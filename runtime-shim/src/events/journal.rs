//! The files that events are in: written to their end under a lock, turned over
//! when they have grown, followed by looking at them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::Event;
use crate::failure::{Context, Result};

/// A file that has grown to this is turned over; there are two of them.
const MOST: u64 = 4 << 20;
/// How long a writer waits for another at most. A line is one write, and the
/// kernel appends it whole with the lock or without.
const PATIENCE: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

fn current(store: &Path) -> PathBuf {
    store.join("events")
}

fn older(store: &Path) -> PathBuf {
    store.join("events.1")
}

/// Appends an event.
pub fn append(store: &Path, event: &Event) -> io::Result<()> {
    append_within(store, event, MOST)
}

fn append_within(store: &Path, event: &Event, most: u64) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let lock = open_lock(store)?;
    let is_locked =
        (0..PATIENCE).any(|_attempt| match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => true,
            Err(_busy) => {
                std::thread::sleep(PAUSE);
                false
            }
        });
    let path = current(store);
    if is_locked && fs::metadata(&path).is_ok_and(|stat| stat.len() >= most) {
        fs::rename(&path, older(store))?;
    }
    File::options().create(true).append(true).mode(0o600).open(&path)?.write_all(&line)
}

fn open_lock(store: &Path) -> io::Result<File> {
    let path = store.join("events.lock");
    File::options().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Reads events, the oldest first, and goes on with those that come.
pub struct Reader {
    store: PathBuf,
    /// Files to read, the oldest last; the first is where new ones come.
    files: Vec<File>,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Reader {
    /// Begins with the oldest that is known.
    pub fn open(store: &Path) -> Result<Reader> {
        let context = || format!("cannot read the events of {}", store.display());
        let lock = open_lock(store).context(context)?;
        // Nobody turns the files over between the two.
        flock(&lock, FlockOperation::LockShared).context(context)?;
        let mut files = Vec::new();
        for path in [current(store), older(store)] {
            files.extend(present(&path).context(context)?);
        }
        Ok(Reader { store: store.to_owned(), files, rest: Vec::new() })
    }

    /// What there is since the last call.
    pub fn read(&mut self) -> Result<Vec<Event>> {
        let store = self.store.clone();
        let context = || format!("cannot read the events of {}", store.display());
        loop {
            if let Some(file) = self.files.last_mut() {
                file.read_to_end(&mut self.rest).context(context)?;
            }
            if self.files.len() > 1 {
                self.files.pop();
                continue;
            }
            // Looked at after the end was read: what came between the two is in
            // the file that is held, and read by the next turn.
            match self.successor().context(context)? {
                Some(next) => self.files.insert(0, next),
                None => break,
            }
        }
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let lines: Vec<u8> = self.rest.drain(..=end).collect();
        let lines = lines.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// The file that new events come to, if it is another one than is held.
    fn successor(&self) -> io::Result<Option<File>> {
        let Some(next) = present(&current(&self.store))? else { return Ok(None) };
        let stat = next.metadata()?;
        let is_held = match self.files.first() {
            Some(held) => {
                let held = held.metadata()?;
                (held.dev(), held.ino()) == (stat.dev(), stat.ino())
            }
            None => false,
        };
        Ok((!is_held).then_some(next))
    }
}

fn present(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Actor, Kind};
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("runion-events-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn event(number: i64) -> Event {
        Event {
            status: String::new(),
            id: String::new(),
            from: String::new(),
            kind: Kind::Volume,
            action: "create".to_owned(),
            actor: Actor { id: format!("v{number}"), ..Actor::default() },
            scope: "local".to_owned(),
            time: number,
            time_nano: number * 1_000_000_000,
        }
    }

    fn times(events: &[Event]) -> Vec<i64> {
        events.iter().map(|event| event.time).collect()
    }

    #[test]
    fn events_are_followed_over_files_that_are_turned_over() {
        let scratch = Scratch::new("turned");
        let mut early = Reader::open(&scratch.0).unwrap();
        assert_eq!(early.read().unwrap(), []);
        let one = serde_json::to_vec(&event(1)).unwrap().len() as u64 + 1;
        for number in 1..=3 {
            append_within(&scratch.0, &event(number), 2 * one).unwrap();
        }
        assert!(older(&scratch.0).exists(), "two fill a file");
        // What is in the older file when one begins to read is read.
        assert_eq!(times(&Reader::open(&scratch.0).unwrap().read().unwrap()), [1, 2, 3]);
        // Who began before there was any file finds the one that is there now.
        assert_eq!(times(&early.read().unwrap()), [3]);
        append_within(&scratch.0, &event(4), 2 * one).unwrap();
        append_within(&scratch.0, &event(5), 2 * one).unwrap();
        assert_eq!(times(&early.read().unwrap()), [4, 5], "the end of the held file, then the new one");
        assert_eq!(early.read().unwrap(), []);
    }

    #[test]
    fn what_is_no_event_is_skipped_and_half_a_line_is_waited_for() {
        let scratch = Scratch::new("half");
        let whole = serde_json::to_vec(&event(7)).unwrap();
        let (begin, end) = whole.split_at(10);
        let mut file = File::options().create(true).append(true).open(current(&scratch.0)).unwrap();
        file.write_all(b"no event\n\n").unwrap();
        file.write_all(begin).unwrap();
        let mut reader = Reader::open(&scratch.0).unwrap();
        assert_eq!(reader.read().unwrap(), []);
        file.write_all(end).unwrap();
        file.write_all(b"\n").unwrap();
        assert_eq!(times(&reader.read().unwrap()), [7]);
    }

    #[test]
    fn a_lock_that_is_held_delays_and_does_not_stop() {
        let scratch = Scratch::new("held");
        let lock = open_lock(&scratch.0).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        append(&scratch.0, &event(1)).unwrap();
        drop(lock);
        assert_eq!(times(&Reader::open(&scratch.0).unwrap().read().unwrap()), [1]);
    }
}
