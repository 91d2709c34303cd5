//! What users call images: `registry/namespace/name:tag@digest`.
//!
//! The grammar is docker's (github.com/distribution/reference): a first part
//! with a dot or a colon, or `localhost`, is a registry; without one it is
//! `docker.io`, where a single name lies in `library/`; without tag and digest
//! the tag is `latest`. Two names of one repository are equal once parsed.
//! An error points at the character that does not fit.
//!
//! Parsing what is displayed, short or in full, gives the same reference.
//! Image ids are hexadecimal digits and would parse as names: a caller asks
//! [`IdPrefix::parse`] beside.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::{Error, Kind, Result};

/// The registry of names that give none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of references that give neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

/// Where single names of the default registry lie.
const OFFICIAL: &str = "library/";
/// The longest repository, in bytes, without its registry.
const REPOSITORY_LIMIT: usize = 255;
/// The longest host name the DNS knows, and a port.
const REGISTRY_LIMIT: usize = 253 + 6;
/// The longest tag.
const TAG_LIMIT: usize = 128;
/// Longer texts are not shown in errors.
const SHOWN_LIMIT: usize = 160;

/// A repository: a registry's name and a path there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    registry: String,
    path: String,
}

/// A reference to an image: a repository with a tag, a digest, or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Repository {
    /// A repository alone, as `nginx` or `localhost:5000/team/app`.
    pub fn parse(text: &str) -> Result<Repository> {
        let input = Input { text, what: "repository name" };
        let parts = input.split()?;
        match parts.tag.or(parts.digest) {
            Some((start, _)) => Err(input.error(start - 1, "a tag or digest does not belong here")),
            None => Ok(parts.repository),
        }
    }

    /// The registry's host, and port if it has one; `docker.io` under all its names.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in the registry, as requests name it: `library/nginx`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// With its registry: `docker.io/library/nginx`.
    pub fn canonical(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }
}

impl fmt::Display for Repository {
    /// As short as it can be written: `nginx`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.registry != DEFAULT_REGISTRY {
            return write!(f, "{}/{}", self.registry, self.path);
        }
        match self.path.strip_prefix(OFFICIAL).filter(|name| !name.contains('/')) {
            Some(name) if is_hex_64(name) => write!(f, "{OFFICIAL}{name}"),
            Some(name) => f.write_str(name),
            // What would be taken for another registry, or for a single name.
            None if !self.path.contains('/') || domain_end(&self.path).is_some() => {
                write!(f, "{DEFAULT_REGISTRY}/{}", self.path)
            }
            None => f.write_str(&self.path),
        }
    }
}

impl FromStr for Repository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Repository> {
        Repository::parse(text)
    }
}

impl Reference {
    /// A reference as users write it.
    pub fn parse(text: &str) -> Result<Reference> {
        let input = Input { text, what: "reference" };
        if is_hex_64(text) {
            return Err(input.error(0, "64 hexadecimal digits are an image id, not a name"));
        }
        let parts = input.split()?;
        if let Some((start, tag)) = parts.tag {
            input.check_tag(start, tag)?;
        }
        let digest = parts.digest.map(|(start, digest)| input.digest(start, digest)).transpose()?;
        let default = digest.is_none().then_some(DEFAULT_TAG);
        let tag = parts.tag.map(|(_, tag)| tag).or(default).map(str::to_owned);
        Ok(Reference { repository: parts.repository, tag, digest })
    }

    /// The repository it is in.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag; only a reference by digest may lack one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index it names, if it gives one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same repository by another tag, and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Reference> {
        Input { text: tag, what: "tag" }.check_tag(0, tag)?;
        Ok(Reference { repository: self.repository.clone(), tag: Some(tag.to_owned()), digest: None })
    }

    /// The same repository and tag, at this digest.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { digest: Some(digest), ..self.clone() }
    }

    /// With its registry and namespace: `docker.io/library/nginx:latest`.
    pub fn canonical(&self) -> String {
        format!("{}{}", self.repository.canonical(), self.suffix())
    }

    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        tag.chain(self.digest.map(|digest| format!("@{digest}"))).collect()
    }
}

impl fmt::Display for Reference {
    /// As short as it can be written, the tag always with it: `nginx:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.repository, self.suffix())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference> {
        Reference::parse(text)
    }
}

