//! Where a workload plays: fresh directories for one run, the union mounted on
//! demand, and the clock.
//!
//! Everything lies on a file system that was mounted for this run, in a mount
//! namespace that ends with it: nothing is cleaned up, nothing is left.

pub mod daemon;
pub mod mount;
mod strace;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rustix::mount::{MountFlags, UnmountFlags, unmount};

use crate::candidate::Program;
use crate::errors::{at, run};
use crate::figure::{Figure, Unit};
use crate::layers::{Files, Layers, Tree};
use crate::plan::{Message, Pass, Plan, Upper};
use crate::size::Sizes;
use crate::walk;
use crate::workload::{Bare, Workload};
use strace::Strace;

/// The stage of one run.
pub struct Stage {
    plan: Plan,
    layers: Layers,
    bare: Bare,
    area: PathBuf,
    fresh: PathBuf,
    mounted: Option<Mounted>,
    tell: fn(&Message) -> io::Result<()>,
}

struct Mounted {
    root: PathBuf,
    daemons: Vec<u32>,
    strace: Option<Strace>,
}

impl Stage {
    /// The directories, on a new file system of the kind the plan names.
    ///
    /// # Errors
    /// Those of mkfs and mount.
    pub fn new(plan: Plan, workload: &Workload, tell: fn(&Message) -> io::Result<()>) -> io::Result<Stage> {
        let layers = Layers::of(&plan.home, workload.tree, workload.lowers, &plan.sizes);
        let area = plan.home.join("stage");
        mount_tmpfs(&area)?;
        let fresh = area.join("fresh");
        fs::create_dir(&fresh)?;
        if plan.upper == Upper::Ext4 {
            mount_ext4(&area.join("image"), &fresh)?;
        }
        for name in ["upper", "work", "union"] {
            fs::create_dir(fresh.join(name))?;
        }
        if plan.candidate.program == Program::Bare && workload.bare == Bare::Copy {
            run(Command::new("cp").arg("-a").arg(&layers.whole).arg(fresh.join("bare")))?;
        }
        Ok(Stage { plan, layers, bare: workload.bare, area, fresh, mounted: None, tell })
    }

    /// Reads what lies below the union, so that no round pays for the disk: what
    /// is cold in a workload is the union, not its layers.
    ///
    /// # Errors
    /// Those of reading the layers.
    pub fn warm(&self, tree: Tree) -> io::Result<()> {
        let bare = self.plan.candidate.program == Program::Bare;
        let shown = if bare { std::slice::from_ref(&self.layers.whole) } else { &self.layers.lowers };
        for dir in shown {
            match tree {
                Tree::Many => walk::stat_all(dir, usize::MAX).map(|_| ())?,
                _ => walk::read_all(dir)?,
            }
        }
        Ok(())
    }

    /// How large everything is.
    pub fn sizes(&self) -> Sizes {
        self.plan.sizes
    }

    /// The archive and the packages.
    pub fn files(&self) -> Files {
        Files::of(&self.plan.home, &self.plan.sizes)
    }

    /// The layers below the union.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Mounts the union; the same files in a plain directory for who has none.
    ///
    /// # Errors
    /// What the program says: the candidate is absent here.
    pub fn mount(&mut self) -> io::Result<PathBuf> {
        let (root, upper) = (self.fresh.join("union"), self.fresh.join("upper"));
        if self.plan.candidate.program == Program::Bare {
            return Ok(match self.bare {
                Bare::Copy => self.fresh.join("bare"),
                Bare::Whole => self.layers.whole.clone(),
                Bare::None => return Err(unsupported("nothing to compare with in a bare directory")),
            });
        }
        let work = self.fresh.join("work");
        let union = mount::Union { lowers: &self.layers.lowers, upper: &upper, work: &work, root: &root };
        let before = daemon::processes()?;
        // The one error that is no failure: this candidate cannot be had here.
        mount::mount(&self.plan, &union).map_err(unsupported)?;
        let mut mounted = Mounted { root: root.clone(), daemons: Vec::new(), strace: None };
        if self.plan.candidate.has_daemon() {
            mounted.daemons = daemon::processes()?;
            mounted.daemons.retain(|pid| !before.contains(pid));
            if let Some(minor) = mount::mounted(&root)? {
                (self.tell)(&Message::Mounted { minor })?;
            }
            if self.plan.pass == Pass::Syscalls {
                mounted.strace = Some(Strace::attach(&mounted.daemons, &self.area)?);
            }
        }
        self.mounted = Some(mounted);
        Ok(root)
    }

