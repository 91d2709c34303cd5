//! Published ports: docker's ways to write them.
//!
//! ```text
//! [[ADDRESS:][HOST[-HOST]]:]PORT[-PORT][/tcp|/udp]
//! ```
//! Text in, plain data out; messages for what is none of it are docker's (of its client 28).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// As the files of packet filters and docker have it.
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// Its number in packets.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => libc::IPPROTO_TCP as u8,
            Protocol::Udp => libc::IPPROTO_UDP as u8,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A port that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The host's address; all of them where none is given.
    pub host_ip: Option<IpAddr>,
    /// The host's port.
    pub host_port: HostPort,
    /// The container's port.
    pub container_port: u16,
    /// Of this protocol.
    pub protocol: Protocol,
}

/// Which of the host's ports it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPort {
    /// Any that is free.
    Any,
    /// This one.
    Exactly(u16),
    /// The lowest of these that is free.
    From(u16, u16),
}

/// A port that is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The host's address; unspecified for all of a protocol.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// Of this protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Port {
    /// `0.0.0.0:8080->80/tcp`, as `docker ps` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Port { host_ip, host_port, container_port, protocol } = self;
        match host_ip {
            IpAddr::V4(ip) => write!(f, "{ip}:{host_port}->{container_port}/{protocol}"),
            // Docker's own way for this one.
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => write!(f, ":::{host_port}->{container_port}/{protocol}"),
            IpAddr::V6(ip) => write!(f, "[{ip}]:{host_port}->{container_port}/{protocol}"),
        }
    }
}

/// Reads one `-p`.
pub fn parse(text: &str) -> Result<Vec<Publish>> {
    let (rest, protocol) = match text.split_once('/') {
        Some((rest, protocol)) => (rest, protocol),
        None => (text, "tcp"),
    };
    let (address, host, container) = split(rest)?;
    let protocol = parse_protocol(protocol)?;
    if container.is_empty() {
        return Err(invalid(&format!("no port specified: {text}<empty>")));
    }
    let (first, last) =
        range(container).ok_or_else(|| invalid(&format!("invalid containerPort: {container}")))?;
    let host_ip = match address {
        "" => None,
        address => Some(address.parse().map_err(|_| invalid(&format!("invalid IP address: {address}")))?),
    };
    let wanted = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| invalid(&format!("invalid hostPort: {host}")))?),
    };
    if let Some((from, to)) = wanted {
        // Several of the host's for one of the container's are a choice.
        if to - from != last - first && first != last {
            return Err(invalid(&format!(
                "invalid ranges specified for container and host Ports: {container} and {host}"
            )));
        }
    }
    let publish = |at: u16| Publish {
        host_ip,
        host_port: match wanted {
            None | Some((0, 0)) => HostPort::Any,
            Some((from, to)) if first == last && from != to => HostPort::From(from, to),
            Some((from, _)) => HostPort::Exactly(from.saturating_add(at - first)),
        },
        container_port: at,
        protocol,
    };
    Ok((first..=last).map(publish).collect())
}

fn parse_protocol(word: &str) -> Result<Protocol> {
    match word.to_ascii_lowercase().as_str() {
        "" | "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Err(Failure::new("cannot publish a port of sctp: only tcp and udp can be published")),
        other => Err(invalid(&format!("invalid proto: {other}"))),
    }
}

/// Address, host's ports, container's ports; what is not given is empty.
fn split(text: &str) -> Result<(&str, &str, &str)> {
    let (front, container) = match text.rsplit_once(':') {
        None => return Ok(("", "", text)),
        Some(parts) => parts,
    };
    if let Some(bracketed) = front.strip_prefix('[') {
        let (address, host) =
            bracketed.split_once(']').ok_or_else(|| invalid(&format!("invalid IP address: {front}")))?;
        let host = host.strip_prefix(':').ok_or_else(|| invalid(&format!("invalid IP address: {front}")))?;
        return Ok((address, host, container));
    }
    match front.rsplit_once(':') {
        None => Ok(("", front, container)),
        Some((address, host)) => Ok((address, host, container)),
    }
}

