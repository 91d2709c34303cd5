//! A registry that serves one image, as long as the test's process lives.

use std::sync::OnceLock;

use layerstore::credentials::Credentials;
use layerstore::digest::Digest;
use layerstore::registry::{Client, Config};

use crate::made::{gzip, other};
use crate::scripted::{Answer, Server};

/// The registry's address; it has [`other`] as `library/other:1`.
pub fn host() -> &'static str {
    static SERVER: OnceLock<Server> = OnceLock::new();
    &SERVER.get_or_init(start).host
}

fn start() -> Server {
    let made = other();
    let manifest = made.manifest();
    let mut blobs: Vec<Vec<u8>> = made.layers.iter().map(|layer| gzip(layer)).collect();
    blobs.push(made.config);
    Server::start(move |asked| {
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        match asked.path.rsplit_once('/') {
            Some((_, "1")) => Answer::new(200, manifest.clone()).header("Content-Type", manifest_type),
            Some((_, digest)) if asked.path.contains("/blobs/") => {
                let found = blobs.iter().find(|blob| Digest::of(blob).to_string() == digest);
                found.map_or_else(|| Answer::new(404, ""), |blob| Answer::new(200, blob.clone()))
            }
            _ => Answer::new(200, ""),
        }
    })
}

/// A client that takes `other:1` from the server at this address.
pub fn client(host: &str) -> Client {
    let mirrors = [("docker.io".to_owned(), vec![format!("http://{host}")])].into();
    let (credentials, certificates) = (Credentials::default(), Vec::new());
    Client::new(Config { mirrors, credentials, certificates, ..Config::default() })
}
