//! A container's networks, as its record asks for them.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::container::{Container, Mode, Record};
use crate::failure::{Failure, OURS, Result};
use crate::network::{self, Networks, Publish, Request, Wish};

/// Keeps a container's ports from others as long as it lives.
pub struct Attached {
    /// The host's sockets.
    _reserved: Vec<OwnedFd>,
}

/// Puts a container on its network, whose namespace this is.
pub fn attach(container: &Container, record: &Record, namespace: BorrowedFd<'_>) -> Result<Attached> {
    let request = request(record)?;
    let networks = Networks::open(container.store())?;
    let attached = network::attach(&networks, &request, namespace)?;
    Ok(Attached { _reserved: attached.reserved })
}

/// What it asks for.
fn request(record: &Record) -> Result<Request> {
    let config = &record.config;
    let network = match &config.network {
        Mode::Default | Mode::Private => Some(network::DEFAULT.to_owned()),
        Mode::Named(name) => Some(name.clone()),
        Mode::None | Mode::Host | Mode::Container(_) => None,
    };
    let networks = match network {
        None => Vec::new(),
        Some(network) => vec![Wish {
            network,
            ip: config.ip.as_deref().map(address::<Ipv4Addr>).transpose()?,
            ip6: config.ip6.as_deref().map(address::<Ipv6Addr>).transpose()?,
            mac: config.mac.as_deref().map(address).transpose()?,
            aliases: config.aliases.clone(),
        }],
    };
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
