//! Manifests and small blobs, checked; large blobs as they come.

use std::io::Read;

use ureq::Body;
use ureq::http::{Method, Response, header};

use super::Client;
use super::download::Download;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::token::Scope;
use super::transport::{Request, header_text};
use crate::digest::Digest;
use crate::document::{DOCUMENT_LIMIT, Descriptor, Document, Manifest, Platform, check_length, media};
use crate::error::{Error, Kind, Result};
use crate::reference::{Reference, Repository};

/// The header in which registries say what they send.
pub(super) const CONTENT_DIGEST: header::HeaderName =
    header::HeaderName::from_static("docker-content-digest");

/// How deep indexes may lie in indexes.
const INDEX_DEPTH: usize = 3;

/// A document as a registry has it, checked.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What it is.
    pub descriptor: Descriptor,
    /// Byte for byte.
    pub bytes: Vec<u8>,
    /// What it says.
    pub document: Document,
}

/// An image for one platform, and the document its name led to.
#[derive(Clone, Debug)]
pub struct Image {
    /// What the reference names: the manifest itself, or an index of several.
    pub named: Fetched,
    /// How the manifest is referred to.
    pub descriptor: Descriptor,
    /// The manifest's bytes.
    pub bytes: Vec<u8>,
    /// What the manifest says.
    pub manifest: Manifest,
}

impl Client {
    /// What a reference names, from the first server that has it.
    pub fn manifest(&self, reference: &Reference) -> Result<Fetched> {
        let repository = reference.repository();
        self.first_of(repository, |endpoint| {
            let Sent { media_type, said, bytes } = self.read_manifest(endpoint, reference)?;
            let digest = Digest::of(&bytes);
            for expected in [reference.digest(), said].into_iter().flatten() {
                if digest != expected {
                    let message =
                        format!("{reference} should be {expected}, and {} sends {digest}", endpoint.name);
                    return Err(Error::new(Kind::Corrupt, message));
                }
            }
            let document =
                Document::parse(&bytes, media_type.as_deref()).map_err(|error| error.context(reference))?;
            let descriptor = Descriptor::new(document.media_type(), digest, bytes.len() as u64);
            Ok(Fetched { descriptor, bytes, document })
        })
    }

