//! The monitor's loop: what the container prints goes into the log and to those
//! attached, what they type goes to the container, until it ends.
//!
//! Whoever is attached and does not read holds the container up, as a pipe
//! would; the log does not.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::termios::{Winsize, tcsetwinsize};

use super::log::{Log, Stream};
use super::protocol::{LONGEST, Packet, receive, send_bytes};
use crate::container::Stdin;
use crate::failure::say;
use crate::sys;

/// Bytes that wait for one who does not read, before the container waits too.
const MOST_WAITING: usize = 256 << 10;
/// How long others may go on printing once the first process has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What the monitor holds of a container that runs.
pub struct Held {
    /// Its first process, a child of the monitor's.
    pub pid: Pid,
    /// The same.
    pub pidfd: OwnedFd,
    /// The terminal, or what it prints to stdout.
    pub output: Option<OwnedFd>,
    /// What it prints to stderr.
    pub error: Option<OwnedFd>,
    /// Where it reads from; the terminal again, for one that has it.
    pub input: Option<OwnedFd>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Until when it reads.
    pub stdin: Stdin,
}

/// Somebody attached.
struct Client {
    socket: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// All of it.
pub struct Pump {
    held: Held,
    listener: Option<OwnedFd>,
    clients: Vec<Client>,
    log: Option<Log>,
    log_failed: bool,
    /// What the container has not read yet.
    input: VecDeque<u8>,
    input_ended: bool,
    /// Whether the first process's number may be another's by now.
    reaped: bool,
    buffer: Vec<u8>,
}

/// What a descriptor that is ready is.
#[derive(Clone, Copy)]
enum Source {
    Process,
    Listener,
    Input,
    Stream(Stream),
    Client(usize),
}

/// What is waited for.
#[derive(Default)]
struct Watch<'p> {
    sources: Vec<Source>,
    fds: Vec<PollFd<'p>>,
}

impl<'p> Watch<'p> {
    fn add(&mut self, source: Source, fd: &'p OwnedFd, flags: PollFlags) {
        self.sources.push(source);
        self.fds.push(PollFd::from_borrowed_fd(fd.as_fd(), flags));
    }
}

