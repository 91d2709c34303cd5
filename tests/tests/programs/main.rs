//! Real programs on a union of nine layers: a Debian tree in eight, and one of
//! the test's own, with a fresh upper. After each, every lower layer is what it
//! was, to the byte and to the nanosecond.

mod debian;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use debian::{Debian, debian};
use tests::mount::{Driver, Layers, Mount};
use tests::scratch::{Backing, Scratch};
use tests::skipped;
use tests::tree::{Aspect, Tree};

/// What a copy may not keep.
const COPIED: [Aspect; 3] = [Aspect::Ino, Aspect::Ctime, Aspect::DirNlink];

/// The union, mounted by ours.
struct Root {
    debian: &'static Debian,
    layers: Layers,
    own: PathBuf,
    own_before: Tree,
    mount: Mount,
    scratch: Scratch,
}

impl Root {
    /// `fill` makes the test's own layer, the topmost.
    fn new(test: &str, fill: impl FnOnce(&Path)) -> Option<Root> {
        let debian = match debian() {
            Ok(debian) => debian,
            Err(reason) => {
                skipped(test, reason);
                return None;
            }
        };
        let scratch = Scratch::new(Backing::Disk).unwrap();
        let [own, upper, work, merged] = ["own", "upper", "work", "merged"].map(|d| scratch.dir(d).unwrap());
        run_in(&scratch, "chmod 755 . own upper");
        fill(&own);
        let own_before = Tree::read(&own).unwrap();
        let lowers: Vec<_> = std::iter::once(&own).chain(&debian.layers).map(PathBuf::as_path).collect();
        let layers = Layers::writable(&lowers, &upper, &work);
        let mount = Mount::new(Driver::Runionfs, &layers, &merged).unwrap();
        Some(Root { debian, layers, own, own_before, mount, scratch })
    }

    fn path(&self) -> &Path {
        self.mount.path()
    }

    /// Runs a shell script with the union as its root, and returns what it prints.
    fn chroot(&self, script: &str) -> String {
        // /proc is mounted for this script alone, so that the union stays idle after it.
        let enter = r#"mount -t proc proc "$0/proc" && exec chroot "$0" /bin/sh -euc "$1""#;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "/bin/sh", "-euc", enter])
            .arg(self.path())
            .arg(script);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)
    }

    /// Runs a host's shell script in the scratch directory, where the union is `merged`.
    fn host(&self, script: &str) -> String {
        run_in(&self.scratch, script)
    }

    /// Unmounts; the lower layers are what they were.
    fn finish(self) {
        let Root { debian, own, own_before, mount, scratch, .. } = self;
        mount.unmount().unwrap();
        unchanged(&own_before, &own);
        for (before, layer) in debian.before.iter().zip(&debian.layers) {
            unchanged(before, layer);
        }
        drop(scratch);
    }

    /// The same, after kernel overlayfs has shown the same tree from our upper.
    fn finish_in_kernel(self) {
        let ours = Tree::read(self.path()).unwrap();
        let Root { debian, layers, own, own_before, mount, scratch } = self;
        let merged = mount.path().to_path_buf();
        mount.unmount().unwrap();
        let mount = Mount::new(Driver::Kernel, &layers, &merged).unwrap();
        // A directory copied up on the way to a deeper file changes its own
        // change time; who asked before is not told.
        let ignored = [Aspect::DirNlink, Aspect::Ctime];
        let differences = ours.differences(&Tree::read(&merged).unwrap(), &ignored);
        assert_eq!(differences, Vec::<String>::new(), "ours / kernel overlayfs on our upper");
        Root { debian, layers, own, own_before, mount, scratch }.finish();
    }
}

fn unchanged(before: &Tree, layer: &Path) {
    let differences = before.differences(&Tree::read(layer).unwrap(), &[]);
    assert_eq!(differences, Vec::<String>::new(), "the lower layer {} changed", layer.display());
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}{complained}", output.status);
    said.into_owned()
}

fn run_in(scratch: &Scratch, script: &str) -> String {
    run(Command::new("bash").current_dir(scratch.path()).args(["-euo", "pipefail", "-c", script]))
}

fn same(a: &Path, b: &Path, ignored: &[Aspect]) {
    let differences = Tree::read(a).unwrap().differences(&Tree::read(b).unwrap(), ignored);
    assert_eq!(differences, Vec::<String>::new(), "{} / {}", a.display(), b.display());
}

