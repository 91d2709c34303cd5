//! The registry client against Debian's docker-registry, with skopeo as the
//! second opinion, and against scripted servers where a real one will not
//! misbehave on request.

mod protocol;
mod real;
mod scripted;
mod server;
mod transfer;

use std::time::Duration;

use layerstore::credentials::Credentials;
use layerstore::digest::Digest;
use layerstore::document::{Descriptor, ImageConfig, Manifest, media};
use layerstore::registry::{Client, Config};

/// A configuration that knows nothing of this machine's, and hurries.
fn config() -> Config {
    Config {
        credentials: Credentials::default(),
        certificates: Vec::new(),
        retries: 3,
        backoff: Duration::from_millis(1),
        patience: Duration::from_secs(5),
        ..Config::default()
    }
}

fn client() -> Client {
    Client::new(config())
}

/// An image of one layer, which is no tar: registries do not look.
struct Sample {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Manifest,
    bytes: Vec<u8>,
}

impl Sample {
    fn new(architecture: &str, layer: Vec<u8>) -> Sample {
        let mut config =
            ImageConfig { architecture: architecture.into(), os: "linux".into(), ..Default::default() };
        config.rootfs.diff_ids.push(Digest::of(&layer));
        let config = config.to_bytes().unwrap();
        let layers = vec![Descriptor::of(media::OCI_LAYER, &layer)];
        let manifest = Manifest::new(media::OCI_MANIFEST, Descriptor::of(media::OCI_CONFIG, &config), layers);
        let bytes = manifest.to_bytes().unwrap();
        Sample { layer, config, manifest, bytes }
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor::of(media::OCI_MANIFEST, &self.bytes)
    }
}

/// Bytes that do not repeat soon.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(step).collect()
}
