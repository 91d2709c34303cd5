//! Random lower layers: what they hold, made on disk, and what their union looks
//! like to begin with, by the merge rule written down a second time.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::XattrFlags;
use unionfs::config::Namespace;

use crate::reference::{Content, Id, Node, Tree};

/// Few, so that layers meet.
pub const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// One thing put into a layer; what does not fit (its parent is a file, or its
/// name is taken) is left out.
#[derive(Clone, Debug)]
pub enum Put {
    Dir {
        mode: u32,
        opaque: Opaque,
    },
    File {
        data: Vec<u8>,
        mode: u32,
    },
    /// Another name for one of the files that the layer has so far, by number.
    HardLink(usize),
    Symlink,
    Fifo,
    Whiteout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opaque {
    Yes,
    No,
}

/// How layers are kept on disk, which is not to be seen in their union.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Where the marks are.
    pub namespace: Namespace,
    pub whiteouts: Whiteouts,
    /// Over how many file systems the layers are spread, one or two.
    pub file_systems: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// Character devices 0/0, and an attribute for opaque directories.
    Devices,
    /// Empty files with an attribute.
    Attributes,
    /// `.wh.NAME` and `.wh..wh..opq`.
    Names,
}

impl Default for Form {
    fn default() -> Form {
        Form { namespace: Namespace::Trusted, whiteouts: Whiteouts::Devices, file_systems: 1 }
    }
}

pub fn forms() -> impl Strategy<Value = Form> {
    let whiteouts =
        prop_oneof![Just(Whiteouts::Devices), Just(Whiteouts::Attributes), Just(Whiteouts::Names)];
    (whiteouts, 1..3_usize).prop_map(|(whiteouts, file_systems)| Form {
        whiteouts,
        file_systems,
        ..Form::default()
    })
}

/// A layer as a list of paths and what is put there.
pub type Layer = Vec<(Vec<usize>, Put)>;

pub fn layers() -> impl Strategy<Value = Vec<Layer>> {
    prop::collection::vec(prop::collection::vec((path(), put()), 0..10), 1..4)
}

/// As [`layers`], where no file has two names: an index is of one upper, and
/// the links it keeps together come apart when that becomes a lower.
pub fn layers_without_hard_links() -> impl Strategy<Value = Vec<Layer>> {
    layers().prop_map(|mut layers| {
        for layer in &mut layers {
            layer.retain(|(_, put)| !matches!(put, Put::HardLink(_)));
        }
        layers
    })
}

fn path() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..NAMES.len(), 1..4)
}

fn put() -> impl Strategy<Value = Put> {
    let opaque = prop_oneof![3 => Just(Opaque::No), 1 => Just(Opaque::Yes)];
    let dir_mode = prop_oneof![Just(0o755), Just(0o700), Just(0o2775), Just(0o1777)];
    let mode = prop_oneof![Just(0o644), Just(0o600), Just(0o755)];
    prop_oneof![
        4 => (dir_mode, opaque).prop_map(|(mode, opaque)| Put::Dir { mode, opaque }),
        5 => (prop::collection::vec(any::<u8>(), 0..20), mode).prop_map(|(data, mode)| Put::File { data, mode }),
        3 => any::<usize>().prop_map(Put::HardLink),
        1 => Just(Put::Symlink),
        1 => Just(Put::Fifo),
        2 => Just(Put::Whiteout),
    ]
}

/// A layer's contents, once what does not fit is left out.
#[derive(Clone, Debug)]
enum Held {
    Dir {
        mode: u32,
        opaque: Opaque,
        entries: BTreeMap<String, Held>,
    },
    /// A file by its number in the layer: two names may have one.
    File(usize),
    Whiteout,
}

struct Contents {
    files: Vec<Node>,
    root: BTreeMap<String, Held>,
}

/// Makes the layers on disk, topmost first in `dirs`, and returns their union.
pub fn make(layers: &[Layer], dirs: &[std::path::PathBuf], form: Form) -> Tree {
    let contents: Vec<Contents> = layers.iter().map(|layer| settle(layer, form.namespace)).collect();
    for (layer, dir) in contents.iter().zip(dirs) {
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
        Writer { files: &layer.files, form, made: BTreeMap::new() }.write(&layer.root, dir, Opaque::No);
    }
    let mut tree = Tree::new(dir_node(0o755));
    let merged = contents.iter().enumerate().map(|(number, layer)| (number, &layer.root)).collect();
    let mut union = Union { contents: &contents, tree: &mut tree, ids: BTreeMap::new() };
    union.merge(crate::reference::ROOT, merged);
    tree
}

fn settle(layer: &Layer, namespace: Namespace) -> Contents {
    let mut contents = Contents { files: Vec::new(), root: BTreeMap::new() };
    for (path, put) in layer {
        let held = match put {
            Put::Dir { mode, opaque } => Held::Dir { mode: *mode, opaque: *opaque, entries: BTreeMap::new() },
            Put::Whiteout => Held::Whiteout,
            Put::HardLink(number) => match contents.files.len() {
                0 => continue,
                // Others than files cannot be indexed in the `user.` namespace.
                count if namespace == Namespace::User && !contents.is_regular(number % count) => continue,
                count => Held::File(number % count),
            },
            Put::File { data, mode } => contents.add(Content::File(data.clone()), *mode),
            Put::Symlink => contents.add(Content::Symlink("a".into()), 0o777),
            Put::Fifo => contents.add(Content::Fifo, 0o600),
        };
        let number = match held {
            Held::File(number) => Some(number),
            Held::Dir { .. } | Held::Whiteout => None,
        };
        let is_in = insert(&mut contents.root, path, held);
        if let (true, Some(number)) = (is_in, number) {
            contents.files[number].nlink += 1;
        }
    }
    contents
}

