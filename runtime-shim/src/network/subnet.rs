//! Arithmetic on addresses: networks as ranges of numbers, hardware addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A network: all addresses that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet {
    first: IpAddr,
    length: u8,
}

impl Subnet {
    /// The network of this many leading bits that `address` is in.
    pub fn new(address: IpAddr, length: u8) -> Subnet {
        let length = length.min(width(address));
        let host = width(address) - length;
        let first = number(address) & !low_bits(host);
        Subnet { first: like(address, first), length }
    }

    /// Its lowest address.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// Its highest address.
    pub fn last(self) -> IpAddr {
        like(self.first, number(self.first) | low_bits(width(self.first) - self.length))
    }

    /// How many leading bits are the network's.
    pub fn length(self) -> u8 {
        self.length
    }

    /// The address that is `offset` above the lowest, if it is still inside.
    pub fn nth(self, offset: u128) -> Option<IpAddr> {
        let inside = offset <= low_bits(width(self.first) - self.length);
        inside.then(|| like(self.first, number(self.first) | offset))
    }

    /// Whether an address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        width(address) == width(self.first) && Subnet::new(address, self.length) == self
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Subnet) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// Whether it is of the older protocol.
    pub fn is_ipv4(self) -> bool {
        self.first.is_ipv4()
    }

    /// Whether a host may have this address: the lowest names the network, and
    /// IPv4's highest reaches all of it.
    pub fn is_for_a_host(self, address: IpAddr) -> bool {
        self.contains(address)
            && address != self.first
            && !(address.is_ipv4() && self.length < 31 && address == self.last())
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn low_bits(count: u8) -> u128 {
    match count {
        128.. => u128::MAX,
        count => (1 << count) - 1,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A number as an address of the same protocol as another.
fn like(address: IpAddr, number: u128) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

impl FromStr for Subnet {
    type Err = String;

    /// `10.1.2.0/24`; docker's words for what is not one.
    fn from_str(text: &str) -> Result<Subnet, String> {
        let invalid = || format!("invalid CIDR address: {text}");
        let (address, length) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let length: u8 = length.parse().map_err(|_| invalid())?;
        if length > width(address) {
            return Err(invalid());
        }
        Ok(Subnet::new(address, length))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The one that belongs to an IPv4 address, as docker has it: a neighbour
    /// that gets an address which was another's gets its hardware address too,
    /// so that nobody's table of neighbours goes stale.
    pub fn of(address: Ipv4Addr) -> Mac {
        let [a, b, c, d] = address.octets();
        Mac([0x02, 0x42, a, b, c, d])
    }

    /// The address on the link alone that the kernel makes of it (RFC 4291, appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0.map(u16::from);
        let two = |high: u16, low: u16| high << 8 | low;
        Ipv6Addr::new(0xfe80, 0, 0, 0, two(a ^ 2, b), two(c, 0xff), two(0xfe, d), two(e, f))
    }

    /// Whether one machine may have it: not a group's, not nobody's.
    pub fn is_of_one(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 0 && self.0 != [0; 6]
    }
}

impl FromStr for Mac {
    type Err = String;

    /// `02:42:0a:00:00:02`; docker's words for what is not one.
    fn from_str(text: &str) -> Result<Mac, String> {
        let invalid = || format!("{text} is not a valid mac address");
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(invalid)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        match parts.next() {
            None => Some(Mac(bytes)).filter(|mac| mac.is_of_one()).ok_or_else(invalid),
            Some(_) => Err(invalid()),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// In files both are the text that people write.
macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(Subnet);
as_text!(Mac);

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_knows_its_addresses() {
        let net = subnet("10.1.2.77/24");
        assert_eq!(net.to_string(), "10.1.2.0/24");
        assert_eq!(net.last().to_string(), "10.1.2.255");
        assert_eq!(net.nth(5), Some("10.1.2.5".parse().unwrap()));
        assert_eq!(net.nth(256), None);
        assert!(net.contains("10.1.2.255".parse().unwrap()));
        assert!(!net.contains("10.1.3.0".parse().unwrap()));
        assert!(!net.contains("fd00::1".parse().unwrap()));
        assert!(!net.is_for_a_host("10.1.2.0".parse().unwrap()));
        assert!(!net.is_for_a_host("10.1.2.255".parse().unwrap()));
        assert!(net.is_for_a_host("10.1.2.254".parse().unwrap()));
        assert!(subnet("fd00::/64").is_for_a_host("fd00::ffff:ffff:ffff:ffff".parse().unwrap()));
    }

    #[test]
    fn networks_overlap_where_one_holds_the_other() {
        for (one, other, both) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", true),
            ("10.0.0.0/16", "10.1.0.0/16", false),
            ("0.0.0.0/0", "10.1.0.0/16", true),
            ("::/0", "10.1.0.0/16", false),
            ("fd00::/64", "fd00::/8", true),
        ] {
            assert_eq!(subnet(one).overlaps(subnet(other)), both, "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "10.0.0.0/x", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<Subnet>(), Err(format!("invalid CIDR address: {text}")));
        }
    }

    #[test]
    fn hardware_addresses_follow_from_addresses() {
        let mac = Mac::of("10.86.0.2".parse().unwrap());
        assert_eq!(mac.to_string(), "02:42:0a:56:00:02");
        assert_eq!(mac.link_local().to_string(), "fe80::42:aff:fe56:2");
        assert_eq!("02:42:0A:56:00:02".parse(), Ok(mac));
        for bad in ["", "02:42:0a:56:00", "02:42:0a:56:00:02:03", "03:42:0a:56:00:02", "g2:42:0a:56:00:02"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
