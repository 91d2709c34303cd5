//! A container comes to its networks, and goes.
//!
//! For each network, in this order: the lease is written; bridge and rules are
//! made if they are missing; the container's elements are added to the rules'
//! sets; a cable is laid into its namespace, its inner end gets addresses and
//! routes, its outer end becomes a port of the bridge. Going is the reverse,
//! each step of which is fine with finding nothing, and takes no more than the
//! lease: what a killed process left, the next one removes.

use std::collections::HashSet;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::bridge;
use super::definition::Network;
use super::elements::{self, Rules, Settling};
use super::flows;
use super::inside::{self, inside};
use super::lease::{self, Holder, Lease, Wish, link_name};
use super::links::{Cable, Link, Links};
use super::ports::{Port, Publish};
use super::relay::{self, LedBy, Relay};
use super::reservation::{self, Owner, Reserved};
use super::rules;
use super::store::{Locked, Networks};
use crate::failure::{Context, Failure, Result};

/// A container that is to be on networks.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Its id.
    pub container: String,
    /// Its name.
    pub name: String,
    /// What it calls itself.
    pub hostname: String,
    /// Where it is to be: the first is where it is reached by its published
    /// ports, and where it reaches others by.
    pub networks: Vec<Wish>,
    /// What is published.
    pub publish: Vec<Publish>,
    /// Who leads packets there.
    pub led_by: LedBy,
}

/// A container's place on one network.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The network.
    pub network: Network,
    /// What it has there.
    pub lease: Lease,
}

/// A container that is on its networks.
#[derive(Debug)]
pub struct Attached {
    /// Its places, in the order they were asked for.
    pub endpoints: Vec<Endpoint>,
    /// What is published, with the ports that were chosen.
    pub ports: Vec<Port>,
    /// Keeps the host's ports: to be held as long as the container runs.
    pub reserved: Vec<OwnedFd>,
    /// The ports of those whose connections somebody must pass on.
    pub relays: Vec<Relay>,
}

/// Takes the host's ports for a container, before anything is made. Where the
/// networks are in a namespace of their own, this is called outside of it.
pub fn reserve(networks: &Networks, request: &Request) -> Result<Reserved> {
    let found = find(networks, request)?;
    match publisher(&found).and_then(|at| found.get(at)) {
        Some(_) if !request.publish.is_empty() => {
            reservation::reserve(&request.publish, &owners(networks, &request.container)?)
        }
        _ => Ok(Reserved::default()),
    }
}

fn find<'a>(networks: &Networks, request: &'a Request) -> Result<Vec<(Network, &'a Wish)>> {
    request.networks.iter().map(|wish| Ok((networks.find(&wish.network)?, wish))).collect()
}

/// The network on which ports are published: from an internal one nothing is,
/// as docker has it.
fn publisher(networks: &[(Network, &Wish)]) -> Option<usize> {
    networks.iter().position(|(network, _)| !network.internal)
}

/// Puts a container on its networks, or on none of them, with the ports that
/// were reserved for it. What an earlier life of it left goes first.
pub fn attach(
    networks: &Networks,
    request: &Request,
    mut reserved: Reserved,
    namespace: BorrowedFd,
) -> Result<Attached> {
    detach(networks, &request.container, Namespace::Stays)?;
    let wishes = find(networks, request)?;
    let publisher = publisher(&wishes);
    let ports = reserved.ports.clone();

    let mut endpoints = Vec::new();
    for (at, (network, wish)) in wishes.into_iter().enumerate() {
        let ports = match publisher == Some(at) {
            true => std::mem::take(&mut reserved.ports),
            false => Vec::new(),
        };
        let place = Place { network, wish, number: at, ports };
        match join(networks, request, place, namespace) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(failure) => {
                let undone = detach(networks, &request.container, Namespace::Stays);
                return Err(after(undone, failure));
            }
        }
    }
    if endpoints.is_empty() {
        inside(namespace, || raise(&mut open_links()?, "lo"))?;
    }
    let relays = match publisher.and_then(|at| endpoints.get(at)) {
        Some(endpoint) => relays(&ports, &reserved.sockets, &endpoint.lease, request.led_by)?,
        None => Vec::new(),
    };
    Ok(Attached { endpoints, ports, reserved: reserved.sockets, relays })
}

