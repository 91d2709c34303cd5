//! Keeps the host's ports for a container, and says who has one that is taken.
//!
//! Packets for a published port are led to the container before any socket of
//! the host sees them. So that no program believes to have such a port, and so
//! that two containers cannot, a socket is bound to it for as long as the
//! container runs. It listens to nobody, and costs nothing.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketFlags, SocketType, bind, getsockname, listen, socket_with,
};

use super::ports::{EVERYWHERE, HostPort, Port, Protocol, Publish};
use crate::failure::{Failure, Result};

/// Ports that nobody else gets while this exists.
#[derive(Debug, Default)]
pub struct Reserved {
    /// Which they are.
    pub ports: Vec<Port>,
    /// What keeps them.
    pub sockets: Vec<OwnedFd>,
}

/// A port of another container.
pub struct Owner {
    /// The port.
    pub port: Port,
    /// The container's name.
    pub container: String,
}

/// How often a port that is free for one protocol may be taken for the other.
const DRAWS: usize = 64;

/// Reserves all ports that are asked for, or none.
pub fn reserve(publish: &[Publish], others: &[Owner]) -> Result<Reserved> {
    let mut reserved = Reserved::default();
    for asked in publish {
        let addresses = asked.host_ip.map_or(EVERYWHERE.to_vec(), |ip| vec![ip]);
        match asked.host_port {
            HostPort::Exactly(port) => reserved.take(asked, &addresses, port, others)?,
            HostPort::From(first, last) => {
                let taken = |port| reserved.take(asked, &addresses, port, others);
                first_that((first..=last).map(taken))?;
            }
            HostPort::Any => {
                let taken = |_| {
                    let port = any_free(asked.protocol, addresses.first().copied())?;
                    reserved.take(asked, &addresses, port, others)
                };
                first_that((0..DRAWS).map(taken))?;
            }
        }
    }
    Ok(reserved)
}

/// The first success, else the last failure.
fn first_that(results: impl Iterator<Item = Result<()>>) -> Result<()> {
    let mut last = Err(Failure::new("no port to choose from"));
    for result in results {
        last = result;
        if last.is_ok() {
            break;
        }
    }
    last
}

impl Reserved {
    /// Takes one port on all these addresses, or on none.
    fn take(&mut self, asked: &Publish, addresses: &[IpAddr], port: u16, others: &[Owner]) -> Result<()> {
        let mut sockets = Vec::new();
        let mut ports = Vec::new();
        for &host_ip in addresses {
            let port = Port {
                host_ip,
                host_port: port,
                container_port: asked.container_port,
                protocol: asked.protocol,
            };
            if let Some(owner) = others.iter().find(|owner| collide(&owner.port, &port)) {
                return Err(allocated(&port).hint(format!(
                    "container {} publishes it: stop that, or choose another port",
                    owner.container
                )));
            }
            if self.ports.iter().any(|own| collide(own, &port)) {
                return Err(allocated(&port).hint("the container itself publishes it twice"));
            }
            match bound(&port) {
                Ok(socket) => sockets.push(socket),
                // The host has no IPv6: nothing is asked of it then.
                Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if host_ip == Ipv6Addr::UNSPECIFIED => continue,
                Err(error) => return Err(refused(&port, error)),
            }
            ports.push(port);
        }
        self.sockets.append(&mut sockets);
        self.ports.append(&mut ports);
        Ok(())
    }
}

/// Whether two published ports cannot be told apart by a packet to one of them.
fn collide(one: &Port, other: &Port) -> bool {
    let wide = |port: &Port| port.host_ip.is_unspecified();
    one.host_port == other.host_port
        && one.protocol == other.protocol
        && one.host_ip.is_ipv4() == other.host_ip.is_ipv4()
        && (one.host_ip == other.host_ip || wide(one) || wide(other))
}

fn allocated(port: &Port) -> Failure {
    let address = SocketAddr::new(port.host_ip, port.host_port);
    Failure::as_docker(format!("Bind for {address} failed: port is already allocated"))
}

fn refused(port: &Port, error: Errno) -> Failure {
    let address = SocketAddr::new(port.host_ip, port.host_port);
    let family = if address.is_ipv4() { 4 } else { 6 };
    let failure =
        |why: &str| Failure::as_docker(format!("listen {}{family} {address}: bind: {why}", port.protocol));
    match error {
        Errno::ADDRINUSE => {
            let failure = failure("address already in use");
            match process_with(port) {
                Some(process) => failure.hint(format!("{process} has the port: stop it, or choose another")),
                None => failure.hint("another program has the port: choose another"),
            }
        }
        Errno::ADDRNOTAVAIL => {
            failure("cannot assign requested address").hint("publish on an address that this machine has")
        }
        Errno::ACCESS => {
            failure("permission denied").hint("ports below 1024 are root's: choose a higher one")
        }
        error => failure(&error.to_string()),
    }
}