/// The registry a user names for `login`: a host, with or without a scheme and
/// a path behind it, as auth files hold them; `docker.io` under all its names.
pub fn parse_registry(text: &str) -> Result<String> {
    let host = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = host.split_once('/').map_or(host, |(host, _)| host);
    Input { text: host, what: "registry" }.check_domain(host)?;
    Ok(registry_name(host).to_owned())
}

/// One name for a registry that has several.
fn registry_name(domain: &str) -> &str {
    match domain {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => DEFAULT_REGISTRY,
        other => other,
    }
}

/// An image's id or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPrefix(String);

impl IdPrefix {
    /// 1 to 64 lower-case hexadecimal digits, `sha256:` before them or not.
    pub fn parse(text: &str) -> Option<IdPrefix> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let fits = (1..=64).contains(&digits.len()) && digits.bytes().all(is_hex);
        fits.then(|| IdPrefix(digits.to_owned()))
    }

    /// Whether an id begins so.
    pub fn matches(&self, id: &Digest) -> bool {
        id.hex().starts_with(&self.0)
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn is_hex_64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(is_hex)
}

/// Where the registry ends in a name, if it begins with one.
fn domain_end(name: &str) -> Option<usize> {
    let end = name.find('/')?;
    let first = name.get(..end)?;
    (first == "localhost" || first.contains(['.', ':'])).then_some(end)
}

/// The pieces of a text, with where they start; tag and digest are unchecked.
struct Parts<'a> {
    repository: Repository,
    tag: Option<(usize, &'a str)>,
    digest: Option<(usize, &'a str)>,
}

/// The text that is parsed, and what it should be.
struct Input<'a> {
    text: &'a str,
    what: &'static str,
}

