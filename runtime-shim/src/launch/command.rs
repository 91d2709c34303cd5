//! From a process within a container's namespaces to its command: streams, ids,
//! rights, filters, exec. The same for the first process and for those that
//! join it later.
//!
//! Rights go last. What needs them is done before; the filter of system calls
//! and the final capabilities come right before exec, so that a profile has to
//! allow hardly more than exec itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Gid, OFlags, Uid, fchown, fstat, major, minor};
use rustix::io::Errno;
use rustix::net::acceptfrom;
use rustix::process::{
    DumpableBehavior, Signal, fchdir, getcwd, ioctl_tiocsctty, set_dumpable_behavior,
    set_parent_process_death_signal, umask,
};
use rustix::thread::{
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::capabilities::{self, Sets};
use super::channel::{Channel, Message};
use super::init::{self, FirstProcess};
use super::kernel::Labels;
use super::namespaces::Kept;
use super::program::Program;
use super::seccomp::{self, Filters};
use super::target::{self, Links};
use super::terminal::Terminal;
use super::{Keys, OnDeath, Stdio, limits};
use crate::bundle::{Linux, Process, User};
use crate::failure::{Context, Failure, OURS, Result};
use crate::sys::process::{close_from_on_exec, new_session_of_keys, place, reset_signals};

/// What new files are not, where nothing is said.
const USUAL_MASK: u32 = 0o022;

/// A command with all that could be found out before its process is there.
pub struct Command<'a> {
    /// As the bundle has it.
    pub process: &'a Process,
    /// What it may do.
    pub sets: Sets,
    /// Which system calls it may make.
    pub filters: Filters,
    /// What security modules make of it.
    pub labels: Labels,
    /// What becomes pid 1 of its namespace, where it is the first.
    pub first: FirstProcess,
    /// How it hangs on whoever made it.
    pub death: OnDeath,
    /// Whose keys it finds.
    pub keys: Keys,
    /// Its streams, where it has no terminal.
    pub stdio: Stdio<'a>,
    /// How many descriptors from 3 on it is handed.
    pub preserve_fds: u32,
    /// Where `start` is heard; the channel if nowhere.
    pub listener: Option<BorrowedFd<'a>>,
}

impl<'a> Command<'a> {
    /// Refuses what could not be kept, and says what is left out.
    pub fn of(process: &'a Process, linux: &Linux, warnings: &mut Vec<String>) -> Result<Command<'a>> {
        limits::check(process)?;
        let sets = Sets::of(process.capabilities.as_ref(), &mut |warning| warnings.push(warning))?;
        let filters = linux.seccomp.as_ref().map(seccomp::compile).transpose()?.unwrap_or_default();
        Ok(Command {
            process,
            sets,
            filters,
            labels: Labels::of(process)?,
            first: FirstProcess::Command,
            death: OnDeath::Survive,
            keys: Keys::New,
            stdio: Stdio::Inherited,
            preserve_fds: 0,
            listener: None,
        })
    }

    /// Descriptors that its process needs.
    pub fn kept(&self) -> Kept<'a> {
        let streams = match self.stdio {
            Stdio::Inherited => Vec::new(),
            Stdio::Given { stdin, stdout, stderr } => vec![stdin, stdout, stderr],
        };
        Kept { first: self.preserve_fds, more: streams.into_iter().chain(self.listener).collect() }
    }

    /// Becomes the command's user in its directory, ready for exec.
    pub fn settle(&self, terminal: Option<&Terminal>, channel: &Channel) -> Result<Program> {
        enter(&self.process.cwd)?;
        self.connect(terminal)?;
        self.find_no_keys()?;
        self.labels.apply()?;
        let first_closed = self.preserve_fds.saturating_add(3);
        close_from_on_exec(first_closed).context(|| "cannot have descriptors closed".to_string())?;
        if self.process.no_new_privileges {
            set_no_new_privs(true).context(|| "cannot forbid new privileges".to_string())?;
        }
        let mut warnings = Vec::new();
        let sets = self.sets.within_own(&mut |warning| warnings.push(warning))?;
        sets.bound()?;
        become_user(&self.process.user, &mut |warning| warnings.push(warning))?;
        capabilities::raise_permitted()?;
        // The change of ids has let go of both.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .context(|| "cannot hide from the container".to_string())?;
        if self.death == OnDeath::Kill {
            set_parent_process_death_signal(Some(Signal::KILL))
                .context(|| "cannot tie the container to its monitor".to_string())?;
        }
        limits::set(self.process, &mut |warning| warnings.push(warning))?;
        for warning in warnings {
            channel.say(&Message::Warning(warning))?;
        }
        Program::find(self.process, self.first)
    }

