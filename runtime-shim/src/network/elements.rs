//! What a container adds to its network's packet filters: elements of sets.
//!
//! The rules are the network's and never change with its containers; they look
//! into sets, and a container comes and goes by one small transaction on those,
//! written to nf_tables directly. That also tells at no cost whether the rules
//! are there at all: without their sets the transaction fails.

use std::net::{IpAddr, Ipv6Addr};

use rustix::io::Errno;

use super::definition::Network;
use super::filters::{Batch, new_message};
use super::lease::Lease;
use super::netlink::{Message, flags};
use super::ports::Protocol;
use super::subnet::Mac;

/// The sets that a network's rules look into, and what their elements are.
/// `targets` is of numbers because nft below 1.0.8 has no name for that field.
pub const SETS: [(Family, &str, &str); 8] = [
    (Family::Bridge, "set macs", "type ifname . ether_addr"),
    (Family::Bridge, "set ends4", "type ifname . ether_addr . ipv4_addr"),
    (Family::Bridge, "set ends6", "type ifname . ether_addr . ipv6_addr"),
    (Family::Bridge, "set targets", "typeof iifname . @th,64,128"),
    (Family::Inet, "map wide4", "type inet_proto . inet_service : ipv4_addr . inet_service"),
    (Family::Inet, "map exact4", "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service"),
    (Family::Inet, "map wide6", "type inet_proto . inet_service : ipv6_addr . inet_service"),
    (Family::Inet, "map exact6", "type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service"),
];

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Those of IPv4 and IPv6 that this machine takes, sends or forwards.
    Inet,
    /// Frames between the ports of a bridge.
    Bridge,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::Inet, Family::Bridge];

    /// As files of rules have it.
    pub fn word(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Bridge => "bridge",
        }
    }

    fn number(self) -> u8 {
        match self {
            Family::Inet => libc::NFPROTO_INET as u8,
            Family::Bridge => libc::NFPROTO_BRIDGE as u8,
        }
    }
}

/// One element of a set, or of a map where it has data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The table's family.
    pub family: Family,
    /// The set's name.
    pub set: &'static str,
    key: Vec<Part>,
    data: Vec<Part>,
}

/// A part of a key: as text for nft, as bytes for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Link(String),
    Mac(Mac),
    Address(IpAddr),
    /// An address of IPv6 where nft knows a number only.
    Number(u128),
    Protocol(Protocol),
    Port(u16),
}

