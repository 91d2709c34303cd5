//! Applies what a try kept to the directory it was made over, or discards it.
//!
//! Everything that can be known beforehand is checked and asked before the
//! first file changes: whose changes these are, whether the lower is still the
//! one they were made over, and what happened to it since.

use std::fs;
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use unionfs::changes::{self, Change, ConflictKind, Kind};

use crate::failure::{Context, Failure, Result, say};
use crate::record::{self, Owners, Record};
use crate::{sandbox, state};

/// Whether the user is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// On the terminal.
    Ask,
    /// It was given on the command line.
    Given,
}

/// What is done about files that changed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// Nothing is applied.
    Refuse,
    /// They are overwritten.
    Overwrite,
}

/// Applies the changes kept in `dir`, and removes them from there.
pub fn run(dir: &Path, consent: Consent, on_conflict: OnConflict) -> Result<()> {
    let dir = dir.canonicalize().context(|| format!("cannot commit {}", dir.display()))?;
    let _lock = state::lock(&dir)?;
    let record = read_record(&dir)?;
    let lower = check_lower(&dir, &record)?;
    let upper = dir.join("upper");
    state::raise_descriptor_limit();
    let changes = changes::list(&upper, std::slice::from_ref(&lower), record.marks)
        .context(|| format!("cannot list the changes in {}", dir.display()))?;
    if changes.is_empty() {
        say("runion: there are no changes to commit");
        return forget(&dir);
    }
    if on_conflict == OnConflict::Refuse {
        refuse_conflicts(&upper, &lower, &record)?;
    }
    if record.owners == Owners::Caller {
        refuse_what_is_not_mine(&changes, &upper, &lower)?;
    }
    if consent == Consent::Ask && !ask(&changes, &lower)? {
        return Err(Failure::new("nothing was changed"));
    }
    changes::apply(&upper, &lower, record.marks).map_err(|error| {
        Failure::new(format!("the changes are applied in part: {error}"))
            .hint(format!("they are still complete in {0}; runion try --commit {0} goes on", dir.display()))
    })?;
    say(&format!("runion: {} changed paths are now in {}", changes.len(), lower.display()));
    forget(&dir)
}

/// Throws away what is kept in `dir`.
pub fn discard(dir: &Path) -> Result<()> {
    let dir = dir.canonicalize().context(|| format!("cannot discard {}", dir.display()))?;
    let _lock = state::lock(&dir)?;
    read_record(&dir)?;
    forget(&dir)
}

fn read_record(dir: &Path) -> Result<Record> {
    let file = dir.join(record::FILE);
    let text = fs::read(&file).map_err(|error| {
        Failure::new(format!("cannot use {}: cannot read {}: {error}", dir.display(), file.display()))
            .hint("name a directory that runion try --keep has filled")
    })?;
    Record::parse(&text)
        .ok_or_else(|| Failure::new(format!("cannot read {}: not a record of a try", file.display())))
}

/// The one lower, if this process may and can apply to it.
fn check_lower(dir: &Path, record: &Record) -> Result<PathBuf> {
    let refused = |why: &str| Failure::new(format!("cannot commit {}: {why}", dir.display()));
    let [lower] = &record.lowers[..] else {
        return Err(refused("it was made over several lowers, and what was deleted may lie in any of them")
            .hint("mount the kept upper with mount-runionfs, or copy what you need out of it"));
    };
    if record.owners == Owners::Namespace {
        return Err(refused("it was made with --root by an ordinary user, so its owners are made up")
            .hint("copy what you need out of its upper directory"));
    }
    if record.uid != rustix::process::getuid().as_raw() {
        return Err(refused(&format!("it was made by user {}", record.uid)).hint("commit as that user"));
    }
    if !lower.is_dir() {
        return Err(refused(&format!("there is no directory {} any more", lower.display())));
    }
    Ok(lower.clone())
}

/// Lists what changed below since the try began, and refuses if anything did.
fn refuse_conflicts(upper: &Path, lower: &Path, record: &Record) -> Result<()> {
    let started = system_time(record);
    let conflicts = changes::conflicts(upper, lower, started, record.marks)
        .context(|| format!("cannot compare with {}", lower.display()))?;
    if conflicts.is_empty() {
        return Ok(());
    }
    for conflict in &conflicts {
        let what = match conflict.kind {
            ConflictKind::Modified => "modified since",
            ConflictKind::Gone => "gone since",
        };
        say(&format!("runion: {}: {what}", conflict.path.display()));
    }
    Err(Failure::new(format!(
        "cannot commit: {} paths changed in {} meanwhile",
        conflicts.len(),
        lower.display()
    ))
    .hint("look at them, then use --force to apply the kept changes over them"))
}

/// An ordinary user may have changed in the view what he may not change in the
/// lower: better to know before the first file changes.
fn refuse_what_is_not_mine(changes: &[Change], upper: &Path, lower: &Path) -> Result<()> {
    let beneath = |root: &Path, path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let me = rustix::process::geteuid().as_raw();
    let mut refused = 0;
    for change in changes {
        let in_upper = fs::symlink_metadata(beneath(upper, &change.path)).ok();
        let is_directory = in_upper.as_ref().is_some_and(fs::Metadata::is_dir);
        if change.kind == Kind::Changed && is_directory {
            continue;
        }
        let is_foreign = change.kind != Kind::Deleted && in_upper.is_some_and(|stat| stat.uid() != me);
        let parent = beneath(lower, &change.path).parent().map(Path::to_owned);
        let is_closed = parent.is_some_and(|parent| access(&parent, Access::WRITE_OK) == Err(Errno::ACCESS));
        if is_foreign || is_closed {
            refused += 1;
            say(&format!("runion: {}: not yours to change", change.path.display()));
        }
    }
    if refused == 0 {
        return Ok(());
    }
    Err(Failure::new(format!(
        "cannot commit: you may not change {refused} of these paths in {}",
        lower.display()
    ))
    .hint("copy what you need out of the upper directory"))
}

fn system_time(record: &Record) -> SystemTime {
    let seconds = u64::try_from(record.started.seconds).unwrap_or(0);
    let nanoseconds = u64::try_from(record.started.nanoseconds).unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// Shows the changes and asks for a yes.
fn ask(changes: &[Change], lower: &Path) -> Result<bool> {
    let context = || "cannot ask".to_string();
    let mut screen = io::stderr();
    screen.write_all(&list(changes)).context(context)?;
    write!(screen, "apply these {} changes to {}? [y/N] ", changes.len(), lower.display())
        .context(context)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context(context)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// One line a change, as `docker diff` prints it.
pub fn list(changes: &[Change]) -> Vec<u8> {
    let mut text = Vec::new();
    for change in changes {
        text.extend_from_slice(format!("{} ", change.kind.letter()).as_bytes());
        text.extend_from_slice(change.path.as_os_str().as_bytes());
        text.push(b'\n');
    }
    text
}

/// Removes what was committed; the directory itself if nothing else is in it.
fn forget(dir: &Path) -> Result<()> {
    let emptied = sandbox::with_ids_of_a_try(|| {
        ["upper", "work", "mnt", record::FILE].iter().try_for_each(|part| state::remove(&dir.join(part)))
    })?;
    if !emptied {
        return Err(Failure::new(format!("cannot remove what was kept in {}", dir.display())));
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed.context(|| format!("cannot remove {}", dir.display())),
    }
}
