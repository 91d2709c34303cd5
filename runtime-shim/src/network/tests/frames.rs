//! Frames as no honest kernel sends them.

use super::*;

/// All machines with IPv6 on a link, as frames have it.
pub const ALL_IPV6: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

/// Sends a frame as it is.
pub fn send(from: &OwnedFd, interface: &str, frame: &[u8]) {
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let program = format!(
        "import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); \
         s.bind((\"{interface}\", 0)); s.send(bytes.fromhex(\"{hex}\"))"
    );
    let path = path(from);
    let output =
        Command::new("nsenter").args([&format!("--net={path}"), "python3", "-c", &program]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &kind.to_be_bytes(), payload].concat()
}

fn v4(ip: IpAddr) -> [u8; 4] {
    match ip {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => panic!("{ip}"),
    }
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => panic!("{ip}"),
    }
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let pairs = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = pairs.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!(sum as u16)).to_be_bytes()
}

/// A datagram of IPv4.
pub fn datagram(macs: (Mac, Mac), from: IpAddr, to: SocketAddr, text: &[u8]) -> Vec<u8> {
    let length = (8 + text.len()) as u16;
    let udp = [&[0x30, 0x39], &to.port().to_be_bytes()[..], &length.to_be_bytes(), &[0, 0], text].concat();
    let total = (20 + length).to_be_bytes();
    let mut ip = [&[0x45, 0][..], &total, &[0, 0, 0, 0, 64, 17, 0, 0], &v4(from), &v4(to.ip())].concat();
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    ethernet(macs.1, macs.0, 0x0800, &[ip, udp].concat())
}

/// `from` says to all that it has the address `ip`.
pub fn arp(sender: Mac, from: Mac, ip: IpAddr, to: (Mac, IpAddr)) -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &from.0, &v4(ip), &to.0.0, &v4(to.1)].concat();
    ethernet(to.0, sender, 0x0806, &body)
}

fn icmpv6(macs: (Mac, Mac), from: IpAddr, to: IpAddr, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    let pseudo = [&v6(from)[..], &v6(to), &[0, 0], &length, &[0, 0, 0, 58], body].concat();
    let mut body = body.to_vec();
    body[2..4].copy_from_slice(&checksum(&pseudo));
    let ip = [&[0x60, 0, 0, 0][..], &length, &[58, 255], &v6(from), &v6(to), &body].concat();
    ethernet(macs.1, macs.0, 0x86dd, &ip)
}

/// A neighbour advertisement: `target` is at `mac`, whatever was said before.
pub fn advertisement(macs: (Mac, Mac), ips: (IpAddr, IpAddr), target: IpAddr, mac: Mac) -> Vec<u8> {
    let body = [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &v6(target), &[2, 1], &mac.0].concat();
    icmpv6(macs, ips.0, ips.1, &body)
}

/// A router advertisement of the network 2001:db8:bad::/64.
pub fn router(from: Mac) -> Vec<u8> {
    let prefix: IpAddr = "2001:db8:bad::".parse().unwrap();
    let lifetimes = [0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
    let option = [&[3, 4, 64, 0xc0][..], &lifetimes, &v6(prefix)].concat();
    let body = [&[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], &option].concat();
    icmpv6((from, ALL_IPV6), from.link_local().into(), "ff02::1".parse().unwrap(), &body)
}
