//! `runion network create`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clap::Args;
use layerstore::store::Store;

use super::tell;
use crate::failure::{Failure, Result};
use crate::network::{Networks, New, Subnet};
use crate::output;

/// Make a network
#[derive(Args)]
pub struct Create {
    /// Its kind: bridge is the only one
    #[arg(long, short, value_name = "DRIVER", default_value = "bridge")]
    driver: String,

    /// Its addresses, as ADDRESS/LENGTH; chosen where none is given
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<Subnet>,

    /// The bridge's address in a subnet; the first where none is given
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<IpAddr>,

    /// The part of a subnet that containers get addresses from
    #[arg(long, value_name = "RANGE")]
    ip_range: Vec<Subnet>,

    /// Let it have IPv6
    #[arg(long)]
    ipv6: bool,

    /// Let nobody outside be reached from it
    #[arg(long)]
    internal: bool,

    /// A word about it: KEY[=VALUE]
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,

    /// An option of its driver: KEY[=VALUE]
    #[arg(long, short, value_name = "OPTION")]
    opt: Vec<String>,

    /// What it is called
    #[arg(value_name = "NAME")]
    name: String,
}

impl Create {
    /// Makes it and prints its id.
    pub fn run(self, store: &Store) -> Result<u8> {
        if self.driver != "bridge" {
            return Err(Failure::as_docker(format!(
                "could not find plugin {} in v1 plugin registry",
                self.driver
            ))
            .hint("the one driver is bridge"));
        }
        let pairs = |list: &[String]| -> BTreeMap<String, String> {
            let pair = |text: &String| {
                let (key, value) = text.split_once('=').unwrap_or((text, ""));
                (key.to_owned(), value.to_owned())
            };
            list.iter().map(pair).collect()
        };
        let network = Networks::open(store.root())?.create(New {
            name: self.name,
            subnets: self.subnet,
            gateways: self.gateway,
            ip_ranges: self.ip_range,
            ipv6: self.ipv6,
            internal: self.internal,
            labels: pairs(&self.label),
            options: pairs(&self.opt),
        })?;
        tell(store.root(), &network, "create", None);
        output::print(&format!("{}\n", network.id))?;
        Ok(0)
    }
}
