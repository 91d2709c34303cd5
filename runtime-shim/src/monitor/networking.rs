//! A container's networks, as its record asks for them; and what its /etc tells
//! of them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::process::{Pid, Signal, WaitOptions, set_parent_process_death_signal, waitpid};

use crate::container::{Container, Containers, Mode, Record};
use crate::failure::{Context, Failure, OURS, Result, say};
use crate::network::files::{Asks, DnsWish, ExtraHost, HostResolver, asks, hosts, resolv_conf};
use crate::network::{self, Endpoint, Networks, Publish, Request, Wish, dns};
use crate::sandbox::identity::Plan;
use crate::settle;
use crate::sys::{self, Namespaces, Side};

/// Files of /etc that tell of the network; mounted over the image's.
pub const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// What a container has outside of itself as long as it lives.
pub struct Attached {
    /// Keeps its ports from others.
    _reserved: Vec<OwnedFd>,
    /// Answers its questions for names.
    _names: Option<Names>,
}

/// A process that answers questions for names; it ends with this.
struct Names(Pid);

impl Drop for Names {
    fn drop(&mut self) {
        // It may have ended by itself; whoever else reaps it is as good.
        rustix::process::kill_process(self.0, Signal::KILL).unwrap_or_default();
        waitpid(Some(self.0), WaitOptions::empty()).map(drop).unwrap_or_default();
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
    plan: &Plan,
    namespace: BorrowedFd<'_>,
) -> Result<Attached> {
    let networks = Networks::open(container.store())?;
    let request = request(record, plan)?;
    let attached = match network::attach(&networks, &request, namespace) {
        // What a killed container left may be in the way.
        Err(_) if settle::sweep(container.store())? > 0 => network::attach(&networks, &request, namespace)?,
        attached => attached?,
    };
    let names = match write_files(container, record, &attached.endpoints)? {
        Asks::Servers => None,
        Asks::Embedded => Some(serve_names(networks, record, namespace)?),
    };
    Ok(Attached { _reserved: attached.reserved, _names: names })
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
fn serve_names(networks: Networks, record: &Record, namespace: BorrowedFd<'_>) -> Result<Names> {
    let sockets = dns::bind(namespace)?;
    let resolver = dns::Resolver { networks, container: record.id.clone(), wish: wish(record)? };
    match sys::clone(Namespaces::NONE).context(|| "cannot serve names".to_owned())? {
        Side::Parent(pid) => Ok(Names(pid)),
        Side::Child => {
            let served = set_parent_process_death_signal(Some(Signal::KILL))
                .context(|| "cannot serve names".to_owned())
                // The container's pipes and the monitor's locks are none of its.
                .and_then(|()| sys::close_all_but(&sockets.fds()).context(|| "cannot serve names".to_owned()))
                .and_then(|()| dns::serve(&sockets, &resolver));
            if let Err(failure) = served {
                say(&failure.to_string());
            }
            std::process::exit(OURS.into());
        }
    }
}

/// What it asks for.
fn request(record: &Record, plan: &Plan) -> Result<Request> {
    let config = &record.config;
    let network = match &config.network {
        // Nobody asked for it in so many words.
        Mode::Default if matches!(plan, Plan::Mapped(_)) => {
            say("WARNING: the container has no network: bridges are root's (--network host uses the host's)");
            None
        }
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
    for further in &config.networks {
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

/// Takes it off all its networks; that it is on none is fine.
pub fn detach(container: &Container, record: &Record) -> Result<()> {
    let networks = Networks::open(container.store())?;
    network::detach(&networks, &record.id, network::Namespace::Ends).map(drop)
}
