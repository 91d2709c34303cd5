//! A case on both sides, up to the first difference.

use std::io;

use rustix::fs::FileType;

use super::deviations::{self, Then};
use super::execute::execute;
use super::layers::Lowers;
use super::op::{Action, Case, Op};
use super::outcome::{Known, Mtime, Outcome, Value, agree};
use super::side::{RECENT, Side, comparable, without_clock};
use crate::mount::Driver;
use crate::scratch::{Backing, Scratch};
use crate::tree::{Aspect, Tree};

/// What a case is run on.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The oracle.
    pub left: Driver,
    /// The one under test.
    pub right: Driver,
    /// The layers' file system.
    pub backing: Backing,
}

/// What came of a case.
#[derive(Debug)]
pub struct Report {
    /// How many operations were executed on both sides.
    pub operations: usize,
    /// The deviations met.
    pub deviations: Vec<&'static str>,
    /// The first difference, if any.
    pub difference: Option<Difference>,
}

/// Where the sides parted.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The index of the operation, or past the last for the final checks.
    pub index: usize,
    /// The operation, or what was checked.
    pub what: String,
    /// The oracle's answer.
    pub left: String,
    /// The other's.
    pub right: String,
    /// What stays the same when the case is shortened.
    pub signature: String,
}

impl Difference {
    fn of_op(index: usize, op: &Op, left: &Outcome, right: &Outcome) -> Difference {
        let kind = format!("{:?}", op.action);
        let kind = kind.split([' ', '{']).next().unwrap_or_default().to_owned();
        let signature = match (left, right) {
            (Ok(Value::Attributes(left)), Ok(Value::Attributes(right))) => {
                format!("{kind} {}", left.differing(right).join(" "))
            }
            (Ok(Value::Entries(left)), Ok(Value::Entries(right))) => {
                let unequal = left.iter().zip(right).find(|(left, right)| !agree(&left.1, &right.1));
                match unequal {
                    Some(((_, Ok(Value::Attributes(left))), (_, Ok(Value::Attributes(right))))) => {
                        format!("{kind} {}", left.differing(right).join(" "))
                    }
                    _ => format!("{kind} entries"),
                }
            }
            _ => format!("{kind} {} / {}", signature(left), signature(right)),
        };
        Difference {
            index,
            what: format!("{op:?}"),
            left: format!("{left:?}"),
            right: format!("{right:?}"),
            signature,
        }
    }

    fn of_failure(index: usize, what: &str, error: &io::Error) -> Difference {
        Difference {
            index,
            what: what.to_owned(),
            left: "works".to_owned(),
            right: error.to_string(),
            signature: format!("{what} fails"),
        }
    }
}

/// An outcome without what depends on names and numbers.
fn signature(outcome: &Outcome) -> String {
    match outcome {
        Err(errno) => errno.to_string(),
        Ok(Value::Lines(lines)) => {
            let words = lines.first().map_or("", String::as_str).split(' ');
            words.filter(|word| word.bytes().all(|b| b.is_ascii_lowercase())).collect::<Vec<_>>().join(" ")
        }
        Ok(_) => "ok".to_owned(),
    }
}

/// Runs `case`; a case whose layers the kernel itself cannot walk is empty.
///
/// # Errors
/// Those of the host. What fails on the right side alone is a difference.
pub fn run(case: &Case, setting: Setting) -> io::Result<Report> {
    let scratch = Scratch::new(setting.backing)?;
    let mut report = Report { operations: 0, deviations: Vec::new(), difference: None };
    let lowers = Lowers::make(case, scratch.path())?;
    if !lowers.are_sane(&scratch.dir("probe")?)? {
        return Ok(report);
    }
    let left = Side::new(setting.left, &lowers.dirs, scratch.path(), "left")?;
    let right = match Side::new(setting.right, &lowers.dirs, scratch.path(), "right") {
        Ok(side) => side,
        Err(error) => {
            report.difference = Some(Difference::of_failure(0, "mount", &error));
            return Ok(report);
        }
    };
    let mut pair = Pair { left, right, known: lowers.known(), swaps: 0 };
    for (index, op) in case.ops.iter().enumerate() {
        if index % 64 == 0 {
            pair.right.is_alive();
        }
        let is_lost_on_the_kernel = pair.changes_what_the_kernel_lost(op)?;
        let (left, right) = match pair.step(op) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                report.difference = Some(Difference::of_failure(index, &format!("{op:?}"), &error));
                return Ok(report);
            }
        };
        report.operations += 1;
        if is_lost_on_the_kernel {
            report.deviations.push(deviations::LOST_ON_THE_KERNEL);
            break;
        }
        // What the kernel did to its upper before an exchange, ours shows after.
        if agree(&left, &right) || (pair.swaps > 0 && agree(&right, &left)) {
            continue;
        }
        let Some(deviation) = deviations::explains(op, &left, &right) else {
            report.difference = Some(Difference::of_op(index, op, &left, &right));
            return Ok(report);
        };
        report.deviations.push(deviation.what);
        if deviation.then == Then::Ends {
            break;
        }
    }
    report.difference = pair.end(case.ops.len(), &lowers)?;
    Ok(report)
}

