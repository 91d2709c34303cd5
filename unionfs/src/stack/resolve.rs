//! The merge rule below one name: which lower directories belong to it, and
//! where a metacopy's data is.
//!
//! Redirects are walked component by component from held descriptors: they are
//! checked names, so they cannot leave their layer. Each redirect moves the
//! search to a lower layer, so chains end.

use rustix::fs::FileType;
use rustix::io::Errno;
use smallvec::SmallVec;

use super::asking;
use super::layer::{Layer, Layers};
use super::names::Merged;
use super::real::{LayerId, RealDir, Spot};
use crate::config::{Namespace, RedirectDir};
use crate::error::{Absent, Error, Result};
use crate::name::{Name, NameBuf};
use crate::ondisk::marks::{Marks, Opacity};
use crate::ondisk::redirect::{self, Redirect};
use crate::sync::Arc;
use crate::sys::at;

/// Where the next layers are searched.
pub enum Way {
    /// These layers, which are known to have the directory under its own name.
    Listed(SmallVec<[LayerId; 4]>),
    /// Under this name in the parent's lower directories.
    Sibling(NameBuf),
    /// Under this path from each layer's root.
    Path(Vec<NameBuf>),
}

/// What one layer has under one name.
enum Step {
    /// A directory.
    Dir(Arc<RealDir>, Marks),
    /// A file that is not one, or a whiteout: nothing below shows.
    End,
    /// Nothing.
    Absent,
}

/// What one layer has at the end of a way, and where the next ones are searched.
struct Walked {
    found: Option<Arc<RealDir>>,
    next: Next,
}

