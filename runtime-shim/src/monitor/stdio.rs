//! A container's stdin, stdout and stderr: the monitor's ends, and the
//! container's.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::container::Stdin;
use crate::failure::{Context, Result};

/// Both sides.
pub struct Stdio {
    /// The monitor's.
    pub ours: Ours,
    /// The container's, in the order of their numbers.
    pub theirs: [OwnedFd; 3],
}

/// The monitor's side.
#[derive(Default)]
pub struct Ours {
    /// What the container reads; nothing where it reads nothing.
    pub input: Option<OwnedFd>,
    /// What it prints to stdout, or its terminal.
    pub output: Option<OwnedFd>,
    /// What it prints to stderr.
    pub error: Option<OwnedFd>,
}

impl Stdio {
    /// Pipes; /dev/null for stdin where it reads nothing.
    pub fn pipes(stdin: Stdin) -> Result<Stdio> {
        let context = || "cannot make a pipe".to_owned();
        let pipe = || pipe_with(PipeFlags::CLOEXEC).context(context);
        let (input, their_input) = match stdin {
            Stdin::Closed => (None, null()?),
            Stdin::Once | Stdin::Open => {
                let (theirs, ours) = pipe()?;
                (Some(ours), theirs)
            }
        };
        let ((output, their_output), (error, their_error)) = (pipe()?, pipe()?);
        Ok(Stdio {
            ours: Ours { input, output: Some(output), error: Some(error) },
            theirs: [their_input, their_output, their_error],
        })
    }

    /// None yet, for a container that gets a terminal.
    pub fn none() -> Result<Stdio> {
        Ok(Stdio { ours: Ours::default(), theirs: [null()?, null()?, null()?] })
    }
}

impl Ours {
    /// A terminal is all of it.
    pub fn terminal(master: OwnedFd) -> Result<Ours> {
        let input = master.try_clone().context(|| "cannot use the terminal".to_owned())?;
        Ok(Ours { input: Some(input), output: Some(master), error: None })
    }
}

fn null() -> Result<OwnedFd> {
    let opened = File::options().read(true).write(true).open("/dev/null");
    opened.map(OwnedFd::from).context(|| "cannot open /dev/null".to_owned())
}
