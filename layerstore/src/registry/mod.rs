//! A client of registries: the OCI distribution specification 1.1, and
//! docker's registry API, which it grew from.
//!
//! It blocks; parallel transfers are the caller's threads, which share one
//! [`Client`]. What is fetched by digest is what the digest says, or an error:
//! manifests are checked here, blobs by whoever hashes them while reading
//! ([`crate::digest::Hashing`]); their length is checked here.
//!
//! | module | what |
//! |---|---|
//! | `url`, `tls` | where requests go, and whom we trust there |
//! | `endpoint` | which server speaks for a registry: mirrors, plain HTTP |
//! | `challenge`, `token` | proving who we are |
//! | `transport` | one request: authorisation, redirects, retries |
//! | `failure` | answers that are errors, in words |
//! | `pull`, `download`, `push`, `list` | what one does with a registry |
//!
//! Invariants: credentials go to the registry they are for and its token
//! server, never along a redirect; nothing is sent over plain HTTP but to this
//! machine and to registries the configuration calls insecure.

mod challenge;
mod download;
mod endpoint;
mod failure;
mod list;
mod pinned;
mod pull;
mod push;
mod tls;
mod token;
mod transport;
mod url;

pub use download::Download;
pub use list::SearchResult;
pub use pull::{Fetched, Image};
pub use push::Pushed;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::credentials::{Credential, Credentials};
use crate::error::Result;

/// How a [`Client`] behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who we are.
    pub credentials: Credentials,
    /// Registries that may be spoken to over plain HTTP or with a certificate
    /// that nobody vouches for: `host` or `host:port`.
    pub insecure: Vec<String>,
    /// Other servers to pull from, tried first and in order, by registry:
    /// `host`, `host:port/prefix`, or with `http://` or `https://` before it.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Directories of certificates: `HOST/*.crt` are authorities to trust for
    /// that host, `HOST/NAME.cert` and `HOST/NAME.key` prove who we are.
    pub certificates: Vec<PathBuf>,
    /// How often in a row a request is repeated before it counts as failed.
    pub retries: u32,
    /// The pause before the first repetition; each is twice as long as the last.
    pub backoff: Duration,
    /// How long a server may be silent.
    pub patience: Duration,
}

impl Default for Config {
    /// Of this user on this machine, without mirrors.
    fn default() -> Config {
        let mut certificates =
            vec![PathBuf::from("/etc/docker/certs.d"), PathBuf::from("/etc/containers/certs.d")];
        if let Some(home) = std::env::var_os("HOME") {
            certificates.insert(0, PathBuf::from(home).join(".config/containers/certs.d"));
        }
        Config {
            credentials: Credentials::of_user(),
            insecure: Vec::new(),
            mirrors: BTreeMap::new(),
            certificates,
            retries: 5,
            backoff: Duration::from_millis(500),
            patience: Duration::from_secs(60),
        }
    }
}

/// A client of any number of registries. A clone is the same client.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    config: Config,
    agents: tls::Agents,
    endpoints: endpoint::Endpoints,
    tokens: token::Tokens,
}

impl Client {
    /// A client; nothing is connected to yet.
    pub fn new(config: Config) -> Client {
        let agents = tls::Agents::new(&config);
        Client(Arc::new(Shared {
            config,
            agents,
            endpoints: endpoint::Endpoints::default(),
            tokens: token::Tokens::default(),
        }))
    }

    /// Whether a registry takes a credential, or none: what `login` asks before
    /// it keeps one.
    pub fn check_login(&self, registry: &str, credential: Option<&Credential>) -> Result<()> {
        let endpoint = self.origin(registry)?;
        self.ping(&endpoint, credential)
    }
}

/// A lock whose holder cannot have left a half-made change: each is one
/// insertion or one look.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.0.config).finish()
    }
}