/// `80` or `80-90`: none of a number that is no port.
fn range(text: &str) -> Option<(u16, u16)> {
    let number = |digits: &str| match digits.bytes().all(|digit| digit.is_ascii_digit()) {
        true => digits.parse().ok(),
        false => None,
    };
    let (first, last) = match text.split_once('-') {
        None => (number(text)?, number(text)?),
        Some((first, last)) => (number(first)?, number(last)?),
    };
    (first <= last).then_some((first, last))
}

fn invalid(what: &str) -> Failure {
    Failure::new(what)
}

/// All addresses of both protocols, for a port that names none.
pub const EVERYWHERE: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `host_ip host_port container_port protocol`, one a port.
    fn shown(text: &str) -> String {
        let ports = match parse(text) {
            Ok(ports) => ports,
            Err(failure) => return failure.to_string(),
        };
        let one = |port: &Publish| {
            let ip = port.host_ip.map_or("*".to_owned(), |ip| ip.to_string());
            let host = match port.host_port {
                HostPort::Any => "any".to_owned(),
                HostPort::Exactly(port) => port.to_string(),
                HostPort::From(from, to) => format!("{from}-{to}"),
            };
            format!("{ip} {host} {} {}", port.container_port, port.protocol)
        };
        ports.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn all_of_dockers_forms() {
        for (text, meaning) in [
            ("80", "* any 80 tcp"),
            ("80/udp", "* any 80 udp"),
            ("80/TCP", "* any 80 tcp"),
            ("80/", "* any 80 tcp"),
            ("[]:80:80", "* 80 80 tcp"),
            ("::80", "* any 80 tcp"),
            ("8000:80", "* 8000 80 tcp"),
            ("0:80", "* any 80 tcp"),
            (":80", "* any 80 tcp"),
            ("192.168.0.100::80", "192.168.0.100 any 80 tcp"),
            ("192.168.0.100:8000:80/udp", "192.168.0.100 8000 80 udp"),
            ("[::1]:80:80", "::1 80 80 tcp"),
            ("[::1]::80", "::1 any 80 tcp"),
            ("::1:80:80", "::1 80 80 tcp"),
            ("8000-8002:80-82", "* 8000 80 tcp, * 8001 81 tcp, * 8002 82 tcp"),
            ("8000-8002:80", "* 8000-8002 80 tcp"),
            ("80-81", "* any 80 tcp, * any 81 tcp"),
            ("127.0.0.1:65534-65535:1-2", "127.0.0.1 65534 1 tcp, 127.0.0.1 65535 2 tcp"),
        ] {
            assert_eq!(shown(text), meaning, "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused_in_dockers_words() {
        for (text, words) in [
            ("", "no port specified: <empty>"),
            ("8000:", "no port specified: 8000:<empty>"),
            ("65536", "invalid containerPort: 65536"),
            ("x", "invalid containerPort: x"),
            ("80:70-60", "invalid containerPort: 70-60"),
            ("65536:80", "invalid hostPort: 65536"),
            ("+1:80", "invalid hostPort: +1"),
            ("1.2.3:80:80", "invalid IP address: 1.2.3"),
            ("localhost:80:80", "invalid IP address: localhost"),
            ("80/icmp", "invalid proto: icmp"),
            ("8000-8001:80-82", "invalid ranges specified for container and host Ports: 80-82 and 8000-8001"),
            ("80/sctp", "cannot publish a port of sctp"),
            ("[::1:80:80", "invalid IP address: [::1:80"),
        ] {
            assert!(shown(text).contains(words), "{text}: {}", shown(text));
        }
    }

    #[test]
    fn ports_read_as_docker_shows_them() {
        let port = |ip: &str| Port {
            host_ip: ip.parse().unwrap(),
            host_port: 8000,
            container_port: 80,
            protocol: Protocol::Udp,
        };
        assert_eq!(port("0.0.0.0").to_string(), "0.0.0.0:8000->80/udp");
        assert_eq!(port("::").to_string(), ":::8000->80/udp");
        assert_eq!(port("::1").to_string(), "[::1]:8000->80/udp");
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(text in "[0-9:./\\[\\]tcpu-]{0,24}") {
            if let Ok(ports) = parse(&text) {
                prop_assert!(!ports.is_empty());
            }
        }
    }
}
