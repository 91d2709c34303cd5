//! What kind of document some bytes are, before they are read as one.
//!
//! Keys are compared as Go compares them, without regard to case: a key that
//! only a Go program would take for `layers` would show it another image. Keys
//! that occur twice are refused for the same reason.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{malformed, media};
use crate::error::{Error, Kind, Result};

/// The two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DocumentKind {
    Manifest,
    Index,
}

impl DocumentKind {
    fn of_media_type(media_type: &str) -> Option<DocumentKind> {
        match media_type {
            media::OCI_MANIFEST | media::DOCKER_MANIFEST => Some(DocumentKind::Manifest),
            media::OCI_INDEX | media::DOCKER_INDEX => Some(DocumentKind::Index),
            _ => None,
        }
    }
}

/// The keys that decide.
#[derive(Debug, Default)]
pub(super) struct Shape {
    version: Option<u64>,
    media_type: Option<String>,
    has_manifest_keys: bool,
    has_index_keys: bool,
    has_schema_1_keys: bool,
}

impl Shape {
    pub(super) fn of(bytes: &[u8]) -> Result<Shape> {
        serde_json::from_slice(bytes).map_err(|error| malformed("document", &error))
    }

    /// Which kind it is, all that it says of itself and `served` agreeing.
    pub(super) fn kind(&self, served: Option<&str>) -> Result<DocumentKind> {
        let own = self.media_type.as_deref();
        if self.is_schema_1() || [own, served].into_iter().flatten().any(is_schema_1) {
            return Err(invalid("the image is in docker's format of 2014 (manifest schema 1)")
                .hint("let its owner push it again with docker 1.10 or newer"));
        }
        if self.version != Some(2) {
            return Err(invalid("the document's schemaVersion is not 2"));
        }
        let kind = match (self.has_manifest_keys, self.has_index_keys) {
            (true, false) => DocumentKind::Manifest,
            (false, true) => DocumentKind::Index,
            (true, true) => {
                return Err(invalid("the document is a manifest and an index at once (CVE-2021-41190)"));
            }
            (false, false) => return Err(invalid("the document is neither a manifest nor an index")),
        };
        if let (Some(own), Some(served)) = (own, served) {
            if media::essence(own) != served {
                return Err(invalid(format!("the document says it is {own:?} and is given as {served:?}")));
            }
        }
        for media_type in [own, served].into_iter().flatten() {
            match DocumentKind::of_media_type(&media::essence(media_type)) {
                Some(said) if said == kind => {}
                Some(_) => {
                    return Err(invalid(format!("the document's contents are not what {media_type:?} says")));
                }
                None => return Err(invalid(format!("{media_type:?} is no manifest and no index"))),
            }
        }
        Ok(kind)
    }

    fn is_schema_1(&self) -> bool {
        self.version == Some(1) || self.has_schema_1_keys
    }
}

fn is_schema_1(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.docker.distribution.manifest.v1")
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

/// The names that decide, as they are spelt.
const DECIDING: [&str; 7] =
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers", "artifactType"];

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest or an index")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        use serde::de::Error;
        let mut shape = Shape::default();
        let mut seen = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let Some(known) = DECIDING.into_iter().find(|known| known.eq_ignore_ascii_case(&key)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if known != key {
                return Err(A::Error::custom(format!("{key:?} is not how {known:?} is spelt")));
            }
            if seen.contains(&known) {
                return Err(A::Error::custom(format!("{known:?} occurs twice")));
            }
            seen.push(known);
            match known {
                "schemaVersion" => shape.version = map.next_value()?,
                "mediaType" => shape.media_type = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    shape.has_manifest_keys |= matches!(known, "config" | "layers");
                    shape.has_index_keys |= known == "manifests";
                    shape.has_schema_1_keys |= known == "fsLayers";
                }
            }
        }
        Ok(shape)
    }
}
