//! Asking before something is gone.

use std::io::{BufRead, Write};

use crate::failure::{Failure, Result};
use crate::output;

/// Whether the user wants `what` removed.
pub fn whether(what: &str) -> Result<bool> {
    in_words(&format!("WARNING! This will remove {what}."))
}

/// Whether the user wants all of these removed.
pub fn whether_all(what: &[&str]) -> Result<bool> {
    let lines: String = what.iter().map(|what| format!("  - {what}\n")).collect();
    in_words(&format!("WARNING! This will remove:\n{lines}"))
}

fn in_words(warning: &str) -> Result<bool> {
    let mut screen = std::io::stdout();
    write!(screen, "{warning}\nAre you sure you want to continue? [y/N] ")
        .and_then(|()| screen.flush())
        .map_err(output::unwritten)?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::failed(format!("cannot ask: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