impl Pump {
    /// With somebody attached already, so that nothing is missed.
    pub fn new(
        held: Held,
        listener: Option<OwnedFd>,
        first: Option<OwnedFd>,
        log: Option<Log>,
    ) -> io::Result<Pump> {
        for fd in [&held.output, &held.error, &held.input].into_iter().flatten() {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        let mut pump = Pump {
            held,
            listener,
            clients: Vec::new(),
            log,
            log_failed: false,
            input: VecDeque::new(),
            input_ended: false,
            reaped: false,
            buffer: vec![0; LONGEST],
        };
        if let Some(socket) = first {
            pump.attach(socket)?;
        }
        Ok(pump)
    }

    fn attach(&mut self, socket: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        self.clients.push(Client { socket, waiting: VecDeque::new(), bytes: 0 });
        Ok(())
    }

    /// Goes on until the container has ended; gives its exit code.
    pub fn run(&mut self) -> io::Result<u8> {
        let mut ended: Option<(u8, Instant)> = None;
        loop {
            if let Some((code, last)) = ended {
                let is_silent = self.held.output.is_none() && self.held.error.is_none();
                if is_silent || last.elapsed() > LAST_WORDS {
                    self.note(|log| log.finish());
                    return Ok(code);
                }
            }
            for (source, flags) in self.ready(ended.is_some())? {
                match source {
                    Source::Process => {
                        if let Some(code) = reap(self.held.pid)? {
                            self.reaped = true;
                            ended = Some((code, Instant::now()));
                        }
                    }
                    Source::Listener => self.accept(),
                    Source::Input => self.feed(),
                    Source::Stream(stream) => {
                        if self.read(stream)
                            && let Some((_, last)) = &mut ended
                        {
                            *last = Instant::now();
                        }
                    }
                    Source::Client(at) => self.serve(at, flags),
                }
            }
            self.clients.retain(|client| client.bytes != usize::MAX);
        }
    }

    /// Waits until something is ready, and says what.
    fn ready(&self, has_ended: bool) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut watch = Watch::default();
        if !has_ended {
            watch.add(Source::Process, &self.held.pidfd, PollFlags::IN);
        }
        if let Some(listener) = &self.listener {
            watch.add(Source::Listener, listener, PollFlags::IN);
        }
        if let Some(input) = &self.held.input
            && (!self.input.is_empty() || self.input_ended)
        {
            watch.add(Source::Input, input, PollFlags::OUT);
        }
        let is_held_up = self.clients.iter().any(|client| client.bytes > MOST_WAITING);
        for (stream, fd) in [(Stream::Stdout, &self.held.output), (Stream::Stderr, &self.held.error)] {
            if let Some(fd) = fd
                && !is_held_up
            {
                watch.add(Source::Stream(stream), fd, PollFlags::IN);
            }
        }
        for (at, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.input.len() < MOST_WAITING);
            flags.set(PollFlags::OUT, !client.waiting.is_empty());
            watch.add(Source::Client(at), &client.socket, flags);
        }
        let patience = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        while let Err(errno) = poll(&mut watch.fds, has_ended.then_some(&patience)) {
            if errno != Errno::INTR {
                return Err(errno.into());
            }
        }
        let flags = watch.fds.iter().map(PollFd::revents);
        Ok(watch.sources.into_iter().zip(flags).filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn accept(&mut self) {
        // Whoever it was may have gone again.
        let Some(listener) = &self.listener else { return };
        let Ok(socket) = accept_with(listener, SocketFlags::CLOEXEC) else { return };
        if let Err(error) = self.attach(socket) {
            say(&format!("runion: cannot attach: {error}"));
        }
    }

    /// Reads what the container printed; false at its end.
    fn read(&mut self, stream: Stream) -> bool {
        let fd = match stream {
            Stream::Stdout => &self.held.output,
            Stream::Stderr => &self.held.error,
        };
        let Some(fd) = fd else { return false };
        // One byte less: a packet's first says what it is.
        let room = self.buffer.get_mut(1..).unwrap_or_default();
        let length = match read(fd, room) {
            Err(Errno::INTR | Errno::AGAIN) => return true,
            // A terminal that nobody has open any more is an I/O error.
            Ok(0) | Err(_) => {
                match stream {
                    Stream::Stdout => self.held.output = None,
                    Stream::Stderr => self.held.error = None,
                }
                return false;
            }
            Ok(length) => length,
        };
        let buffer = std::mem::take(&mut self.buffer);
        let bytes = buffer.get(1..=length).unwrap_or_default();
        self.note(|log| log.write(stream, bytes));
        let packet = match stream {
            Stream::Stdout => Packet::Output(bytes),
            Stream::Stderr => Packet::Error(bytes),
        };
        self.tell(&packet);
        self.buffer = buffer;
        true
    }

    /// A log that cannot be written must not stop the container; it is said once.
    fn note(&mut self, write: impl FnOnce(&mut Log) -> io::Result<()>) {
        if let Some(log) = &mut self.log
            && let Err(error) = write(log)
            && !self.log_failed
        {
            self.log_failed = true;
            say(&format!("runion: cannot write the log: {error}"));
        }
    }

    fn tell(&mut self, packet: &Packet<'_>) {
        if self.clients.is_empty() {
            return;
        }
        let bytes = packet.encode();
        for client in &mut self.clients {
            client.bytes = client.bytes.saturating_add(bytes.len());
            client.waiting.push_back(bytes.clone());
            client.flush();
        }
    }

    /// What a client sent, and what it can take.
    fn serve(&mut self, at: usize, flags: PollFlags) {
        let Some(client) = self.clients.get_mut(at) else { return };
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = receive(&client.socket, &mut buffer);
        match received {
            Err(Errno::AGAIN) => {}
            Ok(0) | Err(_) => client.gone(),
            Ok(length) => {
                if let Some(packet) = Packet::decode(buffer.get(..length).unwrap_or_default()) {
                    self.obey(&packet);
                }
            }
        }
        self.buffer = buffer;
    }

    fn obey(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Input(bytes) if self.held.input.is_some() && !self.input_ended => {
                self.input.extend(bytes.iter());
                self.feed();
            }
            Packet::InputEnd if self.held.stdin == Stdin::Once && !self.held.terminal => {
                self.input_ended = true;
                self.feed();
            }
            Packet::Resize(size) if self.held.terminal => {
                let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
                if let Some(terminal) = &self.held.output {
                    // One that hung up has no size.
                    tcsetwinsize(terminal, size).unwrap_or_default();
                }
            }
            Packet::Signal(number) if !self.reaped => {
                // It may just have ended.
                sys::kill(self.held.pid.as_raw_nonzero().get(), *number).unwrap_or_default();
            }
            _ => {}
        }
    }

    /// Gives the container what it has not read yet.
    fn feed(&mut self) {
        let Some(input) = &self.held.input else { return };
        while !self.input.is_empty() {
            let (front, _) = self.input.as_slices();
            match write(input, front) {
                Ok(written) => drop(self.input.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody reads any more.
                Err(_) => {
                    self.input.clear();
                    self.held.input = None;
                    return;
                }
            }
        }
        if self.input_ended {
            self.held.input = None;
        }
    }

    /// Those still attached, once they have all that was printed; for the last
    /// word to them.
    pub fn into_clients(mut self) -> Vec<OwnedFd> {
        for client in &mut self.clients {
            // The container has ended: now one can wait for who reads slowly.
            if rustix::io::ioctl_fionbio(&client.socket, false).is_ok() {
                client.flush();
            }
        }
        self.clients.retain(|client| client.bytes != usize::MAX);
        self.clients.into_iter().map(|client| client.socket).collect()
    }
}

impl Client {
    fn flush(&mut self) {
        while let Some(bytes) = self.waiting.front() {
            match send_bytes(self.socket.as_fd(), bytes) {
                Ok(()) => {
                    self.bytes = self.bytes.saturating_sub(bytes.len());
                    self.waiting.pop_front();
                }
                Err(Errno::AGAIN) => return,
                Err(_) => return self.gone(),
            }
        }
    }

    fn gone(&mut self) {
        self.waiting.clear();
        self.bytes = usize::MAX;
    }
}

/// The exit code of a child that has ended.
pub(super) fn reap(pid: Pid) -> io::Result<Option<u8>> {
    match waitpid(Some(pid), WaitOptions::NOHANG) {
        Ok(Some((_, status))) => Ok(Some(crate::sandbox::supervise::exit_code(status))),
        Ok(None) | Err(Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
