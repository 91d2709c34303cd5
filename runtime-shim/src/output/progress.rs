//! What becomes of each layer while images move: a line each, redrawn on a
//! terminal; elsewhere a line when something has changed for good.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use layerstore::digest::Digest;
use layerstore::store::short;
use layerstore::transfer::Step;

use super::size::human;

/// A terminal is not redrawn more often.
const OFTEN: Duration = Duration::from_millis(100);
/// The length of a bar, in characters.
const BAR: u64 = 50;

/// In which direction layers move: the words differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a registry.
    Pull,
    /// To one.
    Push,
}

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Lines that are redrawn.
    Screen,
    /// Lines that follow each other.
    Lines,
    /// Not at all.
    Quiet,
}

/// The progress of several layers.
pub struct Progress {
    direction: Direction,
    look: Look,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: Vec<Row>,
    /// Rows that are on the terminal.
    drawn: usize,
    last: Option<Instant>,
}

struct Row {
    digest: Digest,
    step: Step,
    total: Option<u64>,
    passed: u64,
}

impl Progress {
    /// Nothing has moved yet.
    pub fn new(direction: Direction, look: Look) -> Progress {
        Progress { direction, look, state: Mutex::default() }
    }

    /// Notes a step, and shows it.
    pub fn note(&self, digest: Digest, step: Step) {
        if self.look == Look::Quiet {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let at = state.rows.iter().position(|row| row.digest == digest);
        let at = at.unwrap_or_else(|| {
            state.rows.push(Row { digest, step, total: None, passed: 0 });
            state.rows.len() - 1
        });
        let Some(row) = state.rows.get_mut(at) else { return };
        match step {
            Step::Passed { bytes } => row.passed += bytes,
            Step::Starts { total } => (row.step, row.total, row.passed) = (step, total, 0),
            step => row.step = step,
        }
        match (self.look, step) {
            (Look::Screen, step) => self.draw(&mut state, matches!(step, Step::Passed { .. })),
            (_, Step::Passed { .. } | Step::Starts { total: None }) => {}
            (_, _) => {
                let line = state.rows.get(at).map(|row| format!("{}\n", self.line(row))).unwrap_or_default();
                write(&line);
            }
        }
    }

    fn draw(&self, state: &mut State, may_wait: bool) {
        if may_wait && state.last.is_some_and(|last| last.elapsed() < OFTEN) {
            return;
        }
        let mut text = match state.drawn {
            0 => String::new(),
            rows => format!("\x1b[{rows}A"),
        };
        for row in &state.rows {
            text.push_str("\x1b[2K");
            text.push_str(&self.line(row));
            text.push('\n');
        }
        write(&text);
        (state.drawn, state.last) = (state.rows.len(), Some(Instant::now()));
    }

    fn line(&self, row: &Row) -> String {
        let what = match (row.step, self.direction) {
            (Step::Exists, Direction::Pull) => "Already exists".to_owned(),
            (Step::Exists, Direction::Push) => "Layer already exists".to_owned(),
            (Step::Mounted, _) => "Mounted from another repository".to_owned(),
            (Step::Done, Direction::Pull) => "Pull complete".to_owned(),
            (Step::Done, Direction::Push) => "Pushed".to_owned(),
            (Step::Starts { .. } | Step::Passed { .. }, direction) => self.moving(row, direction),
        };
        format!("{}: {what}", short(&row.digest))
    }

    fn moving(&self, row: &Row, direction: Direction) -> String {
        let verb = match (direction, row.total) {
            (Direction::Pull, _) if self.look == Look::Lines => return "Pulling fs layer".to_owned(),
            (Direction::Push, _) if self.look == Look::Lines => return "Pushing".to_owned(),
            (Direction::Pull, _) => "Downloading",
            (Direction::Push, None) => return "Preparing".to_owned(),
            (Direction::Push, Some(_)) => "Pushing",
        };
        let Some(total) = row.total.filter(|total| *total > 0) else { return verb.to_owned() };
        let full = row.passed.min(total).saturating_mul(BAR) / total;
        let bar: String = (0..BAR)
            .map(|at| {
                if at < full {
                    '='
                } else if at == full {
                    '>'
                } else {
                    ' '
                }
            })
            .collect();
        format!("{verb} [{bar}] {}/{}", human(row.passed.min(total)), human(total))
    }
}

/// Nobody is told where nobody looks: a closed stdout ends no transfer.
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_up() {
        let progress = Progress::new(Direction::Pull, Look::Screen);
        let digest = Digest::of(b"layer");
        let row =
            |passed| Row { digest, step: Step::Starts { total: Some(1000) }, total: Some(1000), passed };
        let id = short(&digest);
        let bar = |passed| progress.line(&row(passed));
        assert_eq!(bar(0), format!("{id}: Downloading [>{}] 0B/1kB", " ".repeat(49)));
        assert_eq!(bar(500), format!("{id}: Downloading [{}>{}] 500B/1kB", "=".repeat(25), " ".repeat(24)));
        assert_eq!(bar(2000), format!("{id}: Downloading [{}] 1kB/1kB", "=".repeat(50)));
    }
}
