//! The runner's loop: for each workload, for each round, every candidate in
//! turn, each run in a worker of its own.
//!
//! A candidate that is absent once in a workload is not tried again in it. A
//! worker that does not end in time is ended: its FUSE connection is aborted,
//! so that nobody waits for the daemon, and its process namespace is killed.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::candidate::{Candidate, Uring};
use crate::layers::{Files, Layers};
use crate::plan::{Message, Plan};
use crate::results::{Outcome, Results, Run};
use crate::sys;
use crate::uring::Enabled;
use crate::worker::WORKER;
use crate::workload::{Needs, Repeat, Workload};

/// How long an aborted worker may take to end.
const PATIENCE: Duration = Duration::from_secs(10);
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// What is measured.
pub struct Session {
    /// The rows.
    pub workloads: Vec<&'static Workload>,
    /// The columns.
    pub candidates: Vec<Candidate>,
    /// How often.
    pub rounds: usize,
    /// How long one run may take.
    pub limit: Duration,
    /// Everything else; its candidate and workload are overwritten.
    pub plan: Plan,
}

impl Session {
    /// Runs everything, and says on standard error how far it is.
    ///
    /// # Errors
    /// What keeps a tree from being made, or a worker from being started; a
    /// failed run is a result.
    pub fn run(&self) -> io::Result<Results> {
        own_mounts()?;
        let mut results = Results::default();
        for (number, workload) in self.workloads.iter().enumerate() {
            self.prepare(workload)?;
            let rounds = if workload.repeat == Repeat::Once { 1 } else { self.rounds };
            for round in 0..rounds {
                for candidate in self.turns(round) {
                    if results.gave_up(workload.name, &candidate.name) {
                        continue;
                    }
                    let started = Instant::now();
                    let run = self.play(workload, candidate)?;
                    eprintln!(
                        "[{}/{}] {} round {}: {}: {} ({:.1} s)",
                        number + 1,
                        self.workloads.len(),
                        workload.name,
                        round + 1,
                        candidate.name,
                        run.outcome,
                        started.elapsed().as_secs_f64()
                    );
                    results.add(workload.name, &candidate.name, run);
                }
            }
        }
        Ok(results)
    }

    /// The candidates in another order each round, so that none always follows
    /// the same one.
    fn turns(&self, round: usize) -> impl Iterator<Item = &Candidate> {
        let (later, first) = self.candidates.split_at(round % self.candidates.len().max(1));
        first.iter().chain(later)
    }

    fn prepare(&self, workload: &Workload) -> io::Result<()> {
        let (home, sizes) = (&self.plan.home, &self.plan.sizes);
        Layers::make(home, workload.tree, workload.lowers, sizes)?;
        match workload.needs {
            Needs::Layers => Ok(()),
            Needs::Archive => Files::make_archive(home, sizes),
            Needs::Packages => Files::make_packages(home, sizes),
        }
    }

    fn play(&self, workload: &Workload, candidate: &Candidate) -> io::Result<Run> {
        let mut plan = self.plan.clone();
        plan.candidate = candidate.clone();
        plan.workload = workload.name.to_owned();
        let enabled = match candidate.uring {
            Uring::Unneeded => None,
            Uring::Needed => match Enabled::new() {
                Ok(enabled) => Some(enabled),
                Err(error) => return Ok(Run::ended(Outcome::Absent(error.to_string()))),
            },
        };
        let run = Worker::start(&plan)?.watch(self.limit);
        drop(enabled);
        run
    }
}

/// Mounts of the runner's own: fusectl, where it is not mounted, is seen by
/// nobody else.
fn own_mounts() -> io::Result<()> {
    sys::unshare_mounts()?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    match mount("fusectl", CONNECTIONS, "fusectl", MountFlags::empty(), None) {
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(error) => Err(io::Error::other(format!("fusectl: {error}\nhint: modprobe fuse"))),
    }
}

/// A worker and what it says.
struct Worker {
    process: Child,
    lines: Receiver<io::Result<String>>,
    minor: Option<u32>,
    home: PathBuf,
}

impl Worker {
    fn start(plan: &Plan) -> io::Result<Worker> {
        // The first process of a process namespace: when it is gone, so are all
        // daemons, and with them the mounts.
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        command.arg("--").arg(std::env::current_exe()?).arg(WORKER).arg(serde_json::to_string(plan)?);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        sys::die_with_parent(&mut command);
        let mut process =
            command.spawn().map_err(|e| io::Error::other(format!("cannot run unshare: {e}")))?;
        let Some(output) = process.stdout.take() else {
            return Err(io::Error::other("a worker without standard output"));
        };
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // Nobody listens any more once the run is over.
            BufReader::new(output).lines().all(|line| sender.send(line).is_ok());
        });
        Ok(Worker { process, lines, minor: None, home: plan.home.clone() })
    }

    /// Listens until the worker has ended, or its time is over.
    fn watch(mut self, limit: Duration) -> io::Result<Run> {
        let mut deadline = Instant::now() + limit;
        let mut run = Run::ended(Outcome::Done);
        let mut hung = None;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.hear(serde_json::from_str(&line?)?, &mut run),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if hung.is_some() => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.end()?;
                    hung = Some(Outcome::Failed(format!("hung for {} s: aborted", limit.as_secs())));
                    deadline = Instant::now() + PATIENCE;
                }
            }
        }
        // What a worker says of an abort is not why it happened.
        run.outcome = hung.unwrap_or(run.outcome);
        let status = self.process.wait()?;
        if !status.success() && run.outcome == Outcome::Done {
            run.outcome = Outcome::Failed(format!("the worker ended with {status}"));
        }
        Ok(run)
    }

    fn hear(&mut self, message: Message, run: &mut Run) {
        match message {
            Message::Mounted { minor } => self.minor = Some(minor),
            Message::Figure(figure) => run.figures.push(figure),
            Message::Daemon(daemon) => run.daemon = Some(daemon),
            Message::Syscalls(counts) => run.syscalls = counts,
            Message::Absent(reason) => run.outcome = Outcome::Absent(self.short(&reason)),
            Message::Failed(reason) => run.outcome = Outcome::Failed(self.short(&reason)),
        }
    }

    /// The first line of a reason, without where on this machine it happened.
    fn short(&self, reason: &str) -> String {
        let line = reason.lines().next().unwrap_or_default();
        line.replace(&*self.home.to_string_lossy(), "target/bench")
    }

    /// Aborts the connection and kills the namespace.
    fn end(&mut self) -> io::Result<()> {
        if let Some(minor) = self.minor {
            let abort = Path::new(CONNECTIONS).join(minor.to_string()).join("abort");
            if let Err(error) = fs::write(&abort, "1") {
                eprintln!("cannot abort a hung mount: {}: {error}", abort.display());
            }
        }
        self.process.kill()
    }
}
