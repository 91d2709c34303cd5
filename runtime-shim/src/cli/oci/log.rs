//! Where messages go: to stderr, and to the file that the caller named.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use super::Global;
use crate::failure::{Failure, say};

/// A place for messages.
pub struct Log {
    file: Option<PathBuf>,
    is_json: bool,
}

impl Log {
    /// As the caller asked.
    pub fn new(global: &Global) -> Log {
        Log { file: global.log.clone(), is_json: global.log_format == "json" }
    }

    /// Says what went wrong and gives the exit code.
    pub fn report(&self, failure: &Failure) -> u8 {
        let (code, message, _hint) = failure.parts();
        self.write("error", message);
        failure.report();
        code
    }

    /// Says what could not be had. Not on stderr where there is a file: it may
    /// be the container's by then.
    pub fn warn(&self, message: &str) {
        match self.file {
            Some(_) => self.write("warning", message),
            None => say(&format!("runion: warning: {message}")),
        }
    }

    /// One that cannot be written is tolerated: stderr has it too.
    fn write(&self, level: &str, message: &str) {
        let Some(path) = &self.file else { return };
        let time = jiff::Timestamp::now().to_string();
        let line = match self.is_json {
            true => serde_json::json!({ "level": level, "msg": message, "time": time }).to_string(),
            false => format!("time={time:?} level={level} msg={message:?}"),
        };
        let file = File::options().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())).unwrap_or_default();
    }
}
