//! Netlink: requests as bytes, answers as bytes, for the two protocols that
//! containers need (rtnetlink and nf_tables), synchronous.
//!
//! The kernel answers a request before sendmsg(2) returns, so nothing here
//! waits: when the socket is empty, all has been said. What comes in is checked
//! length by length; a message that is not well-formed ends the reading.
//!
//! This file knows how messages are framed, and no message's meaning.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

/// What a request asks for (`NLM_F_*`).
pub mod flags {
    /// An answer even when all went well.
    pub const ACK: u16 = libc::NLM_F_ACK as u16;
    /// Make what is missing.
    pub const CREATE: u16 = libc::NLM_F_CREATE as u16;
    /// Fail when it exists.
    pub const EXCL: u16 = libc::NLM_F_EXCL as u16;
    /// After those that exist.
    pub const APPEND: u16 = libc::NLM_F_APPEND as u16;
    /// All there are.
    pub const DUMP: u16 = (libc::NLM_F_ROOT | libc::NLM_F_MATCH) as u16;
}

/// Length, kind, flags, sequence number, port.
const HEADER: usize = 16;
/// Length and kind.
const ATTRIBUTE_HEADER: usize = 4;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const NESTED: u16 = libc::NLA_F_NESTED as u16;
/// The kinds of the kernel's own messages: an error or success; the last of many.
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
/// The kernel's messages of a dump are at most this long.
const RECEIVED_AT_ONCE: usize = 64 * 1024;

/// A request that is being written.
#[derive(Clone)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request of this kind; `fixed` is the structure that follows the header.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Message {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(fixed);
        let mut message = Message { bytes };
        message.pad();
        message
    }

    /// Appends an attribute.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
        self
    }

    /// Appends a name: with the zero byte that ends it.
    pub fn text(self, kind: u16, value: &str) -> Message {
        self.attribute(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// Appends an attribute that holds what `inside` appends.
    pub fn nested(self, kind: u16, inside: impl FnOnce(Message) -> Message) -> Message {
        self.around(kind | NESTED, &[], inside)
    }

    /// The same where a structure comes before the attributes, which the kernel
    /// does not count as nesting.
    pub fn around(mut self, kind: u16, fixed: &[u8], inside: impl FnOnce(Message) -> Message) -> Message {
        let start = self.open(kind);
        self.bytes.extend_from_slice(fixed);
        self.pad();
        let mut message = inside(self);
        message.close(start);
        message
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        // Names and addresses: far below 64 KiB. What is not is refused by the
        // kernel, for its length is then wrong.
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(0);
        put(&mut self.bytes, start, &length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(&mut self, sequence: u32) {
        let length = u32::try_from(self.bytes.len()).unwrap_or(0);
        put(&mut self.bytes, 0, &length.to_ne_bytes());
        put(&mut self.bytes, 8, &sequence.to_ne_bytes());
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

/// A socket of one netlink protocol, in the network namespace it was made in.
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Links, addresses, routes.
    pub fn route() -> io::Result<Socket> {
        Socket::open(None)
    }

    /// Sets of packet filters.
    pub fn netfilter() -> io::Result<Socket> {
        Socket::open(Some(netlink::NETFILTER))
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Socket> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        Ok(Socket { fd, sequence: 0 })
    }

    /// Does one thing.
    pub fn request(&mut self, message: Message) -> Result<(), Errno> {
        self.transaction(vec![message])
    }

    /// Sends messages in one piece. The first that is refused fails it.
    pub fn transaction(&mut self, messages: Vec<Message>) -> Result<(), Errno> {
        let mut failed = None;
        self.exchange(messages, |_kind, _body| {}, |error| failed = failed.or(Some(error)))?;
        failed.map_or(Ok(()), Err)
    }

    /// Asks for things, and shows each answer's kind and what follows its header.
    pub fn ask(&mut self, message: Message, each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
        let mut failed = None;
        self.exchange(vec![message], each, |error| failed = failed.or(Some(error)))?;
        failed.map_or(Ok(()), Err)
    }

    fn exchange(
        &mut self,
        mut messages: Vec<Message>,
        mut each: impl FnMut(u16, &[u8]),
        mut refused: impl FnMut(Errno),
    ) -> Result<(), Errno> {
        let first = self.sequence.wrapping_add(1);
        for message in &mut messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.finish(self.sequence);
        }
        let kernel = SocketAddrNetlink::new(0, 0);
        let bytes: Vec<u8> = messages.into_iter().flat_map(|message| message.bytes).collect();
        retry_on_intr(|| sendto(&self.fd, &bytes, SendFlags::empty(), &kernel))?;

        let mut buffer = vec![0; RECEIVED_AT_ONCE];
        loop {
            let got = match retry_on_intr(|| recv(&self.fd, &mut buffer[..], RecvFlags::DONTWAIT)) {
                Err(Errno::AGAIN) => return Ok(()),
                got => got?.0,
            };
            let mut rest = buffer.get(..got).unwrap_or_default();
            while let Some((header, body, after)) = split_message(rest) {
                rest = after;
                let ours = header.sequence.wrapping_sub(first) <= self.sequence.wrapping_sub(first);
                match header.kind {
                    _ if !ours => {}
                    ERROR | DONE => match code(body) {
                        0 => {}
                        code => refused(Errno::from_raw_os_error(code.saturating_neg())),
                    },
                    kind => each(kind, body),
                }
            }
        }
    }
}

struct Header {
    kind: u16,
    sequence: u32,
}

fn split_message(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(array(bytes, 0)?)).ok()?;
    let header =
        Header { kind: u16::from_ne_bytes(array(bytes, 4)?), sequence: u32::from_ne_bytes(array(bytes, 8)?) };
    let body = bytes.get(HEADER..length)?;
    Some((header, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The errno of an error message, negative; 0 where all went well.
fn code(body: &[u8]) -> i32 {
    array(body, 0).map_or(0, i32::from_ne_bytes)
}

/// Bytes at a place, if there are as many.
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The attributes after a structure of `fixed` bytes: kinds and values.
pub fn attributes(body: &[u8], fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(fixed..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(array(rest, 0)?));
        let kind = u16::from_ne_bytes(array(rest, 2)?) & libc::NLA_TYPE_MASK as u16;
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut message = Message::new(7, 0, &[1, 2, 3, 4, 5]).text(1, "eth0").nested(2, |inside| {
            inside.attribute(3, &[9]).around(4, &[8; 4], |peer| peer.attribute(5, &[6; 6]))
        });
        message.finish(3);
        let (header, body, rest) = split_message(&message.bytes).unwrap();
        assert_eq!((header.kind, header.sequence, rest), (7, 3, &[][..]));
        let outer: Vec<_> = attributes(body, 8).collect();
        assert_eq!(outer[0], (1, &b"eth0\0"[..]));
        assert_eq!(outer[1].0, 2);
        let inner: Vec<_> = attributes(outer[1].1, 0).collect();
        assert_eq!(inner[0], (3, &[9][..]));
        assert_eq!(attributes(inner[1].1, 4).collect::<Vec<_>>(), [(5, &[6; 6][..])]);
    }

    proptest! {
        #[test]
        fn no_bytes_are_read_past_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while let Some((_, body, after)) = split_message(rest) {
                prop_assert!(after.len() < rest.len());
                rest = after;
                prop_assert!(attributes(body, 4).count() <= 200);
            }
        }
    }
}
