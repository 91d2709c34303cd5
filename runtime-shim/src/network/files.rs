//! The texts of a container's /etc/hosts, /etc/hostname and /etc/resolv.conf.
//!
//! Plain data in, text out; only [`HostResolver::read`] looks at the host.

use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use crate::failure::{Failure, Result};

/// Where a container finds our own server of names.
pub const EMBEDDED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const DNS_PORT: u16 = 53;
/// The host's own, and where systemd keeps it when that names its local server only.
const HOST_FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// A host's name servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostResolver {
    /// Where they are.
    pub servers: Vec<SocketAddr>,
    /// Domains to search.
    pub search: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<String>,
}

/// What a container's user wants (`--dns`, `--dns-search`, `--dns-option`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsWish {
    /// Servers in place of the host's.
    pub servers: Vec<IpAddr>,
    /// Domains in place of the host's; `.` for none at all.
    pub search: Vec<String>,
    /// Options in place of the host's.
    pub options: Vec<String>,
}

/// Whom a container asks for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// The servers themselves.
    Servers,
    /// Ours (see `dns`), which knows the neighbours and asks the servers from
    /// where the host stands.
    Embedded,
}

/// A line of /etc/hosts (`--add-host`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Where it is.
    pub at: HostAt,
}

/// Where an extra host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAt {
    /// At an address.
    Address(IpAddr),
    /// It is the host, as the container reaches it.
    Gateway,
}

impl HostResolver {
    /// The host's, as its files say now.
    pub fn read() -> HostResolver {
        // A host without the file has a server at 127.0.0.1, as resolv.conf(5) says.
        HostResolver::parse(&fs::read_to_string(HOST_FILES[0]).unwrap_or_default())
    }

    /// The same with servers that a container can reach by itself, where the
    /// host's system keeps such a file.
    pub fn read_for_containers() -> HostResolver {
        let own = HostResolver::read();
        let other = fs::read_to_string(HOST_FILES[1]).map(|text| HostResolver::parse(&text));
        match other {
            Ok(other) if own.beyond_loopback().is_empty() => HostResolver { servers: other.servers, ..own },
            _ => own,
        }
    }

