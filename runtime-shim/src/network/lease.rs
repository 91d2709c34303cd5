//! What a container has on a network: one file, named by the container's id.
//!
//! The file is written before anything of it exists in the kernel and removed
//! after all of it is gone, so whoever finds it can undo what it says. It is
//! whole under its name (written aside, then renamed); one that is not, after
//! the machine itself went down, says at least whose it was.
//!
//! Addresses are handed out under the network's lock.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::definition::{Network, Pool};
use super::inside::has_ipv6;
use super::ports::Port;
use super::store::{Locked, absent, names_in};
use super::subnet::Mac;
use crate::failure::{Context, Failure, Result};

/// A container's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The container's id.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// What it calls itself.
    pub hostname: String,
    /// Further names on this network.
    pub aliases: Vec<String>,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its address of IPv6, where the network has that.
    pub address6: Option<Ipv6Addr>,
    /// Its hardware address.
    pub mac: Mac,
    /// The name of its end of the cable.
    pub interface: String,
    /// Its ports that are published on this network.
    pub ports: Vec<Port>,
}

/// What a container wants on a network.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The network's name, or the beginning of its id.
    pub network: String,
    /// This address and no other.
    pub ip: Option<Ipv4Addr>,
    /// This address of IPv6 and no other.
    pub ip6: Option<Ipv6Addr>,
    /// This hardware address and no other.
    pub mac: Option<Mac>,
    /// Further names on this network.
    pub aliases: Vec<String>,
}

/// Who it is for.
#[derive(Clone, Debug)]
pub struct Holder<'a> {
    /// The container's id.
    pub container: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What it calls itself.
    pub hostname: &'a str,
}

impl Lease {
    /// Its end of the cable on the host, as far as names there go.
    pub fn link(&self, network: &Network) -> String {
        link_name(network, &self.container)
    }

    /// Its addresses, with the length of their networks.
    pub fn addresses(&self, network: &Network) -> Vec<(IpAddr, Pool)> {
        let of = |address: IpAddr, pool: Option<&Pool>| pool.map(|pool| (address, *pool));
        let older = of(self.address.into(), network.ipv4());
        let newer = self.address6.and_then(|address| of(address.into(), network.ipv6()));
        older.into_iter().chain(newer).collect()
    }
}

/// What the names of all links of a network begin with.
pub fn link_prefix(network: &Network) -> String {
    format!("rn{}-", network.number().unwrap_or_default())
}

/// The name of a container's link: names have 15 bytes.
pub fn link_name(network: &Network, container: &str) -> String {
    link_prefix(network).chars().chain(container.chars()).take(libc::IFNAMSIZ - 1).collect()
}

/// Where a network's leases are.
pub fn dir(network: &Path) -> PathBuf {
    network.join("leases")
}

/// All leases of a network, by address.
pub fn all(network: &Path) -> Result<Vec<Lease>> {
    let dir = dir(network);
    let mut leases = Vec::new();
    for name in names_in(&dir)? {
        leases.extend(read(&dir.join(name))?);
    }
    leases.sort_by_key(|lease| lease.address);
    Ok(leases)
}

/// The containers that have something on a network, even where nobody can read what.
pub fn holders(network: &Path) -> Result<Vec<String>> {
    names_in(&dir(network))
}

/// What one container has on a network.
pub fn of(network: &Path, container: &str) -> Result<Option<Lease>> {
    read(&dir(network).join(container))
}

fn read(file: &Path) -> Result<Option<Lease>> {
    match fs::read(file) {
        Err(error) if absent(&error) => Ok(None),
        // Nothing outlives the machine's going down but the file, which then
        // waits for a sweep.
        text => Ok(serde_json::from_slice(&text.context(|| format!("cannot read {}", file.display()))?).ok()),
    }
}

