//! Containers by what users call them.

use layerstore::store::Store;

use crate::container::{Container, Containers, Record};
use crate::failure::{Failure, Result};
use crate::{output, settle};

/// A container that a user means, and its record as it is at this moment.
pub fn container(store: &Store, text: &str) -> Result<(Container, Record)> {
    let container = Containers::open(store.root())?.find(text)?;
    let record = settle::read(&container)?;
    Ok((container, record))
}

/// Does something to each, says its name as it was typed, and goes on after a
/// failure.
pub fn each(texts: &[String], act: impl Fn(&str) -> Result<()>) -> Result<u8> {
    let mut code = 0;
    for text in texts {
        match act(text) {
            Ok(()) => output::print(&format!("{text}\n"))?,
            Err(failure) => code = code.max(failure.report()),
        }
    }
    Ok(code)
}

/// In docker's words.
pub fn not_running(record: &Record) -> Failure {
    Failure::as_docker(format!("Container {} is not running", record.id))
}