/// A socket bound to a port, which nobody else can then bind.
fn bound(port: &Port) -> Result<OwnedFd, Errno> {
    let address = SocketAddr::new(port.host_ip, port.host_port);
    match open(port.protocol, address).and_then(|socket| bind(&socket, &address).map(|()| socket)) {
        // Connections of a program that has ended may linger there for a
        // minute. A socket may sit beside those, but then it must listen to
        // keep others off.
        Err(Errno::ADDRINUSE) if port.protocol == Protocol::Tcp => {
            let socket = open(port.protocol, address)?;
            set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &address)?;
            listen(&socket, 0)?;
            Ok(socket)
        }
        bound => bound,
    }
}

fn open(protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

/// A port that the kernel finds free at this moment.
fn any_free(protocol: Protocol, address: Option<IpAddr>) -> Result<u16> {
    let address = SocketAddr::new(address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), 0);
    let found = open(protocol, address).and_then(|socket| {
        bind(&socket, &address)?;
        getsockname(&socket)
    });
    match found.map(|address: SocketAddrAny| SocketAddr::try_from(address).map(|address| address.port())) {
        Ok(Ok(port)) => Ok(port),
        Ok(Err(error)) | Err(error) => {
            Err(Failure::new(format!("cannot find a free port of {protocol} on {}: {error}", address.ip())))
        }
    }
}

/// The program that has a port, as far as /proc lets us see: `nginx (pid 123)`.
fn process_with(port: &Port) -> Option<String> {
    let own = std::process::id().to_string();
    let sockets: Vec<String> = inodes_at(port).into_iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let pid = process.file_name().into_string().unwrap_or_default();
        if !pid.bytes().all(|digit| digit.is_ascii_digit()) || pid == own {
            continue;
        }
        // A process may end, or be another user's.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        if targets.any(|target| sockets.iter().any(|socket| target.as_path() == Path::new(socket))) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim_end()));
        }
    }
    None
}

/// The numbers of the sockets that are bound to a port.
fn inodes_at(port: &Port) -> Vec<String> {
    let mut inodes = Vec::new();
    for table in [format!("/proc/net/{}", port.protocol), format!("/proc/net/{}6", port.protocol)] {
        let text = fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (Some(local), Some(remote), Some(inode)) = (fields.get(1), fields.get(2), fields.get(9))
            else {
                continue;
            };
            let at = |address: &str| {
                address.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok())
            };
            // One without another end: it listens, or takes datagrams.
            if at(local) == Some(port.host_port) && at(remote) == Some(0) {
                inodes.push((*inode).to_owned());
            }
        }
    }
    inodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    fn asked(text: &str) -> Vec<Publish> {
        super::super::ports::parse(text).unwrap()
    }

    fn refusal(text: &str, others: &[Owner]) -> String {
        reserve(&asked(text), others).unwrap_err().to_string()
    }

    #[test]
    fn a_reserved_port_is_nobody_elses() {
        let reserved = reserve(&asked("127.0.0.1::80"), &[]).unwrap();
        let port = reserved.ports[0].host_port;
        assert!(port >= 1024);
        assert!(TcpListener::bind(("127.0.0.1", port)).is_err());
        assert!(TcpListener::bind(("0.0.0.0", port)).is_err());
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody listens there");
        assert!(refusal(&format!("127.0.0.1:{port}:80"), &[]).contains("address already in use"));
    }

    #[test]
    fn a_range_is_a_choice() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = listener.local_addr().unwrap().port().min(65500);
        let text = format!("127.0.0.1:{first}-{}:80", first + 20);
        let reserved = reserve(&asked(&text), &[]).unwrap();
        assert_eq!(reserved.ports.len(), 1);
        assert!(reserved.ports[0].host_port > first);
    }

    #[test]
    fn a_taken_port_has_an_owner() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let words = refusal(&format!("127.0.0.1:{port}:53/udp"), &[]);
        assert!(words.contains(&format!("listen udp4 127.0.0.1:{port}: bind: address already in use")));
        let mine = Port {
            host_ip: "0.0.0.0".parse().unwrap(),
            host_port: 8000,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        let words = refusal("127.0.0.1:8000:80", &[Owner { port: mine, container: "web".to_owned() }]);
        assert!(words.contains("Bind for 127.0.0.1:8000 failed: port is already allocated"), "{words}");
        assert!(words.contains("container web publishes it"), "{words}");
    }

    #[test]
    fn only_what_is_the_machines_can_be_published() {
        assert!(refusal("192.0.2.1:8000:80", &[]).contains("cannot assign requested address"));
    }

    #[test]
    fn connections_that_linger_are_no_owner() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let (served, _) = listener.accept().unwrap();
        // The side that closes first is the one that lingers.
        drop(served);
        drop(client);
        drop(listener);
        let reserved = reserve(&asked(&format!("127.0.0.1:{}:80", address.port())), &[]).unwrap();
        assert!(TcpListener::bind(address).is_err());
        drop(reserved);
    }
}