    /// What a reference names, without fetching it; `None` if there is nothing.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let answer = self.first_of(reference.repository(), |endpoint| {
            let response = self.ask_manifest(endpoint, Method::HEAD, reference)?;
            let response = found(response, endpoint, reference)?;
            let len = header_text(&response, header::CONTENT_LENGTH).and_then(|len| len.parse().ok());
            let media_type = header_text(&response, header::CONTENT_TYPE);
            Ok(match (said_digest(&response)?, len, media_type) {
                (Some(digest), Some(len), Some(media_type)) => Some(Descriptor::new(media_type, digest, len)),
                _ => None,
            })
        });
        match answer {
            Ok(Some(descriptor)) => Ok(Some(descriptor)),
            // It says too little of itself to be known without its bytes.
            Ok(None) => self.manifest(reference).map(|fetched| Some(fetched.descriptor)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The image a reference names, the one for a platform where there are several.
    pub fn image(&self, reference: &Reference, platform: &Platform) -> Result<Image> {
        let named = self.manifest(reference)?;
        let mut current = named.clone();
        for _ in 0..INDEX_DEPTH {
            let chosen = match current.document {
                Document::Manifest(manifest) => {
                    let Fetched { descriptor, bytes, .. } = current;
                    return Ok(Image { named, descriptor, bytes, manifest: *manifest });
                }
                Document::Index(index) => {
                    index.choose(platform).map_err(|error| error.context(reference))?.clone()
                }
            };
            check_length(chosen.size).map_err(|error| error.context(reference))?;
            current = self.manifest(&reference.with_digest(chosen.digest))?;
            chosen.verify(&current.bytes)?;
            if media::essence(&chosen.media_type) != media::essence(&current.descriptor.media_type) {
                let message = format!(
                    "the index of {reference} says that {} is {:?}, and it is {:?}",
                    chosen.digest, chosen.media_type, current.descriptor.media_type
                );
                return Err(Error::new(Kind::Invalid, message));
            }
        }
        Err(Error::new(
            Kind::Limit,
            format!("{reference} leads from index to index, over {INDEX_DEPTH} times"),
        ))
    }

    /// A blob's bytes from an offset on, resumed when the connection breaks.
    /// Its length is checked, its digest is the reader's to check.
    pub fn blob(&self, repository: &Repository, blob: &Descriptor, offset: u64) -> Result<Download> {
        Download::open(self, repository, blob, offset)
    }

    /// A small blob, checked: a configuration.
    pub fn small_blob(&self, repository: &Repository, blob: &Descriptor) -> Result<Vec<u8>> {
        check_length(blob.size).map_err(|error| error.context(blob.digest))?;
        let mut bytes = Vec::new();
        self.blob(repository, blob, 0)?.read_to_end(&mut bytes)?;
        blob.verify(&bytes)?;
        Ok(bytes)
    }

    /// What the first of the servers gives that gives anything; else the error
    /// of the last, which is the registry's own.
    pub(super) fn first_of<T>(
        &self,
        repository: &Repository,
        ask: impl Fn(&Endpoint) -> Result<T>,
    ) -> Result<T> {
        let mut failed = None;
        for endpoint in self.sources(repository.registry())? {
            match ask(&endpoint) {
                Ok(answer) => return Ok(answer),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(Kind::NotFound, format!("nobody serves {repository}"))))
    }

    /// A manifest as it was sent, asked for again if the connection broke under it.
    fn read_manifest(&self, endpoint: &Endpoint, reference: &Reference) -> Result<Sent> {
        let mut attempt = 0;
        loop {
            let response = self.ask_manifest(endpoint, Method::GET, reference)?;
            let response = found(response, endpoint, reference)?;
            let media_type = header_text(&response, header::CONTENT_TYPE).map(str::to_owned);
            let said = said_digest(&response)?;
            match read_document(response) {
                Ok(bytes) => return Ok(Sent { media_type, said, bytes }),
                Err(error) if error.kind() == Kind::System && attempt < self.0.config.retries => {
                    std::thread::sleep(self.pause(attempt));
                    attempt += 1;
                }
                Err(error) => {
                    return Err(error.context(format!("cannot get {reference} from {}", endpoint.name)));
                }
            }
        }
    }

    fn ask_manifest(
        &self,
        endpoint: &Endpoint,
        method: Method,
        reference: &Reference,
    ) -> Result<Response<Body>> {
        let repository = reference.repository();
        let digest = reference.digest().map(|digest| digest.to_string());
        let name = digest.as_deref().or(reference.tag()).unwrap_or_default();
        let url = endpoint.url(&format!("/v2/{}/manifests/{name}", repository.path()));
        let mut request = Request::new(method, url, Scope::Pull(repository.clone()));
        request.headers.push(("accept", media::ACCEPTED.join(", ")));
        self.send(endpoint, request)
    }
}

/// What came of a manifest, unchecked.
struct Sent {
    media_type: Option<String>,
    said: Option<Digest>,
    bytes: Vec<u8>,
}

/// An answer with what was asked for in it; anything else as an error that
/// names the object.
pub(super) fn found(
    response: Response<Body>,
    endpoint: &Endpoint,
    object: impl std::fmt::Display,
) -> Result<Response<Body>> {
    let registry = &endpoint.name;
    match response.status().as_u16() {
        200 | 206 => Ok(response),
        404 => Err(Error::new(Kind::NotFound, format!("{object} is not in the registry {registry}"))),
        // Registries do not tell whether what may not be seen exists.
        401 => {
            let message = format!("{object} does not exist in {registry}, or asks for a login");
            Err(Error::new(Kind::Denied, message).hint(format!("runion login {registry}")))
        }
        403 => {
            let error = Failure::read(response).error(&format!("{object} may not be had"));
            Err(error.hint(format!("runion login {registry}")))
        }
        _ => Err(Failure::read(response).error(&format!("cannot get {object} from {registry}"))),
    }
}

fn said_digest(response: &Response<Body>) -> Result<Option<Digest>> {
    // Other algorithms are nothing we could compare with.
    let said = header_text(response, CONTENT_DIGEST).filter(|said| said.starts_with("sha256:"));
    said.map(str::parse).transpose()
}

fn read_document(response: Response<Body>) -> Result<Vec<u8>> {
    if let Some(len) = response.body().content_length() {
        check_length(len)?;
    }
    let mut bytes = Vec::new();
    response.into_body().into_reader().take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes)?;
    check_length(bytes.len() as u64)?;
    Ok(bytes)
}
