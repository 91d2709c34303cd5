//! What on this host is in the way of containers' networks, for `system check`.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::definition::BRIDGE_PREFIX;
use super::rules::PLACES;

/// Something that is missing or in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub what: String,
    /// What can be done.
    pub hint: String,
}

/// Looks, as root, at the caller's network namespace.
pub fn diagnose() -> Vec<Finding> {
    let mut findings = Vec::new();
    match chains() {
        None => findings.push(Finding {
            what: "nft is not installed: containers have no network but host and none".to_owned(),
            hint: "install the package nftables".to_owned(),
        }),
        Some(chains) => findings.extend(dropping(&chains)),
    }
    if fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|state| state.trim_end() == "0")
        && fs::metadata("/proc/sys/net/ipv4/ip_forward").is_ok_and(|file| file.permissions().readonly())
    {
        findings.push(Finding {
            what: "this host forwards no packets, and that cannot be changed from here".to_owned(),
            hint: "outside of this container, as root: sysctl net.ipv4.ip_forward=1".to_owned(),
        });
    }
    findings
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
