//! `runion port`, and what other commands show of a container's network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use clap::Args;
use layerstore::store::Store;
use serde_json::{Map, Value, json};

use super::find;
use crate::container::{Mode, Record};
use crate::failure::{Failure, Result};
use crate::monitor::publish;
use crate::network::{self, Endpoint, HostPort, Networks, Port as Published};
use crate::output;

/// List the ports of a container that are reachable from outside
#[derive(Args)]
pub struct Port {
    /// Its name or id
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// One of its ports only: PORT[/PROTOCOL]
    #[arg(value_name = "PORT")]
    port: Option<String>,
}

impl Port {
    /// Prints them.
    pub fn run(self, store: &Store) -> Result<u8> {
        let (_, record) = find::container(store, &self.container)?;
        let ports = published(&endpoints(store, &record)?);
        let mut text = String::new();
        match &self.port {
            None => {
                for port in &ports {
                    text.push_str(&format!("{} -> {}\n", key(port), host(port)));
                }
            }
            Some(wanted) => {
                let wanted = if wanted.contains('/') { wanted.clone() } else { format!("{wanted}/tcp") };
                for port in ports.iter().filter(|port| key(port) == wanted) {
                    text.push_str(&format!("{}\n", host(port)));
                }
                if text.is_empty() {
                    return Err(Failure::as_docker(format!(
                        "No public port '{wanted}' published for {}",
                        self.container
                    )));
                }
            }
        }
        output::print(&text)?;
        Ok(0)
    }
}

/// Where a container is; nowhere, for one that does not run.
pub fn endpoints(store: &Store, record: &Record) -> Result<Vec<Endpoint>> {
    match record.state.status.is_up() {
        true => network::endpoints(&Networks::open(store.root())?, &record.id),
        false => Ok(Vec::new()),
    }
}

fn published(endpoints: &[Endpoint]) -> Vec<Published> {
    let mut ports: Vec<Published> =
        endpoints.iter().flat_map(|endpoint| endpoint.lease.ports.clone()).collect();
    ports.sort_by_key(|port| {
        (port.container_port, port.protocol.word(), port.host_ip.is_ipv6(), port.host_port)
    });
    ports
}

/// `80/tcp`.
fn key(port: &Published) -> String {
    format!("{}/{}", port.container_port, port.protocol)
}

/// `0.0.0.0:8080`, as docker has it.
fn host(port: &Published) -> String {
    match port.host_ip {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => format!(":::{}", port.host_port),
        IpAddr::V6(ip) => format!("[{ip}]:{}", port.host_port),
        IpAddr::V4(ip) => format!("{ip}:{}", port.host_port),
    }
}

/// Its networks' names.
pub fn names(record: &Record) -> Vec<String> {
    let first = match &record.config.network {
        // None for one that was taken off it, and put on others.
        Mode::None if !record.config.networks.is_empty() => None,
        Mode::Default | Mode::Private => Some(network::DEFAULT.to_owned()),
        Mode::None => Some("none".to_owned()),
        Mode::Host => Some("host".to_owned()),
        Mode::Container(id) => Some(format!("container:{id}")),
        Mode::Named(name) => Some(name.clone()),
    };
    first.into_iter().chain(record.config.networks.iter().map(|further| further.network.clone())).collect()
}

/// Its ports, in docker's words: those published, then those only exposed.
pub fn ports(record: &Record, endpoints: &[Endpoint]) -> String {
    if !record.state.status.is_up() {
        return String::new();
    }
    let published = published(endpoints);
    let mut words: Vec<String> = published.iter().map(ToString::to_string).collect();
    let is_published = |port: &&String| published.iter().any(|known| key(known) == **port);
    words.extend(record.config.exposed.iter().filter(|port| !is_published(port)).cloned());
    words.join(", ")
}

/// Its ports as they were asked for, as docker's `HostConfig.PortBindings`.
pub fn bindings(record: &Record) -> Value {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for wish in publish(record).unwrap_or_default() {
        let host_port = match wish.host_port {
            HostPort::Any => String::new(),
            HostPort::Exactly(port) => port.to_string(),
            HostPort::From(first, last) => format!("{first}-{last}"),
        };
        found.entry(format!("{}/{}", wish.container_port, wish.protocol)).or_default().push(json!({
            "HostIp": wish.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            "HostPort": host_port,
        }));
    }
    json!(found)
}

/// Docker's `NetworkSettings`.
pub fn settings(record: &Record, endpoints: &[Endpoint]) -> Value {
    let mut ports: Map<String, Value> =
        record.config.exposed.iter().map(|port| (port.clone(), Value::Null)).collect();
    for port in published(endpoints) {
        let one = json!({ "HostIp": port.host_ip.to_string(), "HostPort": port.host_port.to_string() });
        match ports.entry(key(&port)).or_insert(Value::Null) {
            Value::Array(list) => list.push(one),
            empty => *empty = Value::Array(vec![one]),
        }
    }
    let mut networks = Map::new();
    for endpoint in endpoints {
        networks.insert(endpoint.network.name.clone(), place(endpoint));
    }
    if endpoints.is_empty() {
        for name in names(record) {
            networks.insert(name, json!({ "IPAddress": "", "Gateway": "", "MacAddress": "" }));
        }
    }
    let of_default = endpoints.iter().find(|endpoint| endpoint.network.is_default()).map(place);
    let field =
        |name: &str| of_default.as_ref().and_then(|place| place.get(name)).cloned().unwrap_or(json!(""));
    json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": record.state.pid.map(|pid| format!("/proc/{pid}/ns/net")).unwrap_or_default(),
        "Ports": ports,
        "IPAddress": field("IPAddress"),
        "IPPrefixLen": field("IPPrefixLen"),
        "Gateway": field("Gateway"),
        "MacAddress": field("MacAddress"),
        "GlobalIPv6Address": field("GlobalIPv6Address"),
        "Networks": networks,
    })
}

fn place(endpoint: &Endpoint) -> Value {
    let Endpoint { network, lease } = endpoint;
    let (v4, v6) = (network.ipv4(), network.ipv6());
    let text = |address: Option<String>| address.unwrap_or_default();
    json!({
        "IPAMConfig": {},
        "Aliases": lease.aliases,
        "NetworkID": network.id,
        "Gateway": text(v4.map(|pool| pool.gateway.to_string())),
        "IPAddress": lease.address.to_string(),
        "IPPrefixLen": v4.map_or(0, |pool| pool.subnet.length()),
        "IPv6Gateway": text(v6.map(|pool| pool.gateway.to_string())),
        "GlobalIPv6Address": text(lease.address6.map(|address| address.to_string())),
        "GlobalIPv6PrefixLen": v6.map_or(0, |pool| pool.subnet.length()),
        "MacAddress": lease.mac.to_string(),
    })
}
