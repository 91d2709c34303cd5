//! Whom we trust, by host, and the connections that are kept for it.
//!
//! Authorities are the system's, or Mozilla's where the system has none. A
//! host with certificates of its own in a `certs.d` directory is trusted by
//! those too, and no other host is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, TcpConnector};

use super::pinned::Pinned;
use super::url::is_loopback;
use super::{Config, lock};
use crate::error::{Context, Error, Kind, Result};

/// Where distributions keep the authorities they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whether a certificate has to be vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Trust {
    Verified,
    /// Only for registries that the configuration calls insecure.
    Anyone,
}

pub(super) struct Agents {
    directories: Vec<PathBuf>,
    patience: std::time::Duration,
    known: Mutex<HashMap<(String, Trust), Agent>>,
    system: std::sync::OnceLock<Option<Vec<Certificate<'static>>>>,
}

impl Agents {
    pub(super) fn new(config: &Config) -> Agents {
        Agents {
            directories: config.certificates.clone(),
            patience: config.patience,
            known: Mutex::new(HashMap::new()),
            system: std::sync::OnceLock::new(),
        }
    }

    /// What speaks to a host. Hosts without certificates of their own share one.
    pub(super) fn of(&self, authority: &str, trust: Trust) -> Result<Agent> {
        let own = self.own_directories(authority);
        // Proxies are for elsewhere.
        let class = if is_loopback(authority) { "loopback" } else { "" };
        let key = (if own.is_empty() { class.to_owned() } else { authority.to_owned() }, trust);
        let known = |agents: &HashMap<_, Agent>| agents.get(&key).cloned();
        if let Some(agent) = known(&lock(&self.known)) {
            return Ok(agent);
        }
        let agent = self.make(authority, &own, trust)?;
        lock(&self.known).insert(key, agent.clone());
        Ok(agent)
    }

    /// Whether a host has certificates of its own: then it speaks TLS.
    pub(super) fn has_own(&self, authority: &str) -> bool {
        !self.own_directories(authority).is_empty()
    }

    fn own_directories(&self, authority: &str) -> Vec<PathBuf> {
        let safe = !authority.contains('/') && !authority.starts_with('.');
        let below = self.directories.iter().map(|dir| dir.join(authority));
        below.filter(|dir| safe && dir.is_dir()).collect()
    }

    fn make(&self, authority: &str, own: &[PathBuf], trust: Trust) -> Result<Agent> {
        let mut authorities = Vec::new();
        let mut client = None;
        for dir in own {
            read_directory(dir, &mut authorities, &mut client)?;
        }
        let system = self.system.get_or_init(system_authorities);
        let pinned = match (trust, authorities.is_empty()) {
            (Trust::Verified, false) => {
                Some(Pinned::new(system.as_deref().unwrap_or_default(), &authorities, client.as_ref())?)
            }
            _ => None,
        };
        let roots = system.as_deref().map_or(RootCerts::WebPki, RootCerts::new_with_certs);
        let tls = TlsConfig::builder()
            .root_certs(roots)
            .client_cert(client)
            .disable_verification(trust == Trust::Anyone)
            .build();
        let mut agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("runion/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(self.patience.min(std::time::Duration::from_secs(30))))
            .timeout_per_read(Some(self.patience))
            .timeout_per_write(Some(self.patience))
            .max_idle_connections_per_host(16)
            .max_idle_connections(32);
        if is_loopback(authority) {
            agent = agent.proxy(None);
        }
        let config = agent.build();
        let Some(pinned) = pinned else { return Ok(Agent::new_with_config(config)) };
        let connector =
            ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default()).chain(pinned);
        Ok(Agent::with_parts(config, connector, DefaultResolver::default()))
    }
}

fn system_authorities() -> Option<Vec<Certificate<'static>>> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let bundle = named
        .into_iter()
        .chain(SYSTEM_BUNDLES.map(PathBuf::from))
        .find_map(|path| std::fs::read(path).ok())?;
    // One broken certificate of a hundred is no reason to trust nobody.
    let certificates: Vec<_> = parse_pem(&bundle)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    (!certificates.is_empty()).then_some(certificates)
}

fn read_directory(
    dir: &Path,
    authorities: &mut Vec<Certificate<'static>>,
    client: &mut Option<ClientCert>,
) -> Result<()> {
    let reading = || format!("cannot read {}", dir.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).context(reading)? {
        paths.push(entry.context(reading)?.path());
    }
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => authorities.extend(certificates(&path)?),
            Some("cert") if client.is_none() => {
                let key = private_key(&path.with_extension("key"))?;
                *client = Some(ClientCert::new_with_certs(&certificates(&path)?, key));
            }
            _ => {}
        }
    }
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let bytes = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
    let mut found = Vec::new();
    for item in parse_pem(&bytes) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(no_pem(path, "certificate")),
        }
    }
    if found.is_empty() { Err(no_pem(path, "certificate")) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>> {
    let bytes = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
    PrivateKey::from_pem(&bytes).map_err(|_| no_pem(path, "private key"))
}

fn no_pem(path: &Path, what: &str) -> Error {
    Error::new(Kind::Invalid, format!("{} is no {what} in PEM", path.display()))
}