impl Contents {
    fn is_regular(&self, number: usize) -> bool {
        matches!(self.files[number].content, Content::File(_))
    }

    fn add(&mut self, content: Content, mode: u32) -> Held {
        self.files.push(Node { content, mode, uid: 0, gid: 0, nlink: 0, xattrs: BTreeMap::new() });
        Held::File(self.files.len() - 1)
    }
}

/// Puts something at a path, with its parents; false where it does not fit.
fn insert(root: &mut BTreeMap<String, Held>, path: &[usize], held: Held) -> bool {
    let (&last, parents) = path.split_last().unwrap();
    let mut dir = root;
    for &name in parents {
        let new = Held::Dir { mode: 0o755, opaque: Opaque::No, entries: BTreeMap::new() };
        match dir.entry(NAMES[name].into()).or_insert(new) {
            Held::Dir { entries, .. } => dir = entries,
            Held::File(_) | Held::Whiteout => return false,
        }
    }
    if dir.contains_key(NAMES[last]) {
        return false;
    }
    dir.insert(NAMES[last].into(), held);
    true
}

/// One layer on its way to disk.
struct Writer<'a> {
    files: &'a [Node],
    form: Form,
    /// The first name of each file.
    made: BTreeMap<usize, std::path::PathBuf>,
}

impl Writer<'_> {
    fn write(&mut self, entries: &BTreeMap<String, Held>, dir: &Path, opaque: Opaque) {
        for (name, held) in entries {
            let path = dir.join(name);
            match held {
                Held::Whiteout => self.whiteout(dir, name, opaque),
                Held::Dir { mode, opaque, entries } => {
                    std::fs::create_dir(&path).unwrap();
                    if *opaque == Opaque::Yes {
                        self.make_opaque(&path);
                    }
                    self.write(entries, &path, *opaque);
                    std::fs::set_permissions(&path, PermissionsExt::from_mode(*mode)).unwrap();
                }
                Held::File(number) => match self.made.get(number) {
                    Some(first) => std::fs::hard_link(first, &path).unwrap(),
                    None => {
                        write_file(&self.files[*number], &path);
                        self.made.insert(*number, path);
                    }
                },
            }
        }
    }

    fn whiteout(&self, dir: &Path, name: &str, opaque: Opaque) {
        match self.form.whiteouts {
            Whiteouts::Names => drop(std::fs::File::create(dir.join(format!(".wh.{name}"))).unwrap()),
            // An opaque directory cannot say that it may hold others.
            Whiteouts::Attributes if opaque == Opaque::No => {
                std::fs::File::create(dir.join(name)).unwrap();
                self.mark(&dir.join(name), "whiteout", b"");
                self.mark(dir, "opaque", b"x");
            }
            Whiteouts::Attributes | Whiteouts::Devices => {
                make_node(&dir.join(name), rustix::fs::FileType::CharacterDevice, 0);
            }
        }
    }

    fn make_opaque(&self, dir: &Path) {
        match self.form.whiteouts {
            Whiteouts::Names => drop(std::fs::File::create(dir.join(".wh..wh..opq")).unwrap()),
            Whiteouts::Attributes | Whiteouts::Devices => self.mark(dir, "opaque", b"y"),
        }
    }

    fn mark(&self, path: &Path, mark: &str, value: &[u8]) {
        let name = match self.form.namespace {
            Namespace::Trusted => format!("trusted.overlay.{mark}"),
            Namespace::User => format!("user.overlay.{mark}"),
        };
        rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
    }
}

fn write_file(node: &Node, path: &Path) {
    match &node.content {
        Content::File(data) => {
            std::fs::write(path, data).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(node.mode)).unwrap();
        }
        Content::Symlink(target) => std::os::unix::fs::symlink(target, path).unwrap(),
        Content::Fifo => make_node(path, rustix::fs::FileType::Fifo, node.mode),
        Content::Dir(_) => unreachable!("a directory is no file"),
    }
}

fn make_node(path: &Path, kind: rustix::fs::FileType, mode: u32) {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::from_raw_mode(mode), 0).unwrap();
}

fn dir_node(mode: u32) -> Node {
    let content = Content::Dir(BTreeMap::new());
    Node { content, mode, uid: 0, gid: 0, nlink: 1, xattrs: BTreeMap::new() }
}

struct Union<'a> {
    contents: &'a [Contents],
    tree: &'a mut Tree,
    /// The reference's inode of a layer's file.
    ids: BTreeMap<(usize, usize), Id>,
}

impl Union<'_> {
    /// Fills `dir` from the directories of some layers, topmost first.
    fn merge(&mut self, dir: Id, layers: Vec<(usize, &BTreeMap<String, Held>)>) {
        for name in NAMES {
            let mut below = layers.iter().filter_map(|&(layer, entries)| Some((layer, entries.get(name)?)));
            match below.next() {
                None | Some((_, Held::Whiteout)) => {}
                Some((layer, Held::File(number))) => {
                    let node = self.contents[layer].files[*number].clone();
                    let tree = &mut *self.tree;
                    let id = *self.ids.entry((layer, *number)).or_insert_with(|| tree.add(node));
                    self.tree.children_mut(dir).insert(name.into(), id);
                }
                Some((layer, Held::Dir { mode, opaque, entries })) => {
                    let id = self.tree.add(dir_node(*mode));
                    self.tree.children_mut(dir).insert(name.into(), id);
                    let mut merged = vec![(layer, entries)];
                    let mut stop = *opaque;
                    while stop == Opaque::No {
                        let Some((layer, Held::Dir { opaque, entries, .. })) = below.next() else { break };
                        merged.push((layer, entries));
                        stop = *opaque;
                    }
                    self.merge(id, merged);
                }
            }
        }
    }
}
