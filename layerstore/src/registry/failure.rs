//! Answers that are errors, in words.
//!
//! What a server says is shown without control characters and cut short: it
//! goes to a terminal.

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use ureq::Body;
use ureq::http::{Response, header};

use crate::error::{Error, Kind};

/// How much of an error's body is read.
const READ_LIMIT: u64 = 64 << 10;
/// How much of it is shown.
const SHOWN_LIMIT: usize = 300;

/// An answer that is an error.
pub(super) struct Failure {
    pub(super) status: u16,
    /// What the server says about it; empty if nothing.
    pub(super) words: String,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    errors: Vec<Item>,
    /// Token servers and proxies.
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Failure {
    pub(super) fn read(response: Response<Body>) -> Failure {
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        let read = response.into_body().into_reader().take(READ_LIMIT).read_to_end(&mut bytes);
        // The status is the error; that its explanation got lost is not another.
        let words = read.map(|_| words(&bytes)).unwrap_or_default();
        Failure { status, words }
    }

    /// As an error of doing something with an object.
    pub(super) fn error(&self, action: &str) -> Error {
        let kind = match self.status {
            401 | 403 => Kind::Denied,
            404 => Kind::NotFound,
            400 | 405..=407 | 409..=417 => Kind::Invalid,
            _ => Kind::System,
        };
        let said = if self.words.is_empty() { String::new() } else { format!(": {}", self.words) };
        Error::new(kind, format!("{action}: the registry answers {}{said}", status_words(self.status)))
    }
}

fn words(bytes: &[u8]) -> String {
    let words = match serde_json::from_slice::<Document>(bytes) {
        Ok(Document { errors, details, message }) if errors.is_empty() => {
            details.or(message).unwrap_or_default()
        }
        Ok(Document { errors, .. }) => {
            let each = errors.iter().take(3).map(|Item { code, message }| match message.is_empty() {
                true => code.clone(),
                false if code.is_empty() => message.clone(),
                false => format!("{message} ({code})"),
            });
            each.collect::<Vec<_>>().join("; ")
        }
        // A page for a browser says nothing here.
        Err(_) if bytes.trim_ascii_start().starts_with(b"<") => String::new(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    };
    printable(&words)
}

/// On one line, without control characters, cut short.
pub(super) fn printable(words: &str) -> String {
    let visible = words.chars().map(|c| if c.is_control() || is_format(c) { ' ' } else { c });
    let text: String = visible.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(SHOWN_LIMIT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Characters that turn the direction of what follows.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn status_words(status: u16) -> String {
    let reason = ureq::http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    reason.map_or(status.to_string(), |reason| format!("{status} ({})", reason.to_ascii_lowercase()))
}

/// Whether asking again may help.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// How long the server wants to be left alone, in seconds; dates are not read.
pub(super) fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_is_shown() {
        for (body, expected) in [
            (r#"{"errors":[{"code":"DENIED","message":"no access","detail":{}}]}"#, "no access (DENIED)"),
            (r#"{"errors":[{"code":"A"},{"message":"b"}]}"#, "A; b"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            (r#"{"message":"later"}"#, "later"),
            ("{}", ""),
            ("<html><body>busy</body></html>", ""),
            ("plain \u{1b}[31mwords\r\n\u{202e}more", "plain [31mwords more"),
        ] {
            assert_eq!(words(body.as_bytes()), expected, "{body}");
        }
        assert!(words("a".repeat(1 << 16).as_bytes()).len() < 310);
    }
}
