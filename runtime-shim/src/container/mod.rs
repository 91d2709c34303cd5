//! Containers on disk: what each is, and what became of it.
//!
//! ```text
//! STORE/containers/
//!     names/NAME -> ../ID     a name is taken by the link's being there
//!     ids.lock                while a range of ids is taken (see `ids`)
//!     ID/
//!         state.json          the record (see `record`), replaced by rename
//!         lock                exclusive for who changes the record or starts it
//!         alive               exclusive for its monitor, as long as that lives
//!         holder              exclusive for a command that holds its processes still
//!         config.json         the bundle of the last start
//!         rootfs/             where its root is mounted, for the monitor alone
//!         upper/ work/        what it changed; by the driver dir, all its files
//!         copied              once those are there
//!         etc/                its hosts, hostname and resolv.conf
//!         log                 what it printed (see `monitor::log`); log.1 is older
//!         monitor.log         what its monitor had to say; monitor.log.1 is older
//!         control             the monitor's socket
//! ```
//! A record says what was meant to be; the lock `alive` says whether it is. A
//! record that says "running" while nobody holds the lock is of a monitor that
//! was killed: whoever sees it first undoes what is left ([`crate::settle`]).
//!
//! Locks are `flock`s, given back by the kernel when a process dies. `lock` is
//! held for moments, and never while `alive` is waited for.

mod directory;
pub mod health;
mod ids;
mod name;
mod record;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

pub use directory::{Container, Holder, Locked};
pub use name::is_name;
pub use record::{
    Config, Driver, FILE, Further, ImageRef, Lifetime, Mode, Record, Restart, RestartPolicy, Status, Stdin,
    Verity, Wish,
};

use crate::failure::{Context, Failure, Result};
use crate::random;

/// All containers of a store.
pub struct Containers {
    dir: PathBuf,
}

impl Containers {
    /// Those of the store in `root`; the directories are made if need be.
    pub fn open(root: &Path) -> Result<Containers> {
        let dir = root.join("containers");
        let mut private = fs::DirBuilder::new();
        // What containers write may be secret, and set-user-id.
        let made = private.recursive(true).mode(0o700).create(dir.join("names"));
        made.context(|| format!("cannot make {}", dir.display()))?;
        Ok(Containers { dir })
    }

    /// Makes a container of this record; gives it an id, and a name if it has
    /// none.
    pub fn create(&self, mut record: Record) -> Result<Container> {
        if !record.name.is_empty() {
            name::check(&record.name)?;
        }
        record.id = random::id()?;
        let dir = self.dir.join(&record.id);
        let context = || format!("cannot make {}", dir.display());
        fs::DirBuilder::new().mode(0o700).create(&dir).context(context)?;
        let made = self.fill(&dir, &mut record);
        if made.is_err() {
            fs::remove_dir_all(&dir).context(context)?;
        }
        made
    }

    fn fill(&self, dir: &Path, record: &mut Record) -> Result<Container> {
        for part in ["rootfs", "upper", "work", "etc"] {
            let path = dir.join(part);
            fs::DirBuilder::new()
                .mode(0o755)
                .create(&path)
                .context(|| format!("cannot make {}", path.display()))?;
        }
        for lock in ["lock", "alive"] {
            let path = dir.join(lock);
            fs::File::create(&path).context(|| format!("cannot make {}", path.display()))?;
        }
        // The name last but one: it leads to a directory that is whole but for
        // the record, without which there is no container.
        if record.name.is_empty() {
            record.name = self.take_free_name(&record.id)?;
        } else {
            self.take_name(&record.name, &record.id)?;
        }
        let container = Container::at(dir.to_owned());
        let written = container.write(record);
        if written.is_err() {
            self.give_name_up(&record.name, &record.id)?;
        }
        written.map(|()| container)
    }

