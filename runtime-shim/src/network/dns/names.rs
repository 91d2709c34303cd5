//! The names that a container's neighbours have, from the leases of its networks.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::message::{Kind, Question, Record, reversed};
use crate::failure::Result;
use crate::network::store::Networks;
use crate::network::subnet::Subnet;

/// As much of an id as is a name.
const SHORT_ID: usize = 12;
/// Two changes within a tick of the clock leave the same time behind.
const TICK: Duration = Duration::from_millis(20);

/// What we say to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The name is ours, with these records of the kind asked for.
    Records(Vec<Record>),
    /// It would be ours if it existed.
    Nothing,
    /// It is not ours.
    Foreign,
}

/// Whether what is not ours may be asked for outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// It may.
    Reachable,
    /// The container is on internal networks only, and nothing it says gets out.
    Closed,
}

/// The names around one container.
pub struct Names {
    networks: Networks,
    container: String,
    table: Table,
    /// When the directories that the table was made of last changed.
    seen: Vec<(PathBuf, Option<SystemTime>)>,
}

#[derive(Default)]
struct Table {
    addresses: HashMap<String, Vec<IpAddr>>,
    names: HashMap<IpAddr, String>,
    subnets: Vec<Subnet>,
    closed: bool,
}

impl Names {
    /// Those that a container may ask for.
    pub fn new(networks: Networks, container: String) -> Names {
        Names { networks, container, table: Table::default(), seen: Vec::new() }
    }

    /// Looks again, where something has changed since the last time.
    pub fn refresh(&mut self) -> Result<()> {
        let unchanged = self.seen.iter().all(|(dir, then)| {
            let recent = then.is_none_or(|then| then.elapsed().is_ok_and(|age| age < TICK));
            !recent && changed(dir) == *then
        });
        if !self.seen.is_empty() && unchanged {
            return Ok(());
        }
        let mut dirs = vec![self.networks.dir().to_owned()];
        let existing = self.networks.existing()?;
        dirs.extend(existing.iter().map(|network| self.networks.leases_dir(network)));
        // Before they are read: what changes meanwhile is seen the next time.
        self.seen = dirs.into_iter().map(|dir| (dir.clone(), changed(&dir))).collect();

        let mut table = Table { closed: true, ..Table::default() };
        for network in existing {
            let leases = self.networks.leases(&network)?;
            if !leases.iter().any(|lease| lease.container == self.container) {
                continue;
            }
            table.closed &= network.internal;
            table.subnets.extend(network.subnets.iter().map(|pool| pool.subnet));
            // On the default network nobody has a name, as docker has it.
            for lease in leases.iter().filter(|_| !network.is_default()) {
                let short = lease.container.get(..SHORT_ID).unwrap_or(&lease.container);
                let mut names = vec![lease.name.as_str(), lease.hostname.as_str(), short];
                names.extend(lease.aliases.iter().map(String::as_str));
                names.sort_unstable();
                names.dedup();
                let addresses: Vec<IpAddr> = [Some(lease.address.into()), lease.address6.map(IpAddr::from)]
                    .into_iter()
                    .flatten()
                    .collect();
                for name in names.into_iter().filter(|name| !name.is_empty()) {
                    let whole = format!("{name}.{}", network.name);
                    for name in [name, &whole] {
                        table.addresses.entry(name.to_ascii_lowercase()).or_default().extend(&addresses);
                    }
                }
                for address in addresses {
                    table.names.insert(address, format!("{}.{}", lease.name, network.name));
                }
            }
        }
        self.table = table;
        Ok(())
    }

    /// What we know about a name.
    pub fn look_up(&self, question: &Question) -> Known {
        if let Some(address) = reversed(&question.name) {
            return match self.table.names.get(&address) {
                Some(name) if question.kind == Kind::Ptr => Known::Records(vec![Record::Name(name.clone())]),
                Some(_) => Known::Records(Vec::new()),
                None if self.table.subnets.iter().any(|subnet| subnet.contains(address)) => Known::Nothing,
                None => Known::Foreign,
            };
        }
        match self.table.addresses.get(&question.name) {
            None => Known::Foreign,
            Some(addresses) => {
                let wanted = addresses.iter().filter(|address| match question.kind {
                    Kind::A => address.is_ipv4(),
                    Kind::Aaaa => address.is_ipv6(),
                    Kind::Ptr | Kind::Other => false,
                });
                Known::Records(wanted.copied().map(Record::Address).collect())
            }
        }
    }

    /// Whether anybody outside may be asked.
    pub fn outside(&self) -> Outside {
        if self.table.closed { Outside::Closed } else { Outside::Reachable }
    }
}

fn changed(dir: &PathBuf) -> Option<SystemTime> {
    fs::metadata(dir).and_then(|stat| stat.modified()).ok()
}
