//! Which addresses a new network gets.

use std::net::{IpAddr, Ipv4Addr};

use super::definition::{DEFAULT, Network, New, Pool};
use super::store::random_ula;
use super::subnet::Subnet;
use crate::failure::{Failure, Result};

/// Where the default network's addresses are from, if they are free: sixteen
/// bits for it alone.
const FOR_THE_DEFAULT: Ipv4Addr = Ipv4Addr::new(10, 86, 0, 0);
/// Where all other networks' are from, 256 addresses each, in this order.
const FOR_OTHERS: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(10, 87, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];
/// The leading bits of a chosen network.
const CHOSEN: u8 = 24;
/// How often a random network of IPv6 is drawn before giving up.
const DRAWS: usize = 8;

/// The pools of a new network: the subnets asked for, and chosen ones that
/// overlap neither others nor the host's routes.
pub fn choose(new: &New, others: &[Network], routes: &[Subnet]) -> Result<Vec<Pool>> {
    let taken: Vec<Subnet> = others.iter().flat_map(|other| &other.subnets).map(|pool| pool.subnet).collect();
    let mut subnets = asked_for(new, &taken)?;
    let is_free = |subnet: &Subnet| taken.iter().chain(routes).all(|other| !other.overlaps(*subnet));
    if !subnets.iter().any(|subnet| subnet.is_ipv4()) {
        subnets.insert(0, free_ipv4(&new.name, is_free)?);
    }
    if new.ipv6 && subnets.iter().all(|subnet| subnet.is_ipv4()) {
        subnets.push(free_ipv6(is_free)?);
    }

    let mut pools = subnets.iter().map(|&subnet| pool(subnet)).collect::<Result<Vec<_>>>()?;
    for &gateway in &new.gateways {
        let pool = pools.iter_mut().find(|pool| pool.subnet.is_for_a_host(gateway));
        pool.ok_or_else(|| Failure::as_docker(format!("no matching subnet for gateway {gateway}")))?
            .gateway = gateway;
    }
    for &range in &new.ip_ranges {
        let pool = pools
            .iter_mut()
            .find(|pool| pool.subnet.contains(range.first()) && range.length() >= pool.subnet.length());
        pool.ok_or_else(|| Failure::as_docker(format!("no matching subnet for range {range}")))?.ip_range =
            Some(range);
    }
    Ok(pools)
}

/// The subnets that were asked for: one of a protocol, nobody else's.
fn asked_for(new: &New, taken: &[Subnet]) -> Result<Vec<Subnet>> {
    let mut subnets: Vec<Subnet> = Vec::new();
    for &subnet in &new.subnets {
        if subnets.iter().any(|other| other.is_ipv4() == subnet.is_ipv4()) {
            return Err(Failure::as_docker("multiple subnets of one protocol are not supported on a bridge")
                .hint("make a network for each"));
        }
        if taken.iter().any(|other| other.overlaps(subnet)) {
            return Err(Failure::as_docker("Pool overlaps with other one on this address space")
                .hint("`runion network inspect` shows the subnets of a network"));
        }
        if !subnet.is_ipv4() && !new.ipv6 {
            return Err(Failure::as_docker(format!("cannot use {subnet}: the network has no IPv6"))
                .hint("add --ipv6"));
        }
        let usual = match subnet.first() {
            IpAddr::V4(first) => !(first.is_loopback() || first.is_multicast() || first.octets()[0] == 0),
            IpAddr::V6(first) => {
                let own = first.is_loopback() || first.is_unicast_link_local();
                !(own || first.is_multicast() || first.is_unspecified())
            }
        };
        if !usual {
            return Err(Failure::as_docker(format!("cannot use {subnet}: not for machines of a network")));
        }
        subnets.push(subnet);
    }
    Ok(subnets)
}

/// A subnet whose first machine is the gateway, as docker has it.
fn pool(subnet: Subnet) -> Result<Pool> {
    match subnet.nth(1).filter(|gateway| subnet.is_for_a_host(*gateway) && subnet.nth(2).is_some()) {
        Some(gateway) => Ok(Pool { subnet, gateway, ip_range: None }),
        None => Err(Failure::as_docker(format!("cannot use {subnet}: too small for a network"))),
    }
}