    fn take_free_name(&self, id: &str) -> Result<String> {
        for attempt in 0..100 {
            let name = name::random(attempt)?;
            match symlink(Path::new("..").join(id), self.link(&name)) {
                Ok(()) => return Ok(name),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).context(|| format!("cannot take the name {name}")),
            }
        }
        Err(Failure::new("cannot find a name that is free").hint("choose one: --name NAME"))
    }

    /// Takes a name, in docker's words where it is another's.
    pub fn take_name(&self, name: &str, id: &str) -> Result<()> {
        name::check(name)?;
        let context = || format!("cannot take the name {name}");
        loop {
            match symlink(Path::new("..").join(id), self.link(name)) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).context(context),
            }
            let Some(owner) = self.owner(name) else { continue };
            // A name is taken before its record is there, and given up after it
            // is gone: one without is left by who was killed between.
            if self.dir.join(&owner).join(record::FILE).exists() || !self.is_abandoned(&owner)? {
                return Err(Failure::as_docker(format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You \
                     have to remove (or rename) that container to be able to reuse that name."
                ))
                .code(crate::failure::OURS));
            }
            self.give_name_up(name, &owner)?;
        }
    }

    /// Whether a directory without a record is nobody's work in progress.
    fn is_abandoned(&self, id: &str) -> Result<bool> {
        let dir = self.dir.join(id);
        match fs::metadata(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error).context(|| format!("cannot look at {}", dir.display())),
            Ok(stat) => Ok(stat
                .modified()
                .ok()
                .and_then(|time| time.elapsed().ok())
                .is_some_and(|age| age > ABANDONED)),
        }
    }

    /// Gives a name up, if it is this container's.
    pub fn give_name_up(&self, name: &str, id: &str) -> Result<()> {
        if self.owner(name).as_deref() != Some(id) {
            return Ok(());
        }
        absent_is_fine(fs::remove_file(self.link(name))).context(|| format!("cannot give the name {name} up"))
    }

    fn link(&self, name: &str) -> PathBuf {
        self.dir.join("names").join(name)
    }

    /// The id of who has this name.
    fn owner(&self, name: &str) -> Option<String> {
        let target = fs::read_link(self.link(name)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// The container that a user means by a name, an id, or the beginning of one.
    pub fn find(&self, text: &str) -> Result<Container> {
        self.present(text)?.ok_or_else(|| Failure::as_docker(format!("No such container: {text}")))
    }

    /// As [`Containers::find`]; `None` for what is not there.
    pub fn present(&self, text: &str) -> Result<Option<Container>> {
        let name = text.strip_prefix('/').unwrap_or(text);
        let by_name = name::check(name).is_ok().then(|| self.owner(name)).flatten();
        if let Some(container) = by_name.and_then(|id| self.with_id(&id)) {
            return Ok(Some(container));
        }
        if text.is_empty() || text.len() > ID_LENGTH || !text.bytes().all(is_digit_of_id) {
            return Ok(None);
        }
        let mut found = self.ids()?.into_iter().filter(|id| id.starts_with(text));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => {
                Err(Failure::as_docker(format!("Multiple IDs found with provided prefix: {text}")))
            }
            (Some(id), None) => Ok(self.with_id(&id)),
            (None, _) => Ok(None),
        }
    }

    fn with_id(&self, id: &str) -> Option<Container> {
        let container = Container::at(self.dir.join(id));
        container.dir().join(record::FILE).exists().then_some(container)
    }

    /// All containers, in no order. One that goes meanwhile may be among them.
    pub fn all(&self) -> Result<Vec<Container>> {
        Ok(self.ids()?.into_iter().filter_map(|id| self.with_id(&id)).collect())
    }

    /// Directories without a record that nobody works on: left by who was killed.
    pub fn abandoned(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for id in self.ids()? {
            if self.with_id(&id).is_none() && self.is_abandoned(&id)? {
                found.push(self.dir.join(id));
            }
        }
        Ok(found)
    }

    fn ids(&self) -> Result<Vec<String>> {
        let context = || format!("cannot list {}", self.dir.display());
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.dir).context(context)? {
            let name = entry.context(context)?.file_name();
            if let Some(id) =
                name.to_str().filter(|id| id.len() == ID_LENGTH && id.bytes().all(is_digit_of_id))
            {
                ids.push(id.to_owned());
            }
        }
        Ok(ids)
    }
}

/// Making a directory whole takes moments; one this old is nobody's.
const ABANDONED: std::time::Duration = std::time::Duration::from_secs(60);

/// Digits of an id.
const ID_LENGTH: usize = 64;

fn is_digit_of_id(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// What is wanted is that it is gone.
pub fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
