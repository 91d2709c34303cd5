//! Asking before something is gone.

use std::io::{BufRead, Write};

use crate::failure::{Failure, Result};
use crate::output;

/// Whether the user wants `what` removed.
pub fn whether(what: &str) -> Result<bool> {
    let mut screen = std::io::stdout();
    write!(screen, "WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] ")
        .and_then(|()| screen.flush())
        .map_err(output::unwritten)?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::failed(format!("cannot ask: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