/// A failure, and what could not be undone after it.
fn after(undone: Result<Settling>, failure: Failure) -> Failure {
    match undone {
        Ok(_settling) => failure,
        Err(_second) => failure.hint("something of it is left: `runion system prune` removes that"),
    }
}

fn relays(ports: &[Port], sockets: &[OwnedFd], lease: &Lease, led_by: LedBy) -> Result<Vec<Relay>> {
    let relay = |(port, socket): (&Port, &OwnedFd)| {
        let to = relay::target(port, lease, led_by)?;
        Some(socket.try_clone().map(|socket| Relay { socket, protocol: port.protocol, to }))
    };
    let relays = ports.iter().zip(sockets).filter_map(relay);
    relays.collect::<io::Result<_>>().context(|| "cannot share a socket".to_owned())
}

/// Puts a container that is running on one more network.
pub fn connect(networks: &Networks, holder: &Holder, wish: &Wish, namespace: BorrowedFd) -> Result<Endpoint> {
    check_id(holder.container)?;
    let network = networks.find(&wish.network)?;
    let taken: HashSet<String> =
        endpoints(networks, holder.container)?.into_iter().map(|endpoint| endpoint.lease.interface).collect();
    let number = (0..).find(|number| !taken.contains(&interface(*number))).unwrap_or(taken.len());
    let request = Request {
        container: holder.container.to_owned(),
        name: holder.name.to_owned(),
        hostname: holder.hostname.to_owned(),
        ..Request::default()
    };
    let existing = lease::of(&networks.dir_of(&network), holder.container)?;
    let place = Place { network: network.clone(), wish, number, ports: Vec::new() };
    join(networks, &request, place, namespace).map_err(|failure| match existing {
        Some(_stays) => failure,
        None => after(leave(networks, &network, holder.container, Namespace::Stays), failure),
    })
}

/// Takes a container off one network.
pub fn disconnect(networks: &Networks, network: &str, container: &str) -> Result<()> {
    check_id(container)?;
    let network = networks.find(network)?;
    if lease::of(&networks.dir_of(&network), container)?.is_none() {
        return Err(Failure::as_docker(format!(
            "container {container} is not connected to network {}",
            network.name
        )));
    }
    leave(networks, &network, container, Namespace::Stays).map(drop)
}

/// What becomes of the namespace that a container's cables lead into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Its last process has ended, or is about to: the kernel removes the
    /// cables with it, on its own time. They are unplugged, which takes half a
    /// millisecond, where removing them takes forty.
    Ends,
    /// It stays, or nobody knows.
    Stays,
}

/// Takes a container off all its networks. That it is on none is fine.
///
/// What it gives is best dropped last of all.
pub fn detach(networks: &Networks, container: &str, namespace: Namespace) -> Result<Settling> {
    check_id(container)?;
    let mut result = Ok(Settling::default());
    for network in networks.existing()? {
        if lease::dir(&networks.dir_of(&network)).join(container).exists() {
            // All are tried; the first failure is told.
            let left = leave(networks, &network, container, namespace);
            result = result.and_then(|before| left.map(|now| before.and(now)));
        }
    }
    result
}

/// Takes the containers that are no longer alive off their networks, and gives
/// their ids. One that is being made must count as alive.
pub fn sweep(networks: &Networks, is_alive: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for network in networks.existing()? {
        for container in lease::holders(&networks.dir_of(&network))? {
            if !is_alive(&container) {
                leave(networks, &network, &container, Namespace::Stays)?;
                swept.push(container);
            }
        }
    }
    swept.sort();
    swept.dedup();
    Ok(swept)
}

