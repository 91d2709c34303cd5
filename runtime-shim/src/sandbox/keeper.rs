//! The keeper: pid 1 of the outer pid namespace, in a mount namespace of its
//! own, as root of the user namespace if there is one.
//!
//! It lives from the mount of the view to the removal of what is not kept. The
//! union's server is a process of its pid namespace, so it cannot outlive it.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, mkdirat, statat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Signal, WaitOptions, set_parent_process_death_signal, wait};

use unionfs::changes;

use super::launch::Gate;
use super::supervise::Ended;
use super::{Prepared, Report, View, identity, init, privileges, supervise};
use crate::failure::{Context, Failure, OURS, Result, say};
use crate::mounting::{self, Options};
use crate::record::Owners;
use crate::state::Contents;
use crate::sys::{self, Namespaces, Side};
use crate::{commit, state};

/// How long the server may take to end once nobody uses the view any more.
const SERVER_GRACE: Duration = Duration::from_secs(30);

/// The directories the command's own file systems are mounted on.
const MOUNT_POINTS: [&str; 3] = ["proc", "sys", "dev"];

/// Runs the keeper to its end and gives the exit code.
pub fn run(prepared: &Prepared<'_>, gate: Gate) -> u8 {
    if let Err(errno) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return Failure::new(format!("cannot tie the keeper to runion: {errno}")).report();
    }
    // Opened after the death signal was set: from here on, runion's death is
    // ours, and before that its closed end of the pipe says it.
    if !gate.opened() {
        return OURS;
    }
    let outcome = keep(prepared);
    let tidied = prepared.state.finish();
    let code = outcome.unwrap_or_else(|failure| failure.report());
    match tidied {
        Ok(()) => code,
        Err(failure) => {
            failure.report();
            code
        }
    }
}

fn keep(prepared: &Prepared<'_>) -> Result<u8> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| identity::cannot_mount(errno, "make the mounts private"))?;
    prepared.state.sweep();
    if prepared.state.contents() == Contents::None {
        dress_upper(prepared)?;
    }
    privileges::lend_to_children().context(|| "cannot pass capabilities to the mount helper".to_string())?;
    let view = mounting::mount(
        &prepared.helper,
        &prepared.signals,
        options(prepared),
        &prepared.state.mount_point(),
    )?;
    privileges::lend_nothing().context(|| "cannot take capabilities back".to_string())?;
    let made = make_mount_points(&view)?;
    let ended = command(prepared, view);
    let server = await_server()?;
    let ended = ended?;
    // Reaped while the command ran or after it: the keeper has no other child.
    if ended.failed_others > 0 || server == Server::Failed {
        return Err(Failure::new("the union's server ended before the command did")
            .hint("what the command changed after that is lost"));
    }
    unmake_mount_points(prepared, &made)?;
    report(prepared)?;
    Ok(ended.code)
}

/// Gives the top of a fresh upper what the top of the first lower has: it
/// stands for it in the view.
fn dress_upper(prepared: &Prepared<'_>) -> Result<()> {
    let upper = prepared.state.upper();
    let context = || format!("cannot ready {}", upper.display());
    let Some(lower) = prepared.trial.lowers().into_iter().next() else { return Ok(()) };
    let stat = rustix::fs::stat(&lower).context(|| format!("cannot look at {}", lower.display()))?;
    // Without subordinate ids the owner cannot be given, nor is it shown.
    match prepared.identity.giving() {
        identity::Giving::Any => {
            std::os::unix::fs::chown(&upper, Some(stat.st_uid), Some(stat.st_gid)).context(context)?
        }
        identity::Giving::None => {}
    }
    rustix::fs::chmod(&upper, Mode::from_raw_mode(stat.st_mode & 0o7777)).context(context)
}

/// The union the command is to see.
fn options(prepared: &Prepared<'_>) -> Options {
    let state = &prepared.state;
    let mut options = Options::new(&prepared.trial.lowers())
        .path("upperdir", &state.upper())
        .path("workdir", &state.work())
        .path("hide", state.dir())
        .plain("allow_other");
    if matches!(prepared.trial.view, View::HostRoot) {
        options = options.plain("submounts=cross");
    }
    if !state.is_kept() {
        options = options.plain("volatile");
    }
    for option in prepared.identity.mount_options() {
        options = options.plain(&option);
    }
    options
}

