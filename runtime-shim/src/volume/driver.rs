//! Options of docker's `local` driver: `type`, `device` and `o`, as mount(8) has
//! them.
//!
//! A volume is a directory of the store's by itself. It can be another of the
//! host's instead (`type=none`, `o=bind`), or a temporary file system, which
//! each container has for itself. Whatever else docker would mount on the host
//! as root is refused: nobody would be there to unmount it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// Where a volume's files are.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// In the store.
    Own,
    /// In a directory of the host's.
    Directory {
        /// Which.
        path: PathBuf,
        /// Options of its bind, beyond that.
        options: Vec<String>,
    },
    /// In memory.
    Temporary {
        /// The file system's own, and those of its mount.
        options: Vec<String>,
    },
}

/// What a volume's options mean.
pub fn source(name: &str, options: &BTreeMap<String, String>) -> Result<Source> {
    let refused = |why: String| Failure::as_docker(format!("create {name}: {why}"));
    if let Some(key) = options.keys().find(|key| !matches!(key.as_str(), "type" | "device" | "o")) {
        return Err(refused(format!("invalid option: \"{key}\"")));
    }
    if options.is_empty() {
        return Ok(Source::Own);
    }
    let option = |key: &str| options.get(key).map_or("", String::as_str);
    let (kind, device) = (option("type"), option("device"));
    let mut words: Vec<String> =
        option("o").split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    if device.is_empty() {
        return Err(refused("missing required option: \"device\"".to_owned()));
    }
    let is_bind = |word: &String| matches!(word.as_str(), "bind" | "rbind");
    match kind {
        "tmpfs" => Ok(Source::Temporary { options: words }),
        "" | "none" | "bind" if words.iter().any(is_bind) => {
            if !Path::new(device).is_absolute() {
                return Err(refused(format!("the device {device:?} is no absolute path")));
            }
            words.retain(|word| !is_bind(word));
            Ok(Source::Directory { path: device.into(), options: words })
        }
        _ => Err(refused(format!(
            "a file system of type {kind:?} with o={:?} cannot be mounted by containers",
            option("o")
        ))
        .hint("there are type=tmpfs, and type=none with o=bind and a directory as the device")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Source> {
        let owned = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        source("vol", &owned.collect())
    }

    #[test]
    fn options_are_known_or_refused() {
        assert_eq!(of(&[]).unwrap(), Source::Own);
        let bound = of(&[("type", "none"), ("o", "bind,ro"), ("device", "/srv")]).unwrap();
        assert_eq!(bound, Source::Directory { path: "/srv".into(), options: vec!["ro".into()] });
        let tmpfs = of(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=7")]).unwrap();
        assert_eq!(tmpfs, Source::Temporary { options: vec!["size=1m".into(), "uid=7".into()] });
        for (pairs, why) in [
            (&[("size", "1m")][..], "invalid option: \"size\""),
            (&[("type", "tmpfs")], "missing required option"),
            (&[("type", "none"), ("o", "bind"), ("device", "srv")], "no absolute path"),
            (&[("type", "nfs"), ("o", "addr=1.2.3.4"), ("device", ":/x")], "type \"nfs\""),
            (&[("type", "none"), ("device", "/srv")], "cannot be mounted"),
        ] {
            let failure = of(pairs).unwrap_err();
            assert!(failure.message().contains(why), "{failure}");
        }
    }
}
