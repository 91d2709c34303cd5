//! What flags mean, together with the image: a container's configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use layerstore::document::Execution;

use super::environment::{self, lines};
use super::flags::Flags;
use super::security::Security;
use super::words::{bytes, id_map, mode, pairs, program, restart};
use super::{capabilities, device, mount, rlimit, userns};
use crate::container::{Config, Driver, Lifetime, RestartPolicy, Stdin, Verity, Wish};
use crate::failure::{Failure, Result, say};
use crate::sandbox::Identity;
use crate::sandbox::identity::Plan;

impl Flags {
    /// What is asked for, of an image that says `image`, with these words
    /// behind its name. The id of a container that is named is told by `find`.
    pub fn config(
        &self,
        image: &Execution,
        words: &[String],
        find: &dyn Fn(&str) -> Result<String>,
        from: &[Wish],
    ) -> Result<Config> {
        let mode = |flag: &Option<String>, name, takes: &[&str]| mode(flag.as_deref(), name, takes, find);
        let (entrypoint, command) = self.command(image, words)?;
        let security = Security::parse(&self.security_opt)?;
        let wanted = device::parse(&self.device)?;
        let mut config = Config {
            driver: self.storage_driver,
            verity: self.verity()?,
            runtime: self.runtime.as_deref().map(program).transpose()?,
            entrypoint,
            command,
            env: self.environment(image)?,
            directory: self.directory(image)?,
            user: self.user.clone().unwrap_or_else(|| image.user.clone()),
            groups: self.group_add.clone(),
            hostname: self.hostname.clone(),
            domainname: self.domainname.clone(),
            labels: self.labels(image)?,
            annotations: pairs(&self.annotation, "annotation")?,
            terminal: self.tty,
            init: self.init,
            stop_signal: self.stop_signal.clone().or_else(|| image.stop_signal.clone()),
            stop_timeout: self.stop_timeout.or(image.stop_timeout),
            health: self.health.check(image.healthcheck.as_ref())?,
            shell: match image.shell.is_empty() {
                true => crate::change::SHELL.map(str::to_owned).to_vec(),
                false => image.shell.clone(),
            },
            lifetime: if self.rm { Lifetime::Removed } else { Lifetime::Stays },
            restart: restart(&self.restart)?,
            mounts: mount::parse(&self.volume, &self.mount, &self.tmpfs, from, image)?,
            read_only: self.read_only,
            shm_size: self.shm_size.as_deref().map(|text| bytes(text, "shm-size")).transpose()?,
            pid: mode(&self.pid, "pid", &["host", "private"])?,
            ipc: mode(&self.ipc, "ipc", &["host", "private", "none", "shareable"])?,
            uts: mode(&self.uts, "uts", &["host", "private"])?,
            cgroupns: mode(&self.cgroupns, "cgroupns", &["host", "private"])?,
            uid_map: self.uidmap.iter().map(|text| id_map(text)).collect::<Result<_>>()?,
            gid_map: self.gidmap.iter().map(|text| id_map(text)).collect::<Result<_>>()?,
            privileged: self.privileged,
            capabilities: capabilities::of(&self.cap_add, &self.cap_drop, self.privileged)?,
            no_new_privileges: security.no_new_privileges,
            seccomp: security.seccomp,
            unmask: security.unmask,
            devices: wanted.devices.clone(),
            device_rules: wanted.rules.clone(),
            rlimits: self.ulimit.iter().map(|text| rlimit::parse(text)).collect::<Result<_>>()?,
            sysctls: pairs(&self.sysctl, "sysctl")?,
            oom_score_adj: self.oom_score_adj,
            resources: self.limits.resources()?,
            cgroup_parent: self.cgroup_parent.clone(),
            ..Config::default()
        };
        userns::apply(&mut config, self.userns.as_deref())?;
        let is_mapped = matches!(Plan::new(Identity::Root)?, Plan::Mapped(_));
        if is_mapped {
            wanted.check()?;
        }
        if is_mapped || userns::has_its_own(&config) {
            config.device_mounts = wanted.mounts();
        }
        self.network.apply(&mut config, image, find)?;
        self.log(&mut config)?;
        self.check(&config)?;
        for caution in self.limits.cautions() {
            say(&format!("WARNING: {caution}"));
        }
        Ok(config)
    }

    /// What a command reads, if whoever starts it stays attached or not.
    pub fn stdin(&self, stays_attached: bool) -> Stdin {
        match (self.interactive, stays_attached) {
            (false, _) => Stdin::Closed,
            (true, true) => Stdin::Once,
            (true, false) => Stdin::Open,
        }
    }

