//! Platforms: what an image runs on, and which of several fits best.
//!
//! Names are Go's (`amd64`, `arm64`), as the OCI image specification asks;
//! `uname -m`'s are understood.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Other, null_is_empty};
use crate::error::{Error, Kind, Result};

/// An operating system, an architecture, and a variant of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm`, `riscv64`…
    pub architecture: String,
    /// `v7` of `arm`; empty if it does not matter.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Of Windows.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Fields not named here.
    #[serde(flatten)]
    pub other: Other,
}

impl Platform {
    /// With names as Go has them and without a variant that says nothing.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Platform {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, implied) = match architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => ("amd64".to_owned(), ""),
            "aarch64" => ("arm64".to_owned(), ""),
            "armhf" | "armv7" | "armv7l" => ("arm".to_owned(), "v7"),
            "armel" | "armv6" | "armv6l" => ("arm".to_owned(), "v6"),
            "x86" | "i386" | "i486" | "i586" | "i686" => ("386".to_owned(), ""),
            "powerpc64le" => ("ppc64le".to_owned(), ""),
            "loongarch64" => ("loong64".to_owned(), ""),
            other => (other.to_owned(), ""),
        };
        let variant = variant.to_ascii_lowercase();
        let variant = match (architecture.as_str(), variant.as_str()) {
            (_, "") => implied.to_owned(),
            ("amd64", "v1") | ("arm64", "8" | "v8" | "v8.0") => String::new(),
            ("arm", "5" | "6" | "7" | "8") => format!("v{variant}"),
            _ => variant,
        };
        Platform { os, architecture, variant, os_version: None, other: Other::new() }
    }

    /// What this program runs on; always linux.
    pub fn host() -> Platform {
        let variant = match std::env::consts::ARCH {
            "arm" if cfg!(target_feature = "v7") => "v7",
            "arm" => "v6",
            _ => "",
        };
        Platform::new("linux", std::env::consts::ARCH, variant)
    }

    /// How far an offered platform is from this one: 0 is the same, `None`
    /// does not run. Older variants run on newer machines.
    pub(super) fn distance(&self, offered: &Platform) -> Option<u32> {
        let wanted = Platform::new(&self.os, &self.architecture, &self.variant);
        let offered = Platform::new(&offered.os, &offered.architecture, &offered.variant);
        if (&wanted.os, &wanted.architecture) != (&offered.os, &offered.architecture) {
            return None;
        }
        if wanted.variant == offered.variant {
            return Some(0);
        }
        wanted.level()?.checked_sub(offered.level()?)
    }

    /// The variant as a number, where they are ordered.
    fn level(&self) -> Option<u32> {
        match (self.architecture.as_str(), self.variant.as_str()) {
            ("arm", "") => Some(70),
            ("arm64", "") => Some(80),
            ("amd64", "") => Some(10),
            ("arm" | "arm64" | "amd64", variant) => {
                let (major, minor) =
                    variant.strip_prefix('v').map(|v| v.split_once('.').unwrap_or((v, "0")))?;
                major.parse::<u32>().ok()?.checked_mul(10)?.checked_add(minor.parse().ok()?)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// `os/architecture`, `os/architecture/variant`, or an architecture alone.
    fn from_str(text: &str) -> Result<Platform> {
        let parts: Vec<_> = text.split('/').collect();
        let fits = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        match parts[..] {
            _ if !parts.iter().all(fits) => {}
            [architecture] => return Ok(Platform::new("linux", architecture, "")),
            [os, architecture] => return Ok(Platform::new(os, architecture, "")),
            [os, architecture, variant] => return Ok(Platform::new(os, architecture, variant)),
            _ => {}
        }
        Err(Error::new(Kind::Invalid, format!("{text:?} is no platform"))
            .hint("write os/architecture/variant: linux/amd64, linux/arm/v7"))
    }
}
