//! Links, addresses and routes, one rtnetlink request each.
//!
//! Knows neither networks nor containers: names, numbers and addresses only.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;

use super::netlink::{Message, Socket, array, attributes, flags};
use super::subnet::{Mac, Subnet};

/// `struct ifinfomsg`, `struct ifaddrmsg`, `struct rtmsg`.
const LINK: usize = 16;
const ADDRESS: usize = 8;
const ROUTE: usize = 12;
/// if_link.h and veth.h: what libc has no names for.
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const BRIDGE_FORWARD_DELAY: u16 = 1;
const BRIDGE_STP_STATE: u16 = 5;
const BRIDGE_MULTICAST_SNOOPING: u16 = 23;
const INFO_PORT_KIND: u16 = 4;
const INFO_PORT_DATA: u16 = 5;
const PORT_HAIRPIN: u16 = 4;
/// if.h: IF_OPER_UP.
const OPERATIONAL: u8 = 6;
const VETH_PEER: u16 = 1;
const UP: u32 = libc::IFF_UP as u32;
/// if_addr.h: usable at once, without asking the neighbours.
const NO_DUPLICATE_DETECTION: u8 = 2;
/// Not usable yet.
const TENTATIVE: u8 = 0x40;

/// Kernels before 6.8 may take a second, in which a start is better not held up.
const LOOKS: u32 = 150;
const PAUSE: Duration = Duration::from_micros(200);

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What its maker wrote on it; nothing yet where it was killed on the way.
    pub alias: Option<String>,
    /// Whether it takes packets.
    pub state: State,
}

/// Whether a link takes packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Up,
    /// It does not, or not yet.
    Down,
}

/// Both ends of a virtual cable.
pub struct Cable<'a> {
    /// The end in this namespace.
    pub name: &'a str,
    /// The other end's namespace.
    pub namespace: BorrowedFd<'a>,
    /// The other end's name.
    pub peer: &'a str,
    /// The other end's hardware address.
    pub mac: Mac,
    /// The largest packet, where it is not the usual one.
    pub mtu: Option<u32>,
}

/// The links of the namespace it was made in.
pub struct Links {
    socket: Socket,
}

impl Links {
    /// Those of the caller's namespace.
    pub fn open() -> io::Result<Links> {
        Ok(Links { socket: Socket::route()? })
    }

    /// One by its name.
    pub fn find(&mut self, name: &str) -> Result<Option<Link>, Errno> {
        let mut found = None;
        let message = Message::new(libc::RTM_GETLINK, 0, &link(0, 0)).text(libc::IFLA_IFNAME, name);
        match self.socket.ask(message, |_kind, body| found = parse_link(body)) {
            // The second is for a name that is too long to exist.
            Err(Errno::NODEV | Errno::RANGE) => Ok(None),
            asked => asked.map(|()| found),
        }
    }

    /// All there are.
    pub fn all(&mut self) -> Result<Vec<Link>, Errno> {
        let mut links = Vec::new();
        let message = Message::new(libc::RTM_GETLINK, flags::DUMP, &link(0, 0));
        self.socket.ask(message, |_kind, body| links.extend(parse_link(body)))?;
        Ok(links)
    }

    /// Waits until a link takes packets, or not much longer than it should take.
    ///
    /// The kernel finishes bringing up the ends of a cable a moment later, on
    /// its own time (a new one at the latest when it is asked about the link),
    /// and loses what is sent before.
    pub fn settle(&mut self, name: &str) -> Result<Option<Link>, Errno> {
        for _ in 0..LOOKS {
            match self.find(name)? {
                Some(link) if link.state == State::Down => std::thread::sleep(PAUSE),
                found => return Ok(found),
            }
        }
        self.find(name)
    }

    /// Makes a bridge without a spanning tree, down.
    pub fn add_bridge(&mut self, name: &str, mac: Mac, mtu: Option<u32>) -> Result<(), Errno> {
        let message = with_mtu(Message::new(libc::RTM_NEWLINK, MAKE, &link(0, 0)), mtu)
            .text(libc::IFLA_IFNAME, name)
            .attribute(libc::IFLA_ADDRESS, &mac.0)
            .nested(libc::IFLA_LINKINFO, |info| {
                info.text(INFO_KIND, "bridge").nested(INFO_DATA, |data| {
                    data.attribute(BRIDGE_FORWARD_DELAY, &0u32.to_ne_bytes())
                        .attribute(BRIDGE_STP_STATE, &0u32.to_ne_bytes())
                        // Nobody on it asks who listens to what, and without
                        // that the neighbours' questions of IPv6 get lost.
                        .attribute(BRIDGE_MULTICAST_SNOOPING, &[0])
                })
            });
        self.socket.request(message)
    }

