//! `--device`.
//!
//! Whoever may make nodes has them made. In a user namespace nobody may: there
//! the host's own are mounted, which the container may use as far as its user
//! might outside.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::process::geteuid;

use crate::bundle::{Device, DeviceRule, Mount};
use crate::failure::{Context, Failure, Result, say};

/// What was asked for.
#[derive(Default)]
pub struct Wanted {
    /// As a bundle has them.
    pub devices: Vec<Device>,
    /// Which may be used.
    pub rules: Vec<DeviceRule>,
    /// The host's node of each device.
    sources: Vec<PathBuf>,
}

/// `SOURCE[:TARGET][:rwm]`, each; a directory is all devices in it.
pub fn parse(list: &[String]) -> Result<Wanted> {
    let mut wanted = Wanted::default();
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
        let before = wanted.devices.len();
        wanted.gather(Path::new(source), Path::new(target), access)?;
        if wanted.devices.len() == before {
            return Err(Failure::as_docker(format!(
                "error gathering device information while adding custom device {source:?}: not a device node"
            ))
            .code(crate::failure::OURS));
        }
    }
    Ok(wanted)
}

impl Wanted {
    fn gather(&mut self, source: &Path, target: &Path, access: &str) -> Result<()> {
        let context = || {
            format!("error gathering device information while adding custom device {:?}", source.display())
        };
        let stat = std::fs::metadata(source).context(context)?;
        if stat.is_dir() {
            let mut entries: Vec<PathBuf> = Vec::new();
            for entry in std::fs::read_dir(source).context(context)? {
                entries.push(entry.context(context)?.path());
            }
            entries.sort();
            for entry in entries {
                let Some(name) = entry.file_name() else { continue };
                self.gather(&entry, &target.join(name), access)?;
            }
            return Ok(());
        }
        let kind = match stat.file_type() {
            kind if kind.is_char_device() => "c",
            kind if kind.is_block_device() => "b",
            _ => return Ok(()),
        };
        let (major, minor) = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
        self.devices.push(Device {
            kind: kind.to_owned(),
            path: target.to_owned(),
            major,
            minor,
            file_mode: Some(stat.mode() & 0o777),
            uid: Some(stat.uid()),
            gid: Some(stat.gid()),
        });
        self.sources.push(std::path::absolute(source).context(context)?);
        self.rules.push(DeviceRule {
            allow: true,
            kind: Some(kind.to_owned()),
            major: Some(major.into()),
            minor: Some(minor.into()),
            access: Some(access.to_owned()),
        });
        Ok(())
    }

    /// The host's nodes as mounts.
    pub fn mounts(&self) -> Vec<Mount> {
        let mount = |(device, source): (&Device, &PathBuf)| Mount {
            destination: device.path.clone(),
            kind: Some("bind".to_owned()),
            source: Some(source.clone()),
            options: ["bind", "rprivate", "nosuid", "noexec"].map(str::to_owned).to_vec(),
            ..Mount::default()
        };
        self.devices.iter().zip(&self.sources).map(mount).collect()
    }

    /// Refuses what the caller could not open himself, and warns of what he can
    /// only as a member of a group: his container is in none of the host's.
    pub fn check(&self) -> Result<()> {
        for (device, source) in self.devices.iter().zip(&self.sources) {
            let rule = self.rules.iter().find(|rule| {
                (rule.major, rule.minor) == (Some(device.major.into()), Some(device.minor.into()))
            });
            let words = rule.and_then(|rule| rule.access.as_deref()).unwrap_or_default();
            let mut access = Access::empty();
            access.set(Access::READ_OK, words.contains('r'));
            access.set(Access::WRITE_OK, words.contains('w'));
            let shown = source.display();
            rustix::fs::access(source, access).map_err(|errno| {
                Failure::new(format!("cannot show the device {shown}: you may not use it yourself: {errno}"))
                    .hint(format!("ask for less ({shown}:{shown}:r), or have it opened to you, as root: setfacl -m u:{}:rw {shown}", geteuid().as_raw()))
            })?;
            let mode = device.file_mode.unwrap_or(0);
            let mode = if device.uid == Some(geteuid().as_raw()) { mode >> 6 } else { mode };
            if access.bits() & !mode != 0 && !has_access_list(source) {
                say(&format!(
                    "WARNING: {shown} is open to you through a group, which the container is not in"
                ));
            }
        }
        Ok(())
    }
}

/// Whether more than its mode says who may use it.
fn has_access_list(path: &Path) -> bool {
    rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0][..]).is_ok_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn devices_are_looked_at() {
        let parse = |text: &str| super::parse(&[text.to_owned()]);
        let wanted = parse("/dev/null:/dev/nothing:r").unwrap();
        let device = wanted.devices.first().unwrap();
        assert_eq!((device.major, device.minor, device.path.to_str()), (1, 3, Some("/dev/nothing")));
        assert_eq!(wanted.rules.first().unwrap().access.as_deref(), Some("r"));
        let mounts = wanted.mounts();
        let mount = mounts.first().unwrap();
        assert_eq!(
            (mount.source.as_deref(), &mount.destination),
            (Some(Path::new("/dev/null")), &device.path)
        );
        for bad in ["/nowhere", "/etc/passwd", "/dev/null:here", "/dev/null:/x:y", ""] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
