//! What is done to a store, here or by another process, which is this program
//! once more.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use layerstore::archive::{Loading, load_file};
use layerstore::digest::Digest;
use layerstore::document::Platform;
use layerstore::error::Kind;
use layerstore::reference::Reference;
use layerstore::store::Store;
use layerstore::transfer;
use layerstore::upper::{Commit, Form, Upper, commit};
use unionfs::config::Namespace;

use crate::made::{docker, image, layer, other, pack};
use crate::served;
use crate::state::{Scratch, State, load, state};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Of [`image`], from a stream, into an empty store.
    Load,
    /// Of [`other`], from a file, beside [`image`].
    LoadOther,
    /// Of [`other`], its layers one by one, with its manifest, beside [`image`].
    Add,
    /// Of [`other`], from a registry, beside [`image`].
    Pull,
    /// Of an upper over [`image`], with a name.
    Commit,
    /// A name moves from one image to another.
    Tag,
    /// Of one image of two.
    Remove,
    /// Of what a removed image and a layer of none leave.
    Collect,
}

/// What a process of ours says before it begins.
pub const READY: &str = "ready";

const ACTION: &str = "LAYERSTORE_TESTS_ACTION";
const STORE: &str = "LAYERSTORE_TESTS_STORE";

impl Action {
    pub const ALL: [Action; 8] = [
        Action::Load,
        Action::LoadOther,
        Action::Add,
        Action::Pull,
        Action::Commit,
        Action::Tag,
        Action::Remove,
        Action::Collect,
    ];

    /// Makes the store that it begins with.
    pub fn prepare(self, root: &Path) -> Store {
        let store = Store::open(root).unwrap();
        let file = match self {
            Action::Load => archive(),
            Action::Pull => served::host().into(),
            _ => archive_of_other(),
        };
        std::fs::write(root.with_extension("archive"), file).unwrap();
        if self != Action::Load {
            load(&store, &archive()).unwrap();
        }
        if matches!(self, Action::Tag | Action::Remove | Action::Collect) {
            load(&store, &archive_of_other()).unwrap();
        }
        if self == Action::Commit {
            upper(root);
        }
        if self == Action::Collect {
            store.remove_image(other().id()).unwrap();
            let adding = store.adding().unwrap();
            store.add_layer(&adding, None, &layer(&[("of-none", 6000)])[..]).unwrap();
        }
        store
    }

    /// The store as it is afterwards.
    pub fn after(self) -> State {
        let one = |name: &str| (image().id(), [name.to_owned()].into());
        let two = (other().id(), ["other:1".to_owned()].into());
        match self {
            Action::Load | Action::Remove | Action::Collect => [one("image:1")].into(),
            Action::LoadOther | Action::Pull => [one("image:1"), two].into(),
            Action::Commit => [one("image:1"), (committed(), ["committed:1".to_owned()].into())].into(),
            Action::Add => [one("image:1"), (other().id(), [].into())].into(),
            Action::Tag => {
                let both = ["image:1".to_owned(), "other:1".to_owned()].into();
                [(image().id(), [].into()), (other().id(), both)].into()
            }
        }
    }

    /// Does it; what is done already is no error.
    pub fn run(self, store: &Store) -> layerstore::Result<()> {
        match self {
            Action::Load => {
                let bytes = std::fs::read(store.root().with_extension("archive"))?;
                load(store, &bytes).map(drop)
            }
            Action::LoadOther => {
                let file = std::fs::File::open(store.root().with_extension("archive"))?;
                load_file(store, file, &Loading::default()).map(drop)
            }
            Action::Add => {
                let (adding, made) = (store.adding()?, other());
                for layer in &made.layers {
                    store.add_layer(&adding, None, &layer[..])?;
                }
                store.add_image(&adding, &made.config, Some(&made.manifest())).map(drop)
            }
            Action::Pull => {
                let host = std::fs::read_to_string(store.root().with_extension("archive"))?;
                let name = Reference::parse("other:1")?;
                transfer::pull(store, &served::client(&host), &name, &Platform::host(), &|_, _| {}).map(drop)
            }
            Action::Commit => {
                let base = store.find("image:1")?.record;
                let committed = commit(store, &base, &upper(store.root()), Commit::default())?;
                store.tag(committed.id, &Reference::parse("committed:1")?).map(drop)
            }
            Action::Tag => store.tag(other().id(), &Reference::parse("image:1")?).map(drop),
            Action::Remove => match store.remove_image(other().id()) {
                Err(error) if error.kind() == Kind::NotFound => Ok(()),
                result => result,
            },
            Action::Collect => store.collect().map(drop),
        }
    }

    /// A process that does it, once it is told to by a line of its input.
    pub fn command(self, root: &Path) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["actions::child", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(ACTION, format!("{self:?}")).env(STORE, root);
        command
    }
}

/// An upper beside a store, made if it is not there: always the same.
fn upper(root: &Path) -> Upper {
    let path = root.with_extension("upper");
    if !path.exists() {
        let made = root.with_extension("upper-to-be");
        std::fs::remove_dir_all(&made).ok();
        std::fs::create_dir_all(made.join("etc")).unwrap();
        std::fs::write(made.join("etc/above"), "short now").unwrap();
        std::fs::write(made.join("new"), [7; 9000]).unwrap();
        for name in ["etc/above", "etc", "new", ""] {
            let file = std::fs::File::open(made.join(name)).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        }
        std::fs::rename(made, &path).unwrap();
    }
    Upper { path, form: Form::Union(Namespace::User) }
}

/// The id of the image that [`Action::Commit`] makes: who owns an upper's files is
/// who runs the tests.
fn committed() -> Digest {
    static ID: OnceLock<Digest> = OnceLock::new();
    *ID.get_or_init(|| {
        let scratch = Scratch::new();
        let store = Action::Commit.prepare(&scratch.join("store"));
        Action::Commit.run(&store).unwrap();
        store.find("committed:1").unwrap().id()
    })
}

pub fn archive() -> Vec<u8> {
    pack(&docker(&[(&image(), &["image:1"])]))
}

pub fn archive_of_other() -> Vec<u8> {
    pack(&docker(&[(&other(), &["other:1"])]))
}

/// Whether the store is as it was, as it is to be, or has the image that comes
/// without its name, which comes last.
#[track_caller]
pub fn assert_old_or_new(store: &Store, before: &State, after: &State) {
    let now = state(store);
    let mut between = after.clone();
    between.iter_mut().filter(|(id, _)| !before.contains_key(id)).for_each(|(_, names)| names.clear());
    assert!(now == *before || now == *after || now == between, "{now:?} is neither {before:?} nor {after:?}");
}

#[test]
#[ignore = "the body of processes that other tests start"]
fn child() {
    let (Some(name), Some(root)) = (std::env::var_os(ACTION), std::env::var_os(STORE)) else { return };
    let action = Action::ALL.into_iter().find(|action| name == *format!("{action:?}")).unwrap();
    // Whoever traces us is no parent of ours.
    rustix::process::set_ptracer(rustix::process::PTracer::Any).ok();
    println!("{READY}");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let done = Store::open(root).and_then(|store| action.run(&store));
    if let Err(error) = &done {
        println!("{error}");
    }
    std::process::exit(i32::from(done.is_err()));
}
