//! The packet filters of a network: one table of family `inet` and one of
//! family `bridge`, both named as its bridge, and nothing else of the host's.
//!
//! What they promise:
//!
//! - A published port is led to its container from exactly the addresses asked
//!   for, from the host itself (127.0.0.1 too) and from neighbours on the same
//!   bridge; what is published on 127.0.0.1 is not there for other machines.
//! - Containers reach others through the host under its address, and are
//!   reached from outside by published ports and answers only.
//! - Nothing passes between two of our bridges. From an internal network
//!   nothing passes at all, and of the host only the bridge's own address is
//!   reached.
//! - 127.0.0.0/8 of the host is not there for containers, although the bridge
//!   routes it (for answers to the host's own 127.0.0.1).
//! - On the bridge a container sends from its own addresses alone, says of no
//!   other address that it has it, and is no router.
//!
//! What they cannot: overrule another's `drop`. Every table's verdict counts,
//! so a firewall that drops forwarded packets needs an exception for `runion*`.
//! Where bridged frames pass the filters of IP too
//! (`net.bridge.bridge-nf-call-iptables`), what stays on one bridge is accepted
//! by name.

use std::io::Write;
use std::process::{Command, Stdio};

use super::definition::{BRIDGE_PREFIX, Network};
use super::elements::{self, Family, SETS};
use super::lease::{Lease, link_prefix};
use super::store::Locked;
use crate::failure::{Context, Failure, Result};

/// Where systems keep `nft`, which are not always on a user's PATH.
pub const PLACES: [&str; 5] = ["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft", "/usr/bin/nft", "nft"];

/// Puts a network's rules into the kernel, with the elements of these leases,
/// in place of what is there: all at once.
///
/// Should this process be killed, nft goes on: it holds the network's lock too,
/// so that nobody looks before it is done.
pub fn install(on: &Locked, leases: &[Lease]) -> Result<()> {
    let network = &on.network;
    let text = ruleset(network, leases);
    let context = || format!("cannot set up packet filters for network {}", network.name);
    for place in PLACES {
        let child = Command::new(place)
            .args(["-f", "-"])
            .env_clear()
            .stdin(Stdio::piped())
            // It says nothing there.
            .stdout(on.shared().context(context)?)
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            child => child.context(context)?,
        };
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(text.as_bytes()));
        let output = child.wait_with_output().context(context)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().next().unwrap_or("nft failed without a word");
            return Err(Failure::new(format!("{}: {first}", context()))
                .hint("it takes a kernel with nf_tables for inet, bridge and nat, and nft 1.0 or newer"));
        }
        return written.context(context);
    }
    Err(Failure::new(format!("{}: nft is not installed", context()))
        .hint("install the package nftables, or use --network host or none"))
}

/// Removes a network's rules, if they are there.
pub fn remove(network: &Network) -> Result<()> {
    for family in Family::ALL {
        elements::remove_table(family, &network.bridge)
            .context(|| format!("cannot remove the packet filters of network {}", network.name))?;
    }
    Ok(())
}

fn ruleset(network: &Network, leases: &[Lease]) -> String {
    let table = &network.bridge;
    let mut text = String::new();
    for family in Family::ALL {
        let word = family.word();
        // Adding it first lets the deletion succeed.
        text += &format!("add table {word} {table}\ndelete table {word} {table}\ntable {word} {table} {{\n");
        for (_, name, kind) in SETS.iter().filter(|(of, ..)| *of == family) {
            text += &format!("{name} {{ {kind}; }}\n");
        }
        text += &match family {
            Family::Inet => publishing(network) + &forwarding(network) + &loopback(network),
            Family::Bridge => own_addresses_only(network),
        };
        text += "}\n";
    }
    for element in leases.iter().flat_map(|lease| elements::of(network, lease)) {
        let (family, set) = (element.family.word(), element.set);
        text += &format!("add element {family} {table} {set} {{ {} }}\n", element.text());
    }
    text
}

