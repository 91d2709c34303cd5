//! What commands print: rows as a table, as JSON, or by a template.
//!
//! | module | what |
//! |---|---|
//! | [`template`] | Go's templates, over JSON |
//! | [`table`] | columns |
//! | [`screen`] | what a terminal must not obey |
//! | [`size`], [`time`] | numbers in docker's words |

pub mod progress;
pub mod screen;
pub mod size;
pub mod table;
pub mod template;
pub mod time;

use std::io::{IsTerminal, Write};

use serde_json::Value;

use crate::failure::{Failure, Result};
use template::Template;

/// How rows are printed.
pub enum Format {
    /// In columns, below their headers.
    Table(Template),
    /// Each by itself.
    Rows(Template),
}

impl Format {
    /// What `--format` says; without it, the command's own table.
    pub fn parse(given: Option<&str>, own: &str) -> Result<Format> {
        match given.map(str::trim) {
            None | Some("" | "table") => Ok(Format::Table(Template::parse(own)?)),
            Some("json") => Ok(Format::Rows(Template::parse("{{json .}}")?)),
            Some(text) => match text.strip_prefix("table ") {
                Some(columns) => Ok(Format::Table(Template::parse(columns.trim())?)),
                None => Ok(Format::Rows(Template::parse(text)?)),
            },
        }
    }

    /// Each row by a template of ours.
    pub fn rows(template: &str) -> Result<Format> {
        Ok(Format::Rows(Template::parse(template)?))
    }

    /// The rows as text; `headers` are what each field's column is called.
    pub fn text(&self, headers: &[(&str, &str)], rows: &[Value]) -> Result<String> {
        match self {
            Format::Table(template) => {
                let headers =
                    headers.iter().map(|(field, header)| ((*field).to_owned(), Value::from(*header)));
                let header = Value::Object(headers.collect());
                let lines = std::iter::once(&header).chain(rows).map(|row| template.render(row));
                Ok(table::aligned(&lines.collect::<Result<Vec<_>>>()?))
            }
            Format::Rows(template) => rows.iter().map(|row| Ok(template.render(row)? + "\n")).collect(),
        }
    }

    /// Prints the rows.
    pub fn print(&self, headers: &[(&str, &str)], rows: &[Value]) -> Result<()> {
        print(&self.text(headers, rows)?)
    }
}

/// Text to stdout.
pub fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// Names of files to stdout: they need not be text.
pub fn print_bytes(bytes: &[u8]) -> Result<()> {
    let shown = if is_screen() { screen::harmless(bytes) } else { bytes.into() };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&shown).and_then(|()| stdout.flush()).map_err(unwritten)
}

/// Bytes that a screen is to obey, to stdout.
pub fn steer(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(unwritten)
}

/// Why stdout could not be written to. Whoever read it may have had enough:
/// that needs no words.
pub fn unwritten(error: std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::silent(),
        _ => Failure::failed(format!("cannot write to stdout: {error}")),
    }
}

/// Whether stdout is a screen, to which no archive goes.
pub fn is_screen() -> bool {
    std::io::stdout().is_terminal()
}

/// The first so many characters, the last of them `…` if there were more.
pub fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}
