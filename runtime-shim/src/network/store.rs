//! Networks as files.
//!
//! ```text
//! STORE/networks/
//!     .lock               held while networks are made
//!     NAME/
//!         network.json    what it is; written once, complete before NAME exists
//!         lock            held while leases and packet filters are changed
//!         leases/ID       what the container ID has on this network (see `lease`)
//! ```
//! A network is made under another name and renamed, and renamed before it is
//! removed: under its own name it is always whole.

use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, openat, renameat_with};
use rustix::io::retry_on_intr;

use super::bridge;
use super::definition::{BRIDGE_PREFIX, DEFAULT, Network, New, check_name, check_options, is_name};
use super::lease::{self, Lease};
use super::links::Links;
use super::pool;
use super::subnet::Subnet;
use crate::failure::{Context, Failure, Result};
use crate::output::time;
use crate::random;

/// Words for what is no network of ours.
const RESERVED: [&str; 3] = ["host", "none", "container"];
/// As many bridges as their names have room for beside a container's id.
const MOST_BRIDGES: u32 = 10_000;

/// A network whose leases and packet filters nobody else changes meanwhile.
pub struct Locked {
    /// What it is.
    pub network: Network,
    /// Where it is kept.
    pub dir: PathBuf,
    lock: OwnedFd,
}

impl Locked {
    /// The lock for one more process, which it is held for as long as for this one.
    pub fn shared(&self) -> io::Result<OwnedFd> {
        self.lock.try_clone()
    }
}

/// All networks of a store.
#[derive(Clone, Debug)]
pub struct Networks {
    dir: PathBuf,
}

impl Networks {
    /// Those of the store at `root`.
    pub fn open(root: &Path) -> Result<Networks> {
        let dir = root.join("networks");
        make_directory(&dir)?;
        Ok(Networks { dir })
    }

    /// All of them, by name; the default one among them.
    pub fn list(&self) -> Result<Vec<Network>> {
        if self.read(DEFAULT)?.is_none() {
            self.make_default()?;
        }
        self.existing()
    }

    /// One by its name, its id, or the beginning of its id.
    pub fn find(&self, text: &str) -> Result<Network> {
        if text == DEFAULT && self.read(DEFAULT)?.is_none() {
            return self.make_default();
        }
        if is_name(text) {
            if let Some(network) = self.read(text)? {
                return Ok(network);
            }
        }
        let mut matches: Vec<Network> = match text.is_empty() {
            true => Vec::new(),
            false => self.list()?.into_iter().filter(|network| network.id.starts_with(text)).collect(),
        };
        match (matches.pop(), matches.len()) {
            (Some(network), 0) => Ok(network),
            (Some(_), others) => Err(Failure::as_docker(format!(
                "network {text} is ambiguous ({} matches found based on ID prefix)",
                others + 1
            ))),
            (None, _) => Err(Failure::as_docker(format!("network {text} not found"))
                .hint("`runion network ls` shows the networks, `runion network create` makes one")),
        }
    }

    /// What containers have on a network, by address.
    pub fn leases(&self, network: &Network) -> Result<Vec<Lease>> {
        lease::all(&self.dir_of(network))
    }

    /// Where a network's leases are: a directory that changes when they do.
    pub fn leases_dir(&self, network: &Network) -> PathBuf {
        lease::dir(&self.dir_of(network))
    }

    /// Makes a network. Nothing of it exists in the kernel before a container
    /// is attached.
    pub fn create(&self, new: New) -> Result<Network> {
        if new.name == DEFAULT || RESERVED.contains(&new.name.as_str()) {
            return Err(Failure::as_docker(format!(
                "operation is not permitted on predefined {} network",
                new.name
            )));
        }
        self.make(new)
    }

    /// Removes a network that no container is on, with its bridge and rules.
    pub fn remove(&self, text: &str) -> Result<Network> {
        let network = self.find(text)?;
        if network.is_default() {
            return Err(Failure::as_docker(format!(
                "{} is a pre-defined network and cannot be removed",
                network.name
            )));
        }
        let locked = self.lock(&network)?;
        if !lease::holders(&locked.dir)?.is_empty() {
            return Err(Failure::as_docker(format!(
                "error while removing network: network {} id {} has active endpoints",
                network.name, network.id
            ))
            .hint("`runion network inspect` shows the containers; stop or disconnect them first"));
        }
        bridge::take_down(&network)?;
        self.discard(&locked)?;
        Ok(network)
    }

    /// Removes the networks that no container is on, as far as `chosen`; of the
    /// default one only bridge and rules, which come again when needed.
    pub fn prune(&self, chosen: &dyn Fn(&Network) -> bool) -> Result<Vec<Network>> {
        let mut removed = Vec::new();
        for network in self.existing()? {
            let used = !lease::holders(&self.dir_of(&network))?.is_empty();
            match used || !chosen(&network) {
                true => {}
                false if network.is_default() => self.rest(&network)?,
                false => removed.push(self.remove(&network.name)?),
            }
        }
        self.clear_remains()?;
        Ok(removed)
    }