/// Address translation, both ways.
fn publishing(network: &Network) -> String {
    let bridge = &network.bridge;
    let mut text = format!(
        r#"
chain publish {{
    dnat ip to ip daddr . meta l4proto . th dport map @exact4
    dnat ip to meta l4proto . th dport map @wide4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @exact6
    dnat ip6 to meta l4proto . th dport map @wide6
}}
chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    # Led on before routing, it would not be seen as the nonsense it is.
    ip daddr 127.0.0.0/8 accept
    fib daddr type local jump publish
}}
chain output {{
    type nat hook output priority -100; policy accept;
    # The kernel lets nothing back to ::1 by another link: see `relay`.
    ip6 daddr ::1 accept
    fib daddr type local jump publish
}}
chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{bridge}" ip saddr 127.0.0.0/8 masquerade
"#
    );
    for pool in &network.subnets {
        let saddr = match pool.subnet.is_ipv4() {
            true => "ip saddr",
            false => "ip6 saddr",
        };
        let subnet = pool.subnet;
        // To a neighbour through the host: the answer must come back this way.
        text += &format!("    oifname \"{bridge}\" ct status dnat {saddr} {subnet} masquerade\n");
        if network.is_disguised() {
            text += &format!("    oifname != \"{bridge}\" {saddr} {subnet} masquerade\n");
        }
    }
    text + "}\n"
}

/// What passes through the host.
fn forwarding(network: &Network) -> String {
    let bridge = &network.bridge;
    let outside = match network.internal {
        true => format!(
            r#"
    iifname "{bridge}" drop
    oifname "{bridge}" drop
"#
        ),
        false => format!(
            r#"
    iifname "{bridge}" oifname "{BRIDGE_PREFIX}*" drop
    iifname "{BRIDGE_PREFIX}*" oifname "{bridge}" drop
    iifname "{bridge}" accept
    oifname "{bridge}" ct state established,related accept
    oifname "{bridge}" ct status dnat accept
    oifname "{bridge}" drop
"#
        ),
    };
    format!(
        r#"
chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{bridge}" oifname "{bridge}" accept
    {outside}
}}
"#
    )
}

/// What the host itself takes.
fn loopback(network: &Network) -> String {
    let bridge = &network.bridge;
    let mut text = format!(
        r#"
chain loopback {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{bridge}" ip daddr 127.0.0.0/8 drop
    iifname "{bridge}" ip saddr 127.0.0.0/8 drop
}}
chain input {{
    type filter hook input priority filter; policy accept;
"#
    );
    if network.internal {
        for pool in &network.subnets {
            let (daddr, also) = match pool.subnet.is_ipv4() {
                true => ("ip daddr", "255.255.255.255"),
                false => ("ip6 daddr", "fe80::/10, ff02::/16"),
            };
            let subnet = pool.subnet;
            text += &format!("    iifname \"{bridge}\" {daddr} != {{ {subnet}, {also} }} drop\n");
        }
    }
    text + "}\n"
}

/// What a container's port of the bridge takes from it.
fn own_addresses_only(network: &Network) -> String {
    let prefix = link_prefix(network);
    let between = match network.is_open_inside() {
        true => String::new(),
        false => format!(
            r#"
chain between {{
    type filter hook forward priority filter; policy accept;
    iifname "{prefix}*" oifname "{prefix}*" drop
}}
"#
        ),
    };
    between
        + &format!(
            r#"
chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    iifname != "{prefix}*" accept
    iifname . ether saddr != @macs drop
    ether type ip iifname . ether saddr . ip saddr @ends4 accept
    ether type arp arp htype 1 arp ptype ip iifname . arp saddr ether . arp saddr ip @ends4 accept
    icmpv6 type {{ nd-router-advert, nd-redirect }} drop
    icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets drop
    ether type ip6 iifname . ether saddr . ip6 saddr @ends6 accept
    drop
}}
"#
        )
}
