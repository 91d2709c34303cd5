//! `-v`, `--mount` and `--tmpfs`, and the volumes an image asks for.

use std::path::{Component, Path, PathBuf};

use layerstore::document::Execution;

use crate::bundle::Mount;
use crate::container::Wish;
use crate::failure::{Context, Failure, OURS, Result};
use crate::volume;

/// All that is to be mounted, each target once: what was typed, what `from`
/// other containers is lent, what the image asks for, the first that has it.
pub fn parse(
    volumes: &[String],
    mounts: &[String],
    tmpfs: &[String],
    from: &[Wish],
    image: &Execution,
) -> Result<Vec<Wish>> {
    let mut wishes = Vec::new();
    for text in volumes {
        wishes.push(short(text)?);
    }
    for text in mounts {
        wishes.push(long(text)?);
    }
    for text in tmpfs {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        wishes.push(temporary(target, options)?);
    }
    for (at, wish) in wishes.iter().enumerate() {
        if wishes.iter().take(at).any(|other| target(other) == target(wish)) {
            let shown = target(wish).display();
            return Err(Failure::as_docker(format!("Duplicate mount point: {shown}")).code(OURS));
        }
    }
    for lent in from {
        if !wishes.iter().any(|wish| target(wish) == target(lent)) {
            wishes.push(lent.clone());
        }
    }
    for path in image.volumes.keys() {
        let destination = clean(path)?;
        if !wishes.iter().any(|wish| target(wish) == destination) {
            wishes.push(Wish::Volume {
                name: String::new(),
                destination,
                options: options("", &[]),
                anonymous: true,
                fill: true,
            });
        }
    }
    Ok(wishes)
}

/// How a container's mounts are another's: `NAME[:ro|rw]`, and what a word
/// there makes of them.
pub fn lent(text: &str) -> Result<(&str, Option<&str>)> {
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((name, word @ ("ro" | "rw"))) if !name.is_empty() => Ok((name, Some(word))),
        Some(_) => {
            Err(Failure::as_docker(format!("invalid mode or container for --volumes-from: {text}"))
                .code(OURS))
        }
    }
}

/// A container's mounts for another. Temporary file systems are each one's own;
/// a volume is filled by whose it was.
pub fn lend(mounts: &[Wish], word: Option<&str>) -> Vec<Wish> {
    let mut lent: Vec<Wish> = mounts
        .iter()
        .filter(|wish| !matches!(wish, Wish::Mount(mount) if mount.kind.as_deref() == Some("tmpfs")))
        .cloned()
        .collect();
    for wish in &mut lent {
        let options = match wish {
            Wish::Mount(mount) => &mut mount.options,
            Wish::Volume { options, fill, .. } => {
                *fill = false;
                options
            }
        };
        if word == Some("ro") && !options.iter().any(|option| option == "ro") {
            options.push("ro".to_owned());
        }
    }
    lent
}

/// Where a wish is mounted.
pub fn target(wish: &Wish) -> &Path {
    match wish {
        Wish::Mount(mount) => &mount.destination,
        Wish::Volume { destination, .. } => destination,
    }
}

/// `[SOURCE:]TARGET[:OPTIONS]`.
fn short(text: &str) -> Result<Wish> {
    let invalid = || Failure::as_docker(format!("invalid volume specification: '{text}'")).code(OURS);
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, words) = match *parts.as_slice() {
        [target] => ("", target, ""),
        // The second is options where it is no path.
        [source, target] if target.starts_with('/') => (source, target, ""),
        [target, words] if target.starts_with('/') => ("", target, words),
        [source, target, words] => (source, target, words),
        _ => return Err(invalid()),
    };
    if target.is_empty() || (parts.len() > 1 && source.is_empty() && words.is_empty()) {
        return Err(invalid());
    }
    let destination = clean(target)?;
    let known =
        ["ro", "rw", "nocopy", "z", "Z", "private", "rprivate", "shared", "rshared", "slave", "rslave"];
    let more = ["suid", "nosuid", "dev", "nodev", "exec", "noexec", "bind", "rbind"];
    let words: Vec<&str> = words.split(',').filter(|word| !word.is_empty()).collect();
    if let Some(word) = words.iter().find(|word| !known.contains(word) && !more.contains(word)) {
        return Err(Failure::as_docker(format!("invalid mode: {word}")).code(OURS));
    }
    // Labels of SELinux, and what is done with a volume before it is mounted.
    let passed: Vec<&str> =
        words.iter().copied().filter(|word| !matches!(*word, "nocopy" | "z" | "Z" | "rw")).collect();
    if source.starts_with('/')
        || source.starts_with("./")
        || source.starts_with("../")
        || source == "."
        || source == ".."
    {
        let source = std::path::absolute(source).context(|| format!("cannot find {source}"))?;
        // Docker makes what is not there, a directory.
        if !source.exists() {
            std::fs::create_dir_all(&source).context(|| format!("cannot make {}", source.display()))?;
        }
        return Ok(bind(source, destination, &passed));
    }
    if !source.is_empty() {
        volume::check_name(source)?;
    }
    Ok(Wish::Volume {
        name: source.to_owned(),
        destination,
        options: options("", &passed),
        anonymous: source.is_empty(),
        fill: !words.contains(&"nocopy"),
    })
}

