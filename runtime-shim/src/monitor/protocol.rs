//! What a monitor and those attached to it say to each other: packets over a
//! socket that keeps their bounds. The first byte says what the rest is.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::bundle::ConsoleSize;

/// Bytes of a packet at most; a socket's buffer takes several.
pub const LONGEST: usize = 32 << 10;

/// A packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'b> {
    /// To the monitor: what the container is to read.
    Input(&'b [u8]),
    /// To the monitor: there is no more.
    InputEnd,
    /// To the monitor: the terminal is this large.
    Resize(ConsoleSize),
    /// To the monitor: a signal for the container.
    Signal(i32),
    /// From the monitor: what the container wrote to stdout, or to its terminal.
    Output(&'b [u8]),
    /// From the monitor: what it wrote to stderr.
    Error(&'b [u8]),
    /// From the monitor: the container ended, and all is done that was to be.
    Exit(u8),
}

impl<'b> Packet<'b> {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let with = |kind: u8, rest: &[u8]| {
            let mut bytes = Vec::with_capacity(rest.len() + 1);
            bytes.push(kind);
            bytes.extend_from_slice(rest);
            bytes
        };
        match self {
            Packet::Input(bytes) => with(b'i', bytes),
            Packet::InputEnd => with(b'e', &[]),
            Packet::Resize(size) => {
                let [a, b] = size.height.to_le_bytes();
                let [c, d] = size.width.to_le_bytes();
                with(b'r', &[a, b, c, d])
            }
            Packet::Signal(number) => with(b's', &number.to_le_bytes()),
            Packet::Output(bytes) => with(b'1', bytes),
            Packet::Error(bytes) => with(b'2', bytes),
            Packet::Exit(code) => with(b'x', &[*code]),
        }
    }

    /// Of bytes; `None` for what is no packet.
    pub fn decode(bytes: &'b [u8]) -> Option<Packet<'b>> {
        let (kind, rest) = bytes.split_first()?;
        Some(match (kind, rest) {
            (b'i', bytes) => Packet::Input(bytes),
            (b'e', []) => Packet::InputEnd,
            (b'r', [a, b, c, d]) => Packet::Resize(ConsoleSize {
                height: u16::from_le_bytes([*a, *b]),
                width: u16::from_le_bytes([*c, *d]),
            }),
            (b's', rest) => Packet::Signal(i32::from_le_bytes(rest.try_into().ok()?)),
            (b'1', bytes) => Packet::Output(bytes),
            (b'2', bytes) => Packet::Error(bytes),
            (b'x', [code]) => Packet::Exit(*code),
            _ => return None,
        })
    }
}

/// Sends a packet; waits as the socket does.
pub fn send_packet(socket: impl AsFd, packet: &Packet<'_>) -> rustix::io::Result<()> {
    send_bytes(socket.as_fd(), &packet.encode())
}

/// Sends a packet that was encoded.
pub fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<()> {
    loop {
        match send(socket, bytes, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return sent.map(|_whole| ()),
        }
    }
}

/// The next packet's length in `buffer`; 0 if the other side is gone.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    loop {
        match recv(socket.as_fd(), &mut *buffer, RecvFlags::empty()) {
            // The other side went with something unread; what it said before comes
            // next.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            received => return received.map(|(length, _)| length),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn last_words_come_from_one_that_did_not_listen() {
        let kind = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (ours, theirs) = socketpair(kind.0, kind.1, kind.2, None).unwrap();
        send_packet(&ours, &Packet::InputEnd).unwrap();
        send_packet(&theirs, &Packet::Exit(5)).unwrap();
        drop(theirs);
        let mut buffer = [0; 16];
        let length = receive(&ours, &mut buffer).unwrap();
        assert_eq!(Packet::decode(&buffer[..length]), Some(Packet::Exit(5)));
        assert_eq!(receive(&ours, &mut buffer), Ok(0));
    }

    #[test]
    fn packets_come_back() {
        let size = ConsoleSize { height: 24, width: 80 };
        for packet in [
            Packet::Input(b"x\0y"),
            Packet::InputEnd,
            Packet::Resize(size),
            Packet::Signal(15),
            Packet::Output(b""),
            Packet::Error(b"e"),
            Packet::Exit(137),
        ] {
            assert_eq!(Packet::decode(&packet.encode()), Some(packet));
        }
        for bad in [&b""[..], b"e?", b"r123", b"s1", b"x", b"q"] {
            assert_eq!(Packet::decode(bad), None);
        }
    }
}
