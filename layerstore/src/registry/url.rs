//! Addresses on the web, as far as registries need them.

use std::fmt;
use std::net::IpAddr;

use crate::error::{Error, Kind, Result};

/// Plain or over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// An absolute address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) scheme: Scheme,
    /// Host, and port if it is given.
    pub(super) authority: String,
    /// From the `/` on, with the query.
    pub(super) path: String,
}

impl Url {
    pub(super) fn new(scheme: Scheme, authority: &str, path: impl Into<String>) -> Url {
        Url { scheme, authority: authority.to_owned(), path: path.into() }
    }

    pub(super) fn parse(text: &str) -> Result<Url> {
        let malformed = || Error::new(Kind::Invalid, format!("{text:?} is no address of a web server"));
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else {
            return Err(malformed());
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        // A name before the host would be a credential in an address.
        if authority.is_empty() || authority.contains(['@', '\\']) || !is_visible(text) {
            return Err(malformed());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Url { scheme, authority: authority.to_ascii_lowercase(), path })
    }

    /// Where a `Location` or `Link` that was found at this address leads.
    pub(super) fn join(&self, location: &str) -> Result<Url> {
        if location.contains("://") && !location.starts_with(['/', '?']) {
            return Url::parse(location);
        }
        let scheme = self.scheme;
        if location.starts_with("//") {
            return Url::parse(&format!("{scheme}:{location}"));
        }
        let own = self.path.split('?').next().unwrap_or_default();
        let path = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{own}{location}")
        } else {
            format!("{}/{location}", own.rsplit_once('/').map_or("", |(dir, _)| dir))
        };
        Url::parse(&format!("{scheme}://{}{path}", self.authority))
    }

    /// The same with one more parameter.
    pub(super) fn with_query(mut self, name: &str, value: &str) -> Url {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str(name);
        self.path.push('=');
        self.path.push_str(&escape(value));
        self
    }

    /// Whether both are the same server: only there may a credential go.
    pub(super) fn is_same_server(&self, other: &Url) -> bool {
        self.scheme == other.scheme && self.with_port() == other.with_port()
    }

    fn with_port(&self) -> String {
        let host = host_of(&self.authority);
        let port = self.authority.get(host.len()..).and_then(|rest| rest.strip_prefix(':'));
        let default = if self.scheme == Scheme::Http { "80" } else { "443" };
        format!("{host}:{}", port.unwrap_or(default))
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Scheme::Http { "http" } else { "https" })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

/// Without the port; an IPv6 address keeps its brackets.
pub(super) fn host_of(authority: &str) -> &str {
    let end = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    authority.get(..end).unwrap_or(authority)
}

/// Whether it is this machine, by its name or address.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = host_of(authority);
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// As a value in a query or a form.
pub(super) fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved() {
        let base = Url::parse("https://Host.com:5000/v2/a/blobs/uploads/?x=1").unwrap();
        for (location, expected) in [
            ("/v2/b", "https://host.com:5000/v2/b"),
            ("?state=1", "https://host.com:5000/v2/a/blobs/uploads/?state=1"),
            ("id", "https://host.com:5000/v2/a/blobs/uploads/id"),
            ("//cdn.com/b?q", "https://cdn.com/b?q"),
            ("http://cdn.com", "http://cdn.com/"),
            ("/v2/b?next=http://x", "https://host.com:5000/v2/b?next=http://x"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), expected, "{location}");
        }
        for location in ["ftp://a/b", "https://user@host/", "https://", "/a b", "https://a\\@b/", "/\r\nX: y"]
        {
            assert!(base.join(location).is_err(), "{location}");
        }
    }

    #[test]
    fn servers_are_told_apart() {
        let url = |text| Url::parse(text).unwrap();
        assert!(url("https://a.com/x").is_same_server(&url("https://A.com:443/y")));
        assert!(url("http://[::1]/x").is_same_server(&url("http://[::1]:80/y")));
        for other in ["http://a.com", "https://a.com:444", "https://b.com", "https://a.com.b.com"] {
            assert!(!url("https://a.com").is_same_server(&url(other)), "{other}");
        }
    }

    #[test]
    fn this_machine_is_known() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.8.9.1:80", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.com", "128.0.0.1", "127.0.0.1.com", "[::2]", "example.com:127"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