/// Makes the mount points the view lacks, and names those it made.
fn make_mount_points(view: &OwnedFd) -> Result<Vec<&'static str>> {
    let mut made = Vec::new();
    for name in MOUNT_POINTS {
        let context = || format!("cannot make /{name} in the view");
        match statat(view, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
            Ok(_) => {
                return Err(Failure::new(format!("cannot use the view: its /{name} is not a directory")));
            }
            Err(Errno::NOENT) => {
                mkdirat(view, name, Mode::from_raw_mode(0o755)).context(context)?;
                made.push(name);
            }
            Err(errno) => return Err(errno).context(context),
        }
    }
    Ok(made)
}

/// Takes the mount points back out of the upper, so that they are no change.
fn unmake_mount_points(prepared: &Prepared<'_>, made: &[&str]) -> Result<()> {
    for name in made {
        state::remove(&prepared.state.upper().join(name))?;
    }
    Ok(())
}

/// Runs the command in its own namespaces, to its end.
fn command(prepared: &Prepared<'_>, view: OwnedFd) -> Result<Ended> {
    match sys::clone(Namespaces::SANDBOX) {
        Ok(Side::Child) => std::process::exit(i32::from(init::run(prepared, view))),
        Ok(Side::Parent(init)) => {
            drop(view);
            supervise::wait_for(init).context(|| "cannot wait for the command".to_string())
        }
        Err(error) => Err(identity::cannot_make_namespaces(&error)),
    }
}

/// How the union's server ended.
#[derive(PartialEq, Eq)]
enum Server {
    /// As it should, or it was reaped earlier.
    Done,
    /// By a signal or with an error.
    Failed,
}

/// Waits until the union's server has ended: then the upper is complete.
///
/// It ends by itself once the last user of the view is gone. One that does not
/// is killed; it is the only other process in this pid namespace.
fn await_server() -> Result<Server> {
    let context = || "cannot wait for the union's server".to_string();
    let patience = Instant::now() + SERVER_GRACE;
    let mut server = Server::Done;
    loop {
        match wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return Ok(server),
            Ok(Some((_, status))) if status.exit_status() == Some(0) => {}
            Ok(Some(_)) => server = Server::Failed,
            Ok(None) if Instant::now() < patience => std::thread::sleep(Duration::from_millis(1)),
            Ok(None) => {
                say("runion: the union's server does not end; killing it");
                sys::kill(-1, libc::SIGKILL).context(context)?;
                while wait(WaitOptions::empty()).is_ok() {}
                return Ok(Server::Done);
            }
            Err(errno) => return Err(errno).context(context),
        }
    }
}

/// Says what changed, and where the changes are if they stay.
fn report(prepared: &Prepared<'_>) -> Result<()> {
    if prepared.trial.report == Report::Quiet {
        return Ok(());
    }
    state::raise_descriptor_limit();
    let changes = changes::list(&prepared.state.upper(), &prepared.trial.lowers(), prepared.identity.marks())
        .context(|| "cannot list what changed".to_string())?;
    // Nobody may be reading any more; the exit code is the command's all the same.
    io::stderr().write_all(&commit::list(&changes)).unwrap_or_default();
    if prepared.state.is_kept() {
        report_kept(prepared);
    }
    Ok(())
}

/// Says where the changes are, and what can be done with them.
fn report_kept(prepared: &Prepared<'_>) {
    let dir = prepared.state.dir().display();
    say(&format!("runion: the changes are kept in {dir}/upper"));
    let applies = match prepared.identity.owners() {
        Owners::Real | Owners::Caller => format!("runion try --commit {dir} applies them, "),
        // Its owners are made up.
        Owners::Namespace => String::new(),
    };
    say(&format!("hint: {applies}runion try --discard={dir} forgets them"));
}
