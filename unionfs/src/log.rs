//! What the daemon tells its log: standard error, one line each, at the edge
//! where an error is answered.

use std::fmt;

/// Something was tolerated that a person may want to know.
pub fn warn(message: fmt::Arguments<'_>) {
    eprintln!("runionfs: warning: {message}");
}
