//! Where a monitor, and a process beside it, says what goes wrong once nobody hears it.

use std::fs::{self, File};

use crate::container::Container;
use crate::failure::say;

/// Words of earlier starts are kept up to so many bytes.
const LONGEST: u64 = 64 << 10;

/// Lets go of the stderr of whoever started the container: from here on there is a file
/// for words. Where there cannot be one, they are lost: whoever waits for the end of
/// what a start says must not wait for the container's.
pub fn to_file(container: &Container) {
    let path = container.dir().join("monitor.log");
    // It tells of the last start at least, and does not grow from one to the next.
    let turned = match fs::metadata(&path).is_ok_and(|file| file.len() > LONGEST) {
        true => fs::rename(&path, path.with_extension("log.1")),
        false => Ok(()),
    };
    let file = File::options().create(true).append(true).open(&path);
    let opened = file.and_then(|file| Ok(rustix::stdio::dup2_stderr(&file)?));
    let is_lost = opened.is_err();
    for (done, what) in [(turned, "turn over"), (opened, "open")] {
        if let Err(error) = done {
            say(&format!("runion: WARNING: cannot {what} {}: {error}", path.display()));
        }
    }
    if is_lost && let Ok(null) = File::options().write(true).open("/dev/null") {
        // It keeps what it has.
        rustix::stdio::dup2_stderr(&null).unwrap_or_default();
    }
}