fn free_ipv4(name: &str, is_free: impl Fn(&Subnet) -> bool) -> Result<Subnet> {
    let large = Subnet::new(FOR_THE_DEFAULT.into(), 16);
    if name == DEFAULT && is_free(&large) {
        return Ok(large);
    }
    let step = 1u32 << (32 - CHOSEN);
    let candidates = FOR_OTHERS.into_iter().flat_map(|(first, length)| {
        let count = 1u32 << (CHOSEN - length);
        (0..count).map(move |at| {
            let address = Ipv4Addr::from_bits(first.to_bits().saturating_add(at.saturating_mul(step)));
            Subnet::new(address.into(), CHOSEN)
        })
    });
    candidates.into_iter().find(is_free).ok_or_else(|| {
        Failure::as_docker(
            "could not find an available, non-overlapping IPv4 address pool among the defaults \
             to assign to the network",
        )
        .hint("give one with --subnet, or remove networks with `runion network prune`")
    })
}

fn free_ipv6(is_free: impl Fn(&Subnet) -> bool) -> Result<Subnet> {
    for _ in 0..DRAWS {
        let subnet = random_ula()?;
        if is_free(&subnet) {
            return Ok(subnet);
        }
    }
    Err(Failure::as_docker("could not find an available IPv6 network").hint("give one with --subnet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(texts: &[&str]) -> Vec<Subnet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn new(name: &str, asked: &[&str]) -> New {
        New { name: name.to_owned(), subnets: subnets(asked), ..New::default() }
    }

    fn chosen(new: &New, routes: &[&str]) -> String {
        match choose(new, &[], &subnets(routes)) {
            Ok(pools) => format!("{} {}", pools[0].subnet, pools[0].gateway),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn what_the_host_routes_is_not_chosen() {
        assert_eq!(chosen(&new(DEFAULT, &[]), &[]), "10.86.0.0/16 10.86.0.1");
        assert_eq!(chosen(&new(DEFAULT, &[]), &["10.86.3.0/24"]), "10.87.0.0/24 10.87.0.1");
        assert_eq!(chosen(&new("a", &[]), &["10.87.0.0/24"]), "10.87.1.0/24 10.87.1.1");
        assert_eq!(chosen(&new("a", &[]), &["10.0.0.0/8"]), "172.16.0.0/24 172.16.0.1");
        let all = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
        assert!(chosen(&new("a", &[]), &all).contains("could not find an available"));
    }

    #[test]
    fn what_is_asked_for_must_fit_together() {
        let mut asked = new("a", &["10.1.0.0/16"]);
        asked.gateways = vec!["10.1.2.3".parse().unwrap()];
        asked.ip_ranges = subnets(&["10.1.9.0/24"]);
        let pools = choose(&asked, &[], &[]).unwrap();
        assert_eq!((pools[0].gateway, pools[0].ip_range), (asked.gateways[0], Some(asked.ip_ranges[0])));
        asked.gateways = vec!["10.2.2.3".parse().unwrap()];
        assert!(chosen(&asked, &[]).contains("no matching subnet for gateway 10.2.2.3"));
        asked.gateways = vec!["10.1.255.255".parse().unwrap()];
        assert!(chosen(&asked, &[]).contains("no matching subnet for gateway"));
        asked.gateways.clear();
        asked.ip_ranges = subnets(&["10.0.0.0/8"]);
        assert!(chosen(&asked, &[]).contains("no matching subnet for range 10.0.0.0/8"));
        for odd in ["127.0.0.0/8", "224.0.0.0/8", "0.0.0.0/0", "10.0.0.0/31", "10.0.0.0/32"] {
            assert!(chosen(&new("a", &[odd]), &[]).contains("cannot use"), "{odd}");
        }
    }

    #[test]
    fn a_network_with_ipv6_gets_one_of_its_own() {
        let pools = choose(&New { ipv6: true, ..new("a", &[]) }, &[], &[]).unwrap();
        assert!(subnets(&["fd00::/8"])[0].contains(pools[1].gateway));
        assert_eq!(pools[1].subnet.length(), 64);
    }
}