impl<'a> Input<'a> {
    fn split(&self) -> Result<Parts<'a>> {
        self.refuse_scheme()?;
        let (name, digest) = self
            .text
            .split_once('@')
            .map_or((self.text, None), |(name, digest)| (name, Some((name.len() + 1, digest))));
        let (domain, start) = match domain_end(name) {
            Some(end) => (name.get(..end), end + 1),
            None => (None, 0),
        };
        if let Some(domain) = domain {
            self.check_domain(domain)?;
        }
        let rest = name.get(start..).unwrap_or_default();
        let (path, tag) = rest
            .split_once(':')
            .map_or((rest, None), |(path, tag)| (path, Some((start + path.len() + 1, tag))));
        self.check_path(start, path)?;
        let registry = domain.map_or(DEFAULT_REGISTRY, registry_name);
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let path = if official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        if path.len() > REPOSITORY_LIMIT {
            return Err(self.error(start, format!("the name is longer than {REPOSITORY_LIMIT} bytes")));
        }
        Ok(Parts { repository: Repository { registry: registry.to_owned(), path }, tag, digest })
    }

    fn refuse_scheme(&self) -> Result<()> {
        match self.text.find("://") {
            Some(at) => Err(self
                .error(at, "a scheme does not belong here")
                .hint("write the registry's host alone: registry.example.com/name")),
            None => Ok(()),
        }
    }

    /// `host`, `host:port`, `[address]:port`; it starts the text.
    fn check_domain(&self, domain: &str) -> Result<()> {
        if domain.len() > REGISTRY_LIMIT {
            return Err(self.error(0, format!("the registry is longer than {REGISTRY_LIMIT} bytes")));
        }
        let (host, port) = match domain.strip_prefix('[') {
            Some(rest) => {
                let Some((address, port)) = rest.split_once(']') else {
                    return Err(self.error(domain.len(), "\"]\" is missing after the address"));
                };
                if address.parse::<Ipv6Addr>().is_err() {
                    return Err(self.error(1, "this is no IPv6 address"));
                }
                (address.len() + 2, port)
            }
            None => {
                let host = domain.find(':').unwrap_or(domain.len());
                self.check_host(domain.get(..host).unwrap_or_default())?;
                (host, domain.get(host..).unwrap_or_default())
            }
        };
        match port.strip_prefix(':') {
            None if port.is_empty() => Ok(()),
            None => Err(self.error(host, "only a port may follow the address")),
            Some(digits) => match digits.find(|c: char| !c.is_ascii_digit()) {
                Some(at) => Err(self
                    .error(host + 1 + at, "a port is a number")
                    .hint("a tag has no \"/\" in it and comes last")),
                None if digits.parse::<u16>().is_ok() => Ok(()),
                None => Err(self.error(host + 1, "a port is a number up to 65535")),
            },
        }
    }

    fn check_host(&self, host: &str) -> Result<()> {
        let mut start = 0;
        for label in host.split('.') {
            let end = start + label.len();
            if let Some(at) = label.find(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
                return Err(self.unfit(start + at, "a registry's name"));
            }
            if label.is_empty() {
                return Err(self.error(start, "a part of the registry's name is empty"));
            }
            if label.starts_with('-') {
                return Err(self.error(start, "a part of the registry's name begins with \"-\""));
            }
            if label.ends_with('-') {
                return Err(self.error(end - 1, "a part of the registry's name ends with \"-\""));
            }
            start = end + 1;
        }
        Ok(())
    }

    /// Lower-case words, one of `.` `_` `__` or any number of `-` between two.
    fn check_path(&self, start: usize, path: &str) -> Result<()> {
        if path.is_empty() {
            return Err(self.error(start, "the name is empty"));
        }
        let mut start = start;
        for part in path.split('/') {
            if part.is_empty() {
                return Err(self.error(start, "a part of the name is empty"));
            }
            if let Some(at) = part.find(|c: char| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-')) {
                return Err(match part.as_bytes().get(at) {
                    Some(byte) if byte.is_ascii_uppercase() => self
                        .error(start + at, "repository names are lower case")
                        .hint(format!("write {:?}", path.to_ascii_lowercase())),
                    _ => self.unfit(start + at, "a repository's name"),
                });
            }
            let mut at = start;
            for run in part.split_inclusive(|c: char| c.is_ascii_alphanumeric()) {
                let separators = run.trim_end_matches(|c: char| c.is_ascii_alphanumeric());
                let fits =
                    matches!(separators, "" | "." | "_" | "__") || separators.bytes().all(|b| b == b'-');
                if !separators.is_empty() && at == start {
                    return Err(self.error(at, "a part of the name begins with a separator"));
                }
                if separators.len() == run.len() {
                    return Err(self.error(at, "a part of the name ends with a separator"));
                }
                if !fits {
                    return Err(self.error(at, format!("{separators:?} cannot separate words")));
                }
                at += run.len();
            }
            start += part.len() + 1;
        }
        Ok(())
    }

    fn check_tag(&self, start: usize, tag: &str) -> Result<()> {
        match tag.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '-')) {
            Some(at) => Err(self.unfit(start + at, "a tag")),
            None if tag.is_empty() => Err(self.error(start, "the tag is empty")),
            None if tag.starts_with(['.', '-']) => Err(self.error(start, "a tag begins with \".\" or \"-\"")),
            None if tag.len() > TAG_LIMIT => {
                Err(self.error(start, format!("the tag is longer than {TAG_LIMIT} characters")))
            }
            None => Ok(()),
        }
    }

    fn digest(&self, start: usize, digest: &str) -> Result<Digest> {
        digest.parse().map_err(|error: Error| {
            let hint = error.remedy().unwrap_or_default().to_owned();
            self.error(start, "this is no digest").hint(hint)
        })
    }

    /// The character there cannot stand in what is being read.
    fn unfit(&self, at: usize, place: &str) -> Error {
        let character = self.text.get(at..).and_then(|rest| rest.chars().next()).unwrap_or_default();
        self.error(at, format!("{character:?} cannot stand in {place}"))
    }

    /// What is wrong, and a line that points there.
    fn error(&self, at: usize, wrong: impl fmt::Display) -> Error {
        let Input { text, what } = self;
        let column = text.get(..at).unwrap_or_default().chars().count();
        let message = if text.len() > SHOWN_LIMIT {
            format!("invalid {what} of {} bytes: {wrong}, at character {}", text.len(), column + 1)
        } else if text.is_empty() {
            format!("invalid {what} \"\": {wrong}")
        } else if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            format!("invalid {what} {text:?}: {wrong}\n  {text}\n  {:column$}^", "")
        } else {
            format!("invalid {what} {text:?}: {wrong}, at character {}", column + 1)
        };
        Error::new(Kind::Invalid, message)
    }
}

#[cfg(test)]
#[path = "reference/tests.rs"]
mod tests;
