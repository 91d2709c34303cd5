//! Flags about the network.

use clap::Args;
use layerstore::document::Execution;

use crate::container::{Config, Mode};
use crate::failure::{Failure, OURS, Result, say};
use crate::network::DEFAULT;

/// Flags of `run` and `create` about the network.
#[derive(Args)]
#[group(id = "network-flags")]
#[command(next_help_heading = "Network")]
pub struct Flags {
    /// What it reaches: bridge, host, none, container:NAME, or a network
    #[arg(long, alias = "net", value_name = "NETWORK")]
    network: Option<String>,

    /// A further name on its network
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,

    /// Its IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,

    /// Its IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,

    /// Its hardware's address
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<String>,

    /// Make a port reachable from outside: [[ADDRESS:][PORT]:]PORT[/PROTOCOL]
    #[arg(long, short, value_name = "PORTS")]
    publish: Vec<String>,

    /// Make every exposed port reachable from outside
    #[arg(long, short = 'P')]
    publish_all: bool,

    /// A port that -P makes reachable: PORT[/PROTOCOL]
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,

    /// A server of names
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,

    /// A domain that names are looked for in
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,

    /// An option of the resolver
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,

    /// A name in /etc/hosts: NAME:ADDRESS; host-gateway is the host
    #[arg(long, value_name = "HOST")]
    add_host: Vec<String>,
}

impl Flags {
    /// Puts them into what is asked for.
    pub fn apply(
        &self,
        config: &mut Config,
        image: &Execution,
        find: &dyn Fn(&str) -> Result<String>,
    ) -> Result<()> {
        config.network = match self.network.as_deref() {
            None | Some("" | "default") => Mode::Default,
            Some("host") => Mode::Host,
            Some("none") => Mode::None,
            Some(text) => match text.strip_prefix("container:") {
                Some(name) => Mode::Container(find(name)?),
                None => Mode::Named(text.to_owned()),
            },
        };
        let exposed = image.exposed_ports.keys().chain(&self.expose);
        config.exposed = exposed.map(|port| with_protocol(port)).collect::<Result<_>>()?;
        config.exposed.sort();
        config.exposed.dedup();
        config.aliases.clone_from(&self.network_alias);
        config.ip.clone_from(&self.ip);
        config.ip6.clone_from(&self.ip6);
        config.mac.clone_from(&self.mac_address);
        config.publish.clone_from(&self.publish);
        config.publish_all = self.publish_all;
        config.dns.clone_from(&self.dns);
        config.dns_search.clone_from(&self.dns_search);
        config.dns_options.clone_from(&self.dns_option);
        config.hosts.clone_from(&self.add_host);
        self.agree(config)
    }

    /// Refuses what would be left out, and says what is.
    fn agree(&self, config: &Config) -> Result<()> {
        let refuse = |words: &str| Err(Failure::as_docker(words).code(OURS));
        let conflict =
            |what| refuse(&format!("conflicting options: {what} and the container type network mode"));
        let is_published = !self.publish.is_empty() || self.publish_all;
        if config.hostname.is_some() && config.uts == Mode::Host {
            return refuse("conflicting options: hostname and the UTS mode");
        }
        match matches!(config.network, Mode::Container(_)) {
            true if is_published => conflict("port publishing"),
            true if !self.add_host.is_empty() => conflict("custom host-to-IP mapping"),
            true if !self.dns.is_empty() => conflict("dns"),
            true if config.hostname.is_some() => conflict("hostname"),
            _ if matches!(&config.network, Mode::Named(name) if name != DEFAULT) => Ok(()),
            _ if self.ip.is_some() || self.ip6.is_some() => {
                refuse("user specified IP address is supported on user defined networks only")
            }
            _ if !self.network_alias.is_empty() => {
                refuse("network-scoped alias is supported only for containers in user defined networks")
            }
            _ => {
                let mode = match config.network {
                    Mode::Host => "host",
                    Mode::None => "none",
                    _ => return Ok(()),
                };
                if is_published {
                    say(&format!("WARNING: Published ports are discarded when using {mode} network mode"));
                }
                Ok(())
            }
        }
    }
}

/// A port with its protocol, which is TCP where none is said.
fn with_protocol(port: &str) -> Result<String> {
    let (range, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last && matches!(protocol, "tcp" | "udp" | "sctp") => {
            Ok(format!("{range}/{protocol}"))
        }
        _ => Err(Failure::new(format!("invalid port: {port:?}"))),
    }
}
