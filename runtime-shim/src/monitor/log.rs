//! What a container printed, a line of JSON for each of its lines, as docker's
//! json-file driver writes them:
//!
//! ```text
//! {"log":"a line\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}
//! ```
//! A line longer than 16 KiB comes in pieces, and only the last ends in a
//! newline. Bytes that are not text are shown as U+FFFD. A file that has grown
//! to the size asked for becomes `log.1`, that one `log.2`, and so on.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A piece of a line at most, as docker has it.
const PIECE: usize = 16 << 10;

/// One line of the file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line<'l> {
    /// What was printed.
    #[serde(borrow)]
    pub log: std::borrow::Cow<'l, str>,
    /// Where.
    pub stream: Stream,
    /// When, in the words of RFC 3339.
    #[serde(borrow)]
    pub time: std::borrow::Cow<'l, str>,
}

/// Where something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// To stdout, or the terminal.
    Stdout,
    /// To stderr.
    Stderr,
}

/// A log that is written to.
pub struct Log {
    path: PathBuf,
    file: File,
    length: u64,
    /// Bytes of a file at most.
    most: Option<u64>,
    /// Files at most.
    files: u32,
    /// What was printed since the last newline, to each stream.
    open: [Vec<u8>; 2],
}

impl Log {
    /// Opens a log to go on with it.
    pub fn open(path: &Path, most: Option<u64>, files: Option<u32>) -> io::Result<Log> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Log {
            path: path.to_owned(),
            file,
            length,
            most,
            files: files.unwrap_or(1).max(1),
            open: [Vec::new(), Vec::new()],
        })
    }

    /// Notes what was printed.
    pub fn write(&mut self, stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
        let mut text = Vec::new();
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(at + 1);
            self.gather(stream, line, &mut text)?;
            bytes = rest;
        }
        self.gather(stream, bytes, &mut text)?;
        self.append(&text)
    }

    /// Notes what was printed without a newline at the end.
    pub fn finish(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let open = std::mem::take(self.open_line(stream));
            if !open.is_empty() {
                encode(stream, &open, &mut text)?;
            }
        }
        self.append(&text)
    }

    fn open_line(&mut self, stream: Stream) -> &mut Vec<u8> {
        let [out, err] = &mut self.open;
        match stream {
            Stream::Stdout => out,
            Stream::Stderr => err,
        }
    }

    fn gather(&mut self, stream: Stream, mut bytes: &[u8], text: &mut Vec<u8>) -> io::Result<()> {
        let open = self.open_line(stream);
        loop {
            let room = PIECE.saturating_sub(open.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            open.extend_from_slice(now);
            bytes = later;
            let is_whole = open.last() == Some(&b'\n') || open.len() >= PIECE;
            if !is_whole {
                return Ok(());
            }
            encode(stream, open, text)?;
            open.clear();
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if self.length > 0 && self.most.is_some_and(|most| self.length + text.len() as u64 > most) {
            self.rotate()?;
        }
        self.file.write_all(text)?;
        self.length += text.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.files).rev() {
            let from = if number == 1 { self.path.clone() } else { older(&self.path, number - 1) };
            match rename(&from, older(&self.path, number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
        }
        if self.files == 1 {
            std::fs::remove_file(&self.path)?;
        }
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.length = 0;
        Ok(())
    }
}

/// The file before, or so many before.
pub fn older(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn encode(stream: Stream, bytes: &[u8], text: &mut Vec<u8>) -> io::Result<()> {
    let time = jiff::Timestamp::now().to_string();
    let line = Line { log: String::from_utf8_lossy(bytes), stream, time: time.into() };
    serde_json::to_writer(&mut *text, &line)?;
    text.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<(String, Stream)> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| {
                let line: Line<'_> = serde_json::from_str(line).unwrap();
                (line.log.into_owned(), line.stream)
            })
            .collect()
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("runion-log-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn lines_are_kept_whole_and_apart() {
        let dir = scratch("lines");
        let path = dir.join("log");
        let mut log = Log::open(&path, None, None).unwrap();
        log.write(Stream::Stdout, b"one\ntw").unwrap();
        log.write(Stream::Stderr, b"err\n").unwrap();
        log.write(Stream::Stdout, b"o\n\xff\x00").unwrap();
        log.finish().unwrap();
        let out = |text: &str| (text.to_owned(), Stream::Stdout);
        let expected = [out("one\n"), ("err\n".to_owned(), Stream::Stderr), out("two\n"), out("\u{fffd}\0")];
        assert_eq!(lines(&path), expected);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let dir = scratch("long");
        let path = dir.join("log");
        let mut log = Log::open(&path, None, None).unwrap();
        log.write(Stream::Stdout, &[vec![b'x'; 40_000], vec![b'\n']].concat()).unwrap();
        let lengths: Vec<usize> = lines(&path).iter().map(|(text, _)| text.len()).collect();
        assert_eq!(lengths, [PIECE, PIECE, 40_001 - 2 * PIECE]);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn files_are_as_long_and_as_many_as_asked() {
        let dir = scratch("rotate");
        let path = dir.join("log");
        let mut log = Log::open(&path, Some(1000), Some(3)).unwrap();
        for number in 0..100 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes()).unwrap();
        }
        let mut names: Vec<_> =
            std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2"]);
        assert!(std::fs::metadata(older(&path, 1)).unwrap().len() <= 1000);
        assert_eq!(lines(&path).last().unwrap().0, "line 99\n");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