#[test]
fn the_view_is_kernel_overlayfs_s() {
    let Some(root) = Root::new("the view of nine layers", |_| ()) else { return };
    let ours = Tree::read(root.path()).unwrap();
    assert!(ours.nodes.len() > 5000, "only {} objects", ours.nodes.len());
    let theirs = root.scratch.dir("theirs").unwrap();
    let lowers: Vec<_> = root.layers.lowers.iter().map(PathBuf::as_path).collect();
    let kernel = Mount::new(Driver::Kernel, &Layers::read_only(&lowers).with("xino=on"), &theirs).unwrap();
    let mut kernels = Tree::read(kernel.path()).unwrap();
    let mut ours = ours;
    // The root is the upper's on one side only.
    for tree in [&mut ours, &mut kernels] {
        tree.nodes.remove(Path::new(""));
    }
    assert_eq!(
        ours.differences(&kernels, &[Aspect::DirNlink]),
        Vec::<String>::new(),
        "ours / kernel overlayfs"
    );
    kernel.unmount().unwrap();
    root.finish();
}

#[test]
fn a_shell_lives_in_it() {
    let Some(root) = Root::new("chroot", |_| ()) else { return };
    run(Command::new("chroot").arg(root.path()).arg("/bin/true"));
    let names = root.chroot(
        "echo x > /dev/null
         test $(cat /marks/shadowed | wc -c) -eq 12
         test ! -e /marks/removed; test ! -e /marks/replaced/old; test -e /marks/kept/old
         su nobody -s /bin/sh -c '! cat /etc/shadow' 2>/dev/null
         useradd --create-home someone
         su someone -c 'echo hello > ~/greeting && cat ~/greeting'",
    );
    assert_eq!(names, "hello\n");
    assert!(root.chroot("find / -xdev | wc -l").trim().parse::<usize>().unwrap() > 5000);
    root.finish();
}