    /// Waits until it is to start; the channel on which that was said, if it is
    /// another one.
    pub fn wait_to_start(&self, channel: &Channel) -> Result<Option<Channel>> {
        let Some(listener) = self.listener else {
            expect(channel, |message| matches!(message, Message::Start))?;
            return Ok(None);
        };
        loop {
            let connected = match acceptfrom(listener) {
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Ok((connected, _)) => connected,
                Err(errno) => return Err(errno).context(|| "cannot wait to be started".to_string()),
            };
            rustix::io::fcntl_setfd(&connected, rustix::io::FdFlags::CLOEXEC)
                .context(|| "cannot keep a descriptor".to_string())?;
            let channel = Channel::over(connected);
            // Whoever only looks in does not start it.
            if let Ok(Some((Message::Start, _))) = channel.hear() {
                return Ok(Some(channel));
            }
        }
    }

    /// Becomes the command; comes back with the reason why not.
    pub fn execute(&self, program: &Program) -> Failure {
        self.execute_or_watch(program).unwrap_or_else(|failure| failure)
    }

    fn execute_or_watch(&self, program: &Program) -> Result<Failure> {
        let sets = self.sets.within_own(&mut |_told| {})?;
        if program.first == FirstProcess::Init {
            init::split(|command| watch(command, &sets))?;
        }
        reset_signals().context(|| "cannot reset signals".to_string())?;
        self.filters.put_on()?;
        sets.take_on()?;
        Ok(program.execute())
    }

    /// Streams at 0, 1 and 2.
    fn connect(&self, terminal: Option<&Terminal>) -> Result<()> {
        let context = || "cannot connect the command's streams".to_string();
        match (terminal, &self.stdio) {
            (Some(terminal), _) => {
                ioctl_tiocsctty(&terminal.slave).context(|| "cannot take the terminal".to_string())?;
                for number in 0..3 {
                    place(&terminal.slave, number).context(context)?;
                }
            }
            (None, Stdio::Inherited) => {}
            (None, Stdio::Given { stdin, stdout, stderr }) => {
                // Where one of them lies at a number that another goes to.
                let safe = [stdin, stdout, stderr].map(|stream| rustix::io::fcntl_dupfd_cloexec(stream, 3));
                for (number, stream) in (0..).zip(safe) {
                    place(stream.context(context)?, number).context(context)?;
                }
            }
        }
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        for stream in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            own_stream(stream, &self.process.user).context(context)?;
        }
        Ok(())
    }

    fn find_no_keys(&self) -> Result<()> {
        if self.keys == Keys::Callers {
            return Ok(());
        }
        match new_session_of_keys() {
            // A kernel without keys, one whose keys are forbidden or used up.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EDQUOT)
                ) =>
            {
                Ok(())
            }
            begun => begun.context(|| "cannot begin a session of keys".to_string()),
        }
    }
}

/// The life of an init, once its command is on its way.
fn watch(command: rustix::process::Pid, sets: &Sets) -> i32 {
    let watched = sets.take_on().and_then(|()| {
        // Nothing of the caller's is left open beside a container.
        crate::sys::close_others().context(|| "cannot close descriptors".to_string())?;
        init::watch(command).context(|| "cannot wait for the command".to_string())
    });
    watched.unwrap_or(i32::from(OURS))
}

/// Waits for one thing to be said; that nobody is left to say it ends this
/// process, for whom nobody is left to fail.
pub fn expect(channel: &Channel, is: impl Fn(&Message) -> bool) -> Result<Message> {
    match channel.hear()? {
        Some((message, _)) if is(&message) => Ok(message),
        Some((message, _)) => Err(Failure::new(format!("the container's process was told {message:?}"))),
        None => std::process::exit(i32::from(OURS)),
    }
}

