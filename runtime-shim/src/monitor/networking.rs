//! A container's networks, as its record asks for them; and what its /etc tells
//! of them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use rustix::process::{WaitOptions, waitpid};

use super::servant::{Servant, keep_only};
use crate::cli::tell_of_network as tell;
use crate::container::{Container, Containers, Mode, Record};
use crate::failure::{Context, Failure, OURS, Result, say};
use crate::network::files::{Asks, DnsWish, ExtraHost, HostResolver, asks, hosts, resolv_conf};
use crate::network::{
    self, Endpoint, LedBy, Networks, Publish, Relay, Request, Reserved, Settling, Wish, dns,
};
use crate::sandbox::Identity;
use crate::sandbox::identity::Plan;
use crate::settle;
use crate::sys::{self, Namespaces, Side};

/// Files of /etc that tell of the network; mounted over the image's.
pub const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Where a monitor is, as far as networks go.
pub enum Ground {
    /// Where bridges are root's own.
    Root,
    /// Where the user's own are: in namespaces that somebody holds.
    Held(network::holder::Holder),
    /// Where none are to be had, or none were asked for.
    Nowhere,
}

/// What a container has outside of itself as long as it lives.
pub struct Attached {
    /// Its ports, and what keeps them from others.
    reserved: Reserved,
    /// Processes that answer its questions for names, and pass connections on.
    _servants: Vec<Servant>,
}

impl Attached {
    /// The ports, for the next start.
    pub fn into_reserved(self) -> Reserved {
        self.reserved
    }
}

/// Where the monitor of a container is to be. What the user did not ask for in
/// so many words, and cannot have, is said and left away.
pub fn ground(container: &Container, record: &Record, plan: &Plan) -> Result<Ground> {
    if matches!(plan, Plan::Own(_)) {
        return Ok(Ground::Root);
    }
    let config = &record.config;
    let is_asked = match &config.network {
        Mode::Default | Mode::Private | Mode::Named(_) => true,
        Mode::None | Mode::Host | Mode::Container(_) => !config.networks.is_empty(),
    };
    if !is_asked {
        return Ok(Ground::Nowhere);
    }
    let networks = Networks::open(container.store())?;
    match network::holder::Holder::ensure(&networks, plan) {
        Ok(holder) => {
            if let Some(warning) = holder.way_out.warning() {
                say(&format!("WARNING: {warning}"));
            }
            Ok(Ground::Held(holder))
        }
        Err(failure) if config.network == Mode::Default && config.networks.is_empty() => {
            say(&format!("WARNING: the container has no network: {}", failure.message()));
            say("hint: --network host uses the host's, --network none wants none");
            Ok(Ground::Nowhere)
        }
        Err(failure) => Err(failure),
    }
}

/// Takes a container's ports: before anything is made, and before its ground is
/// entered.
pub fn reserve(container: &Container, record: &Record, ground: &Ground) -> Result<Reserved> {
    let networks = Networks::open(container.store())?;
    let request = request(record, ground)?;
    match network::reserve(&networks, &request) {
        // What a killed container left may be in the way.
        Err(_) if settle::sweep(container.store())? > 0 => network::reserve(&networks, &request),
        reserved => reserved,
    }
}

/// Where the file is that a container has as this one of /etc. One on another's
/// network has the other's.
pub fn file(container: &Container, record: &Record, name: &str) -> Result<Option<PathBuf>> {
    let owner = match &record.config.network {
        Mode::Container(id) => Containers::open(container.store())?.find(id)?,
        _ => container.clone(),
    };
    Ok(Some(owner.etc(name)).filter(|path| path.exists()))
}

/// Makes the files, empty: they are mounted before what they say is known.
pub fn prepare_files(container: &Container, record: &Record) -> Result<()> {
    if matches!(record.config.network, Mode::Container(_)) {
        return Ok(());
    }
    FILES.iter().try_for_each(|name| write(container, name, ""))
}

fn write(container: &Container, name: &str, text: &str) -> Result<()> {
    let path = container.etc(name);
    // In its place: the very file is mounted.
    fs::write(&path, text).context(|| format!("cannot write {}", path.display()))
}

