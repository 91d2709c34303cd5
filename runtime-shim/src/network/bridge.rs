//! A network's bridge: made when the first container comes, kept while the
//! network exists and anybody may come, recognised by what is written on it.

use std::net::IpAddr;

use rustix::io::Errno;

use super::definition::Network;
use super::inside::{self, Forwarded};
use super::links::{Link, Links};
use super::rules;
use super::subnet::Mac;
use crate::failure::{Context, Failure, Result};

/// Whether the link of the bridge's name is not this network's.
pub fn is_anothers(links: &mut Links, network: &Network) -> Result<bool> {
    let found = links.find(&network.bridge).context(|| format!("cannot look for {}", network.bridge))?;
    let mark = found.and_then(|link| link.alias);
    Ok(mark.is_some_and(|mark| mark != network.mark()))
}

/// The network's bridge, up and ready.
pub fn raise(links: &mut Links, network: &Network) -> Result<Link> {
    let name = &network.bridge;
    let context = || format!("cannot make bridge {name} of network {}", network.name);
    match links.find(name).context(context)? {
        Some(link) if link.alias.as_deref() == Some(&network.mark()) => return Ok(link),
        Some(link) if link.alias.is_some() => {
            return Err(Failure::new(format!("{}: there is another link of that name", context()))
                .hint("it may be of another store (--root): remove its networks, or make a new network"));
        }
        // Another process was killed while it made the bridge.
        Some(_unfinished) => {}
        None => {
            let mac = network.ipv4().map(|pool| pool.gateway).and_then(|gateway| match gateway {
                IpAddr::V4(address) => Some(Mac::of(address)),
                IpAddr::V6(_) => None,
            });
            links
                .add_bridge(name, mac.unwrap_or(Mac([2, 0x42, 0, 0, 0, 1])), network.mtu())
                .context(context)?;
        }
    }
    settle(links, network)
}

fn settle(links: &mut Links, network: &Network) -> Result<Link> {
    let name = &network.bridge;
    let context = || format!("cannot set up bridge {name} of network {}", network.name);
    // The host's own 127.0.0.1 reaches published ports, and gets answers.
    inside::set_for_link("ipv4", name, "route_localnet", "1")?;
    inside::set_for_link("ipv4", name, "accept_redirects", "0")?;
    for (setting, value) in [("accept_ra", "0"), ("accept_redirects", "0"), ("accept_dad", "0")] {
        inside::set_for_link("ipv6", name, setting, value)?;
    }
    let link = links.find(name).context(context)?.ok_or_else(|| Failure::new(context()))?;
    for pool in network.ipv4().into_iter().chain(network.ipv6()) {
        if pool.gateway.is_ipv6() {
            if !inside::has_ipv6() {
                continue;
            }
            inside::set_for_link("ipv6", name, "disable_ipv6", "0")?;
        }
        match links.add_address(link.index, pool.gateway, pool.subnet.length()) {
            Err(Errno::EXIST) => {}
            added => added.context(context)?,
        }
    }
    if !network.internal {
        inside::forward(Forwarded::Ipv4)?;
        if network.ipv6().is_some() {
            inside::forward(Forwarded::Ipv6)?;
        }
    }
    // Only now it says whose it is, and so that it is whole.
    links.raise_as(link.index, &network.mark()).context(context)?;
    Ok(link)
}

/// A bridge and rules that nobody uses: gone.
pub fn take_down(network: &Network) -> Result<()> {
    let context = || format!("cannot remove bridge {}", network.bridge);
    let mut links = Links::open().context(context)?;
    match links.find(&network.bridge).context(context)? {
        Some(link) if link.alias.as_ref().is_some_and(|alias| *alias != network.mark()) => return Ok(()),
        Some(link) => links.remove(link.index).context(context)?,
        None => {}
    }
    rules::remove(network)
}
