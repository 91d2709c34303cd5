//! All that is known of a network, in docker's names.

use layerstore::store::Store;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::failure::Result;
use crate::network::Networks;

/// In docker's names and order.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Shown {
    name: String,
    id: String,
    created: String,
    scope: String,
    driver: String,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Value,
    internal: bool,
    attachable: bool,
    ingress: bool,
    containers: Map<String, Value>,
    options: Value,
    labels: Value,
}

/// What is known of a network, if there is one.
pub fn shown(store: &Store, text: &str) -> Result<Option<Shown>> {
    let networks = Networks::open(store.root())?;
    let is_it = |name: &str, id: &str| name == text || (text.len() >= 3 && id.starts_with(text));
    let Some(network) = networks.list()?.into_iter().find(|network| is_it(&network.name, &network.id)) else {
        return Ok(None);
    };
    let pools: Vec<Value> = network
        .subnets
        .iter()
        .map(|pool| {
            let mut shown = json!({ "Subnet": pool.subnet.to_string(), "Gateway": pool.gateway.to_string() });
            if let (Some(range), Value::Object(shown)) = (pool.ip_range, &mut shown) {
                shown.insert("IPRange".to_owned(), range.to_string().into());
            }
            shown
        })
        .collect();
    let mut containers = Map::new();
    for lease in networks.leases(&network)? {
        let with_length = |address: Option<String>, length: Option<u8>| match (address, length) {
            (Some(address), Some(length)) => format!("{address}/{length}"),
            _ => String::new(),
        };
        let length = |pool: Option<&crate::network::Pool>| pool.map(|pool| pool.subnet.length());
        containers.insert(
            lease.container.clone(),
            json!({
                "Name": lease.name,
                "EndpointID": "",
                "MacAddress": lease.mac.to_string(),
                "IPv4Address": with_length(Some(lease.address.to_string()), length(network.ipv4())),
                "IPv6Address": with_length(lease.address6.map(|ip| ip.to_string()), length(network.ipv6())),
            }),
        );
    }
    let mut options = network.options.clone();
    options.insert("com.docker.network.bridge.name".to_owned(), network.bridge.clone());
    Ok(Some(Shown {
        name: network.name,
        id: network.id,
        created: network.created,
        scope: "local".to_owned(),
        driver: network.driver,
        enable_ipv6: network.ipv6,
        ipam: json!({ "Driver": "default", "Options": {}, "Config": pools }),
        internal: network.internal,
        attachable: false,
        ingress: false,
        containers,
        options: json!(options),
        labels: json!(network.labels),
    }))
}