    /// Takes the bridge and the rules of an unused network out of the kernel.
    pub fn rest(&self, network: &Network) -> Result<()> {
        let locked = self.lock(network)?;
        match lease::holders(&locked.dir)?.is_empty() {
            true => bridge::take_down(&locked.network),
            false => Ok(()),
        }
    }

    /// Locks a network, which must still be there.
    pub fn lock(&self, network: &Network) -> Result<Locked> {
        let dir = self.dir_of(network);
        let gone = || Failure::as_docker(format!("network {} not found", network.name));
        let lock = match lock_file(&dir.join("lock")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
            lock => lock.context(|| format!("cannot lock network {}", network.name))?,
        };
        // While this one waited, it may have been removed and made again.
        match self.read(&network.name)? {
            Some(found) if found.id == network.id => Ok(Locked { network: found, dir, lock }),
            _ => Err(gone()),
        }
    }

    /// The networks that exist.
    pub fn existing(&self) -> Result<Vec<Network>> {
        let mut networks = Vec::new();
        for name in names_in(&self.dir)? {
            networks.extend(self.read(&name)?);
        }
        networks.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(networks)
    }

    /// Where they are kept: a directory that changes when there are more or fewer.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a network is kept.
    pub fn dir_of(&self, network: &Network) -> PathBuf {
        self.dir.join(&network.name)
    }

    fn read(&self, name: &str) -> Result<Option<Network>> {
        let file = self.dir.join(name).join("network.json");
        let context = || format!("cannot read {}", file.display());
        match fs::read(&file) {
            Err(error) if absent(&error) => Ok(None),
            text => serde_json::from_slice(&text.context(context)?).context(context).map(Some),
        }
    }

    fn make_default(&self) -> Result<Network> {
        let new = New { name: DEFAULT.to_owned(), ipv6: true, ..New::default() };
        match self.make(new) {
            // Another process was faster.
            Err(failure) => match self.read(DEFAULT)? {
                Some(network) => Ok(network),
                None => Err(failure),
            },
            made => made,
        }
    }

    /// Makes the default network anew, with a name and addresses that are free
    /// now, if no container is on it.
    pub fn renew_default(&self, old: Locked) -> Result<Option<Network>> {
        if !lease::holders(&old.dir)?.is_empty() {
            return Ok(None);
        }
        self.discard(&old)?;
        drop(old);
        self.make_default().map(Some)
    }

    fn discard(&self, locked: &Locked) -> Result<()> {
        let network = &locked.network;
        let gone = self.dir.join(format!(".gone-{}", network.id));
        fs::rename(&locked.dir, &gone)
            .and_then(|()| fs::remove_dir_all(&gone))
            .context(|| format!("cannot remove network {}", network.name))
    }

    fn make(&self, new: New) -> Result<Network> {
        check_name(&new.name)?;
        check_options(&new.options)?;
        let _lock =
            lock_file(&self.dir.join(".lock")).context(|| format!("cannot lock {}", self.dir.display()))?;
        let others = self.existing()?;
        if others.iter().any(|other| other.name == new.name) {
            return Err(Failure::as_docker(format!("network with name {} already exists", new.name)));
        }
        let mut links = Links::open().context(|| "cannot ask for the host's links".to_owned())?;
        let routes = links.routes().context(|| "cannot ask for the host's routes".to_owned())?;
        let (subnets, bridge) = (pool::choose(&new, &others, &routes)?, free_bridge(&others, &mut links)?);
        let network = Network {
            id: random::id()?,
            created: time::now_in_documents(),
            driver: "bridge".to_owned(),
            ipv6: subnets.iter().any(|pool| !pool.subnet.is_ipv4()),
            name: new.name,
            subnets,
            internal: new.internal,
            labels: new.labels,
            options: new.options,
            bridge,
        };
        self.write(&network)?;
        Ok(network)
    }

    fn write(&self, network: &Network) -> Result<()> {
        let (new, dir) = (self.dir.join(format!(".new-{}", network.id)), self.dir_of(network));
        let context = || format!("cannot make network {}", network.name);
        make_directory(&lease::dir(&new))?;
        fs::write(new.join("lock"), "").context(context)?;
        let text = serde_json::to_vec_pretty(network).context(context)?;
        fs::write(new.join("network.json"), text).context(context)?;
        renameat_with(CWD, &new, CWD, &dir, RenameFlags::NOREPLACE).context(context)
    }

    /// Removes what killed processes were just making or removing.
    fn clear_remains(&self) -> Result<()> {
        let context = || format!("cannot clear {}", self.dir.display());
        let _lock = lock_file(&self.dir.join(".lock")).context(context)?;
        for entry in fs::read_dir(&self.dir).context(context)? {
            let path = entry.context(context)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(".new-") || name.starts_with(".gone-") {
                match fs::remove_dir_all(&path) {
                    // The process that removes it was not killed after all.
                    Err(error) if absent(&error) => {}
                    removed => removed.context(context)?,
                }
            }
        }
        Ok(())
    }
}