/// Puts a container on its network, whose namespace this is.
pub fn attach(
    container: &Container,
    record: &Record,
    ground: &Ground,
    reserved: Reserved,
    namespace: BorrowedFd<'_>,
) -> Result<Attached> {
    let networks = Networks::open(container.store())?;
    let attached = network::attach(&networks, &request(record, ground)?, reserved, namespace)?;
    for endpoint in &attached.endpoints {
        tell(container.store(), &endpoint.network, "connect", Some(&record.id));
    }
    let mut servants = Vec::new();
    if !attached.relays.is_empty() {
        servants.push(pass_on(container, attached.relays)?);
    }
    match write_files(container, record, &attached.endpoints)? {
        Asks::Servers => {}
        Asks::Embedded => {
            let wish = match ground {
                Ground::Held(_) => network::holder::dns_wish(&wish(record)?),
                Ground::Root | Ground::Nowhere => wish(record)?,
            };
            servants.push(serve_names(container, networks, wish, namespace)?);
        }
    }
    let reserved = Reserved { ports: attached.ports, sockets: attached.reserved };
    Ok(Attached { reserved, _servants: servants })
}

/// Says what is known, of a container that is on the host's network or alone.
pub fn write_files(container: &Container, record: &Record, endpoints: &[Endpoint]) -> Result<Asks> {
    let own: Vec<IpAddr> = endpoints
        .iter()
        .flat_map(|endpoint| endpoint.lease.addresses(&endpoint.network))
        .map(|(address, _pool)| address)
        .collect();
    let wish = wish(record)?;
    let is_host_s = record.config.network == Mode::Host;
    let (resolver, asks) = match is_host_s {
        true => (HostResolver::read(), Asks::Servers),
        false => {
            let resolver = HostResolver::read_for_containers();
            let on_own = endpoints.iter().any(|endpoint| !endpoint.network.is_default());
            let asks = if endpoints.is_empty() { Asks::Servers } else { asks(&resolver, &wish, on_own) };
            (resolver, asks)
        }
    };
    let extra = extra_hosts(record, endpoints)?;
    let mut text = hosts(&own, record.hostname(), &extra);
    if is_host_s {
        text = fs::read_to_string("/etc/hosts").unwrap_or_default();
        for (name, address) in &extra {
            text.push_str(&format!("{address}\t{name}\n"));
        }
    }
    write(container, "hosts", &text)?;
    write(container, "hostname", &network::files::hostname(record.hostname()))?;
    let servers = match is_host_s && wish == DnsWish::default() {
        true => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        false => resolv_conf(&resolver, &wish, asks),
    };
    write(container, "resolv.conf", &servers)?;
    Ok(asks)
}

fn wish(record: &Record) -> Result<DnsWish> {
    let config = &record.config;
    Ok(DnsWish {
        servers: config.dns.iter().map(|text| address(text)).collect::<Result<_>>()?,
        search: config.dns_search.clone(),
        options: config.dns_options.clone(),
    })
}

fn extra_hosts(record: &Record, endpoints: &[Endpoint]) -> Result<Vec<(String, IpAddr)>> {
    // On the host's own network, and on none, the host is where the container is.
    let gateway = endpoints.iter().find_map(|endpoint| endpoint.network.ipv4());
    let gateway = gateway.map_or(Ipv4Addr::LOCALHOST.into(), |pool| pool.gateway);
    let parse = |text: &String| text.parse::<ExtraHost>().map(|host| host.resolve(gateway));
    record.config.hosts.iter().map(parse).collect()
}

/// Has a process of its own answer the container's questions for names.
fn serve_names(
    container: &Container,
    networks: Networks,
    wish: DnsWish,
    namespace: BorrowedFd<'_>,
) -> Result<Servant> {
    let sockets = dns::bind(namespace)?;
    let resolver = dns::Resolver { networks, container: container.id().to_owned(), wish };
    Servant::start(container, move || {
        keep_only(&sockets.fds())?;
        dns::serve(&sockets, &resolver)
    })
}

