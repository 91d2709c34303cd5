//! Where copied-up files came from: their numbers and their link counts.

use std::os::fd::AsFd;

use crate::Union;
use crate::error::{Absent, Result};
use crate::inode::{FileState, NodeId, Place};
use crate::ondisk::marks::Marks;
use crate::ondisk::origin::{self, Nlink, Origin, Side};
use crate::stack::real::{Held, Spot};
use crate::sys::at::{self, Stat, Target};
use crate::sys::handle;

impl Union {
    /// The origin mark of a lower file: `None` where its file system has no
    /// handles.
    pub(super) fn origin_of(&self, spot: &Spot) -> Result<Option<Vec<u8>>> {
        let handle = spot.dir.hold(&self.layers.fds)?.handle(Some(spot.name.as_name()))?;
        let uuid = self.layers.get(spot.dir.layer).map(|layer| layer.uuid).unwrap_or_default();
        Ok(handle.map(|handle| origin::encode(&handle, &uuid, Side::Lower)))
    }

    /// Notes what an upper file's marks say of its origin in its `state`, and
    /// gives the number it has had from the start. `beside` is the lower file
    /// under the same name, the likely origin.
    ///
    /// # Errors
    /// What reading the layers gave.
    pub(super) fn take_origin(
        &self,
        state: &mut FileState,
        marks: &Marks,
        upper: &Stat,
        beside: Option<&Spot>,
    ) -> Result<NodeId> {
        let own = self.number(upper);
        let Some(value) = &marks.origin else { return Ok(own) };
        state.note_origin();
        let Some(lower) = self.find_origin(value, beside)?.filter(|lower| lower.kind() == upper.kind())
        else {
            return Ok(own);
        };
        if lower.nlink > 1 {
            if !self.take_index(state, value, upper)? {
                // One of several broken links: it must not share their number.
                return Ok(own);
            }
            let more = marks.nlink.as_deref().and_then(|value| offset(value, upper, &lower));
            state.set_nlink(more.or(Some(0)));
        }
        Ok(self.number(&lower))
    }

    /// If the index has the file, that is where it is from now on: a place that
    /// no unlink takes away.
    fn take_index(&self, state: &mut FileState, origin: &[u8], upper: &Stat) -> Result<bool> {
        let Ok(index) = self.index() else { return Ok(false) };
        let Ok(name) = origin::index_name(origin) else { return Ok(false) };
        let dir = index.fd(&self.layers.fds)?;
        let found = at::stat(Target::At(dir.as_fd(), name.as_name())).absent()?;
        if found.is_some_and(|found| found.ino == upper.ino) {
            state.set_place(Place::Index(Box::new(name)));
            return Ok(true);
        }
        Ok(false)
    }

    /// The lower file that an origin mark names: the one `beside`, if it is the
    /// same, else by its handle, which needs privilege.
    fn find_origin(&self, value: &[u8], beside: Option<&Spot>) -> Result<Option<Stat>> {
        let Origin::Handle { handle, uuid, .. } = origin::decode(value) else { return Ok(None) };
        if let Some(beside) = beside {
            if self.origin_of(beside)?.as_deref() == Some(value) {
                return beside.with(&self.layers.fds, |file| Ok(Some(file.stat()?)));
            }
        }
        for layer in self.layers.ordinary().iter().filter(|layer| layer.uuid == uuid) {
            let root = match layer.root.hold(&self.layers.fds)? {
                Held::Fd(root) => root,
                // Images that are not told apart might have any file's number.
                Held::Image(..) if uuid == [0; 16] => continue,
                Held::Image(image, _) => match image.stat_by_handle(&handle) {
                    Some(found) => return Ok(Some(found)),
                    None => continue,
                },
            };
            let Ok(mount) = at::open_listing(root.as_fd()) else { continue };
            // Not permitted, or not there any more: the origin is unknown.
            if let Ok(found) = handle::open(mount.as_fd(), &handle) {
                return Ok(Some(at::stat_fd(found)?));
            }
        }
        Ok(None)
    }
}

/// How many more links the union shows than the upper file has.
fn offset(value: &[u8], upper: &Stat, lower: &Stat) -> Option<i32> {
    match Nlink::parse(value).ok()? {
        Nlink::Upper(more) => Some(more),
        Nlink::Lower(more) => {
            let shown = i64::from(lower.nlink) + i64::from(more);
            i32::try_from(shown - i64::from(upper.nlink)).ok()
        }
    }
}
