//! A Debian root file system in eight layers: made once by mmdebstrap, kept
//! under `target`, and lower layer of every test here.
//!
//! Files go to layers by package, so that almost every directory is merged from
//! several. On top of what Debian has, the layers carry what images carry: a
//! shadowed file, a whiteout, an opaque directory.
//!
//! `target/debian-CODENAME/` holds `layers/0` (topmost) to `layers/7` and
//! `packages/*.deb`; delete it and it is made anew.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, setxattr, utimensat};
use tests::tree::Tree;

/// Layers of the tree.
const LAYERS: usize = 8;
/// What programs the tests run inside; the rest is minbase.
const INCLUDED: &str = "gcc,libc6-dev,make,git,sqlite3";
/// Packages to be installed through the union: plain ones, libraries (so that
/// the linker's cache is rewritten) and one whose script sets a file capability.
const PACKAGES: &str = "hello tree jq libjq1 libonig5 libcap2-bin iputils-ping";

/// The tree and what its layers looked like when it was made.
pub struct Debian {
    /// The layers, topmost first.
    pub layers: Vec<PathBuf>,
    /// Where the packages lie.
    pub packages: PathBuf,
    /// What each layer must still look like after each test.
    pub before: Vec<Tree>,
}

/// The tree, made when it is not there yet.
///
/// # Errors
/// Why it cannot be made: a reason to skip.
pub fn debian() -> Result<&'static Debian, &'static str> {
    static MADE: OnceLock<Result<Debian, String>> = OnceLock::new();
    MADE.get_or_init(|| open().map_err(|e| e.to_string())).as_ref().map_err(String::as_str)
}

fn open() -> io::Result<Debian> {
    if !rustix::process::geteuid().is_root() {
        return Err(io::Error::other("needs root"));
    }
    let codename = codename();
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(format!("debian-{codename}"));
    if !home.join("layers").is_dir() {
        make(&home, &codename)?;
    }
    let home = home.canonicalize()?;
    let layers: Vec<_> = (0..LAYERS).map(|i| home.join(format!("layers/{i}"))).collect();
    let before = layers.iter().map(|layer| Tree::read(layer)).collect::<io::Result<_>>()?;
    Ok(Debian { layers, packages: home.join("packages"), before })
}

/// The host's own release where the host is a Debian: its keys are there.
fn codename() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    match (field("ID"), field("VERSION_CODENAME")) {
        (Some("debian"), Some(codename)) => codename.to_owned(),
        _ => "bookworm".to_owned(),
    }
}

/// `layers` appears last, whole.
fn make(home: &Path, codename: &str) -> io::Result<()> {
    match fs::remove_dir_all(home) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => fs::create_dir_all(home)?,
    }
    let tree = home.join("tree");
    let download =
        format!("chroot \"$1\" sh -c 'mkdir /packages && cd /packages && apt-get download -q {PACKAGES}'");
    let output = Command::new("mmdebstrap")
        .args(["--variant=minbase", "--mode=root", "--quiet", &format!("--include={INCLUDED}")])
        .arg(format!("--customize-hook={download}"))
        .args([codename.as_ref(), tree.as_os_str()])
        .output()
        .map_err(|e| io::Error::other(format!("cannot run mmdebstrap: {e}")))?;
    if !output.status.success() {
        return Err(io::Error::other(format!("mmdebstrap: {}", String::from_utf8_lossy(&output.stderr))));
    }
    fs::rename(tree.join("packages"), home.join("packages"))?;
    let staged = home.join("staged");
    let layers: Vec<_> = (0..LAYERS).map(|i| staged.join(i.to_string())).collect();
    split(&tree, &layers)?;
    add_marks(&layers)?;
    fs::remove_dir_all(&tree)?;
    fs::rename(staged, home.join("layers"))
}

