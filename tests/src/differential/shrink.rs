//! A failing case, made as short as it can be while it still fails the same
//! way: delta debugging by halves (Zeller, Hildebrandt: "Simplifying and
//! isolating failure-inducing input", 2002), re-running both sides each time.

use std::time::{Duration, Instant};

use super::op::{Action, Case, Op};
use super::run::{Difference, Setting, run};

/// A shortened case and the difference it shows.
pub struct Shrunk {
    /// The case.
    pub case: Case,
    /// The difference.
    pub difference: Difference,
}

/// Shortens `case` for at most `limit`.
pub fn shrink(case: &Case, difference: &Difference, setting: Setting, limit: Duration) -> Shrunk {
    let deadline = Instant::now() + limit;
    let mut best = Shrunk { case: case.clone(), difference: difference.clone() };
    best.case.ops.truncate(difference.index + 1);
    while Instant::now() < deadline {
        let before = size(&best.case);
        shorten_ops(&mut best, setting, deadline);
        shorten_layers(&mut best, setting, deadline);
        if size(&best.case) == before {
            break;
        }
    }
    best
}

fn size(case: &Case) -> usize {
    case.ops.len() + case.layers.iter().map(|layer| 1 + layer.steps.len()).sum::<usize>()
}

/// Whether `candidate` fails as `best` does; if so it is the new best.
fn adopt(best: &mut Shrunk, candidate: Case, setting: Setting) -> bool {
    // A candidate that cannot even be set up shows nothing.
    let Ok(report) = run(&candidate, setting) else { return false };
    match report.difference {
        Some(difference) if difference.signature == best.difference.signature => {
            *best = Shrunk { case: candidate, difference };
            best.case.ops.truncate(best.difference.index + 1);
            true
        }
        _ => false,
    }
}

fn shorten_ops(best: &mut Shrunk, setting: Setting, deadline: Instant) {
    // Meta operations are dear and mostly beside the point.
    let mut candidate = best.case.clone();
    let last = candidate.ops.pop();
    candidate.ops.retain(|op| !matches!(op.action, Action::Compare | Action::Remount | Action::Swap));
    candidate.ops.extend(last);
    adopt(best, candidate, setting);
    let mut chunk = best.case.ops.len().div_ceil(2).max(1);
    loop {
        let mut start = 0;
        while start < best.case.ops.len() && Instant::now() < deadline {
            let mut candidate = best.case.clone();
            let end = (start + chunk).min(candidate.ops.len());
            candidate.ops.drain(start..end);
            if !adopt(best, candidate, setting) {
                start += chunk;
            }
        }
        if chunk == 1 || Instant::now() >= deadline {
            return;
        }
        chunk = chunk.div_ceil(2);
    }
}

fn shorten_layers(best: &mut Shrunk, setting: Setting, deadline: Instant) {
    for layer in (0..best.case.layers.len()).rev() {
        if best.case.layers.len() > 1 {
            let mut candidate = best.case.clone();
            candidate.layers.remove(layer);
            if adopt(best, candidate, setting) {
                continue;
            }
        }
        let mut chunk = best.case.layers[layer].steps.len().max(1);
        loop {
            let mut start = 0;
            while start < best.case.layers[layer].steps.len() && Instant::now() < deadline {
                let mut candidate = best.case.clone();
                let steps = &mut candidate.layers[layer].steps;
                let end = (start + chunk).min(steps.len());
                steps.drain(start..end);
                if !adopt(best, candidate, setting) {
                    start += chunk;
                }
            }
            if chunk == 1 || Instant::now() >= deadline {
                break;
            }
            chunk = chunk.div_ceil(2);
        }
    }
}

/// A case as a list that a person can type in.
pub fn readable(case: &Case) -> String {
    let mut text = String::new();
    for (number, layer) in case.layers.iter().enumerate() {
        text += &format!("  lower {number} ({:?}):\n", layer.made);
        for step in &layer.steps {
            text += &format!("    {step:?}\n");
        }
    }
    text += "  then:\n";
    for (number, op) in case.ops.iter().enumerate() {
        text += &format!("    {number:3}  {}\n", described(op));
    }
    text
}

fn described(op: &Op) -> String {
    format!("{op:?}")
}