    fn check(&self, config: &Config) -> Result<()> {
        if self.rm && config.restart.policy != RestartPolicy::No {
            return Err(
                Failure::as_docker("Conflicting options: --restart and --rm").code(crate::failure::OURS)
            );
        }
        if config.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
            return Err(Failure::new("Invalid value for --oom-score-adj: must be between -1000 and 1000"));
        }
        if self.rootfs.is_some() && config.driver == Driver::Dir {
            return Err(Failure::new("the storage driver dir copies images, not directories")
                .hint("make it one: tar -C DIR -c . | runion import - NAME"));
        }
        if config.uid_map.is_empty() != config.gid_map.is_empty() {
            return Err(Failure::new("--uidmap and --gidmap belong together"));
        }
        if let Some(name) = &config.hostname {
            let is_one = name.len() <= 64
                && name.split('.').all(|part| {
                    let edges = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
                    edges(part.as_bytes().first())
                        && edges(part.as_bytes().last())
                        && part
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                });
            if !is_one {
                return Err(Failure::new(format!("invalid hostname: {name:?}")));
            }
        }
        if let Some(signal) = &config.stop_signal {
            crate::signal::parse(signal)?;
        }
        Ok(())
    }

    /// Entry point and command, as docker puts them together.
    fn command(&self, image: &Execution, words: &[String]) -> Result<(Vec<String>, Vec<String>)> {
        let entrypoint = match &self.entrypoint {
            Some(entrypoint) if entrypoint.is_empty() => Vec::new(),
            Some(entrypoint) => vec![entrypoint.clone()],
            None => image.entrypoint.clone(),
        };
        let command = match (words.is_empty(), &self.entrypoint) {
            (false, _) => words.to_vec(),
            (true, None) => image.cmd.clone(),
            // The image's command was meant for its own entry point.
            (true, Some(_)) => Vec::new(),
        };
        match entrypoint.is_empty() && command.is_empty() {
            true => Err(Failure::new("no command specified").hint("name one behind the image")),
            false => Ok((entrypoint, command)),
        }
    }

    fn environment(&self, image: &Execution) -> Result<Vec<String>> {
        let mut env = Vec::new();
        for pair in &image.env {
            super::bundle::set(&mut env, pair);
        }
        environment::add(&mut env, &self.env_file, &self.env)?;
        Ok(env)
    }

    fn labels(&self, image: &Execution) -> Result<BTreeMap<String, String>> {
        let mut labels = image.labels.clone();
        let files = self.label_file.iter().map(|path| lines(path)).collect::<Result<Vec<_>>>()?;
        for label in files.iter().flatten().chain(&self.label) {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            if key.trim().is_empty() {
                return Err(Failure::new(format!("invalid label: {label:?}")));
            }
            labels.insert(key.to_owned(), value.to_owned());
        }
        Ok(labels)
    }

    fn directory(&self, image: &Execution) -> Result<PathBuf> {
        match &self.workdir {
            None => Ok(PathBuf::from("/").join(&image.working_dir)),
            Some(dir) if dir.is_absolute() => Ok(dir.clone()),
            Some(dir) => Err(Failure::new(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                dir.display()
            ))),
        }
    }

    fn verity(&self) -> Result<Option<Verity>> {
        let mut verity = None;
        for option in &self.storage_opt {
            let word = option.strip_prefix("verity=");
            let word = word.and_then(|word| Verity::WORDS.iter().find(|(known, _)| *known == word));
            let Some((_, asked)) = word else {
                return Err(Failure::new(format!("unknown storage opt {option:?}"))
                    .hint("there are verity=on, verity=require and verity=off"));
            };
            verity = Some(*asked);
        }
        if self.storage_driver == Driver::Dir && verity.is_some_and(|verity| verity != Verity::Off) {
            return Err(Failure::new("the storage driver dir copies files, and verifies none")
                .hint("--storage-driver fuse, or without --storage-opt verity"));
        }
        Ok(verity)
    }

    fn log(&self, config: &mut Config) -> Result<()> {
        for option in &self.log_opt {
            match option.split_once('=') {
                Some(("max-size", size)) => config.log_size = Some(bytes(size, "max-size")?),
                Some(("max-file", count)) => {
                    let count = count.parse().ok().filter(|count| *count > 0);
                    config.log_files =
                        Some(count.ok_or_else(|| Failure::new(format!("invalid log option: {option:?}")))?);
                }
                _ => {
                    return Err(Failure::new(format!("unknown log opt {option:?}"))
                        .hint("there are max-size=SIZE and max-file=COUNT"));
                }
            }
        }
        Ok(())
    }
}