fn bind(source: PathBuf, destination: PathBuf, words: &[&str]) -> Wish {
    let kind = if words.contains(&"bind") { "bind" } else { "rbind" };
    Wish::Mount(Mount {
        destination,
        kind: Some("bind".to_owned()),
        source: Some(source),
        options: options(kind, words),
        ..Mount::default()
    })
}

/// Options of a bind; private where nothing is said of propagation.
fn options(kind: &str, words: &[&str]) -> Vec<String> {
    let kind = if kind.is_empty() { "rbind" } else { kind };
    let mut found = vec![kind.to_owned()];
    found.extend(
        words.iter().filter(|word| !matches!(**word, "bind" | "rbind")).map(|word| (*word).to_owned()),
    );
    let propagation = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
    if !words.iter().any(|word| propagation.contains(word)) {
        found.push("rprivate".to_owned());
    }
    found
}

/// A line of comma-separated values, as docker reads it: one in double quotes may have
/// commas, and quotes by two of them. `None` where a quote is neither.
fn fields(text: &str) -> Option<Vec<String>> {
    let (mut fields, mut rest) = (Vec::new(), text);
    loop {
        let mut field = String::new();
        match rest.strip_prefix('"') {
            None => {
                let (plain, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if plain.contains('"') {
                    return None;
                }
                field.push_str(plain);
                rest = after;
            }
            Some(mut quoted) => loop {
                let (piece, after) = quoted.split_once('"')?;
                field.push_str(piece);
                rest = after;
                match after.strip_prefix('"') {
                    Some(more) => quoted = more,
                    None => break,
                }
                field.push('"');
            },
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

/// `type=…,source=…,target=…,…`.
fn long(text: &str) -> Result<Wish> {
    let invalid = |why: &str| {
        Failure::as_docker(format!("invalid argument \"{text}\" for \"--mount\" flag: {why}")).code(OURS)
    };
    let (mut kind, mut source, mut target) = ("volume", "", None);
    let (mut words, mut data, mut fill): (Vec<&str>, Vec<String>, bool) = (Vec::new(), Vec::new(), true);
    let fields = fields(text).ok_or_else(|| invalid("a quote is out of place"))?;
    for field in &fields {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let is_on = match value {
            "" | "true" | "1" => true,
            "false" | "0" => false,
            _ => true,
        };
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = value,
            "source" | "src" => source = value,
            "target" | "dst" | "destination" => target = Some(value),
            "readonly" | "ro" => {
                if is_on {
                    words.push("ro");
                }
            }
            "rw" => {}
            "bind-propagation" => words.push(value),
            "bind-nonrecursive" => {
                if is_on {
                    words.push("bind");
                }
            }
            "volume-nocopy" => fill = !is_on,
            "tmpfs-size" => data.push(format!("size={}", super::words::bytes(value, "mount")?)),
            "tmpfs-mode" => data.push(format!("mode={value}")),
            "consistency" | "volume-driver"
                if matches!(value, "" | "local" | "default" | "consistent" | "cached" | "delegated") => {}
            _ => return Err(invalid(&format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    let target = target.ok_or_else(|| invalid("target is required"))?;
    let destination = clean(target)?;
    match kind {
        "bind" => {
            let path = std::path::absolute(source).map_err(|_| invalid("source is required"))?;
            if !path.exists() {
                return Err(Failure::as_docker(format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    path.display()
                ))
                .code(OURS));
            }
            Ok(bind(path, destination, &words))
        }
        "volume" => {
            if !source.is_empty() {
                volume::check_name(source)?;
            }
            Ok(Wish::Volume {
                name: source.to_owned(),
                destination,
                options: options("", &words),
                anonymous: source.is_empty(),
                fill,
            })
        }
        "tmpfs" if source.is_empty() => temporary(target, &[words.join(","), data.join(",")].join(",")),
        "tmpfs" => Err(invalid("source is not for type tmpfs")),
        _ => Err(invalid(&format!("unknown type '{kind}'"))),
    }
}

fn temporary(target: &str, words: &str) -> Result<Wish> {
    let mut options: Vec<String> =
        words.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    // Docker's own, unless they are contradicted.
    for own in ["nosuid", "nodev", "noexec"] {
        let opposite = own.strip_prefix("no").unwrap_or(own);
        if !options.iter().any(|option| option == own || option == opposite) {
            options.insert(0, own.to_owned());
        }
    }
    Ok(Wish::Mount(Mount {
        destination: clean(target)?,
        kind: Some("tmpfs".to_owned()),
        source: Some("tmpfs".into()),
        options,
        ..Mount::default()
    }))
}

/// An absolute path without detours; the root is nobody's target.
fn clean(text: &str) -> Result<PathBuf> {
    let invalid = |why: &str| Failure::as_docker(format!("invalid mount path: '{text}' {why}")).code(OURS);
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(invalid("mount path must be absolute"));
    }
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if clean == Path::new("/") {
        return Err(invalid("destination can't be '/'"));
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Option<Wish> {
        short(text).ok()
    }

    #[test]
    fn short_forms_are_dockers() {
        let Some(Wish::Volume { name, destination, anonymous, .. }) = one("data:/var/lib/x") else {
            panic!()
        };
        assert_eq!((name.as_str(), destination.to_str(), anonymous), ("data", Some("/var/lib/x"), false));
        assert!(matches!(one("/only"), Some(Wish::Volume { anonymous: true, .. })));
        let Some(Wish::Mount(mount)) = one("/etc:/host/../etc:ro,nosuid") else { panic!() };
        assert_eq!(mount.destination, Path::new("/etc"));
        assert_eq!(mount.options, ["rbind", "ro", "nosuid", "rprivate"]);
        for bad in ["", ":", "a:b", "/a:/b:/c:d", "/a:/b:what", "x:/", "-x:/y", "/a:relative"] {
            assert!(one(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn long_forms_are_dockers() {
        let Ok(Wish::Mount(mount)) = long("type=bind,src=/etc,dst=/x,readonly") else { panic!() };
        assert_eq!(mount.options, ["rbind", "ro", "rprivate"]);
        let Ok(Wish::Mount(mount)) = long("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770") else {
            panic!()
        };
        assert_eq!(mount.options, ["noexec", "nodev", "nosuid", "size=1048576", "mode=1770"]);
        assert!(matches!(long("src=data,target=/d"), Ok(Wish::Volume { anonymous: false, .. })));
        let Ok(Wish::Mount(mount)) = long("type=tmpfs,\"dst=/with,a \"\"comma\"\"\",ro") else { panic!() };
        assert_eq!(mount.destination, Path::new("/with,a \"comma\""));
        assert_eq!(fields("a,\"b\",,\"\""), Some(["a", "b", "", ""].map(str::to_owned).to_vec()));
        for bad in [
            "type=bind,src=/nowhere/x,dst=/x",
            "type=bind,src=/etc",
            "type=odd,dst=/x",
            "what=1,dst=/x",
            "type=tmpfs,dst=/x\"y",
            "type=tmpfs,\"dst=/x",
            "type=tmpfs,\"dst=/x\"y",
        ] {
            assert!(long(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_target_is_there_once_and_wins_over_the_image() {
        let mut image = Execution::default();
        image.volumes.insert("/data".to_owned(), Default::default());
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(parse(&owned(&["xx:/data/"]), &[], &[], &[], &image).unwrap().len(), 1);
        assert_eq!(parse(&[], &[], &owned(&["/tmp:size=1m"]), &[], &image).unwrap().len(), 2);
        assert!(parse(&owned(&["xx:/a", "yy:/a"]), &[], &[], &[], &image).is_err());
        let others = parse(&owned(&["xx:/data", "/etc:/b"]), &[], &owned(&["/t"]), &[], &image).unwrap();
        let lent = lend(&others, Some("ro"));
        assert_eq!(lent.len(), 2, "a temporary file system is not lent");
        let all = parse(&owned(&["yy:/b"]), &[], &[], &lent, &image).unwrap();
        assert_eq!(all.len(), 2);
        let Some(Wish::Volume { name, options, fill, .. }) = all.get(1) else { panic!() };
        assert_eq!((name.as_str(), *fill, options.last().map(String::as_str)), ("xx", false, Some("ro")));
    }
}
