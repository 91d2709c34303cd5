//! A terminal of the container's own: out of its /dev/pts, which is whatever
//! the bundle mounted there, and so is verified before it is used.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, fchmod, fstat, fstatfs, major, minor};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::filesystems::{attach, clone_of};
use super::options::Depth;
use super::target::{self, Links};
use crate::bundle::ConsoleSize;
use crate::failure::{Context, Failure, Result};

/// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
const DEVPTS: i64 = 0x1cd1;

/// Both ends.
pub struct Terminal {
    /// Whoever holds it sees what is written and types what is read.
    pub master: OwnedFd,
    /// What the command has.
    pub slave: OwnedFd,
}

/// Where a terminal is shown beside its name in /dev/pts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// As /dev/console, too: the first process's.
    Shown,
    /// Nowhere.
    Hidden,
}

/// Makes one in the container.
pub fn make(root: BorrowedFd<'_>, size: Option<ConsoleSize>, console: Console) -> Result<Terminal> {
    let context = || "cannot make a terminal in the container".to_string();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    // By O_PATH first: opening what only bears the name might do something.
    let node = target::open(root, Path::new("dev/pts/ptmx"), OFlags::PATH, Links::None).context(context)?;
    let stat = fstat(&node).context(context)?;
    let is_devpts = fstatfs(&node).context(context)?.f_type == DEVPTS;
    if !is_devpts || (major(stat.st_rdev), minor(stat.st_rdev)) != (5, 2) {
        return Err(Failure::new(format!("{}: its /dev/pts is not one of terminals", context())));
    }
    let master = target::open(root, Path::new("dev/pts/ptmx"), flags, Links::None).context(context)?;
    let opened = fstat(&master).context(context)?;
    if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(Failure::new(format!("{}: its /dev/pts changes", context())));
    }
    let flags = rustix::fs::fcntl_getfl(&master).context(context)?;
    rustix::fs::fcntl_setfl(&master, flags & !OFlags::NONBLOCK).context(context)?;
    unlockpt(&master).context(context)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .context(context)?;
    if let Some(size) = size.filter(|size| size.height != 0 || size.width != 0) {
        let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).context(context)?;
    }
    if console == Console::Shown {
        show(root, slave.as_fd()).context(|| "cannot show /dev/console".to_string())?;
    }
    Ok(Terminal { master, slave })
}

/// Binds the terminal itself, whatever its name is by now.
fn show(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let place = match target::file(root, Path::new("dev/console"), Links::None) {
        // A root without /dev has no console.
        Err(Errno::NOENT | Errno::ROFS) => return Ok(()),
        place => place?,
    };
    match fchmod(slave, Mode::from_raw_mode(0o620)) {
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let tree = clone_of(slave, Depth::One)?;
    attach(&tree, &place)
}