    /// Reads a resolv.conf(5). What it does not know it leaves out.
    pub fn parse(text: &str) -> HostResolver {
        let mut resolver = HostResolver::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace().take_while(|word| !word.starts_with(['#', ';']));
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().and_then(server)),
                // The last one counts.
                Some("search" | "domain") => resolver.search = words.map(str::to_owned).collect(),
                Some("options") => resolver.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolver
    }

    fn beyond_loopback(&self) -> Vec<IpAddr> {
        let servers = self.servers.iter().map(SocketAddr::ip);
        servers.filter(|ip| !(ip.is_loopback() || ip.is_unspecified() || is_link_local(*ip))).collect()
    }

    /// The servers that are asked on behalf of a container, from the host.
    pub fn upstreams(&self, wish: &DnsWish) -> Vec<SocketAddr> {
        match wish.servers.is_empty() {
            true => self.servers.clone(),
            false => wish.servers.iter().map(|ip| SocketAddr::new(*ip, DNS_PORT)).collect(),
        }
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`.
fn server(word: &str) -> Option<SocketAddr> {
    match word.split_once('%') {
        None => word.parse().ok().map(|ip| SocketAddr::new(ip, DNS_PORT)),
        Some((ip, link)) => {
            let is_name = !link.contains('/') && !link.starts_with('.');
            let index = link.parse().ok().or_else(|| {
                let file = is_name.then(|| format!("/sys/class/net/{link}/ifindex"))?;
                fs::read_to_string(file).ok()?.trim().parse().ok()
            })?;
            Some(SocketAddrV6::new(ip.parse().ok()?, DNS_PORT, 0, index).into())
        }
    }
}

/// Whom a container asks: on a network of the user's always ours, elsewhere
/// only where all of the host's servers are out of its reach.
pub fn asks(host: &HostResolver, wish: &DnsWish, on_user_network: bool) -> Asks {
    let reachable = !wish.servers.is_empty() || !host.beyond_loopback().is_empty();
    match on_user_network || !reachable {
        true => Asks::Embedded,
        false => Asks::Servers,
    }
}

/// The text of /etc/resolv.conf.
pub fn resolv_conf(host: &HostResolver, wish: &DnsWish, asks: Asks) -> String {
    let mut text = String::new();
    let servers = match asks {
        Asks::Embedded => vec![EMBEDDED.into()],
        Asks::Servers if wish.servers.is_empty() => host.beyond_loopback(),
        Asks::Servers => wish.servers.clone(),
    };
    let search = if wish.search.is_empty() { &host.search } else { &wish.search };
    let mut options = if wish.options.is_empty() { host.options.clone() } else { wish.options.clone() };
    if asks == Asks::Embedded && !options.iter().any(|option| option.starts_with("ndots:")) {
        // A container's name has no dots, and is a whole name.
        options.push("ndots:0".to_owned());
    }
    for server in servers {
        text += &format!("nameserver {server}\n");
    }
    if !search.is_empty() && *search != ["."] {
        text += &format!("search {}\n", search.join(" "));
    }
    if !options.is_empty() {
        text += &format!("options {}\n", options.join(" "));
    }
    text
}

/// The text of /etc/hosts: what every machine has, what the user adds, and the
/// container's own addresses under its names.
pub fn hosts(own: &[IpAddr], hostname: &str, extra: &[(String, IpAddr)]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    let mut line = |ip: &IpAddr, names: &str| {
        // Writing to a String does not fail.
        writeln!(text, "{ip}\t{names}").unwrap_or_default();
    };
    for (name, ip) in extra {
        line(ip, name);
    }
    let names = match hostname.split_once('.') {
        Some((short, _)) => format!("{hostname} {short}"),
        None => hostname.to_owned(),
    };
    for ip in own {
        line(ip, &names);
    }
    text
}

/// The text of /etc/hostname.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

impl ExtraHost {
    /// The line's name and address; `gateway` is the host's address on the
    /// default network.
    pub fn resolve(&self, gateway: IpAddr) -> (String, IpAddr) {
        match self.at {
            HostAt::Address(ip) => (self.name.clone(), ip),
            HostAt::Gateway => (self.name.clone(), gateway),
        }
    }
}

impl FromStr for ExtraHost {
    type Err = Failure;

    /// `NAME:IP`, `NAME=IP`, `NAME:host-gateway`; docker's words for what is none.
    fn from_str(text: &str) -> Result<ExtraHost> {
        let (name, ip) = match text.split_once('=') {
            Some(parts) => parts,
            None => text
                .split_once(':')
                .ok_or_else(|| Failure::new(format!("bad format for add-host: {text:?}")))?,
        };
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_name {
            return Err(Failure::new(format!("bad format for add-host: {text:?}")));
        }
        let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
        let at = match bare {
            "host-gateway" => HostAt::Gateway,
            ip => HostAt::Address(
                ip.parse().map_err(|_| Failure::new(format!("invalid IP address in add-host: {ip:?}")))?,
            ),
        };
        Ok(ExtraHost { name: name.to_owned(), at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostResolver {
        HostResolver::parse(text)
    }

    #[test]
    fn the_default_network_asks_the_hosts_servers() {
        let host = host(
            "# made\nnameserver 192.0.2.1\nnameserver 127.0.0.53 # local\nsearch a.example b.example\noptions edns0\n",
        );
        let wish = DnsWish::default();
        assert_eq!(asks(&host, &wish, false), Asks::Servers);
        assert_eq!(
            resolv_conf(&host, &wish, Asks::Servers),
            "nameserver 192.0.2.1\nsearch a.example b.example\noptions edns0\n"
        );
        assert_eq!(host.upstreams(&wish).len(), 2, "from the host its local server can be asked");
    }

    #[test]
    fn where_only_the_host_reaches_its_servers_ours_is_asked() {
        let wish = DnsWish::default();
        for text in ["nameserver 127.0.0.53\n", "nameserver ::1\n", "", "nameserver fe80::1%1\n"] {
            assert_eq!(asks(&host(text), &wish, false), Asks::Embedded, "{text}");
        }
        assert_eq!(
            resolv_conf(&host("nameserver 127.0.0.53\noptions edns0\n"), &wish, Asks::Embedded),
            "nameserver 127.0.0.11\noptions edns0 ndots:0\n"
        );
        assert_eq!(host("nameserver fe80::1%7\n").upstreams(&wish), ["[fe80::1%7]:53".parse().unwrap()]);
    }

    #[test]
    fn the_users_wishes_come_first() {
        let host = host("nameserver 192.0.2.1\nsearch a.example\noptions rotate\n");
        let wish = DnsWish {
            servers: vec!["192.0.2.9".parse().unwrap(), "127.0.0.1".parse().unwrap()],
            search: vec![".".to_owned()],
            options: vec!["ndots:2".to_owned()],
        };
        assert_eq!(
            resolv_conf(&host, &wish, asks(&host, &wish, false)),
            "nameserver 192.0.2.9\nnameserver 127.0.0.1\noptions ndots:2\n"
        );
        let text = resolv_conf(&host, &wish, asks(&host, &wish, true));
        assert_eq!(text, "nameserver 127.0.0.11\noptions ndots:2\n");
        assert_eq!(host.upstreams(&wish)[0], "192.0.2.9:53".parse().unwrap());
    }

    #[test]
    fn hosts_has_the_containers_own_names() {
        let own = ["10.86.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let extra: Vec<_> = ["db:192.0.2.7", "six:[2001:db8::1]", "me=host-gateway"]
            .iter()
            .map(|text| text.parse::<ExtraHost>().unwrap().resolve("10.86.0.1".parse().unwrap()))
            .collect();
        let text = hosts(&own, "web.example.org", &extra);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost"));
        assert!(text.ends_with(
            "192.0.2.7\tdb\n2001:db8::1\tsix\n10.86.0.1\tme\n\
             10.86.0.2\tweb.example.org web\nfd00::2\tweb.example.org web\n"
        ));
    }

    #[test]
    fn extra_hosts_that_are_none_are_refused() {
        for (text, words) in [
            ("db", "bad format for add-host: \"db\""),
            (":192.0.2.7", "bad format for add-host"),
            ("db:nowhere", "invalid IP address in add-host: \"nowhere\""),
            ("a\nb:192.0.2.7", "bad format for add-host"),
            ("a b:192.0.2.7", "bad format for add-host"),
        ] {
            let failure = text.parse::<ExtraHost>().unwrap_err().to_string();
            assert!(failure.contains(words), "{text:?}: {failure}");
        }
    }
}