/// Enters a directory of the root that this process has by now.
fn enter(directory: &Path) -> Result<()> {
    let shown = directory.display();
    let context = || format!("cannot enter the working directory {shown}");
    let root =
        rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
            .context(context)?;
    let opened = target::open(root.as_fd(), directory, OFlags::PATH | OFlags::DIRECTORY, Links::Within);
    let opened = opened.map_err(|errno| match errno {
        Errno::NOTDIR => Failure::new(format!("{}: not a directory", context())),
        errno => Failure::new(format!("{}: {errno}", context())),
    })?;
    fchdir(&opened).context(context)?;
    // The kernel begins the name of what is outside with a word in brackets.
    match getcwd(Vec::new()).context(context)?.as_bytes().first() {
        Some(b'/') => Ok(()),
        _ => Err(Failure::new(format!("{}: it is outside of the container", context()))),
    }
}

/// Makes pipes and terminals the user's, so that what opens /dev/stdout anew may.
fn own_stream(stream: BorrowedFd<'_>, user: &User) -> rustix::io::Result<()> {
    let stat = fstat(stream)?;
    let is_ours_to_give = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => (major(stat.st_rdev), minor(stat.st_rdev)) != (1, 3),
        FileType::Fifo | FileType::Socket => true,
        _ => false,
    };
    if !is_ours_to_give || stat.st_uid == user.uid {
        return Ok(());
    }
    match fchown(stream, Some(Uid::from_raw(user.uid)), None::<Gid>) {
        // Somebody else's, or on a file system that has none of the user's.
        Err(Errno::PERM | Errno::ROFS | Errno::INVAL) => Ok(()),
        owned => owned,
    }
}

/// Takes on ids, and keeps what rights there are for what is still to be done.
fn become_user(user: &User, warn: &mut dyn FnMut(String)) -> Result<()> {
    let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let context = |what: &str, id: u32| format!("cannot become the {what} {id}");
    match set_thread_groups(&groups) {
        // A user namespace of one id keeps the groups its maker has.
        Err(Errno::PERM) if user.additional_gids.iter().all(|gid| *gid == user.gid) => {}
        Err(Errno::PERM) => warn("further groups cannot be had in this user namespace".to_owned()),
        set => set.context(|| "cannot take on further groups".to_string())?,
    }
    set_keep_capabilities(true).context(|| "cannot keep capabilities".to_string())?;
    let named = |what: &'static str, id: u32| {
        move |errno: Errno| {
            let failure = Failure::new(format!("{}: {errno}", context(what, id)));
            match errno {
                Errno::INVAL => failure.hint("the container's user namespace has no such id"),
                _ => failure,
            }
        }
    };
    let gid = Gid::from_raw(user.gid);
    set_thread_res_gid(gid, gid, gid).map_err(named("group", user.gid))?;
    let uid = Uid::from_raw(user.uid);
    set_thread_res_uid(uid, uid, uid).map_err(named("user", user.uid))?;
    set_keep_capabilities(false).context(|| "cannot keep capabilities".to_string())?;
    umask(rustix::fs::Mode::from_raw_mode(user.umask.unwrap_or(USUAL_MASK) & 0o777));
    Ok(())
}

/// Becomes the user namespace's root, or, where it has none, the command's user.
pub fn become_root_of_namespace(user: Option<&User>) -> Result<()> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    let set = set_thread_res_gid(gid, gid, gid).and_then(|()| set_thread_res_uid(uid, uid, uid));
    let Err(errno) = set else { return Ok(()) };
    let other = user.filter(|_| errno == Errno::INVAL);
    let context = || "cannot become root in the user namespace".to_string();
    let Some(other) = other else { return Err(errno).context(context) };
    set_keep_capabilities(true).context(context)?;
    let (uid, gid) = (Uid::from_raw(other.uid), Gid::from_raw(other.gid));
    set_thread_res_gid(gid, gid, gid).context(context)?;
    set_thread_res_uid(uid, uid, uid).context(context)?;
    capabilities::raise_permitted()
}

/// An owned copy of a descriptor.
pub fn own(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().context(|| "cannot keep a descriptor".to_string())
}
