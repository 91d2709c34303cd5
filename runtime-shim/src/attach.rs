//! The other side of a monitor: a user's terminal or pipes, attached to a
//! container until it ends or the user leaves.

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::bundle::ConsoleSize;
use crate::failure::{Context, Failure, Result};
use crate::monitor::protocol::{LONGEST, Packet, receive, send_bytes};
use crate::sys::SignalSet;

/// Signals that are the container's, from whoever is attached.
const PASSED_ON: [i32; 6] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

/// What somebody who attaches wants.
pub struct Wanted {
    /// Whether the container reads what they type.
    pub input: bool,
    /// Whether the container has a terminal.
    pub terminal: bool,
    /// Whether signals go to the container.
    pub signals: bool,
    /// Keys by which they leave.
    pub keys: Keys,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With the container, and its exit code.
    Exit(u8),
    /// The user left.
    Detached,
    /// The monitor is gone without a word.
    Lost,
}

/// Signals kept for [`attach`]; gives those that were blocked before.
pub fn block_signals() -> Result<SignalSet> {
    signals().block().context(|| "cannot block signals".to_owned())
}

fn signals() -> SignalSet {
    let mut all = PASSED_ON.to_vec();
    all.push(libc::SIGWINCH);
    SignalSet::of(&all)
}

/// Stays attached until the container ends or the user leaves.
///
/// Signals must be [blocked](block_signals).
pub fn attach(socket: OwnedFd, wanted: Wanted) -> Result<Ended> {
    let context = || "cannot attach".to_owned();
    let stdin = std::io::stdin();
    let screen = (wanted.terminal && wanted.input && isatty(&stdin)).then(Raw::make).transpose()?;
    rustix::io::ioctl_fionbio(&socket, true).context(context)?;
    let taken = signals().descriptor().context(context)?;
    let mut session = Session {
        socket,
        reads: wanted.input,
        signals: wanted.signals,
        keys: wanted.keys.watch(screen.is_some()),
        waiting: VecDeque::new(),
    };
    if wanted.terminal {
        session.resize();
    }
    let mut buffer = vec![0; LONGEST];
    loop {
        let [for_signal, for_socket, for_input] = session.wait(&taken).context(context)?;
        if for_signal {
            session.pass_on(&taken, wanted.terminal);
        }
        if for_input && let Some(ended) = session.type_in(&mut buffer) {
            return Ok(ended);
        }
        session.send();
        if for_socket && let Some(ended) = session.show(&mut buffer)? {
            return Ok(ended);
        }
    }
}

struct Session {
    socket: OwnedFd,
    reads: bool,
    signals: bool,
    keys: Watch,
    /// Packets that the monitor has not taken yet.
    waiting: VecDeque<Vec<u8>>,
}

impl Session {
    /// Whether there is a signal, something from the monitor, something typed.
    fn wait(&self, taken: &OwnedFd) -> rustix::io::Result<[bool; 3]> {
        let stdin = std::io::stdin();
        let mut of_socket = PollFlags::IN;
        of_socket.set(PollFlags::OUT, !self.waiting.is_empty());
        let mut fds = vec![
            PollFd::from_borrowed_fd(taken.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.socket.as_fd(), of_socket),
        ];
        // What cannot be sent is not read either.
        if self.reads && self.waiting.is_empty() {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        while let Err(errno) = poll(&mut fds, None) {
            if errno != Errno::INTR {
                return Err(errno);
            }
        }
        let is_ready = |at: usize, not: PollFlags| {
            fds.get(at).is_some_and(|fd| !fd.revents().difference(not).is_empty())
        };
        Ok([is_ready(0, PollFlags::empty()), is_ready(1, PollFlags::OUT), is_ready(2, PollFlags::empty())])
    }

    fn say(&mut self, packet: &Packet<'_>) {
        self.waiting.push_back(packet.encode());
    }

    /// Sends what the monitor takes. One that is gone is noticed by reading.
    fn send(&mut self) {
        while let Some(bytes) = self.waiting.front() {
            match send_bytes(self.socket.as_fd(), bytes) {
                Err(Errno::AGAIN) => return,
                Ok(()) | Err(_) => drop(self.waiting.pop_front()),
            }
        }
    }

    fn pass_on(&mut self, taken: &OwnedFd, terminal: bool) {
        // struct signalfd_siginfo: 128 bytes, the number first.
        let mut info = [0; 128];
        while let Ok(length) = read(taken, &mut info) {
            let Some(number) = info.first_chunk::<4>().filter(|_| length == info.len()) else { return };
            match i32::from_ne_bytes(*number) {
                libc::SIGWINCH if terminal => self.resize(),
                libc::SIGWINCH => {}
                number if self.signals => self.say(&Packet::Signal(number)),
                _ => {}
            }
        }
    }

    fn resize(&mut self) {
        let streams = [tcgetwinsize(std::io::stdout()), tcgetwinsize(std::io::stdin())];
        if let Some(size) = streams.into_iter().find_map(std::result::Result::ok) {
            self.say(&Packet::Resize(ConsoleSize { height: size.ws_row, width: size.ws_col }));
        }
    }

    /// What was typed.
    fn type_in(&mut self, buffer: &mut [u8]) -> Option<Ended> {
        let room = buffer.get_mut(1..)?;
        match read(std::io::stdin(), &mut *room) {
            Err(Errno::INTR | Errno::AGAIN) => None,
            Ok(0) | Err(_) => {
                self.reads = false;
                self.say(&Packet::InputEnd);
                None
            }
            Ok(length) => {
                let (bytes, leaves) = self.keys.look(room.get(..length)?);
                if !bytes.is_empty() {
                    for piece in bytes.chunks(LONGEST - 1) {
                        self.say(&Packet::Input(piece));
                    }
                }
                leaves.then(|| {
                    self.send();
                    Ended::Detached
                })
            }
        }
    }

    /// Shows what the monitor sent.
    fn show(&mut self, buffer: &mut [u8]) -> Result<Option<Ended>> {
        loop {
            let length = match receive(&self.socket, buffer) {
                Err(Errno::AGAIN) => return Ok(None),
                Ok(0) | Err(_) => return Ok(Some(Ended::Lost)),
                Ok(length) => length,
            };
            match Packet::decode(buffer.get(..length).unwrap_or_default()) {
                Some(Packet::Output(bytes)) => put(std::io::stdout(), bytes)?,
                Some(Packet::Error(bytes)) => put(std::io::stderr(), bytes)?,
                Some(Packet::Exit(code)) => return Ok(Some(Ended::Exit(code))),
                _ => {}
            }
        }
    }
}

/// Whoever read it may have had enough, which is nobody's failure: the container
/// goes on, as behind a pipe that is closed.
fn put(mut to: impl Write, bytes: &[u8]) -> Result<()> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::silent()),
        written => written.context(|| "cannot write".to_owned()),
    }
}

