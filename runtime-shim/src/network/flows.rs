//! Flows of datagrams that the kernel remembers.
//!
//! Where a flow goes is decided by its first packet and remembered for as long
//! as packets come. So a client that never pauses would not reach a port that
//! is published only now, and would go on sending to the address of a container
//! that is gone, and may be another's. Such flows are forgotten.

use std::net::IpAddr;

use rustix::io::Errno;

use super::lease::Lease;
use super::netlink::{Message, Socket, array, attributes, flags};
use super::ports::{Port, Protocol};

/// linux/netfilter/nfnetlink_conntrack.h.
const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IP_SOURCE: [u16; 2] = [1, 3];
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_SOURCE: u16 = 2;
const PROTOCOL_DESTINATION: u16 = 3;
/// A `struct nfgenmsg`.
const HEADER: usize = 4;

/// One direction of a flow.
struct Direction {
    source: Option<IpAddr>,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
}

/// Forgets the flows to a container's published ports, and those that would go
/// there by now. What else a machine remembers stays.
pub fn forget(lease: &Lease) -> Result<(), Errno> {
    let ports: Vec<&Port> = lease.ports.iter().filter(|port| port.protocol == Protocol::Udp).collect();
    if ports.is_empty() {
        return Ok(());
    }
    let own = [Some(IpAddr::from(lease.address)), lease.address6.map(IpAddr::from)];
    let is_concerned = |original: &Direction, reply: &Direction| {
        original.protocol == Protocol::Udp.number()
            && ports.iter().any(|port| {
                let to_it = own.contains(&reply.source) && reply.source_port == port.container_port;
                // Nothing was changed on its way: it is not led anywhere.
                let beside_it =
                    original.destination_port == port.host_port && reply.source_port == port.host_port;
                to_it || beside_it
            })
    };
    let mut socket =
        Socket::netfilter().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let mut concerned = Vec::new();
    // Looking takes the kernel milliseconds, however many there are: once for
    // both protocols.
    let all = Message::new(GET, flags::DUMP, &[libc::AF_UNSPEC as u8, 0, 0, 0]);
    let asked = socket.ask(all, |_kind, body| {
        let tuple = |kind| attributes(body, HEADER).find(|(found, _)| *found == kind).map(|(_, value)| value);
        if let (Some(original), Some(reply)) = (tuple(TUPLE_ORIGINAL), tuple(TUPLE_REPLY)) {
            if is_concerned(&direction(original), &direction(reply)) {
                concerned.push((array::<HEADER>(body, 0).unwrap_or_default(), original.to_vec()));
            }
        }
    });
    match asked {
        // A kernel without the part that tells of flows: clients that never
        // pause are then on their own.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(()),
        asked => asked?,
    }
    for (header, original) in concerned {
        let message = Message::new(DELETE, flags::ACK, &header)
            .attribute(TUPLE_ORIGINAL | libc::NLA_F_NESTED as u16, &original);
        match socket.request(message) {
            // It ended by itself.
            Err(Errno::NOENT) => {}
            forgotten => forgotten?,
        }
    }
    Ok(())
}

fn direction(tuple: &[u8]) -> Direction {
    let mut found = Direction { source: None, protocol: 0, source_port: 0, destination_port: 0 };
    let port = |value| array(value, 0).map_or(0, u16::from_be_bytes);
    for (kind, inside) in attributes(tuple, 0) {
        for (field, value) in attributes(inside, 0) {
            match (kind, field) {
                (TUPLE_IP, field) if IP_SOURCE.contains(&field) => {
                    found.source = match value.len() {
                        4 => array::<4>(value, 0).map(IpAddr::from),
                        _ => array::<16>(value, 0).map(IpAddr::from),
                    }
                }
                (TUPLE_PROTOCOL, PROTOCOL_NUMBER) => found.protocol = value.first().copied().unwrap_or(0),
                (TUPLE_PROTOCOL, PROTOCOL_SOURCE) => found.source_port = port(value),
                (TUPLE_PROTOCOL, PROTOCOL_DESTINATION) => found.destination_port = port(value),
                _ => {}
            }
        }
    }
    found
}