/// Both sides of a running case.
struct Pair {
    left: Side,
    right: Side,
    known: Known,
    /// How often the uppers were exchanged.
    swaps: usize,
}

impl Pair {
    /// Whether an operation changes the metadata of a lower object whose name is
    /// gone. It shows as one that the kernel still counts a link of. What it
    /// then copies up to the old name it may show, or miscount, much later.
    fn changes_what_the_kernel_lost(&mut self, op: &Op) -> io::Result<bool> {
        use Action as A;
        let (A::Fchmod { slot, .. }
        | A::Fchown { slot, .. }
        | A::Futimens { slot, .. }
        | A::Fsetxattr { slot, .. }) = &op.action
        else {
            return Ok(false);
        };
        let links = |place: &super::execute::Place| {
            let fd = place.slots.get(*slot).and_then(Option::as_ref)?;
            rustix::fs::fstat(fd).ok().map(|stat| stat.st_nlink)
        };
        let kernel = links(self.left.place()?);
        let ours = links(self.right.place()?);
        Ok(ours == Some(0) && kernel.is_some_and(|links| links > 0))
    }

    fn step(&mut self, op: &Op) -> io::Result<(Outcome, Outcome)> {
        match op.action {
            Action::Compare => self.compare(),
            Action::Remount => self.remount(),
            Action::Swap => self.swap(),
            _ => Ok((
                execute(self.left.place()?, op, &self.known),
                execute(self.right.place()?, op, &self.known),
            )),
        }
    }

    /// Both trees: the left outcome is "no differences", the right what there are.
    fn compare(&self) -> io::Result<(Outcome, Outcome)> {
        let mut left = comparable(self.left.tree()?, &self.known);
        let mut right = comparable(self.right.tree()?, &self.known);
        self.level_times(&left, &mut right);
        if self.swaps > 0 {
            self.level_times(&right, &mut left);
        }
        Ok(lines(Vec::new(), left.differences(&right, &[Aspect::MergedDirNlink])))
    }

    /// As `agree` has it, for whole trees.
    fn level_times(&self, oracle: &Tree, ours: &mut Tree) {
        for (path, node) in &mut ours.nodes {
            let oracle = oracle.nodes.get(path).map_or(node.mtime, |oracle| oracle.mtime);
            let is_file = node.kind == FileType::RegularFile;
            let time = if node.mtime == RECENT { Mtime::Recent } else { self.known.mtime(node.mtime) };
            if is_file && oracle == RECENT && Mtime::Recent.agrees(time, self.known.ino(node.ino)) {
                node.mtime = RECENT;
            }
        }
    }

    /// Each side against itself, inode numbers and all (but change times, which housekeeping moves).
    fn remount(&mut self) -> io::Result<(Outcome, Outcome)> {
        let again = |side: &mut Side| -> io::Result<Vec<String>> {
            let before = side.tree()?;
            side.unmount()?;
            side.mount()?;
            Ok(before.differences(&side.tree()?, &[Aspect::Ctime, Aspect::MergedDirNlink]))
        };
        Ok(lines(again(&mut self.left)?, again(&mut self.right)?))
    }

    /// Each side's tree against that of the other driver on the same upper.
    fn swap(&mut self) -> io::Result<(Outcome, Outcome)> {
        // What is compared is what each driver finds on a fresh mount.
        let (left, right) = self.remount()?;
        if left != right {
            return Ok((left, right));
        }
        let read = |side: &Side| -> io::Result<Tree> { Ok(without_clock(side.tree()?, &self.known)) };
        let (left, right) = (read(&self.left)?, read(&self.right)?);
        self.left.unmount()?;
        self.right.unmount()?;
        std::mem::swap(&mut self.left.upper, &mut self.right.upper);
        self.swaps += 1;
        self.left.mount()?;
        self.right.mount()?;
        let read = |side: &Side| -> io::Result<Tree> { Ok(without_clock(side.tree()?, &self.known)) };
        let mut changed = Vec::new();
        for (what, before, now) in [
            ("its upper, by the kernel", right, read(&self.left)?),
            ("the kernel's upper, by it", left, read(&self.right)?),
        ] {
            changed.extend(before.differences(&now, &[]).into_iter().map(|line| format!("{what}: {line}")));
        }
        Ok(lines(Vec::new(), changed))
    }

    fn end(mut self, index: usize, lowers: &Lowers) -> io::Result<Option<Difference>> {
        self.left.unmount()?;
        if let Err(error) = self.right.unmount() {
            return Ok(Some(Difference::of_failure(index, "unmount", &error)));
        }
        let damage = lowers.damage()?;
        if damage.is_empty() {
            return Ok(None);
        }
        let what = "a lower layer changed";
        Ok(Some(Difference::of_failure(index, what, &io::Error::other(damage.join("\n")))))
    }
}

fn lines(left: Vec<String>, right: Vec<String>) -> (Outcome, Outcome) {
    (Ok(Value::Lines(left)), Ok(Value::Lines(right)))
}