/// The user's terminal, which passes every key on until this is dropped.
struct Raw(Termios);

impl Raw {
    fn make() -> Result<Raw> {
        let context = || "cannot set the terminal up".to_owned();
        let before = tcgetattr(std::io::stdin()).context(context)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).context(context)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0).unwrap_or_default();
    }
}

/// Keys by which a user leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(Vec<u8>);

impl Keys {
    /// `ctrl-p,ctrl-q` where nothing is said; none for an empty text.
    pub fn parse(text: Option<&str>) -> Result<Keys> {
        let text = text.unwrap_or("ctrl-p,ctrl-q");
        let keys = text.split(',').filter(|key| !key.is_empty()).map(|key| {
            let code = match (key.strip_prefix("ctrl-"), key.as_bytes()) {
                (Some(letter), _) => match letter.as_bytes() {
                    [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
                    [b'@'] => Some(0),
                    [letter @ b'['..=b'_'] => Some(letter - b'[' + 27),
                    _ => None,
                },
                (None, [key]) => Some(*key),
                _ => None,
            };
            code.ok_or_else(|| {
                Failure::new(format!("invalid detach keys: unknown key {key:?}"))
                    .hint("keys are letters and ctrl-a to ctrl-z, ctrl-@, ctrl-[, …, with commas between")
            })
        });
        keys.collect::<Result<Vec<u8>>>().map(Keys)
    }

    fn watch(self, on_terminal: bool) -> Watch {
        Watch { keys: if on_terminal { self.0 } else { Vec::new() }, seen: 0 }
    }
}

/// Looks for them in what is typed.
struct Watch {
    keys: Vec<u8>,
    /// How many were just typed.
    seen: usize,
}

impl Watch {
    /// What is to be passed on, and whether the user leaves.
    fn look(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (typed.to_vec(), false);
        }
        let mut passed = Vec::with_capacity(typed.len());
        for &byte in typed {
            if self.keys.get(self.seen) == Some(&byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(self.keys.get(..self.seen).unwrap_or_default());
            self.seen = usize::from(self.keys.first() == Some(&byte));
            if self.seen == 0 {
                passed.push(byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_reads_them() {
        assert_eq!(Keys::parse(None).unwrap(), Keys(vec![16, 17]));
        assert_eq!(Keys::parse(Some("a,ctrl-[")).unwrap(), Keys(vec![b'a', 27]));
        assert_eq!(Keys::parse(Some("")).unwrap(), Keys(vec![]));
        assert!(Keys::parse(Some("ctrl-5")).is_err() && Keys::parse(Some("ab")).is_err());
    }

    #[test]
    fn what_is_not_the_keys_is_passed_on() {
        let mut watch = Keys::parse(None).unwrap().watch(true);
        assert_eq!(watch.look(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(watch.look(b"c\x10"), (b"\x10c".to_vec(), false));
        assert_eq!(watch.look(b"\x10\x11d"), (b"\x10".to_vec(), true));
        let mut nobody = Keys::parse(None).unwrap().watch(false);
        assert_eq!(nobody.look(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
