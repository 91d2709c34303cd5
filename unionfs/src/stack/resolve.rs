//! The merge rule below one name: which lower directories belong to it, and
//! where a metacopy's data is.
//!
//! Redirects are walked component by component from held descriptors: they are
//! checked names, so they cannot leave their layer. Each redirect moves the
//! search to a lower layer, so chains end.

use std::os::fd::AsFd;

use rustix::fs::FileType;
use rustix::io::Errno;
use smallvec::SmallVec;

use super::layer::{Layer, Layers};
use super::names::Merged;
use super::real::{LayerId, RealDir, Spot};
use crate::config::{Namespace, RedirectDir};
use crate::error::{Absent, Error, Result};
use crate::name::{Name, NameBuf};
use crate::ondisk::marks::{Found, Marks, Opacity};
use crate::ondisk::redirect::{self, Redirect};
use crate::sync::Arc;
use crate::sys::at::{self, Target};

/// Where the next layers are searched.
pub enum Way {
    /// These layers, which are known to have the directory under its own name.
    Listed(SmallVec<[LayerId; 4]>),
    /// Under this name in the parent's lower directories.
    Sibling(NameBuf),
    /// Under this path from each layer's root.
    Path(Vec<NameBuf>),
}

impl Way {
    /// The way on from a file found by this one that says where it goes next.
    fn onward(self, next: Way) -> Way {
        match (self, next) {
            (Way::Path(mut path), Way::Sibling(name)) => {
                path.pop();
                path.push(name);
                Way::Path(path)
            }
            (_, next) => next,
        }
    }
}

/// What one layer has at the end of a path.
struct Walked {
    /// The directory, if it is there.
    dir: Option<Arc<RealDir>>,
    /// Whether no layer below may add to it.
    ends: bool,
    /// Its path in the layers below.
    below: Vec<NameBuf>,
}

/// What one layer has at the end of a way.
enum Step {
    /// A directory.
    Dir(Arc<RealDir>, Marks),
    /// A file that is not one, or a whiteout: nothing below shows.
    End,
    /// Nothing.
    Absent,
}

/// The rules that do not change while mounted.
pub struct Resolver<'a> {
    /// The layers.
    pub layers: &'a Layers,
    /// Whose redirects are followed.
    pub redirects: RedirectDir,
    /// Whether metacopies are.
    pub metacopy: bool,
}