/// Moves every file of `tree` to the layer of its package; what no package owns
/// (configuration, caches) goes to the topmost.
fn split(tree: &Path, layers: &[PathBuf]) -> io::Result<()> {
    let owners = owners(&tree.join("var/lib/dpkg/info"))?;
    // Names of one inode stay together.
    let mut chosen = HashMap::new();
    let mut pending = vec![PathBuf::new()];
    let mut made = Vec::new();
    for layer in layers {
        fs::create_dir_all(layer)?;
        made.push((PathBuf::new(), layer.clone()));
    }
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(tree.join(&dir))? {
            let path = dir.join(entry?.file_name());
            let metadata = tree.join(&path).symlink_metadata()?;
            if metadata.is_dir() {
                pending.push(path);
                continue;
            }
            let layer = *chosen.entry(metadata.ino()).or_insert_with(|| owner(&owners, &path));
            make_parents(&path, &layers[layer], &mut made)?;
            fs::rename(tree.join(&path), layers[layer].join(&path))?;
        }
        // An empty directory must be in some layer as well.
        make_parents(&dir.join("x"), &layers[owner(&owners, &dir)], &mut made)?;
    }
    // Deepest first: a time set is not disturbed any more.
    for (path, layer) in made.iter().rev() {
        copy_metadata(&tree.join(path), &layer.join(path))?;
    }
    Ok(())
}

/// The layer of each path that a package owns, by the package's place in the list.
fn owners(info: &Path) -> io::Result<HashMap<PathBuf, usize>> {
    let mut lists: Vec<_> = fs::read_dir(info)?.map(|e| Ok(e?.path())).collect::<io::Result<_>>()?;
    lists.retain(|path| path.extension().is_some_and(|e| e == "list"));
    lists.sort();
    let mut owners = HashMap::new();
    for (i, list) in lists.iter().enumerate() {
        for line in fs::read_to_string(list)?.lines() {
            owners.insert(PathBuf::from(line.trim_start_matches('/')), 1 + i % (LAYERS - 1));
        }
    }
    Ok(owners)
}

/// Packages may say `/bin/ls` of what lies in `/usr/bin`.
fn owner(owners: &HashMap<PathBuf, usize>, path: &Path) -> usize {
    let found = owners.get(path).or_else(|| owners.get(path.strip_prefix("usr").ok()?));
    found.copied().unwrap_or(0)
}

/// Parents come before children in `made`.
fn make_parents(path: &Path, layer: &Path, made: &mut Vec<(PathBuf, PathBuf)>) -> io::Result<()> {
    let mut parents: Vec<_> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
    parents.reverse();
    for parent in parents {
        match fs::create_dir(layer.join(parent)) {
            Ok(()) => made.push((parent.to_path_buf(), layer.to_path_buf())),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn copy_metadata(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = from.metadata()?;
    chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, to, &times, rustix::fs::AtFlags::empty())?)
}

/// A shadowed file, a whiteout and an opaque directory, as images have them.
fn add_marks(layers: &[PathBuf]) -> io::Result<()> {
    let [top, .., middle, bottom] = layers else { return Err(io::Error::other("too few layers")) };
    fs::write(bottom.join("marks-of-the-bottom"), "bottom")?;
    for name in ["marks", "marks/replaced", "marks/kept"] {
        fs::create_dir(bottom.join(name))?;
    }
    for name in ["marks/shadowed", "marks/removed", "marks/replaced/old", "marks/kept/old"] {
        fs::write(bottom.join(name), name)?;
    }
    fs::create_dir(middle.join("marks"))?;
    fs::write(middle.join("marks/shadowed"), "the middle's")?;
    mknodat(CWD, middle.join("marks/removed"), FileType::CharacterDevice, Mode::empty(), 0)?;
    for name in ["marks", "marks/replaced", "marks/kept"] {
        fs::create_dir(top.join(name))?;
    }
    setxattr(top.join("marks/replaced"), "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
    fs::write(top.join("marks/replaced/new"), "new")?;
    fs::write(top.join("marks/kept/new"), "new")
}
