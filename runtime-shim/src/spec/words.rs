//! The shorter words of flags, read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::bundle::IdMapping;
use crate::cgroup::quantity;
use crate::container::{Mode, Restart, RestartPolicy};
use crate::failure::{Context, Failure, Result};

/// A program by its name or path.
pub fn program(name: &str) -> Result<PathBuf> {
    if name == "runion" {
        return Ok(PathBuf::new());
    }
    let found = match name.contains('/') {
        true => Some(PathBuf::from(name)).filter(|path| path.is_file()),
        false => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
        }
    };
    let found = found.ok_or_else(|| Failure::new(format!("unknown or invalid runtime name: {name}")))?;
    std::path::absolute(&found).context(|| format!("cannot find {name}"))
}

/// When a container comes back.
pub fn restart(text: &str) -> Result<Restart> {
    let (policy, most) = text.split_once(':').unwrap_or((text, ""));
    let invalid = || Failure::new(format!("invalid restart policy: {text:?}"));
    let policy = match policy {
        "no" | "" => RestartPolicy::No,
        "on-failure" => RestartPolicy::OnFailure,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        _ => return Err(invalid()),
    };
    let most = match most {
        "" => 0,
        most if policy == RestartPolicy::OnFailure => most.parse().map_err(|_| invalid())?,
        _ => return Err(invalid().hint("a number of times is for on-failure only")),
    };
    Ok(Restart { policy, most })
}

/// A namespace's mode.
pub fn mode(
    text: Option<&str>,
    flag: &str,
    takes: &[&str],
    find: &dyn Fn(&str) -> Result<String>,
) -> Result<Mode> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Mode::Default) };
    if let Some(name) = text.strip_prefix("container:") {
        return find(name).map(Mode::Container);
    }
    match text {
        "host" if takes.contains(&"host") => Ok(Mode::Host),
        "private" | "shareable" if takes.contains(&text) => Ok(Mode::Private),
        "none" if takes.contains(&"none") => Ok(Mode::None),
        _ => Err(Failure::new(format!("invalid {flag} mode: {text}"))
            .hint(format!("there are {}, container:NAME", takes.join(", ")))),
    }
}

/// One range of a user namespace's map.
pub fn id_map(text: &str) -> Result<IdMapping> {
    let mut numbers = text.split(':').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten(), numbers.next().flatten(), numbers.next()) {
        (Some(container_id), Some(host_id), Some(size), None) if size > 0 => {
            Ok(IdMapping { container_id, host_id, size })
        }
        _ => {
            Err(Failure::new(format!("invalid mapping: {text:?}")).hint("a mapping is CONTAINER:HOST:COUNT"))
        }
    }
}

/// `KEY=VALUE`, each.
pub fn pairs(list: &[String], what: &str) -> Result<BTreeMap<String, String>> {
    list.iter()
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Failure::new(format!("invalid {what}: {pair:?}")).hint("it is KEY=VALUE")),
        })
        .collect()
}

/// Bytes, as docker writes sizes: `512`, `64m`, `1.5g`, `10kb`.
pub fn bytes(text: &str, flag: &str) -> Result<u64> {
    let bytes = quantity::bytes(text.trim()).ok().and_then(|bytes| u64::try_from(bytes).ok());
    bytes.ok_or_else(|| {
        Failure::new(format!("invalid size for --{flag}: {text:?}"))
            .hint("a size is a number of bytes, or of k, m, g, t")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_docker_writes_them() {
        for (text, value) in
            [("512", 512), ("64m", 64 << 20), ("1.5G", 3 << 29), ("10kb", 10240), ("2MiB", 2 << 20)]
        {
            assert_eq!(bytes(text, "x").unwrap(), value, "{text}");
        }
        for bad in ["", "m", "-1", "1x", "1e40g", "nan"] {
            assert!(bytes(bad, "x").is_err(), "{bad}");
        }
    }

    #[test]
    fn policies_and_maps() {
        assert_eq!(restart("on-failure:3").unwrap(), Restart { policy: RestartPolicy::OnFailure, most: 3 });
        assert!(restart("always:3").is_err() && restart("sometimes").is_err());
        assert_eq!(id_map("0:100:5").unwrap(), IdMapping { container_id: 0, host_id: 100, size: 5 });
        assert!(id_map("0:100").is_err() && id_map("0:100:0").is_err() && id_map("0:1:2:3").is_err());
    }
}