impl Resolver<'_> {
    /// The lower directories merged under `name` of `parent`, topmost first.
    ///
    /// # Errors
    /// `EPERM` for a redirect that may not be followed, `EIO` for one that is
    /// malformed, else what the layers gave.
    pub fn lower_dirs(&self, parent: &Merged, name: Name<'_>, mut way: Way) -> Result<Vec<Arc<RealDir>>> {
        let mut found = Vec::new();
        for layer in self.layers.ordinary() {
            let id = layer.root.layer;
            let step = match &way {
                Way::Listed(layers) if !layers.contains(&id) => continue,
                Way::Listed(_) => self.step_beside(parent, id, name)?,
                Way::Sibling(name) => self.step_beside(parent, id, name.as_name())?,
                Way::Path(path) => {
                    let walked = self.walk(layer, path)?;
                    found.extend(walked.dir);
                    if walked.ends {
                        break;
                    }
                    way = Way::Path(walked.below);
                    continue;
                }
            };
            let (dir, marks) = match step {
                Step::Dir(dir, marks) => (dir, marks),
                Step::End => break,
                Step::Absent => continue,
            };
            found.push(dir);
            if marks.opacity == Opacity::Opaque {
                break;
            }
            if let Some(redirect) = marks.redirect.filter(|_| !self.layers.is_bottom(id)) {
                way = self.follow(&redirect, id)?;
            }
        }
        Ok(found)
    }

    /// Turns a redirect found in layer `from` into the way on.
    ///
    /// # Errors
    /// `EPERM` where it may not be followed, `EIO` where it is malformed.
    pub fn follow(&self, redirect: &Found, from: LayerId) -> Result<Way> {
        self.may_follow(redirect.namespace, from)?;
        match redirect::parse(&redirect.value) {
            Ok(Redirect::Absolute(path)) => Ok(Way::Path(path)),
            Ok(Redirect::Sibling(name)) => Ok(Way::Sibling(name)),
            Err(_) => Err(Error::new(Errno::IO, format!("layer {from} has a malformed redirect"))),
        }
    }

    /// In the `user.` namespace anyone may have written the mark: in the lowers
    /// it is believed only when the user asked for it.
    fn may_follow(&self, namespace: Namespace, from: LayerId) -> Result<()> {
        let allowed = match self.redirects {
            RedirectDir::On | RedirectDir::Follow => true,
            RedirectDir::Auto => namespace == Namespace::Trusted || from == 0,
            RedirectDir::NoFollow => false,
        };
        if allowed {
            return Ok(());
        }
        let sentence = format!(
            "layer {from} has a redirect that may not be followed\nhint: mount with redirect_dir=on if its maker is trusted"
        );
        Err(Error::new(Errno::PERM, sentence))
    }

    fn step_beside(&self, parent: &Merged, layer: LayerId, name: Name<'_>) -> Result<Step> {
        match parent.lower(layer) {
            Some(dir) => self.step(dir, name),
            None => Ok(Step::Absent),
        }
    }

    /// One component in one layer.
    fn step(&self, dir: &Arc<RealDir>, name: Name<'_>) -> Result<Step> {
        let fd = dir.fd(&self.layers.fds)?;
        let target = Target::At(fd.as_fd(), name);
        let Some(stat) = at::stat(target).absent()? else { return Ok(Step::Absent) };
        if stat.kind() != FileType::Directory || self.layers.is_hidden(&stat) {
            return Ok(Step::End);
        }
        // Below the bottom there is nothing to hide or redirect to.
        let marks = if self.layers.is_bottom(dir.layer) { Marks::default() } else { Marks::read(target)? };
        Ok(Step::Dir(RealDir::new(dir, name), marks))
    }

    /// A whole path in one layer. What its directories say on the way counts as
    /// it would if each were looked up by itself: an opaque one ends the search
    /// with this layer, a redirected one is elsewhere in the layers below.
    fn walk(&self, layer: &Layer, path: &[NameBuf]) -> Result<Walked> {
        let mut walked = Walked { dir: None, ends: false, below: Vec::with_capacity(path.len()) };
        let mut dir = layer.root.clone();
        let mut names = path.iter();
        for name in names.by_ref() {
            match self.step(&dir, name.as_name())? {
                Step::Dir(next, marks) => {
                    dir = next;
                    self.note_marks(&marks, dir.layer, name, &mut walked)?;
                }
                missing => {
                    walked.ends |= matches!(missing, Step::End);
                    walked.below.push(name.clone());
                    walked.below.extend(names.cloned());
                    return Ok(walked);
                }
            }
        }
        walked.dir = Some(dir);
        Ok(walked)
    }

    fn note_marks(&self, marks: &Marks, layer: LayerId, name: &NameBuf, walked: &mut Walked) -> Result<()> {
        walked.ends |= marks.opacity == Opacity::Opaque;
        let redirect = marks.redirect.as_ref().filter(|_| marks.opacity != Opacity::Opaque);
        match redirect.map(|redirect| self.follow(redirect, layer)).transpose()? {
            Some(Way::Path(path)) => {
                // A path from the root has nothing to do with what is above.
                walked.below = path;
                walked.ends = false;
            }
            Some(Way::Sibling(other)) => walked.below.push(other),
            Some(Way::Listed(_)) | None => walked.below.push(name.clone()),
        }
        Ok(())
    }

    /// Where the data of a metacopy lies that layer `from` has at `name` of
    /// `parent`.
    ///
    /// # Errors
    /// `EIO` where there is no such file, `EPERM` where metacopies may not be
    /// followed, else what the layers gave.
    pub fn data_of(&self, parent: &Merged, name: Name<'_>, from: LayerId, marks: &Marks) -> Result<Spot> {
        let Some(namespace) = marks.metacopy.filter(|_| self.metacopy) else {
            let sentence = format!("{name:?} in layer {from} is a metacopy\nhint: mount with metacopy=on");
            return Err(Error::new(Errno::PERM, sentence));
        };
        self.may_follow(namespace, from)?;
        let mut way = Way::Sibling(name.to_buf());
        if let Some(redirect) = &marks.redirect {
            way = self.follow(redirect, from)?;
        }
        for layer in self.layers.ordinary().iter().skip(usize::from(from)) {
            let id = layer.root.layer;
            let mut ends = false;
            let spot = match &mut way {
                Way::Sibling(name) => {
                    parent.lower(id).map(|dir| Spot { dir: dir.clone(), name: name.clone() })
                }
                Way::Path(path) => {
                    let Some(name) = path.pop() else { break };
                    let walked = self.walk(layer, path)?;
                    ends = walked.ends;
                    *path = walked.below;
                    path.push(name.clone());
                    walked.dir.map(|dir| Spot { dir, name })
                }
                Way::Listed(_) => None,
            };
            let data = spot.map(|spot| Ok::<_, Error>((self.look_for_data(&spot)?, spot))).transpose()?;
            match data {
                Some((Data::Here, spot)) => return Ok(spot),
                Some((Data::Further(marks), _)) => {
                    if let Some(redirect) = &marks.redirect {
                        ends &= !redirect.value.starts_with(b"/");
                        way = way.onward(self.follow(redirect, id)?);
                    }
                }
                Some((Data::Absent, _)) | None => {}
            }
            if ends {
                break;
            }
        }
        if let Way::Path(path) = &way {
            for layer in self.layers.data_only() {
                let Some(spot) = self.spot_at(layer, path)? else { continue };
                if let Data::Here = self.look_for_data(&spot)? {
                    return Ok(spot);
                }
            }
        }
        Err(Error::new(Errno::IO, format!("the data of metacopy {name:?} is in no layer")))
    }

    fn spot_at(&self, layer: &Layer, path: &[NameBuf]) -> Result<Option<Spot>> {
        let Some((name, dirs)) = path.split_last() else { return Ok(None) };
        let dir = self.walk(layer, dirs)?.dir;
        Ok(dir.map(|dir| Spot { dir, name: name.clone() }))
    }

    fn look_for_data(&self, spot: &Spot) -> Result<Data> {
        let dir = match spot.dir.fd(&self.layers.fds) {
            Ok(dir) => dir,
            Err(error) if error.errno() == Errno::NOENT => return Ok(Data::Absent),
            Err(error) => return Err(error),
        };
        let target = Target::At(dir.as_fd(), spot.name.as_name());
        let Some(stat) = at::stat(target).absent()? else { return Ok(Data::Absent) };
        if stat.kind() != FileType::RegularFile {
            return Err(Error::new(
                Errno::IO,
                format!("the data of a metacopy, {:?}, is no file", spot.name),
            ));
        }
        if !may_be_metacopy(&stat) {
            return Ok(Data::Here);
        }
        let marks = Marks::read(target)?;
        Ok(if marks.metacopy.is_some() { Data::Further(marks) } else { Data::Here })
    }
}

enum Data {
    Here,
    Further(Marks),
    Absent,
}

/// Whether a regular file's attributes must be read to know that its data is
/// its own: a metacopy has no blocks, so a dense file is none.
pub fn may_be_metacopy(stat: &at::Stat) -> bool {
    let sparse = stat.blocks.saturating_mul(512) < stat.size || stat.size == 0;
    stat.kind() == FileType::RegularFile && sparse
}
