//! What the owner of a file may do whatever its mode says, and root does
//! without asking: a daemon without privilege meets its own read-only files
//! (mode 0444) and directories (0555) when it marks or fills them.

use rustix::fs::FileType;
use rustix::io::{Errno, Result};

use super::at::{self, Target};

/// Calls `call`, and once more with the right to write `target` if the first
/// was refused for want of it. The mode is put back, whatever comes of it.
///
/// # Errors
/// Those of `call`; `EACCES` where the right was not what it wanted, or is not
/// ours to take.
pub fn despite_mode<T>(target: Target<'_>, call: impl Fn() -> Result<T>) -> Result<T> {
    match call() {
        Err(Errno::ACCESS) => {}
        result => return result,
    }
    let stat = at::stat(target)?;
    let needed = if stat.kind() == FileType::Directory { 0o300 } else { 0o200 };
    if stat.mode & needed == needed || at::chmod(target, stat.mode | needed).is_err() {
        return Err(Errno::ACCESS);
    }
    let result = call();
    at::chmod(target, stat.mode)?;
    result
}