/// Hands out what is wished for, and writes it down.
pub fn grant(on: &Locked, wish: &Wish, holder: &Holder, interface: &str, ports: Vec<Port>) -> Result<Lease> {
    let others = all(&on.dir)?;
    if others.iter().any(|other| other.container == holder.container) {
        return Err(Failure::as_docker(format!(
            "endpoint with name {} already exists in network {}",
            holder.name, on.network.name
        )));
    }
    let taken: HashSet<IpAddr> = others
        .iter()
        .flat_map(|other| [Some(other.address.into()), other.address6.map(IpAddr::from)])
        .flatten()
        .collect();
    if on.network.is_default() && (wish.ip.is_some() || wish.ip6.is_some()) {
        return Err(Failure::as_docker(
            "user specified IP address is supported on user defined networks only",
        ));
    }
    let lowest_free = |pool: &Pool, fixed: Option<IpAddr>| match fixed {
        Some(address) => check(pool, address, &taken).map(|()| address),
        None => lowest_free(&on.network, pool, &taken),
    };
    let older = on.network.ipv4().map(|pool| lowest_free(pool, wish.ip.map(IpAddr::from))).transpose()?;
    let newer = on
        .network
        .ipv6()
        .filter(|_| has_ipv6())
        .map(|pool| lowest_free(pool, wish.ip6.map(IpAddr::from)))
        .transpose()?;
    if let (Some(address), None) = (wish.ip6, newer) {
        return Err(not_of_this_network(address.into()));
    }
    let Some(IpAddr::V4(address)) = older else {
        return Err(Failure::failed(format!("network {} has no addresses of IPv4", on.network.name)));
    };
    let mac = wish.mac.unwrap_or_else(|| Mac::of(address));
    if others.iter().any(|other| other.mac == mac) {
        return Err(Failure::as_docker(format!("cannot use {mac}: another container's hardware address")));
    }
    let lease = Lease {
        container: holder.container.to_owned(),
        name: holder.name.to_owned(),
        hostname: holder.hostname.to_owned(),
        aliases: wish.aliases.clone(),
        address,
        address6: newer.and_then(|address| match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        }),
        mac,
        interface: interface.to_owned(),
        ports,
    };
    write(on, &lease)?;
    Ok(lease)
}

/// Calls a container by another name, if it is there.
pub fn rename(on: &Locked, container: &str, name: &str) -> Result<()> {
    match of(&on.dir, container)? {
        Some(lease) => write(on, &Lease { name: name.to_owned(), ..lease }),
        None => Ok(()),
    }
}

/// Forgets what a container had; that it had nothing is fine.
pub fn forget(on: &Locked, container: &str) -> Result<()> {
    let file = dir(&on.dir).join(container);
    match fs::remove_file(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.context(|| format!("cannot remove {}", file.display())),
    }
}

fn write(on: &Locked, lease: &Lease) -> Result<()> {
    let dir = dir(&on.dir);
    let file = dir.join(&lease.container);
    let context = || format!("cannot write {}", file.display());
    let text = serde_json::to_vec(lease).context(context)?;
    // One name is enough under the network's lock, and is written over after a kill.
    let aside = dir.join(".new");
    fs::write(&aside, text).context(context)?;
    fs::rename(&aside, &file).context(context)
}

fn check(pool: &Pool, address: IpAddr, taken: &HashSet<IpAddr>) -> Result<()> {
    if !pool.subnet.is_for_a_host(address) {
        return Err(not_of_this_network(address));
    }
    match address == pool.gateway || taken.contains(&address) {
        true => Err(Failure::as_docker("Address already in use")),
        false => Ok(()),
    }
}

fn not_of_this_network(address: IpAddr) -> Failure {
    Failure::as_docker(format!(
        "Invalid address {address}: It does not belong to any of this network's subnets"
    ))
}

fn lowest_free(network: &Network, pool: &Pool, taken: &HashSet<IpAddr>) -> Result<IpAddr> {
    let range = pool.ip_range.unwrap_or(pool.subnet);
    (0..)
        .map_while(|offset| range.nth(offset))
        .find(|address| {
            pool.subnet.is_for_a_host(*address) && *address != pool.gateway && !taken.contains(address)
        })
        .ok_or_else(|| {
            let protocol = if pool.subnet.is_ipv4() { "IPv4" } else { "IPv6" };
            Failure::as_docker(format!(
                "no available {protocol} addresses on this network's address pools: {} ({})",
                network.name, network.id
            ))
        })
}