/// Where a container is.
pub fn endpoints(networks: &Networks, container: &str) -> Result<Vec<Endpoint>> {
    check_id(container)?;
    let mut found = Vec::new();
    for network in networks.existing()? {
        if let Some(lease) = lease::of(&networks.dir_of(&network), container)? {
            found.push(Endpoint { network, lease });
        }
    }
    found.sort_by(|one, other| one.lease.interface.cmp(&other.lease.interface));
    Ok(found)
}

/// Calls a container by another name on all its networks: its neighbours find it by that.
pub fn rename(networks: &Networks, container: &str, name: &str) -> Result<()> {
    for endpoint in endpoints(networks, container)? {
        lease::rename(&networks.lock(&endpoint.network)?, container, name)?;
    }
    Ok(())
}

/// One network of a request.
struct Place<'a> {
    network: Network,
    wish: &'a Wish,
    /// The number in its interface's name.
    number: usize,
    ports: Vec<Port>,
}

fn join(networks: &Networks, request: &Request, place: Place, namespace: BorrowedFd) -> Result<Endpoint> {
    let Request { container, name, hostname, .. } = request;
    let mut links = open_links()?;
    let mut locked = networks.lock(&place.network)?;
    if locked.network.is_default() && bridge::is_anothers(&mut links, &locked.network)? {
        // Another store's, which was not there when names were chosen.
        if let Some(renewed) = networks.renew_default(locked)? {
            return join(networks, request, Place { network: renewed, ..place }, namespace);
        }
        locked = networks.lock(&place.network)?;
    }
    let bridge = bridge::raise(&mut links, &locked.network)?;
    let holder = Holder { container, name, hostname };
    let lease = lease::grant(&locked, place.wish, &holder, &interface(place.number), place.ports)?;
    admit(&locked, &lease)?;
    let network = locked.network.clone();
    drop(locked);

    lay(&mut links, &network, &lease, bridge.index, namespace)?;
    inside(namespace, || configure(&network, &lease, place.number))?;
    // The bridge too: it is down while it has no port that is up.
    for name in [&lease.link(&network), &network.bridge] {
        links.settle(name).context(|| format!("cannot wait for {name}"))?;
    }
    Ok(Endpoint { network, lease })
}

/// Lays a cable between the container and the bridge.
fn lay(
    links: &mut Links,
    network: &Network,
    lease: &Lease,
    bridge: u32,
    namespace: BorrowedFd,
) -> Result<()> {
    let cannot =
        |what: &str| format!("cannot {what} of container {} on network {}", lease.name, network.name);
    let name = lease.link(network);
    let cable = Cable { name: &name, namespace, peer: &lease.interface, mac: lease.mac, mtu: network.mtu() };
    match links.add_cable(&cable) {
        // Its own from before, which is just going with its namespace.
        Err(Errno::EXIST) => {
            remove_cable(links, &name, &lease.container).context(|| cannot("replace the link"))?;
            links.add_cable(&cable)
        }
        made => made,
    }
    .context(|| cannot("make the link"))?;
    // The host has no addresses on this end and must not make up any.
    inside::set_for_link("ipv6", &name, "disable_ipv6", "1")?;
    let index = links.find(&name).context(|| cannot("find the link"))?.map_or(0, |link| link.index);
    links.plug(index, bridge, &alias(&lease.container)).context(|| cannot("plug the link"))?;
    if lease.ports.is_empty() {
        return Ok(());
    }
    // To its own published port and back, where bridged frames pass the
    // filters of IP and never leave the bridge.
    links.reflect(index).context(|| cannot("set up the link"))
}