impl Part {
    fn text(&self) -> String {
        match self {
            Part::Link(name) => format!("{name:?}"),
            Part::Mac(mac) => mac.to_string(),
            Part::Address(address) => address.to_string(),
            Part::Number(number) => format!("{number:#x}"),
            Part::Protocol(protocol) => protocol.to_string(),
            Part::Port(port) => port.to_string(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let (mut bytes, length) = match self {
            Part::Link(name) => (name.as_bytes().to_vec(), libc::IFNAMSIZ),
            Part::Mac(mac) => (mac.0.to_vec(), 8),
            Part::Address(IpAddr::V4(address)) => (address.octets().to_vec(), 4),
            Part::Address(IpAddr::V6(address)) => (address.octets().to_vec(), 16),
            Part::Number(number) => (number.to_be_bytes().to_vec(), 16),
            Part::Protocol(protocol) => (vec![protocol.number()], 4),
            Part::Port(port) => (port.to_be_bytes().to_vec(), 4),
        };
        // Registers of the kernel have four bytes.
        bytes.resize(length, 0);
        bytes
    }
}

impl Element {
    /// As nft reads it.
    pub fn text(&self) -> String {
        let joined = |parts: &[Part]| parts.iter().map(Part::text).collect::<Vec<_>>().join(" . ");
        match self.data.is_empty() {
            true => joined(&self.key),
            false => format!("{} : {}", joined(&self.key), joined(&self.data)),
        }
    }
}

/// Everything that a container adds to the sets of its network.
pub fn of(network: &Network, lease: &Lease) -> Vec<Element> {
    let link = || Part::Link(lease.link(network));
    let mac = || Part::Mac(lease.mac);
    let bridge = |set, key| Element { family: Family::Bridge, set, key, data: Vec::new() };
    let mut elements = vec![
        bridge("macs", vec![link(), mac()]),
        bridge("ends4", vec![link(), mac(), Part::Address(lease.address.into())]),
    ];
    // Without an address of IPv6 not even one of the link alone is allowed.
    if let Some(address) = lease.address6 {
        for own in [address, lease.mac.link_local()] {
            elements.push(bridge("ends6", vec![link(), mac(), Part::Address(own.into())]));
            elements.push(bridge("targets", vec![link(), Part::Number(own.to_bits())]));
        }
    }
    for port in &lease.ports {
        let target = match port.host_ip {
            IpAddr::V4(_) => Some(lease.address.into()),
            // See `relay`.
            IpAddr::V6(Ipv6Addr::LOCALHOST) => None,
            IpAddr::V6(_) => lease.address6.map(IpAddr::from),
        };
        let mut key = vec![Part::Protocol(port.protocol), Part::Port(port.host_port)];
        let set = match (port.host_ip, port.host_ip.is_unspecified()) {
            (IpAddr::V4(_), true) => "wide4",
            (IpAddr::V4(_), false) => "exact4",
            (IpAddr::V6(_), true) => "wide6",
            (IpAddr::V6(_), false) => "exact6",
        };
        if !port.host_ip.is_unspecified() {
            key.insert(0, Part::Address(port.host_ip));
        }
        elements.extend(target.map(|target| Element {
            family: Family::Inet,
            set,
            key,
            data: vec![Part::Address(target), Part::Port(port.container_port)],
        }));
    }
    elements
}

/// Whether a network's rules were there to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// They were, and are changed.
    Present,
    /// They are not there.
    Absent,
}

/// Adds all elements, or none.
pub fn add(table: &str, elements: &[Element]) -> Result<Rules, Errno> {
    let changes = elements
        .iter()
        .map(|element| change(libc::NFT_MSG_NEWSETELEM, flags::ACK | flags::CREATE, table, element));
    match Batch::open()?.send(changes.collect()) {
        Err(Errno::NOENT) => Ok(Rules::Absent),
        added => added.map(|()| Rules::Present),
    }
}

/// Packet filters that have just lost something.
///
/// Dropping it waits for the kernel to be done with that, ten milliseconds, so
/// whoever has something else to do does that first.
#[derive(Default)]
pub struct Settling {
    _batches: Vec<Batch>,
}

impl Settling {
    /// Both.
    pub fn and(mut self, mut other: Settling) -> Settling {
        self._batches.append(&mut other._batches);
        self
    }
}

/// Removes all elements. Those that are not there are fine: one after the other then.
pub fn remove(table: &str, elements: &[Element]) -> Result<Settling, Errno> {
    let removal =
        |element: &Element| change(libc::NFT_MSG_DELSETELEM, flags::ACK, table, &element.without_data());
    let mut batch = Batch::open()?;
    match batch.send(elements.iter().map(removal).collect()) {
        Err(Errno::NOENT) => {}
        removed => return removed.map(|()| Settling { _batches: vec![batch] }),
    }
    for element in elements {
        match batch.send(vec![removal(element)]) {
            Err(Errno::NOENT) => {}
            removed => removed?,
        }
    }
    Ok(Settling { _batches: vec![batch] })
}

/// Removes a table, if it is there.
pub fn remove_table(family: Family, table: &str) -> Result<(), Errno> {
    let message = new_message(libc::NFT_MSG_DELTABLE, flags::ACK, family.number()).text(TABLE_NAME, table);
    match Batch::open()?.send(vec![message]) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

impl Element {
    fn without_data(&self) -> Element {
        Element { data: Vec::new(), ..self.clone() }
    }
}

/// linux/netfilter/nf_tables.h.
const TABLE_NAME: u16 = 1;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;

fn change(message: libc::c_int, flags: u16, table: &str, element: &Element) -> Message {
    let value = |message: Message, kind, parts: &[Part]| {
        let bytes: Vec<u8> = parts.iter().flat_map(Part::bytes).collect();
        message.nested(kind, |data| data.attribute(DATA_VALUE, &bytes))
    };
    new_message(message, flags, element.family.number())
        .text(LIST_TABLE, table)
        .text(LIST_SET, element.set)
        .nested(LIST_ELEMENTS, |list| {
            list.nested(LIST_ELEMENT, |one| match element.data.is_empty() {
                true => value(one, ELEMENT_KEY, &element.key),
                false => value(value(one, ELEMENT_KEY, &element.key), ELEMENT_DATA, &element.data),
            })
        })
}