    /// Lays a cable into another namespace, both ends down.
    pub fn add_cable(&mut self, cable: &Cable) -> Result<(), Errno> {
        let message = with_mtu(Message::new(libc::RTM_NEWLINK, MAKE, &link(0, 0)), cable.mtu)
            .text(libc::IFLA_IFNAME, cable.name)
            .nested(libc::IFLA_LINKINFO, |info| {
                info.text(INFO_KIND, "veth").nested(INFO_DATA, |data| {
                    data.around(VETH_PEER, &link(0, 0), |peer| {
                        with_mtu(peer, cable.mtu)
                            .text(libc::IFLA_IFNAME, cable.peer)
                            .attribute(libc::IFLA_ADDRESS, &cable.mac.0)
                            .attribute(libc::IFLA_NET_NS_FD, &cable.namespace.as_raw_fd().to_ne_bytes())
                    })
                })
            });
        self.socket.request(message)
    }

    /// Brings a link up, as a port of a bridge, and writes on it whose it is:
    /// the kernel takes no alias for a link that does not exist yet.
    pub fn plug(&mut self, index: u32, bridge: u32, alias: &str) -> Result<(), Errno> {
        let message = Message::new(libc::RTM_NEWLINK, flags::ACK, &link(index, UP))
            .text(libc::IFLA_IFALIAS, alias)
            .attribute(libc::IFLA_MASTER, &bridge.to_ne_bytes());
        self.socket.request(message)
    }

    /// Takes a link off its bridge and brings it down.
    pub fn unplug(&mut self, index: u32) -> Result<(), Errno> {
        let mut fixed = link(index, UP);
        // The flags are none of those that count.
        fixed.iter_mut().skip(8).take(4).for_each(|byte| *byte = 0);
        let message = Message::new(libc::RTM_NEWLINK, flags::ACK, &fixed)
            .attribute(libc::IFLA_MASTER, &0u32.to_ne_bytes());
        match self.socket.request(message) {
            Err(Errno::NODEV) => Ok(()),
            unplugged => unplugged,
        }
    }

    /// Lets a bridge send frames out of the port they came in by.
    pub fn reflect(&mut self, index: u32) -> Result<(), Errno> {
        let message = Message::new(libc::RTM_NEWLINK, flags::ACK, &link(index, 0)).nested(
            libc::IFLA_LINKINFO,
            |info| {
                info.text(INFO_PORT_KIND, "bridge")
                    .nested(INFO_PORT_DATA, |data| data.attribute(PORT_HAIRPIN, &[1]))
            },
        );
        self.socket.request(message)
    }

    /// Brings a link up and writes on it whose it is.
    pub fn raise_as(&mut self, index: u32, alias: &str) -> Result<(), Errno> {
        let message = Message::new(libc::RTM_NEWLINK, flags::ACK, &link(index, UP));
        self.socket.request(message.text(libc::IFLA_IFALIAS, alias))
    }

    /// Brings a link up.
    pub fn raise(&mut self, index: u32) -> Result<(), Errno> {
        self.socket.request(Message::new(libc::RTM_NEWLINK, flags::ACK, &link(index, UP)))
    }

    /// Removes a link; of a cable, both ends.
    pub fn remove(&mut self, index: u32) -> Result<(), Errno> {
        match self.socket.request(Message::new(libc::RTM_DELLINK, flags::ACK, &link(index, 0))) {
            Err(Errno::NODEV) => Ok(()),
            removed => removed,
        }
    }

    /// Gives a link an address that is usable at once.
    pub fn add_address(&mut self, index: u32, address: IpAddr, length: u8) -> Result<(), Errno> {
        let (family, bytes) = family_and_bytes(address);
        let unsure = if address.is_ipv6() { NO_DUPLICATE_DETECTION } else { 0 };
        let mut fixed = vec![family, length, unsure, 0];
        fixed.extend_from_slice(&index.to_ne_bytes());
        let mut message = Message::new(libc::RTM_NEWADDR, flags::ACK | flags::CREATE, &fixed)
            .attribute(libc::IFA_LOCAL, &bytes)
            .attribute(libc::IFA_ADDRESS, &bytes);
        if let IpAddr::V4(address) = address {
            let broadcast = Subnet::new(address.into(), length).last();
            message = message.attribute(libc::IFA_BROADCAST, &family_and_bytes(broadcast).1);
        }
        self.socket.request(message)
    }