/// Whether layers further down are searched, and where.
enum Next {
    /// As before.
    Same,
    /// There.
    Way(Way),
    /// Nothing below shows.
    End,
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
            let walked = match &way {
                Way::Listed(layers) if !layers.contains(&id) => continue,
                Way::Listed(_) => self.walk_listed(parent, id, name)?,
                Way::Sibling(name) => self.walk_beside(parent, id, name.as_name())?,
                Way::Path(path) => self.walk_path(layer, path)?,
            };
            found.extend(walked.found);
            match walked.next {
                Next::Same => {}
                Next::Way(next) => way = next,
                Next::End => break,
            }
        }
        Ok(found)
    }

    /// Turns a redirect found in layer `from`, at the end of `way`, into the
    /// way on.
    ///
    /// # Errors
    /// `EPERM` where it may not be followed, `EIO` where it is malformed.
    pub fn follow(&self, redirect: &[u8], from: LayerId, way: &Way) -> Result<Way> {
        self.may_follow(from)?;
        match (redirect::parse(redirect), way) {
            (Ok(Redirect::Absolute(path)), _) => Ok(Way::Path(path)),
            (Ok(Redirect::Sibling(name)), Way::Path(path)) => {
                let mut path = path.clone();
                path.pop();
                path.push(name);
                Ok(Way::Path(path))
            }
            (Ok(Redirect::Sibling(name)), _) => Ok(Way::Sibling(name)),
            (Err(_), _) => Err(Error::new(Errno::IO, format!("layer {from} has a malformed redirect"))),
        }
    }

    /// In the `user.` namespace anyone may have written the mark: in the lowers
    /// it is believed only when the user asked for it.
    fn may_follow(&self, from: LayerId) -> Result<()> {
        let allowed = match self.redirects {
            RedirectDir::On | RedirectDir::Follow => true,
            RedirectDir::Auto => self.layers.namespace == Namespace::Trusted || from == 0,
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

    /// A directory that the parent's directory of one layer has listed.
    fn walk_listed(&self, parent: &Merged, layer: LayerId, name: Name<'_>) -> Result<Walked> {
        let step = match parent.lower(layer) {
            Some(dir) => self.dir_step(dir, name)?,
            None => Step::Absent,
        };
        self.walked(layer, name, step)
    }

    /// One name in the parent's directory of one layer.
    fn walk_beside(&self, parent: &Merged, layer: LayerId, name: Name<'_>) -> Result<Walked> {
        let step = match parent.lower(layer) {
            Some(dir) => self.step(dir, name)?,
            None => Step::Absent,
        };
        self.walked(layer, name, step)
    }

    fn walked(&self, layer: LayerId, name: Name<'_>, step: Step) -> Result<Walked> {
        let (dir, marks) = match step {
            Step::Dir(dir, marks) => (dir, marks),
            Step::End => return Ok(Walked { found: None, next: Next::End }),
            Step::Absent => return Ok(Walked { found: None, next: Next::Same }),
        };
        let next = match (marks.opacity, &marks.redirect) {
            (Opacity::Opaque, _) => Next::End,
            (_, Some(redirect)) => Next::Way(self.follow(redirect, layer, &Way::Sibling(name.to_buf()))?),
            (_, None) => Next::Same,
        };
        Ok(Walked { found: Some(dir), next })
    }

    /// A whole path in one layer. A redirect on the way is not followed in this
    /// layer but changes the path for those below; an opaque directory on the
    /// way hides them, until an absolute redirect shows the way again.
    fn walk_path(&self, layer: &Layer, path: &[NameBuf]) -> Result<Walked> {
        let id = layer.root.layer;
        let mut step = Step::Dir(layer.root.clone(), Marks::default());
        let mut way = Way::Path(Vec::new());
        let mut walked = 0;
        let mut ends = false;
        for name in path {
            let Step::Dir(dir, _) = &step else { break };
            step = self.step(dir, name.as_name())?;
            walked += 1;
            if let Way::Path(path) = &mut way {
                path.push(name.clone());
            }
            let Step::Dir(_, marks) = &step else { continue };
            match (marks.opacity, &marks.redirect) {
                (Opacity::Opaque, _) => ends = true,
                (_, Some(redirect)) => {
                    ends = ends && !redirect.starts_with(b"/");
                    way = self.follow(redirect, id, &way)?;
                }
                (_, None) => {}
            }
        }
        if let Way::Path(next) = &mut way {
            next.extend(path.iter().skip(walked).cloned());
        }
        let found = match step {
            Step::Dir(dir, _) => Some(dir),
            Step::End => return Ok(Walked { found: None, next: Next::End }),
            Step::Absent => None,
        };
        Ok(Walked { found, next: if ends { Next::End } else { Next::Way(way) } })
    }

    /// One component in one layer, whose directory was not listed: all that a
    /// listing would tell of it is looked for by name.
    fn step(&self, dir: &Arc<RealDir>, name: Name<'_>) -> Result<Step> {
        let stat = dir.hold(&self.layers.fds)?.at(name)?.stat().absent()?;
        let found = match stat.filter(|stat| !self.layers.is_hidden(stat)) {
            None => Step::Absent,
            Some(stat) if stat.kind() != FileType::Directory => return Ok(Step::End),
            Some(_) => self.dir_step(dir, name)?,
        };
        if self.layers.is_bottom(dir.layer) {
            return Ok(found);
        }
        let is_hidden_below = asking::hides_by_name(dir, self.layers, name)?;
        Ok(match found {
            Step::Absent if is_hidden_below => Step::End,
            Step::Dir(found, marks) if is_hidden_below || asking::has_opaque_file(&found, self.layers)? => {
                Step::Dir(found, Marks { opacity: Opacity::Opaque, ..marks })
            }
            found => found,
        })
    }

    /// One component in one layer, where it is a directory.
    fn dir_step(&self, dir: &Arc<RealDir>, name: Name<'_>) -> Result<Step> {
        let found = RealDir::new(dir, name);
        // Below the bottom there is nothing to hide or redirect to.
        if self.layers.is_bottom(dir.layer) {
            return Ok(Step::Dir(found, Marks::default()));
        }
        let marks = Marks::read(dir.hold(&self.layers.fds)?.at(name)?, self.layers.namespace)?;
        found.note_opacity(marks.opacity);
        Ok(Step::Dir(found, marks))
    }

    /// Where the data of a metacopy lies that layer `from` has at `name` of
    /// `parent`.
    ///
    /// # Errors
    /// `EIO` where there is no such file, `EPERM` where metacopies may not be
    /// followed, else what the layers gave.
    pub fn data_of(&self, parent: &Merged, name: Name<'_>, from: LayerId, marks: &Marks) -> Result<Spot> {
        if !self.metacopy {
            let sentence = format!("{name:?} in layer {from} is a metacopy\nhint: mount with metacopy=on");
            return Err(Error::new(Errno::PERM, sentence));
        }
        self.may_follow(from)?;
        let mut way = Way::Sibling(name.to_buf());
        if let Some(redirect) = &marks.redirect {
            way = self.follow(redirect, from, &way)?;
        }
        for layer in self.layers.ordinary().iter().skip(usize::from(from)) {
            let id = layer.root.layer;
            let (spot, next) = match &way {
                Way::Path(path) => self.spot_at(layer, path)?,
                Way::Sibling(name) => {
                    let dir = parent.lower(id).cloned();
                    (dir.map(|dir| Spot { dir, name: name.clone() }), Next::Same)
                }
                Way::Listed(_) => (None, Next::Same),
            };
            if let Next::Way(next) = next {
                way = next;
            }
            let Some(spot) = spot else { continue };
            match self.look_for_data(&spot)? {
                Data::Here => return Ok(spot),
                Data::Absent => {}
                Data::Further(marks) => {
                    if let Some(redirect) = &marks.redirect {
                        way = self.follow(redirect, id, &way)?;
                    }
                }
            }
        }
        if let Way::Path(path) = &way {
            for layer in self.layers.data_only() {
                let (Some(spot), _) = self.spot_at(layer, path)? else { continue };
                if let Data::Here = self.look_for_data(&spot)? {
                    return Ok(spot);
                }
            }
        }
        Err(Error::new(Errno::IO, format!("the data of metacopy {name:?} is in no layer")))
    }

    /// The file at the end of a path in one layer, which may not be there, and
    /// the way to it further down.
    fn spot_at(&self, layer: &Layer, path: &[NameBuf]) -> Result<(Option<Spot>, Next)> {
        let Some((name, dirs)) = path.split_last() else { return Ok((None, Next::Same)) };
        let Walked { found, next } = self.walk_path(layer, dirs)?;
        let next = match next {
            Next::Way(Way::Path(mut path)) => {
                path.push(name.clone());
                Next::Way(Way::Path(path))
            }
            next => next,
        };
        Ok((found.map(|dir| Spot { dir, name: name.clone() }), next))
    }

    fn look_for_data(&self, spot: &Spot) -> Result<Data> {
        let dir = match spot.dir.hold(&self.layers.fds) {
            Ok(dir) => dir,
            Err(error) if error.errno() == Errno::NOENT => return Ok(Data::Absent),
            Err(error) => return Err(error),
        };
        let file = dir.at(spot.name.as_name())?;
        let Some(stat) = file.stat().absent()? else { return Ok(Data::Absent) };
        if stat.kind() != FileType::RegularFile {
            return Err(Error::new(
                Errno::IO,
                format!("the data of a metacopy, {:?}, is no file", spot.name),
            ));
        }
        if !may_be_metacopy(&stat) {
            return Ok(Data::Here);
        }
        let marks = Marks::read(file, self.layers.namespace)?;
        Ok(if marks.metacopy { Data::Further(marks) } else { Data::Here })
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
