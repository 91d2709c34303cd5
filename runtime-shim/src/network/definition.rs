//! What a network is: plain data, as its file has it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::subnet::Subnet;
use crate::failure::{Failure, Result};

/// The network of containers that name none.
pub const DEFAULT: &str = "bridge";
/// What every bridge's name begins with.
pub const BRIDGE_PREFIX: &str = "runion";

/// Docker's options of a bridge that mean something here; others are kept and
/// mean nothing.
const MTU: [&str; 2] = ["com.docker.network.driver.mtu", "mtu"];
const DISGUISE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const NEIGHBOURS: &str = "com.docker.network.bridge.enable_icc";
/// IPv6 takes 1280; above is what a link can have.
const MTUS: std::ops::RangeInclusive<u32> = 68..=65_535;

/// A network, as its file has it and `inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// When it was made.
    pub created: String,
    /// `bridge`: there is no other.
    pub driver: String,
    /// One of IPv4, and one of IPv6 where it has that.
    pub subnets: Vec<Pool>,
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// Whether nobody outside is reached from it.
    pub internal: bool,
    /// The user's marks.
    pub labels: BTreeMap<String, String>,
    /// The user's options.
    pub options: BTreeMap<String, String>,
    /// The bridge's name: `runion` and a number.
    pub bridge: String,
}

/// Addresses that a network hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// All of them.
    pub subnet: Subnet,
    /// The bridge's own.
    pub gateway: IpAddr,
    /// Those that are handed out to containers that ask for none in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<Subnet>,
}

/// A network to be made.
#[derive(Clone, Debug, Default)]
pub struct New {
    /// Its name.
    pub name: String,
    /// Its subnets; what is missing is chosen.
    pub subnets: Vec<Subnet>,
    /// Gateways, each in one of the subnets.
    pub gateways: Vec<IpAddr>,
    /// Ranges, each in one of the subnets.
    pub ip_ranges: Vec<Subnet>,
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// Whether nobody outside is reached from it.
    pub internal: bool,
    /// The user's marks.
    pub labels: BTreeMap<String, String>,
    /// The user's options.
    pub options: BTreeMap<String, String>,
}

impl Network {
    /// The number in the bridge's name.
    pub fn number(&self) -> Option<u32> {
        self.bridge.strip_prefix(BRIDGE_PREFIX)?.parse().ok()
    }

    /// Its addresses of IPv4.
    pub fn ipv4(&self) -> Option<&Pool> {
        self.subnets.iter().find(|pool| pool.subnet.is_ipv4())
    }

    /// Its addresses of IPv6.
    pub fn ipv6(&self) -> Option<&Pool> {
        self.subnets.iter().find(|pool| !pool.subnet.is_ipv4()).filter(|_| self.ipv6)
    }

    /// Whether it is the one that is always there.
    pub fn is_default(&self) -> bool {
        self.name == DEFAULT
    }

    /// The largest packet, where it is not the usual one.
    pub fn mtu(&self) -> Option<u32> {
        MTU.iter().find_map(|name| self.options.get(*name)?.parse().ok())
    }

    /// Whether its containers are the host to others outside.
    pub fn is_disguised(&self) -> bool {
        !self.internal && !self.has_switched_off(DISGUISE)
    }

    /// Whether its containers reach each other.
    pub fn is_open_inside(&self) -> bool {
        !self.has_switched_off(NEIGHBOURS)
    }

    fn has_switched_off(&self, option: &str) -> bool {
        self.options.get(option).is_some_and(|value| value == "false")
    }

    /// What is written on its bridge, so that nobody else's is taken for it.
    pub fn mark(&self) -> String {
        format!("runion network {}", self.id)
    }
}

/// Docker's rule for names.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && text.len() <= 200
}

/// Refuses what is none.
pub fn check_name(name: &str) -> Result<()> {
    match is_name(name) {
        true => Ok(()),
        false => Err(Failure::as_docker(format!(
            "invalid network name: {name:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        ))),
    }
}

/// Refuses options that mean something and cannot mean it.
pub fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    let refuse = |name: &str, value: &str, what: &str| {
        Err(Failure::as_docker(format!("invalid option {name}={value}: {what}")))
    };
    for (name, value) in options {
        let mtu = value.parse().is_ok_and(|mtu| MTUS.contains(&mtu));
        let switch = ["true", "false"].contains(&value.as_str());
        match name.as_str() {
            name if MTU.contains(&name) && !mtu => return refuse(name, value, "no size of packets"),
            name if [DISGUISE, NEIGHBOURS].contains(&name) && !switch => {
                return refuse(name, value, "true or false");
            }
            _ => {}
        }
    }
    Ok(())
}
