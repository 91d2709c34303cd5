//! User and group ids as the mount shows them against those on disk
//! (`uidmapping`, `gidmapping`). Pure.

use std::ops::Range;

use rustix::io::Errno;

use crate::config::IdRange;
use crate::error::{Error, Result};

/// The owner shown for an id that no range maps: the kernel's overflow id.
pub const OVERFLOW_ID: u32 = 65534;

/// A one-to-one mapping of ids; without ranges, every id is itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    ranges: Box<[IdRange]>,
}

impl IdMap {
    /// Checks the ranges against each other.
    ///
    /// # Errors
    /// `EINVAL` for an empty range, one past the last id, or two that overlap on
    /// either side: an id would then have two meanings.
    pub fn new(ranges: Vec<IdRange>) -> Result<IdMap> {
        for (at, range) in ranges.iter().enumerate() {
            let (Some(inside), Some(outside)) = (ids(range.inside, range.len), ids(range.outside, range.len))
            else {
                let what = format!("id range {} is empty or ends after the last id", describe(range));
                return Err(Error::new(Errno::INVAL, what));
            };
            for earlier in ranges.iter().take(at) {
                let clash = |start, ids: &Range<u32>| start < ids.end && ids.start < start + earlier.len;
                if clash(earlier.inside, &inside) || clash(earlier.outside, &outside) {
                    let what = format!("id ranges {} and {} overlap", describe(earlier), describe(range));
                    return Err(Error::new(Errno::INVAL, what));
                }
            }
        }
        Ok(IdMap { ranges: ranges.into() })
    }

    /// The id on disk of one in the mount; `None` where it has none.
    pub fn to_disk(&self, id: u32) -> Option<u32> {
        if self.ranges.is_empty() {
            return Some(id);
        }
        self.ranges.iter().find_map(|range| shift(id, range.inside, range.outside, range.len))
    }

    /// The id in the mount of one on disk; [`OVERFLOW_ID`] where it has none.
    #[allow(clippy::wrong_self_convention)] // The counterpart of `to_disk`, not a constructor.
    pub fn from_disk(&self, id: u32) -> u32 {
        if self.ranges.is_empty() {
            return id;
        }
        let mapped = self.ranges.iter().find_map(|range| shift(id, range.outside, range.inside, range.len));
        mapped.unwrap_or(OVERFLOW_ID)
    }
}

/// `id` moved from a range that starts at `from` to one that starts at `to`.
fn shift(id: u32, from: u32, to: u32, len: u32) -> Option<u32> {
    let offset = id.checked_sub(from)?;
    if offset < len { to.checked_add(offset) } else { None }
}

/// The ids of a range. 4294967295 is none: system calls read it as "no change".
fn ids(start: u32, len: u32) -> Option<Range<u32>> {
    if len == 0 { None } else { Some(start..start.checked_add(len)?) }
}

fn describe(range: &IdRange) -> String {
    format!("{}:{}:{}", range.inside, range.outside, range.len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(u32, u32, u32)]) -> Result<IdMap> {
        let range = |&(inside, outside, len): &(u32, u32, u32)| IdRange { inside, outside, len };
        IdMap::new(ranges.iter().map(range).collect())
    }

    #[test]
    fn without_ranges_every_id_is_itself() {
        let map = IdMap::default();
        for id in [0, 1000, OVERFLOW_ID, u32::MAX] {
            assert_eq!((map.to_disk(id), map.from_disk(id)), (Some(id), id));
        }
    }

    #[test]
    fn ranges_map_both_ways_up_to_their_ends() {
        // As podman's --userns keep-id gives them.
        let map = map(&[(0, 1, 1000), (1000, 0, 1), (1001, 1001, 64536)]).unwrap();
        for (inside, outside) in [(0, 1), (999, 1000), (1000, 0), (1001, 1001), (65536, 65536)] {
            assert_eq!(map.to_disk(inside), Some(outside));
            assert_eq!(map.from_disk(outside), inside);
        }
        assert_eq!(map.to_disk(65537), None);
        assert_eq!(map.from_disk(65537), OVERFLOW_ID);
        assert_eq!(map.to_disk(u32::MAX), None);
    }

    #[test]
    fn the_last_id_can_be_mapped() {
        let map = map(&[(0, u32::MAX - 2, 2)]).unwrap();
        assert_eq!(map.to_disk(1), Some(u32::MAX - 1));
        assert_eq!(map.to_disk(2), None);
        assert_eq!(map.from_disk(u32::MAX), OVERFLOW_ID);
    }

    #[test]
    fn senseless_ranges_are_named() {
        for bad in [
            &[(0, 0, 0)][..],
            &[(0, u32::MAX, 1)],
            &[(u32::MAX - 1, 0, 2)],
            &[(0, 100, 10), (9, 200, 10)],
            &[(0, 100, 10), (20, 109, 10)],
            &[(5, 100, 10), (0, 200, 6)],
            &[(0, 100, 10), (0, 100, 10)],
        ] {
            let error = map(bad).unwrap_err();
            assert_eq!(error.errno(), Errno::INVAL, "{bad:?}");
            let (inside, outside, len) = bad[bad.len() - 1];
            assert!(error.to_string().contains(&format!("{inside}:{outside}:{len}")), "{error}");
        }
        assert!(map(&[(0, 100, 10), (10, 110, 10)]).is_ok());
    }
}
