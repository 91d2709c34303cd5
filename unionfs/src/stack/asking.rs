//! One name of a merged directory whose layers were not listed: each is asked
//! for it, and for what could hide it. For directories so large that listing
//! them costs more than the names that are asked for.

use rustix::fs::FileType;
use smallvec::SmallVec;

use super::layer::Layers;
use super::listing::lower_opacity;
use super::names::{LowerSlot, Merged, Slot, UpperSlot};
use super::real::{Held, RealDir};
use crate::error::{Absent, Result};
use crate::name::Name;
use crate::ondisk::marks::{Marks, Opacity};
use crate::ondisk::whiteout;
use crate::sync::Arc;
use crate::sys::at::Stat;

/// What was found by asking.
pub struct Answer {
    /// What a map would say.
    pub slot: Slot,
    /// The attributes of what the topmost layer that has the name has there.
    pub stat: Option<Stat>,
}

/// Asks a directory's layers for a name, from the top, as far down as needed.
/// `None` where a file was met that makes a directory opaque: a listing cuts
/// the merge short there.
///
/// # Errors
/// What the layers gave.
pub fn ask(merged: &Merged, layers: &Layers, name: Name<'_>) -> Result<Option<Answer>> {
    let mut answer = Answer { slot: Slot::ABSENT, stat: None };
    if whiteout::is_reserved(name) {
        return Ok(Some(answer));
    }
    let mut above: SmallVec<[&Arc<RealDir>; 8]> = SmallVec::new();
    for dir in merged.upper.iter().chain(&merged.lowers) {
        let held = dir.hold(&layers.fds)?;
        let found = held.at(name)?.stat().absent()?;
        let is_upper = dir.layer == 0;
        let Some(stat) = found.filter(|stat| is_upper || !layers.is_hidden(stat)) else {
            above.push(dir);
            continue;
        };
        // What could hide it matters now; of what nobody has, nothing is hidden.
        for dir in above.drain(..) {
            if has_opaque_file(dir, layers)? {
                return Ok(None);
            }
            if hides_by_name(dir, layers, name)? {
                if dir.layer > 0 {
                    return Ok(Some(answer));
                }
                if answer.slot.upper == UpperSlot::Absent {
                    answer.slot.upper = UpperSlot::Whiteout;
                }
            }
        }
        let is_whiteout = stat.is_whiteout_device()
            || (merged.is_merged() && is_xattr_whiteout(dir, &held, layers, name, &stat)?);
        let goes_on = match is_upper {
            true => add_upper(&mut answer.slot, &stat, is_whiteout),
            false => add_lower(&mut answer.slot, dir, &stat, is_whiteout),
        };
        answer.stat.get_or_insert(stat);
        if !goes_on {
            break;
        }
        above.push(dir);
    }
    Ok(Some(answer))
}

/// Adds what the upper has; what the lowers show is asked for in any case.
fn add_upper(slot: &mut Slot, stat: &Stat, is_whiteout: bool) -> bool {
    slot.upper = match is_whiteout {
        true => UpperSlot::Whiteout,
        false => UpperSlot::Entry(stat.kind()),
    };
    true
}

/// Adds what a lower has; whether those below it matter.
fn add_lower(slot: &mut Slot, dir: &RealDir, stat: &Stat, is_whiteout: bool) -> bool {
    match (&mut slot.lower, stat.kind()) {
        _ if is_whiteout => {}
        (LowerSlot::Dir(layers), FileType::Directory) => layers.push(dir.layer),
        (lower @ LowerSlot::Absent, FileType::Directory) => {
            *lower = LowerSlot::Dir(smallvec::smallvec![dir.layer]);
        }
        (lower @ LowerSlot::Absent, kind) => *lower = LowerSlot::File(dir.layer, kind),
        _ => {}
    }
    stat.kind() == FileType::Directory
}

/// Whether a file is a whiteout by its attribute, in a directory that says it
/// may hold such.
fn is_xattr_whiteout(
    dir: &Arc<RealDir>,
    held: &Held,
    layers: &Layers,
    name: Name<'_>,
    stat: &Stat,
) -> Result<bool> {
    if stat.kind() != FileType::RegularFile || stat.size > 0 {
        return Ok(false);
    }
    let opacity = match dir.layer {
        0 => Marks::read(held.object(), layers.namespace)?.opacity,
        _ => lower_opacity(dir, layers)?,
    };
    Ok(opacity == Opacity::XattrWhiteouts && Marks::read(held.at(name)?, layers.namespace)?.whiteout)
}

/// Whether a directory has a file whose name hides `name` in the layers below.
///
/// # Errors
/// What opening the directory or looking gave.
pub fn hides_by_name(dir: &Arc<RealDir>, layers: &Layers, name: Name<'_>) -> Result<bool> {
    match whiteout::file_of(name) {
        Some(file) => has(dir, layers, file.as_name()),
        None => Ok(false),
    }
}

/// Whether a directory has a file that makes it opaque. None can be made
/// through the mount: that there is none is remembered.
///
/// # Errors
/// What opening the directory or looking gave.
pub fn has_opaque_file(dir: &Arc<RealDir>, layers: &Layers) -> Result<bool> {
    if dir.is_known_without_opaque_file() {
        return Ok(false);
    }
    for file in whiteout::OPAQUE_FILES {
        if has(dir, layers, Name::new(file)?)? {
            return Ok(true);
        }
    }
    dir.note_no_opaque_file();
    Ok(false)
}

fn has(dir: &Arc<RealDir>, layers: &Layers, name: Name<'_>) -> Result<bool> {
    Ok(dir.hold(&layers.fds)?.at(name)?.stat().absent()?.is_some())
}
