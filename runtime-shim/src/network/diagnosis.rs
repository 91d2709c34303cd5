//! What on this host is in the way of containers' networks, for `system check`;
//! and packet filters that somebody removed with others' (`nft flush ruleset`),
//! to be put back.

use std::collections::HashSet;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::definition::{BRIDGE_PREFIX, Network};
use super::elements::Family;
use super::lease;
use super::rules::{self, PLACES};
use super::store::Networks;
use crate::failure::Result;

/// Something that is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub what: String,
    /// What can be done.
    pub hint: String,
}

/// Others' chains that drop what containers send and get, in the caller's network
/// namespace; to root.
pub fn diagnose() -> Vec<Finding> {
    chains().map(|chains| dropping(&chains)).unwrap_or_default()
}

/// Networks that containers are on and whose packet filters are gone.
pub fn without_filters(networks: &Networks) -> Result<Vec<Network>> {
    let mut used = Vec::new();
    for network in networks.existing()? {
        if !networks.leases(&network)?.is_empty() {
            used.push(network);
        }
    }
    if used.is_empty() {
        return Ok(used);
    }
    // Without nft there were none.
    let Some(chains) = chains() else { return Ok(Vec::new()) };
    let tables = tables(&chains);
    used.retain(|network| {
        Family::ALL.iter().any(|family| !tables.contains(&(family.word(), network.bridge.as_str())))
    });
    Ok(used)
}

/// Puts back what [`without_filters`] finds, and tells of which networks.
pub fn restore(networks: &Networks) -> Result<Vec<Network>> {
    let lost = without_filters(networks)?;
    for network in &lost {
        let locked = networks.lock(network)?;
        rules::install(&locked, &lease::all(&locked.dir)?)?;
    }
    Ok(lost)
}

fn tables(chains: &Value) -> HashSet<(&str, &str)> {
    let all = chains.get("nftables").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named = all.iter().filter_map(|entry| {
        let chain = entry.get("chain")?;
        Some((chain.get("family")?.as_str()?, chain.get("table")?.as_str()?))
    });
    named.collect()
}

/// All chains of packet filters, as nft describes them; none without nft.
fn chains() -> Option<Value> {
    for place in PLACES {
        let output =
            Command::new(place).args(["-j", "list", "chains"]).stdin(Stdio::null()).env_clear().output();
        match output {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => return Some(Value::Null),
            Ok(output) => return Some(serde_json::from_slice(&output.stdout).unwrap_or_default()),
        }
    }
    None
}

/// Others' chains that drop what they do not know. No rule of ours can overrule
/// them: a packet passes only what every chain lets pass.
fn dropping(chains: &Value) -> Vec<Finding> {
    let all = chains.get("nftables").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let found = all.iter().filter_map(|entry| {
        let chain = entry.get("chain")?;
        let field = |name: &str| chain.get(name).and_then(Value::as_str);
        let (family, table, name) = (field("family")?, field("table")?, field("name")?);
        let forwards = ["ip", "ip6", "inet"].contains(&family) && field("hook")? == "forward";
        let ours = table.starts_with(BRIDGE_PREFIX);
        if table == "firewalld" && forwards {
            // It rejects at the end of the chain, whatever the policy.
            return Some(Finding {
                what: "firewalld rejects what containers send and get, unless their bridges are in a zone \
                       that lets it pass"
                    .to_owned(),
                hint: format!(
                    "firewall-cmd --permanent --zone=trusted --add-interface={BRIDGE_PREFIX}0 \
                     (and the bridges of further networks), then firewall-cmd --reload"
                ),
            });
        }
        (forwards && field("policy")? == "drop" && !ours).then(|| Finding {
            what: format!("chain {name} of table {family} {table} drops what containers send and get"),
            hint: format!(
                "let it pass: nft 'insert rule {family} {table} {name} iifname \"{BRIDGE_PREFIX}*\" accept' \
                 and nft 'insert rule {family} {table} {name} oifname \"{BRIDGE_PREFIX}*\" \
                 ct state established,related accept' (and ct status dnat for published ports)"
            ),
        })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_that_drop_are_named() {
        let chains = r#"{"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "ip6", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
            {"chain": {"family": "ip", "table": "filter", "name": "DOCKER"}},
            {"chain": {"family": "inet", "table": "firewalld", "name": "filter_INPUT", "type": "filter", "hook": "input", "prio": 10, "policy": "accept"}},
            {"chain": {"family": "inet", "table": "firewalld", "name": "filter_FORWARD", "type": "filter", "hook": "forward", "prio": 10, "policy": "accept"}},
            {"chain": {"family": "inet", "table": "runion0", "name": "forward", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}
        ]}"#;
        let findings = dropping(&serde_json::from_str(chains).unwrap());
        assert_eq!(findings.len(), 2);
        assert!(findings[1].what.starts_with("firewalld rejects"));
        assert_eq!(findings[0].what, "chain FORWARD of table ip filter drops what containers send and get");
        assert!(dropping(&Value::Null).is_empty());
    }
}