/// What is done for one network inside the container.
fn configure(network: &Network, lease: &Lease, number: usize) -> Result<()> {
    let mut links = open_links()?;
    raise(&mut links, "lo")?;
    let name = &lease.interface;
    let context = || format!("cannot set up {name}");
    let link = links.find(name).context(context)?.ok_or_else(|| Failure::new(format!("no link {name}")))?;
    let addresses = lease.addresses(network);
    if addresses.iter().any(|(address, _)| address.is_ipv6()) {
        inside::set_for_link("ipv6", name, "disable_ipv6", "0")?;
        // The address on the link alone must be the one that the bridge knows.
        inside::set_for_link("ipv6", name, "addr_gen_mode", "0")?;
    }
    inside::set_for_link("ipv6", name, "accept_ra", "0")?;
    for (address, pool) in &addresses {
        links.add_address(link.index, *address, pool.subnet.length()).context(context)?;
    }
    links.raise(link.index).context(context)?;
    links.settle(name).context(context)?;
    links.settle_addresses(link.index).context(context)?;
    for (_, pool) in addresses.iter().filter(|_| !network.internal) {
        // Of several networks the first is the way out; the next takes over
        // when the container leaves it.
        let metric = u32::try_from(number).unwrap_or_default();
        match links.add_default_route(link.index, pool.gateway, metric) {
            Err(Errno::EXIST) => {}
            added => added.context(|| format!("cannot route by {}", pool.gateway))?,
        }
    }
    Ok(())
}

/// Lets the bridge take what the container sends, and leads ports to it.
fn admit(on: &Locked, lease: &Lease) -> Result<()> {
    let elements = elements::of(&on.network, lease);
    let context = || format!("cannot change the packet filters of network {}", on.network.name);
    match elements::add(&on.network.bridge, &elements).context(context)? {
        Rules::Present => {}
        Rules::Absent => rules::install(on, &lease::all(&on.dir)?)?,
    }
    flows::forget(lease).context(context)
}

fn leave(networks: &Networks, network: &Network, container: &str, namespace: Namespace) -> Result<Settling> {
    let locked = networks.lock(network)?;
    let context = || format!("cannot take container {container} off network {}", network.name);
    let settling = match lease::of(&locked.dir, container)? {
        Some(lease) => {
            let elements = elements::of(network, &lease);
            let settling = elements::remove(&network.bridge, &elements).context(context)?;
            flows::forget(&lease).context(context)?;
            settling
        }
        None => Settling::default(),
    };
    let (mut links, link) = (open_links()?, link_name(network, container));
    match namespace {
        Namespace::Stays => remove_cable(&mut links, &link, container).context(context)?,
        Namespace::Ends => {
            if let Some(cable) = cable_of(&mut links, &link, container).context(context)? {
                links.unplug(cable.index).context(context)?;
            }
        }
    }
    lease::forget(&locked, container).map(|()| settling)
}

fn remove_cable(links: &mut Links, name: &str, container: &str) -> Result<(), Errno> {
    cable_of(links, name, container)?.map_or(Ok(()), |cable| links.remove(cable.index))
}

/// A link of this name that is not another's.
fn cable_of(links: &mut Links, name: &str, container: &str) -> Result<Option<Link>, Errno> {
    let found = links.find(name)?;
    Ok(found.filter(|link| link.alias.as_ref().is_none_or(|found| *found == alias(container))))
}

/// The ports of all other containers.
fn owners(networks: &Networks, container: &str) -> Result<Vec<Owner>> {
    let mut owners = Vec::new();
    for network in networks.existing()? {
        for lease in networks.leases(&network)? {
            if lease.container != container {
                let owner = |port: &Port| Owner { port: *port, container: lease.name.clone() };
                owners.extend(lease.ports.iter().map(owner));
            }
        }
    }
    Ok(owners)
}

fn raise(links: &mut Links, name: &str) -> Result<()> {
    let context = || format!("cannot bring {name} up");
    match links.find(name).context(context)? {
        Some(link) => links.raise(link.index).context(context),
        None => Err(Failure::new(context())),
    }
}

fn open_links() -> Result<Links> {
    Links::open().context(|| "cannot ask for links".to_owned())
}

fn interface(number: usize) -> String {
    format!("eth{number}")
}

fn alias(container: &str) -> String {
    format!("runion container {container}")
}

/// An id is a file's name, and part of a link's.
fn check_id(container: &str) -> Result<()> {
    let fine = !container.is_empty()
        && container.len() <= 128
        && container.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if fine { Ok(()) } else { Err(Failure::new(format!("{container:?} is no container's id"))) }
}