#[test]
fn packages_install_and_leave() {
    let Some(root) = Root::new("dpkg and apt", |_| ()) else { return };
    fs::create_dir(root.path().join("packages")).unwrap();
    root.host(&format!("cp {}/*.deb merged/packages", root.debian.packages.display()));
    // apt's own sandbox user cannot be told apart from root's failures here.
    let installed = root.chroot(
        "dpkg -i /packages/hello_*.deb /packages/tree_*.deb
         hello && tree /marks
         apt-get install -q -y -o APT::Sandbox::User=root /packages/*.deb
         echo '[3]' | jq '.[0]'
         getcap /usr/bin/ping /bin/ping | head -n 1
         dpkg --audit && dpkg --verify && ldconfig --print-cache | grep jq",
    );
    assert!(installed.contains("Hello, world!"), "{installed}");
    assert!(installed.contains("cap_net_raw"), "{installed}");
    root.chroot(
        "apt-get purge -q -y hello tree && test ! -e /usr/bin/hello
         dpkg --force-depends --purge tar && test ! -e /usr/bin/tar && test ! -e /bin/tar
         dpkg --audit",
    );
    root.finish_in_kernel();
}

#[test]
fn git_works_on_inherited_and_new_repositories() {
    let fill = |own: &Path| {
        fs::create_dir(own.join("srv")).unwrap();
        let script =
            "git init -q inherited && cd inherited && git config user.email a@b && git config user.name a
            cp -r /usr/include/linux . && git add . && git commit -q -m one
            mv linux headers; rm -r headers/netfilter*; git add -A; git commit -q -m two
            git branch old HEAD~1 && git tag -a v1 -m v1";
        run(Command::new("bash").current_dir(own.join("srv")).args(["-euo", "pipefail", "-c", script]));
    };
    if !Path::new("/usr/include/linux").is_dir() || Command::new("git").arg("--version").output().is_err() {
        return skipped("git", "git or /usr/include/linux is not there");
    }
    let Some(root) = Root::new("git", fill) else { return };
    root.chroot(
        "git config --global --add safe.directory '*'; git config --global user.email a@b
         git config --global user.name a; cd /srv
         test -z \"$(git -C inherited status --porcelain)\"
         git clone -q inherited hard && git clone -q --no-hardlinks inherited soft
         for repository in inherited hard soft; do
             cd /srv/$repository
             git checkout -q -b side origin/old 2>/dev/null || git checkout -q -b side old
             test -d linux && test ! -e headers
             echo change >> linux/fs.h && git commit -q -a -m three && git stash list
             git merge -q -m merged v1 || git checkout -q -f v1
             git checkout -q -f v1 && git gc -q --prune=now && git repack -q -a -d -f
             git fsck --full --strict && test -z \"$(git status --porcelain)\"
         done
         git -C /srv/hard worktree add -q /srv/tree v1 && diff -r /srv/tree/headers /srv/soft/headers
         rm -rf /srv/hard && git -C /srv/inherited fsck --full",
    );
    root.finish();
}

#[test]
fn a_c_program_is_built_and_rebuilt() {
    let fill = |own: &Path| {
        let source = own.join("src");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("common.h"), "#include <stdio.h>\n#include <stdlib.h>\n#define BASE 1\n")
            .unwrap();
        let mut calls = String::new();
        let mut declared = String::new();
        for i in 0..30 {
            let body = format!("#include \"common.h\"\nint f{i}(int x) {{ return BASE + x + {i}; }}\n");
            fs::write(source.join(format!("f{i}.c")), body).unwrap();
            declared += &format!("int f{i}(int);\n");
            calls += &format!("    sum += f{i}({i});\n");
        }
        let body = format!(
            "#include \"common.h\"\n{declared}int main(void) {{\n    int sum = 0;\n{calls}    printf(\"%d\\n\", sum);\n}}\n"
        );
        fs::write(source.join("main.c"), body).unwrap();
        let rules = "OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))\nprogram: lib.a main.o\n\t$(CC) -o $@ main.o lib.a\n\
            lib.a: $(filter-out main.o,$(OBJECTS))\n\tar rcs $@ $^\n%.o: %.c common.h\n\t$(CC) -O1 -c -o $@ $<\n\
            clean:\n\trm -f *.o lib.a program\n";
        fs::write(source.join("Makefile"), rules).unwrap();
    };
    let Some(root) = Root::new("a C build", fill) else { return };
    // 30 × BASE + 2 × (0 + … + 29); then with BASE 2.
    assert!(root.chroot("cd /src && make -j2 && ./program").ends_with("\n900\n"));
    assert!(root.chroot("cd /src && make").contains("up to date"));
    let again = root.chroot("cd /src && sed -i 's/BASE 1/BASE 2/' common.h && make -j2 && ./program");
    assert!(again.ends_with("\n930\n"), "{again}");
    root.chroot("cd /src && make clean && test $(ls | wc -l) -eq 33");
    root.finish();
}

/// Rows that each of the two writers adds.
const ROWS: usize = 400;

#[test]
fn sqlite_keeps_an_inherited_database_whole() {
    if Command::new("sqlite3").arg("--version").output().is_err() {
        return skipped("sqlite", "sqlite3 is not installed");
    }
    let fill = |own: &Path| {
        // Copied while it is open: the write-ahead log lies beside the database,
        // not yet merged into it, as after a crash.
        let script = r#"mkdir live var
            { echo "PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(who TEXT, n INT, data BLOB);"
              echo "CREATE INDEX i ON t(who, n);"
              for n in $(seq 500); do echo "INSERT INTO t VALUES('base', $n, randomblob(3000));"; done
              echo ".shell cp live/db live/db-wal live/db-shm var/"
            } | sqlite3 live/db >/dev/null
            rm -r live; test -s var/db-wal"#;
        run(Command::new("bash").current_dir(own).args(["-euo", "pipefail", "-c", script]));
    };
    let Some(root) = Root::new("sqlite", fill) else { return };
    let hammer = format!(
        r#"cd /var
        writer() {{
            for n in $(seq {ROWS}); do
                echo "INSERT INTO t VALUES('$1', $n, randomblob(2000));"
                test $((n % 50)) -ne 0 || echo "DELETE FROM t WHERE who='base' AND n % 100 = $((n / 50)); PRAGMA wal_checkpoint;"
            done | sqlite3 -cmd '.timeout 60000' db > /dev/null
        }}
        writer a & first=$!
        writer b & second=$!
        for n in 1 2 3 4 5; do sqlite3 -cmd '.timeout 60000' db 'PRAGMA quick_check;'; done
        wait $first; wait $second
        sqlite3 db "PRAGMA integrity_check; SELECT who, count(*), count(DISTINCT n) FROM t WHERE who <> 'base' GROUP BY who;"
        sqlite3 db "SELECT count(*) FROM t WHERE who = 'base'; VACUUM; PRAGMA integrity_check;""#
    );
    let said = root.chroot(&hammer);
    // Of 500 inherited rows, n % 100 = 1 … 8 are deleted: 5 of each.
    let expected = format!("{}a|{ROWS}|{ROWS}\nb|{ROWS}|{ROWS}\n460\nok\n", "ok\n".repeat(6));
    assert_eq!(said, expected);
    root.finish();
}

/// Everything that a copy can lose. The times are old: rsync leaves those of
/// this very second as they are.
const ZOO: &str = r#"mkdir -p zoo/deep/er zoo/empty && cd zoo
    echo text > file; ln file deep/twin; ln file deep/er/triplet; ln -s ../nowhere link; mkfifo fifo
    mknod null c 1 3; mknod disk b 7 0
    truncate -s 50M sparse; printf x | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
    printf 'a\nb' > "$(printf 'na\nme \377')"; : > "$(printf 'n%.0s' $(seq 255))"
    setfattr -n user.one -v 1 file; setfattr -n user.empty deep; setfattr -n trusted.two -v 0x00ff file
    setfacl -m u:daemon:rw,g:daemon:r file; setfacl -d -m u:daemon:rwx deep; 
    cp /bin/true capable; setcap cap_net_raw+ep capable
    chmod 6755 file; chmod 1777 empty; chmod 0000 deep/er; chown 12345:54321 capable link -h
    find . -depth -exec touch -h -d '2001-02-03 04:05:06.123456789' {} +"#;

/// Into the union from outside, out again, and across within it; `{}` are
/// source and destination of one copy.
fn round_trip(test: &str, copy: &str) {
    for tool in ["setfacl", "setfattr", "setcap", "rsync", "tar"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return skipped(test, &format!("{tool} is not installed"));
        }
    }
    let fill = |own: &Path| {
        run(Command::new("bash").current_dir(own).args(["-euo", "pipefail", "-c", ZOO]));
    };
    let Some(root) = Root::new(test, fill) else { return };
    let copies = [
        ("merged/zoo", "out"),
        ("out", "merged/in"),
        ("merged/zoo", "merged/across"),
        ("merged/usr/lib", "lib"),
    ];
    for (from, to) in copies {
        root.host(&copy.replacen("{}", from, 1).replacen("{}", to, 1));
        let [from, to] = [from, to].map(|name| root.scratch.path().join(name));
        same(&from, &to, &COPIED);
        if let Ok(sparse) = to.join("sparse").metadata() {
            assert!(sparse.blocks() * 512 < 1 << 20, "{}: holes are filled", to.display());
        }
    }
    same(&root.own.join("zoo"), &root.path().join("in"), &COPIED);
    root.finish();
}

#[test]
fn rsync_round_trips() {
    round_trip("rsync", "rsync -aHAXS {}/ {}/");
}

#[test]
fn tar_round_trips() {
    let tar = "from={} to={}; mkdir $to && tar -C $from --xattrs --xattrs-include='*' --acls -S --format=posix -cf - . \
        | tar -C $to --xattrs --xattrs-include='*' --acls --numeric-owner -xpSf -";
    round_trip("tar", tar);
}

#[test]
fn cp_round_trips() {
    round_trip("cp", "cp -a --sparse=always {} {}");
}

#[test]
fn whole_trees_move_and_vanish() {
    let Some(root) = Root::new("rm and mv of lower trees", |_| ()) else { return };
    let share = Tree::read(&root.path().join("usr/share")).unwrap();
    root.host("cd merged && mv usr/share moved && test ! -e usr/share && chmod -R go-w moved");
    let moved = Tree::read(&root.path().join("moved")).unwrap();
    assert_eq!(share.differences(&moved, &[Aspect::Ctime, Aspect::DirNlink]), Vec::<String>::new(), "moved");
    root.host(
        "cd merged && mv moved/doc moved/doc.new && mv moved usr/share && mv usr/share/doc.new usr/share/doc",
    );
    let back = Tree::read(&root.path().join("usr/share")).unwrap();
    assert_eq!(
        share.differences(&back, &[Aspect::Ctime, Aspect::Mtime, Aspect::DirNlink]),
        Vec::<String>::new(),
        "moved back"
    );
    root.host("cd merged && rm -rf usr/lib var && test ! -e usr/lib && mkdir usr/lib var && test -z \"$(ls -A var)\"");
    root.host("cd merged && cp -a etc usr/lib/ && rm -rf etc && mv usr/lib/etc . && rmdir usr/lib");
    root.finish_in_kernel();
}
