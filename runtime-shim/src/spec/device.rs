//! `--device`.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::bundle::{Device, DeviceRule};
use crate::failure::{Context, Failure, Result};

/// `SOURCE[:TARGET][:rwm]`, each; a directory is all devices in it.
pub fn parse(list: &[String]) -> Result<(Vec<Device>, Vec<DeviceRule>)> {
    let (mut devices, mut rules) = (Vec::new(), Vec::new());
    for text in list {
        let parts: Vec<&str> = text.split(':').collect();
        let is_access = |part: &str| !part.is_empty() && part.bytes().all(|byte| b"rwm".contains(&byte));
        let (source, target, access) = match *parts.as_slice() {
            [source] => (source, source, "rwm"),
            [source, access] if is_access(access) => (source, source, access),
            [source, target] => (source, target, "rwm"),
            [source, target, access] if is_access(access) => (source, target, access),
            _ => return Err(Failure::new(format!("invalid device specification: {text}"))),
        };
        if !Path::new(target).is_absolute() {
            return Err(Failure::new(format!(
                "invalid device specification: {text}: {target:?} is not absolute"
            )));
        }
        let before = devices.len();
        gather(Path::new(source), Path::new(target), access, &mut devices, &mut rules)?;
        if devices.len() == before {
            return Err(Failure::as_docker(format!(
                "error gathering device information while adding custom device {source:?}: not a device node"
            ))
            .code(crate::failure::OURS));
        }
    }
    Ok((devices, rules))
}

fn gather(
    source: &Path,
    target: &Path,
    access: &str,
    devices: &mut Vec<Device>,
    rules: &mut Vec<DeviceRule>,
) -> Result<()> {
    let context =
        || format!("error gathering device information while adding custom device {:?}", source.display());
    let stat = std::fs::metadata(source).context(context)?;
    if stat.is_dir() {
        let mut entries: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(source).context(context)? {
            entries.push(entry.context(context)?.path());
        }
        entries.sort();
        for entry in entries {
            let Some(name) = entry.file_name() else { continue };
            gather(&entry, &target.join(name), access, devices, rules)?;
        }
        return Ok(());
    }
    let kind = match stat.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Ok(()),
    };
    let (major, minor) = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
    devices.push(Device {
        kind: kind.to_owned(),
        path: target.to_owned(),
        major,
        minor,
        file_mode: Some(stat.mode() & 0o777),
        uid: Some(stat.uid()),
        gid: Some(stat.gid()),
    });
    rules.push(DeviceRule {
        allow: true,
        kind: Some(kind.to_owned()),
        major: Some(major.into()),
        minor: Some(minor.into()),
        access: Some(access.to_owned()),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn devices_are_looked_at() {
        let parse = |text: &str| super::parse(&[text.to_owned()]);
        let (devices, rules) = parse("/dev/null:/dev/nothing:r").unwrap();
        let device = devices.first().unwrap();
        assert_eq!((device.major, device.minor, device.path.to_str()), (1, 3, Some("/dev/nothing")));
        assert_eq!(rules.first().unwrap().access.as_deref(), Some("r"));
        for bad in ["/nowhere", "/etc/passwd", "/dev/null:here", "/dev/null:/x:y", ""] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