/// Has a process of its own pass on what no filter can.
fn pass_on(container: &Container, relays: Vec<Relay>) -> Result<Servant> {
    Servant::start(container, move || {
        let sockets: Vec<BorrowedFd<'_>> = relays.iter().map(|relay| relay.socket.as_fd()).collect();
        keep_only(&sockets)?;
        relays.into_iter().try_for_each(Relay::start)?;
        loop {
            std::thread::park();
        }
    })
}

/// What it asks for.
fn request(record: &Record, ground: &Ground) -> Result<Request> {
    let config = &record.config;
    let network = match &config.network {
        _ if matches!(ground, Ground::Nowhere) => None,
        Mode::Default | Mode::Private => Some(network::DEFAULT.to_owned()),
        Mode::Named(name) => Some(name.clone()),
        Mode::None | Mode::Host | Mode::Container(_) => None,
    };
    let mut networks = match network {
        None => Vec::new(),
        Some(network) => vec![Wish {
            network,
            ip: config.ip.as_deref().map(address::<Ipv4Addr>).transpose()?,
            ip6: config.ip6.as_deref().map(address::<Ipv6Addr>).transpose()?,
            mac: config.mac.as_deref().map(address).transpose()?,
            aliases: config.aliases.clone(),
        }],
    };
    for further in config.networks.iter().filter(|_| !matches!(ground, Ground::Nowhere)) {
        networks.push(Wish {
            network: further.network.clone(),
            ip: further.ip.as_deref().map(address).transpose()?,
            ip6: further.ip6.as_deref().map(address).transpose()?,
            mac: None,
            aliases: further.aliases.clone(),
        });
    }
    Ok(Request {
        container: record.id.clone(),
        name: record.name.clone(),
        hostname: record.hostname().to_owned(),
        publish: publish(record)?,
        networks,
        led_by: match ground {
            Ground::Held(_) => LedBy::Program,
            Ground::Root | Ground::Nowhere => LedBy::Filters,
        },
    })
}

/// All that is to be published: what was typed, and with `-P` what is exposed.
pub fn publish(record: &Record) -> Result<Vec<Publish>> {
    let config = &record.config;
    let mut found = Vec::new();
    for text in &config.publish {
        found.extend(network::words::publish(text)?);
    }
    if config.publish_all {
        for text in &config.exposed {
            for port in network::words::publish(text)? {
                let is_there = found.iter().any(|known: &Publish| {
                    (known.container_port, known.protocol) == (port.container_port, port.protocol)
                });
                if !is_there {
                    found.push(port);
                }
            }
        }
    }
    Ok(found)
}

fn address<A: std::str::FromStr>(text: &str) -> Result<A> {
    text.parse().map_err(|_| Failure::as_docker(format!("invalid address: {text}")).code(OURS))
}

/// Takes it off all its networks; that it is on none is fine. What it gives is
/// best dropped last of all.
pub fn detach(container: &Container, record: &Record) -> Result<Settling> {
    let networks = Networks::open(container.store())?;
    let endpoints = network::endpoints(&networks, &record.id)?;
    let mut settling = Settling::default();
    if endpoints.is_empty() {
        return Ok(settling);
    }
    where_bridges_are(&networks, || {
        settling = network::detach(&networks, &record.id, network::Namespace::Ends)?;
        Ok(())
    })?;
    for endpoint in &endpoints {
        tell(container.store(), &endpoint.network, "disconnect", Some(&record.id));
    }
    Ok(settling)
}

/// Does something to bridges: an ordinary user's are elsewhere, and a process
/// that goes there does not come back.
pub fn where_bridges_are(networks: &Networks, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return work();
    }
    let plan = Plan::new(Identity::Root)?;
    let holder = network::holder::Holder::ensure(networks, &plan)?;
    let context = || "cannot work on the networks".to_owned();
    match sys::clone(Namespaces::NONE).context(context)? {
        Side::Child => {
            let done = holder.enter().and_then(|()| work());
            std::process::exit(done.map_or_else(|failure| failure.report(), |()| 0).into());
        }
        Side::Parent(pid) => match waitpid(Some(pid), WaitOptions::empty()).context(context)? {
            Some((_, status)) if status.exit_status() == Some(0) => Ok(()),
            // It has said why.
            _ => Err(Failure::failed(context())),
        },
    }
}
