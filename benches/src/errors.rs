//! Errors that name their object.

use std::io;
use std::path::Path;
use std::process::Command;

/// The same error, with the path it is about.
pub fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Runs a program to its end.
///
/// # Errors
/// It cannot be run, or ends with another status than 0: what it said.
pub fn run(command: &mut Command) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| io::Error::other(format!("cannot run {name}: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{name}: {}: {}", output.status, said.trim_end())))
}