    /// Sends all that has no better way through a gateway; of several such
    /// routes the one with the lowest metric is taken.
    pub fn add_default_route(&mut self, index: u32, gateway: IpAddr, metric: u32) -> Result<(), Errno> {
        let (family, bytes) = family_and_bytes(gateway);
        let fixed = [
            family,
            0,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_BOOT,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        let message = Message::new(libc::RTM_NEWROUTE, MAKE, &fixed)
            .attribute(libc::RTA_GATEWAY, &bytes)
            .attribute(libc::RTA_OIF, &index.to_ne_bytes())
            .attribute(libc::RTA_PRIORITY, &metric.to_ne_bytes());
        self.socket.request(message)
    }

    /// The networks that this namespace has routes to, the default routes aside.
    pub fn routes(&mut self) -> Result<Vec<Subnet>, Errno> {
        let mut subnets = Vec::new();
        let message = Message::new(libc::RTM_GETROUTE, flags::DUMP, &[0; ROUTE]);
        self.socket.ask(message, |_kind, body| subnets.extend(parse_route(body)))?;
        Ok(subnets)
    }

    /// Waits until a link answers for all of its addresses, as [`Links::settle`]
    /// waits for the link: those of IPv6 come up on the kernel's own time too.
    /// Addresses on the link alone take a second and are not waited for.
    pub fn settle_addresses(&mut self, index: u32) -> Result<(), Errno> {
        for _ in 0..LOOKS {
            let mut waiting = false;
            let message = Message::new(libc::RTM_GETADDR, flags::DUMP, &[0; ADDRESS]);
            self.socket.ask(message, |_kind, body| waiting |= is_waited_for(body, index))?;
            if !waiting {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Whether an answer tells of an address of this link that is not usable yet.
fn is_waited_for(body: &[u8], index: u32) -> bool {
    let (Some([_family, _length, state, scope]), Some(of)) = (array(body, 0), array(body, 4)) else {
        return false;
    };
    u32::from_ne_bytes(of) == index && state & TENTATIVE != 0 && scope == libc::RT_SCOPE_UNIVERSE
}

const MAKE: u16 = flags::ACK | flags::CREATE | flags::EXCL;

fn with_mtu(message: Message, mtu: Option<u32>) -> Message {
    match mtu {
        Some(mtu) => message.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes()),
        None => message,
    }
}

/// A `struct ifinfomsg`: which link, and the flags to set on it.
fn link(index: u32, set: u32) -> [u8; LINK] {
    let mut fixed = [0; LINK];
    // The flags, and which of them count.
    let fields = [index.to_ne_bytes(), set.to_ne_bytes(), set.to_ne_bytes()];
    for (to, from) in fixed.iter_mut().skip(4).zip(fields.as_flattened()) {
        *to = *from;
    }
    fixed
}

fn parse_link(body: &[u8]) -> Option<Link> {
    let index = u32::from_ne_bytes(array(body, 4)?);
    let mut found = Link { index, name: String::new(), alias: None, state: State::Down };
    for (kind, value) in attributes(body, LINK) {
        match kind {
            libc::IFLA_IFNAME => found.name = text(value),
            libc::IFLA_IFALIAS => found.alias = Some(text(value)),
            libc::IFLA_OPERSTATE if value == [OPERATIONAL] => found.state = State::Up,
            _ => {}
        }
    }
    Some(found)
}

fn parse_route(body: &[u8]) -> Option<Subnet> {
    let length = *body.get(1)?;
    let (_, value) = attributes(body, ROUTE).find(|(kind, _)| *kind == libc::RTA_DST)?;
    (length > 0).then_some(Subnet::new(address(value)?, length))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(b"\0").unwrap_or(value)).into_owned()
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(array::<4>(value, 0)?)),
        16 => Some(IpAddr::from(array::<16>(value, 0)?)),
        _ => None,
    }
}

fn family_and_bytes(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec()),
    }
}