/// Whether a file is missing, or the directory it should be in.
pub fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The names in a directory that are not of something unfinished.
pub fn names_in(dir: &Path) -> Result<Vec<String>> {
    let context = || format!("cannot list {}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).context(context)? {
        let name = entry.context(context)?.file_name();
        names.extend(name.into_string().ok().filter(|name| !name.starts_with('.')));
    }
    Ok(names)
}

fn make_directory(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(dir)
        .context(|| format!("cannot make {}", dir.display()))
}

/// Waits for a lock that is held as long as the descriptor is open.
fn lock_file(file: &Path) -> io::Result<OwnedFd> {
    // The lock of a network is made with it: without one there is none.
    let flags = match file.file_name().is_some_and(|name| name == ".lock") {
        true => OFlags::RDWR | OFlags::CREATE,
        false => OFlags::RDWR,
    };
    let fd = openat(CWD, file, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::from_raw_mode(0o600))?;
    retry_on_intr(|| flock(&fd, FlockOperation::LockExclusive))?;
    Ok(fd)
}

/// The first number that neither another network nor another's link has.
fn free_bridge(others: &[Network], links: &mut Links) -> Result<String> {
    let existing = links.all().context(|| "cannot ask for the host's links".to_owned())?;
    (0..MOST_BRIDGES)
        .map(|number| format!("{BRIDGE_PREFIX}{number}"))
        .find(|name| {
            others.iter().all(|other| other.bridge != *name) && existing.iter().all(|link| link.name != *name)
        })
        .ok_or_else(|| Failure::failed("cannot make another network: all names of bridges are in use"))
}

/// A /64 of RFC 4193's, which nobody else is likely to have.
pub fn random_ula() -> Result<Subnet> {
    let [a, b, c, d, e, f, g] =
        random::bytes::<7>().context(|| "cannot make up a network".to_owned())?.map(u16::from);
    let address = Ipv6Addr::new(0xfd00 | a, b << 8 | c, d << 8 | e, f << 8 | g, 0, 0, 0, 0);
    Ok(Subnet::new(address.into(), 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Networks in a directory that goes with the test.
    fn in_a_store(test: impl FnOnce(&Networks)) {
        let [unique] = random::bytes::<1>().unwrap();
        let dir = std::env::temp_dir().join(format!("runion-store-{}-{unique}", std::process::id()));
        test(&Networks::open(&dir).unwrap());
        fs::remove_dir_all(&dir).unwrap();
    }

    fn new(name: &str) -> New {
        New { name: name.to_owned(), ..New::default() }
    }

    fn words<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn networks_are_kept_and_found() {
        in_a_store(|networks| {
            let front = networks.create(New { ipv6: true, ..new("front") }).unwrap();
            let names = |networks: &Networks| -> Vec<String> {
                networks.list().unwrap().into_iter().map(|network| network.name).collect()
            };
            assert_eq!(names(networks), ["bridge", "front"]);
            assert_eq!(networks.find("front").unwrap(), front);
            assert_eq!(networks.find(&front.id[..12]).unwrap(), front);
            // Which numbers are free is the host's affair.
            let bridges = [front.number(), networks.find("bridge").unwrap().number()];
            assert!(bridges[0].is_some() && bridges[1].is_some() && bridges[0] != bridges[1]);
            assert_eq!(networks.remove("front").unwrap(), front);
            assert_eq!(names(networks), ["bridge"]);
            assert!(words(networks.find("front")).contains("network front not found"));
            assert!(words(networks.find("")).contains("network  not found"));
        });
    }

    #[test]
    fn dockers_words_for_what_cannot_be() {
        in_a_store(|networks| {
            networks.create(New { subnets: vec!["10.1.0.0/16".parse().unwrap()], ..new("a") }).unwrap();
            assert!(words(networks.create(new("a"))).contains("network with name a already exists"));
            let overlapping = New { subnets: vec!["10.1.2.0/24".parse().unwrap()], ..new("b") };
            assert!(
                words(networks.create(overlapping))
                    .contains("Pool overlaps with other one on this address space")
            );
            for name in ["host", "none", "bridge"] {
                let predefined = format!("operation is not permitted on predefined {name} network");
                assert!(words(networks.create(new(name))).contains(&predefined));
            }
            for name in ["", ".", "..", "../x", "a/b", "-a", ".hidden", "a b", "é", "a\0"] {
                assert!(words(networks.create(new(name))).contains("invalid network name"), "{name:?}");
                assert!(words(networks.find(name)).contains("not found"), "{name:?}");
            }
            assert!(words(networks.remove("bridge")).contains("pre-defined network and cannot be removed"));
        });
    }

    #[test]
    fn what_a_killed_process_left_is_cleared() {
        in_a_store(|networks| {
            fs::create_dir(networks.dir.join(".new-1")).unwrap();
            fs::create_dir(networks.dir.join(".gone-1")).unwrap();
            networks.create(new("kept")).unwrap();
            assert!(networks.prune(&|_| false).unwrap().is_empty());
            assert!(!networks.dir.join(".new-1").exists() && !networks.dir.join(".gone-1").exists());
            let pruned = networks.prune(&|_| true).unwrap();
            assert_eq!(pruned.iter().map(|network| &network.name).collect::<Vec<_>>(), ["kept"]);
        });
    }
}