    /// Says what the daemons used, unmounts, and waits for their end.
    ///
    /// # Errors
    /// The mount is busy, or a daemon did not end.
    pub fn unmount(&mut self) -> io::Result<()> {
        let Some(mounted) = self.mounted.take() else { return Ok(()) };
        if !mounted.daemons.is_empty() {
            (self.tell)(&Message::Daemon(daemon::used(&mounted.daemons)?))?;
        }
        unmount(&mounted.root, UnmountFlags::empty()).map_err(|e| at(&mounted.root, e.into()))?;
        daemon::wait(&mounted.daemons)?;
        if let Some(strace) = mounted.strace {
            (self.tell)(&Message::Syscalls(strace.finish()?))?;
        }
        Ok(())
    }

    /// Resident memory of the daemons, bytes; `None` where there are none.
    ///
    /// # Errors
    /// Those of reading /proc.
    pub fn resident(&self) -> io::Result<Option<u64>> {
        match &self.mounted {
            Some(mounted) if !mounted.daemons.is_empty() => {
                Ok(Some(daemon::used(&mounted.daemons)?.resident))
            }
            _ => Ok(None),
        }
    }

    /// Times one action of so many operations; the figure is given in `unit`.
    ///
    /// # Errors
    /// Those of the action.
    pub fn measure(
        &mut self,
        name: &str,
        unit: Unit,
        operations: usize,
        action: impl FnOnce(&mut Stage) -> io::Result<()>,
    ) -> io::Result<()> {
        let before = self.requests();
        let started = Instant::now();
        action(self)?;
        let seconds = started.elapsed().as_secs_f64();
        let mut requests = self.requests();
        for (opcode, count) in &mut requests {
            // The second question has counted itself.
            let own = u64::from(opcode == QUESTION);
            *count = count.saturating_sub(before.get(opcode).copied().unwrap_or(0) + own);
        }
        requests.retain(|_, count| *count > 0);
        let value = match unit {
            Unit::SecondsEach => seconds / operations as f64,
            Unit::BytesPerSecond | Unit::OperationsPerSecond => operations as f64 / seconds,
            Unit::Seconds | Unit::Bytes => seconds,
        };
        let operations = operations as u64;
        (self.tell)(&Message::Figure(Figure { name: name.to_owned(), value, unit, operations, requests }))
    }

    /// Reports a number that was measured otherwise.
    ///
    /// # Errors
    /// Those of writing the message.
    pub fn report(&self, name: &str, unit: Unit, value: f64) -> io::Result<()> {
        let requests = BTreeMap::new();
        (self.tell)(&Message::Figure(Figure { name: name.to_owned(), value, unit, operations: 1, requests }))
    }

    /// What a daemon of ours has served, this question included; nothing for
    /// the others, who keep no count.
    fn requests(&self) -> BTreeMap<String, u64> {
        let root = match &self.mounted {
            Some(mounted) if self.plan.candidate.program == Program::Ours => &mounted.root,
            _ => return BTreeMap::new(),
        };
        let mut answer = vec![0; 64 << 10];
        let length = rustix::fs::getxattr(root, "user.runionfs.stats", &mut answer).unwrap_or(0);
        #[derive(serde::Deserialize)]
        struct Stats {
            requests: BTreeMap<String, u64>,
        }
        let parsed = serde_json::from_slice::<Stats>(&answer[..length]);
        parsed.map(|stats| stats.requests).unwrap_or_default()
    }
}

/// An error that says of a candidate that it is absent.
pub fn unsupported(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, reason)
}

/// The request by which the counters are asked for.
const QUESTION: &str = "GETXATTR";

fn mount_tmpfs(area: &Path) -> io::Result<()> {
    fs::create_dir_all(area).map_err(|e| at(area, e))?;
    let limits = c"size=90%,nr_inodes=0,mode=755";
    rustix::mount::mount("tmpfs", area, "tmpfs", MountFlags::empty(), Some(limits)).map_err(Into::into)
}

fn mount_ext4(image: &Path, on: &Path) -> io::Result<()> {
    fs::File::create(image)?.set_len(8 << 30)?;
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image))?;
    run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(on))
}
