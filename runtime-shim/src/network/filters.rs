//! Requests to nf_tables, the kernel's packet filters.
//!
//! Knows how its messages begin and that they come in batches, and nothing of
//! what is filtered.

use rustix::io::Errno;

use super::netlink::{Message, Socket};

/// A request to nf_tables.
pub fn new_message(message: libc::c_int, flags: u16, family: u8) -> Message {
    Message::new(kind(message), flags, &header(family, 0))
}

/// Changes of packet filters that happen together or not at all.
pub struct Batch {
    socket: Socket,
}

impl Batch {
    /// For those of the caller's network namespace.
    pub fn open() -> Result<Batch, Errno> {
        let socket =
            Socket::netfilter().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(Batch { socket })
    }

    /// Makes them.
    pub fn send(&mut self, changes: Vec<Message>) -> Result<(), Errno> {
        let resource = libc::NFNL_SUBSYS_NFTABLES as u16;
        let mark = |kind: libc::c_int| Message::new(kind as u16, 0, &header(libc::AF_UNSPEC as u8, resource));
        let mut messages = vec![mark(libc::NFNL_MSG_BATCH_BEGIN)];
        messages.extend(changes);
        messages.push(mark(libc::NFNL_MSG_BATCH_END));
        self.socket.transaction(messages)
    }
}

fn kind(message: libc::c_int) -> u16 {
    (libc::NFNL_SUBSYS_NFTABLES << 8 | message) as u16
}

/// A `struct nfgenmsg`.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, libc::NFNETLINK_V0 as u8, high, low]
}
