//! `runion network connect`, `runion network disconnect`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use clap::Args;
use layerstore::store::Store;

use super::tell;
use crate::container::{Containers, Further, Mode, Record};
use crate::failure::{Context, Failure, Result};
use crate::monitor::where_bridges_are;
use crate::network::{self, Holder, Networks, Wish};
use crate::settle;

/// Put a container on one more network
#[derive(Args)]
pub struct Connect {
    /// A further name there
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,

    /// Its IPv4 address there
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,

    /// Its IPv6 address there
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,

    /// The network
    #[arg(value_name = "NETWORK")]
    network: String,

    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Take a container off a network
#[derive(Args)]
pub struct Disconnect {
    /// Do not mind that it is not there
    #[arg(long, short)]
    force: bool,

    /// The network
    #[arg(value_name = "NETWORK")]
    network: String,

    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Connect {
    /// Connects it, now and at each later start.
    pub fn run(self, store: &Store) -> Result<u8> {
        let networks = Networks::open(store.root())?;
        let network = networks.find(&self.network)?;
        let container = Containers::open(store.root())?.find(&self.container)?;
        settle::read(&container)?;
        let locked = container.lock()?;
        let record = locked.read()?;
        if matches!(record.config.network, Mode::Host | Mode::Container(_)) {
            return Err(Failure::as_docker(
                "container sharing network namespace with another container or host cannot be connected to any \
                 other network",
            ));
        }
        if names(&record).contains(&network.name) {
            return Err(Failure::as_docker(format!(
                "endpoint with name {} already exists in network {}",
                record.name, network.name
            )));
        }
        if let Some(pid) = record.state.pid.filter(|_| record.state.status.is_up()) {
            let path = format!("/proc/{pid}/ns/net");
            let namespace = std::fs::File::open(&path).context(|| format!("cannot open {path}"))?;
            if settle::since(pid) != record.state.pid_started {
                return Err(Failure::as_docker(format!("Container {} is not running", record.id)));
            }
            let wish = Wish {
                network: network.name.clone(),
                ip: self.ip,
                ip6: self.ip6,
                mac: None,
                aliases: self.alias.clone(),
            };
            let holder = Holder { container: &record.id, name: &record.name, hostname: record.hostname() };
            where_bridges_are(&networks, || {
                network::connect(&networks, &holder, &wish, namespace.as_fd()).map(drop)
            })?;
        }
        tell(store.root(), &network, "connect", Some(&record.id));
        locked.update(|record| {
            record.config.networks.push(Further {
                network: network.name.clone(),
                aliases: self.alias.clone(),
                ip: self.ip.map(|ip| ip.to_string()),
                ip6: self.ip6.map(|ip| ip.to_string()),
            });
        })?;
        Ok(0)
    }
}

impl Disconnect {
    /// Takes it off, now and for each later start.
    pub fn run(self, store: &Store) -> Result<u8> {
        let networks = Networks::open(store.root())?;
        let network = networks.find(&self.network)?;
        let container = Containers::open(store.root())?.find(&self.container)?;
        settle::read(&container)?;
        let locked = container.lock()?;
        let record = locked.read()?;
        if !names(&record).contains(&network.name) {
            if self.force {
                return Ok(0);
            }
            return Err(Failure::as_docker(format!(
                "container {} is not connected to network {}",
                record.id, network.name
            )));
        }
        if record.state.status.is_up() {
            where_bridges_are(&networks, || network::disconnect(&networks, &network.name, &record.id))?;
            tell(store.root(), &network, "disconnect", Some(&record.id));
        }
        locked.update(|record| {
            record.config.networks.retain(|further| further.network != network.name);
            let is_first = match &record.config.network {
                Mode::Default | Mode::Private => network.is_default(),
                Mode::Named(name) => *name == network.name,
                _ => false,
            };
            if is_first {
                record.config.network = Mode::None;
            }
        })?;
        Ok(0)
    }
}

fn names(record: &Record) -> Vec<String> {
    crate::cli::container::network_names(record)
}
