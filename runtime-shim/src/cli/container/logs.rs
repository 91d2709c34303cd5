//! `runion logs`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use layerstore::store::Store;

use super::find;
use crate::container::Container;
use crate::failure::{Context, Failure, Result};
use crate::monitor::log::{Line, Stream, older};
use crate::output::{self, time};

/// Print what a container printed
#[derive(Args)]
pub struct Logs {
    /// Go on until it ends
    #[arg(long, short)]
    follow: bool,

    /// Print so many lines of the end only, or all
    #[arg(long, short = 'n', value_name = "LINES", default_value = "all")]
    tail: String,

    /// Print when each line was printed
    #[arg(long, short)]
    timestamps: bool,

    /// Only what was printed since: 10m, 2024-05-06T07:08:09, seconds since 1970
    #[arg(long, value_name = "MOMENT")]
    since: Option<String>,

    /// Only what was printed until then
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,

    /// Its name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// How often a log that is followed is looked at.
const GLANCE: Duration = Duration::from_millis(50);

impl Logs {
    /// Prints them.
    pub fn run(self, store: &Store) -> Result<u8> {
        let (container, _) = find::container(store, &self.container)?;
        let now = time::now();
        let moment = |text: &Option<String>| text.as_deref().map(|text| time::moment(text, now)).transpose();
        let printer =
            Printer { timestamps: self.timestamps, since: moment(&self.since)?, until: moment(&self.until)? };
        let tail = match self.tail.as_str() {
            "all" | "-1" => None,
            text => Some(
                text.parse::<usize>()
                    .map_err(|_| Failure::failed(format!("invalid number of lines: {text:?}")))?,
            ),
        };
        let is_alive = container.is_alive().unwrap_or(false);
        let last = printer.print_all(&container.log(), tail)?;
        match self.follow && is_alive {
            true => printer.follow(&container, last),
            false => Ok(()),
        }?;
        Ok(0)
    }
}

struct Printer {
    timestamps: bool,
    since: Option<i64>,
    until: Option<i64>,
}

impl Printer {
    /// Prints all files, the oldest first, or the last so many lines; gives the
    /// youngest, read to its end.
    fn print_all(&self, path: &Path, tail: Option<usize>) -> Result<Option<Lines>> {
        let older = (1..).map(|number| older(path, number)).take_while(|path| path.exists());
        let mut files: Vec<PathBuf> = older.collect();
        files.reverse();
        files.push(path.to_owned());
        let mut kept = std::collections::VecDeque::new();
        let mut last = None;
        for file in &files {
            let Some(mut lines) = Lines::open(file)? else { continue };
            while let Some(line) = lines.next()? {
                if !self.is_meant(&line) {
                    continue;
                }
                match tail {
                    None => self.print(&line)?,
                    Some(0) => {}
                    Some(most) => {
                        if kept.len() == most {
                            kept.pop_front();
                        }
                        kept.push_back(line);
                    }
                }
            }
            last = Some(lines);
        }
        kept.iter().try_for_each(|line| self.print(line))?;
        Ok(last)
    }

    fn follow(&self, container: &Container, last: Option<Lines>) -> Result<()> {
        let mut lines = last;
        loop {
            // Asked before the reading, so that the last words are read.
            let is_alive = container.is_alive().unwrap_or(false);
            match &mut lines {
                None => lines = Lines::open(&container.log())?,
                Some(open) => {
                    while let Some(line) = open.next()? {
                        if self.is_meant(&line) {
                            self.print(&line)?;
                        }
                    }
                    if open.was_rotated(&container.log()) {
                        lines = Lines::open(&container.log())?;
                        continue;
                    }
                }
            }
            if !is_alive {
                return Ok(());
            }
            std::thread::sleep(GLANCE);
        }
    }

    fn is_meant(&self, line: &Line<'_>) -> bool {
        let at = time::parse(Some(&line.time));
        let after = self.since.is_none_or(|since| at.is_some_and(|at| at >= since));
        after && self.until.is_none_or(|until| at.is_some_and(|at| at <= until))
    }

    fn print(&self, line: &Line<'_>) -> Result<()> {
        let mut text = String::new();
        if self.timestamps {
            text.push_str(&line.time);
            text.push(' ');
        }
        text.push_str(&line.log);
        match line.stream {
            Stream::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(output::unwritten)
            }
            Stream::Stderr => std::io::stderr().write_all(text.as_bytes()).map_err(output::unwritten),
        }
    }
}

/// Whole lines of a file that may still grow.
struct Lines {
    file: BufReader<File>,
    open: Vec<u8>,
}

impl Lines {
    fn open(path: &Path) -> Result<Option<Lines>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Lines { file: BufReader::new(file), open: Vec::new() })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(|| format!("cannot read {}", path.display())),
        }
    }

    /// The next line, if it is whole. One that is none is skipped.
    fn next(&mut self) -> Result<Option<Line<'static>>> {
        loop {
            self.file.read_until(b'\n', &mut self.open).context(|| "cannot read the log".to_owned())?;
            if self.open.last() != Some(&b'\n') {
                return Ok(None);
            }
            let line = std::mem::take(&mut self.open);
            if let Ok(line) = serde_json::from_slice::<Line<'_>>(&line) {
                return Ok(Some(Line {
                    log: line.log.into_owned().into(),
                    stream: line.stream,
                    time: line.time.into_owned().into(),
                }));
            }
        }
    }

    /// Whether the name is another file's by now.
    fn was_rotated(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        match (self.file.get_ref().metadata(), std::fs::metadata(path)) {
            (Ok(ours), Ok(now)) => (ours.dev(), ours.ino()) != (now.dev(), now.ino()),
            _ => false,
        }
    }
}
