//! Variables, and files of them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::bundle;
use crate::failure::{Context, Failure, OURS, Result};

/// Adds variables of files, and then others: `NAME=value`, or a name alone for
/// the caller's own.
pub fn add(env: &mut Vec<String>, files: &[PathBuf], more: &[String]) -> Result<()> {
    let lines = files.iter().map(|path| lines(path)).collect::<Result<Vec<_>>>()?;
    for name in lines.iter().flatten().filter_map(|pair| pair.split('=').next()) {
        if name.contains(char::is_whitespace) {
            let why = format!("poorly formatted environment: variable '{name}' contains whitespaces");
            return Err(Failure::as_docker(why).code(OURS));
        }
    }
    for pair in lines.iter().flatten().chain(more) {
        let name = pair.split('=').next().unwrap_or_default();
        if name.is_empty() || pair.contains('\0') {
            return Err(Failure::new(format!("invalid environment variable: {pair:?}")));
        }
        match pair.contains('=') {
            true => bundle::set(env, pair),
            // A name alone has the caller's value, or there is no such variable.
            false => match std::env::var_os(pair) {
                Some(value) => bundle::set(env, &format!("{pair}={}", text(pair, &value)?)),
                None => env.retain(|known| known.split('=').next() != Some(pair)),
            },
        }
    }
    Ok(())
}

/// Lines of a file, but for empty ones and comments.
pub fn lines(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).context(|| format!("open {}", path.display()))?;
    let lines = text.lines().map(|line| line.strip_prefix('\u{feff}').unwrap_or(line).trim_start());
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

/// A bundle is JSON, and that is text.
fn text(name: &str, value: &OsStr) -> Result<String> {
    let text = std::str::from_utf8(value.as_bytes());
    text.map(str::to_owned).context(|| format!("cannot pass the variable {name} on"))
}
