//! Real programs in containers: a Debian tree with its servers, made once by
//! mmdebstrap and kept in `target/containers-CODENAME`; delete it and it is made
//! anew.
//!
//! Root's containers run over the tree itself (`--rootfs`), which stays as it
//! is; images are packed from it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use crate::ids::as_user;
use crate::setup::{stderr, stdout};
use crate::world::{World, until};

/// What the tree has beyond a minimal one.
const INCLUDED: &str = "redis-server,nginx-light,python3";
/// Puts a repository for apt beside it: packages that need each other.
const REPOSITORY: &str = r#"mkdir "$1/packages" && chroot "$1" sh -ec 'cd /packages
    apt-get download -q hello jq libjq1 libonig5
    for file in *.deb; do
        dpkg-deb -f $file
        set -- $(sha256sum $file) && printf "Filename: ./%s\nSize: %s\nSHA256: %s\n\n" $file $(stat -c %s $file) $1
    done > Packages'
    mv "$1/packages" "$1/../packages""#;

/// What is done in a container with a repository at `$1`.
const INSTALL: &str = "rm -f /etc/apt/sources.list.d/*; echo \"deb [trusted=yes] http://$1 ./\" > /etc/apt/sources.list
    export DEBIAN_FRONTEND=noninteractive
    exec 3>&1 > /dev/null
    apt-get update -q && apt-get install -q -y --no-install-recommends hello jq && dpkg --audit && hello >&3 &&
    echo '{\"a\": 1}' | jq .a >&3";

/// The tree, `root`, and `packages`; why there is none is printed.
fn debian() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match MADE.get_or_init(make) {
        Ok(path) => Some(path),
        Err(reason) => {
            println!("skipped: no Debian tree: {reason}");
            None
        }
    }
}

fn make() -> Result<PathBuf, String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let codename = match (field("ID"), field("VERSION_CODENAME")) {
        (Some("debian"), Some(codename)) => codename,
        _ => "bookworm",
    };
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").canonicalize().unwrap();
    let home = target.join(format!("containers-{codename}"));
    if home.is_dir() {
        return Ok(home);
    }
    let making = target.join(format!("containers-{codename}.new"));
    if making.exists() {
        fs::remove_dir_all(&making).unwrap();
    }
    fs::create_dir(&making).unwrap();
    let made = Command::new("mmdebstrap")
        .args(["--variant=minbase", "--mode=root", "--quiet", &format!("--include={INCLUDED}")])
        .arg(format!("--customize-hook={REPOSITORY}"))
        .args([codename.as_ref(), making.join("root").as_os_str()])
        .output()
        .map_err(|error| format!("mmdebstrap: {error} (apt-get install mmdebstrap)"))?;
    if !made.status.success() {
        return Err(format!("mmdebstrap: {}", String::from_utf8_lossy(&made.stderr)));
    }
    fs::rename(making, &home).unwrap();
    Ok(home)
}

/// An archive of programs of the tree with their libraries, and what else they
/// need.
fn pack(world: &World, name: &str, paths: &str) -> PathBuf {
    let archive = world.scratch.join(&format!("{name}.tar"));
    // With the directories that hold them, /lib among them, merged into /usr.
    let script = r#"cd "$1"
        for path in $3; do
            test ! -f ".$path" || chroot . ldd "$path" | grep -o '/[^ ]*' || true
            echo "$path"
        done | while read path; do echo "$path"; chroot . realpath "$path"; done > "$2.list"
        for dir in bin sbin lib lib64; do test ! -h $dir || echo /$dir; done >> "$2.list"
        sed 's,^/,,; s,^lib/,usr/lib/,; s,^lib64/,usr/lib64/,' "$2.list" | sort -u | tar -cf "$2" -T -"#;
    shell(script, &[&debian().unwrap().join("root"), &archive, Path::new(paths)]);
    archive
}

/// Has a shell do something; it must succeed.
fn shell(script: &str, arguments: &[&Path]) {
    let done = Command::new("sh").args(["-ec", script, "sh"]).args(arguments).output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
}

/// A server of the test's own.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A container over the tree.
fn tree(world: &World, options: &[&str], command: &[&str]) -> Output {
    let root = debian().unwrap().join("root");
    world.output(&[&["run"], options, &["--rootfs", root.to_str().unwrap()], command].concat())
}

fn tree_says(world: &World, options: &[&str], command: &[&str]) -> String {
    let output = tree(world, options, command);
    assert!(output.status.success(), "{options:?} {command:?}: {}{}", stdout(&output), stderr(&output));
    stdout(&output).to_owned()
}

const REDIS: [&str; 7] =
    ["redis-server", "--dir", "/var/lib/redis", "--appendonly", "yes", "--appendfsync", "always"];

/// Redis as its own user, its data in a volume; until it answers.
fn redis(world: &World, name: &str) {
    let options = ["-d", "--name", name, "--network", "none", "-u", "redis", "-v", "data:/var/lib/redis"];
    tree_says(world, &options, &REDIS);
    answers(world, name);
}

fn answers(world: &World, name: &str) {
    until("redis answers", || stdout(&world.output(&["exec", name, "redis-cli", "ping"])) == "PONG\n");
}

#[test]
fn a_database_keeps_what_it_acknowledged() {
    let Some(world) = World::new("redis") else { return };
    let Some(_) = debian() else { return };
    redis(&world, "one");
    assert_eq!(world.says(&["exec", "one", "redis-cli", "set", "kept", "yes"]), "OK\n");
    world.says(&["rm", "-f", "one"]);
    // Another container, killed while it writes.
    redis(&world, "two");
    assert_eq!(world.says(&["exec", "two", "redis-cli", "get", "kept"]), "yes\n");
    let writing = "i=0; while redis-cli set last $((i += 1)) > /dev/null && echo $i; do :; done";
    let acknowledged = world.scratch.join("acknowledged");
    let mut exec = world.command(&["exec", "two", "sh", "-c", writing]);
    let mut writer = exec.stdout(fs::File::create(&acknowledged).unwrap()).spawn().unwrap();
    until("it has written", || fs::read_to_string(&acknowledged).unwrap().lines().count() > 30);
    world.says(&["kill", "-s", "KILL", "two"]);
    writer.wait().unwrap();
    assert_eq!(world.says(&["wait", "two"]), "137\n");
    let number = |text: &str| text.lines().last().unwrap().parse::<u32>().unwrap();
    let acknowledged = number(&fs::read_to_string(&acknowledged).unwrap());
    // The same one again, and a third.
    world.says(&["start", "two"]);
    answers(&world, "two");
    let kept = number(&world.says(&["exec", "two", "redis-cli", "get", "last"]));
    assert!(kept == acknowledged || kept == acknowledged + 1, "{kept} of {acknowledged}");
    world.says(&["rm", "-f", "two"]);
    redis(&world, "three");
    assert_eq!(number(&world.says(&["exec", "three", "redis-cli", "get", "last"])), kept);
    world.says(&["rm", "-f", "three"]);
    world.says(&["volume", "rm", "data"]);
}

#[test]
fn apt_installs_from_another_container() {
    let Some(world) = World::new("apt") else { return };
    let Some(home) = debian() else { return };
    let packages = format!("{}:/packages:ro", home.join("packages").display());
    world.says(&["network", "create", "net"]);
    let server = ["python3", "-m", "http.server", "-d", "/packages", "80"];
    tree_says(&world, &["-d", "--name", "repository", "--network", "net", "-v", &packages], &server);
    listens(&world, "repository");
    let options = ["--name", "one", "--network", "net"];
    let installed = tree(&world, &options, &["sh", "-c", INSTALL, "sh", "repository"]);
    assert_eq!(stdout(&installed), "Hello, world!\n1\n", "{}", stderr(&installed));
    let changes = world.says(&["diff", "one"]);
    for change in ["A /usr/bin/hello\n", "C /etc/ld.so.cache\n", "C /var/lib/dpkg/status\n"] {
        assert!(changes.contains(change), "{change}: {changes}");
    }
    assert!(!home.join("root/usr/bin/hello").exists());
}

#[test]
fn apt_installs_for_an_ordinary_user() {
    let Some(world) = World::new("apt-user") else { return };
    let Some(home) = debian() else { return };
    if !Path::new("/usr/bin/newuidmap").exists() {
        println!("skipped: no newuidmap (apt-get install uidmap)");
        return;
    }
    // The tree's directory may be root's alone.
    let script = "tar -cf \"$2/debian.tar\" -C \"$1/root\" .; cp -r \"$1/packages\" \"$2\"";
    shell(script, &[home, world.scratch.path()]);
    world.write("install", INSTALL);
    let line = "$R import ../debian.tar debian > /dev/null; $R network create net > /dev/null
        $R run -d --name repository --network net -v $PWD/../packages:/packages:ro debian \
            python3 -m http.server -d /packages 80 > /dev/null
        until $R exec repository grep -q :0050 /proc/net/tcp; do sleep 0.1; done
        $R run --name one --network net -v $PWD/../install:/install:ro debian sh /install repository
        $R commit one installed > /dev/null; $R run --rm --network none installed hello
        $R rm -f one repository > /dev/null; $R network rm net; $R network prune -f";
    let output = as_user(&world, line);
    assert_eq!(stdout(&output), "Hello, world!\n1\nHello, world!\nnet\n", "{}", stderr(&output));
}

/// Until something in a container listens at port 80.
fn listens(world: &World, name: &str) {
    until("it listens", || {
        world.output(&["exec", name, "grep", "-q", ":0050 ", "/proc/net/tcp"]).status.success()
    });
}

/// A registry on the loopback of the world's namespace, and its name.
fn registry(world: &World) -> Option<(Server, String)> {
    for program in ["docker-registry", "skopeo", "podman"] {
        if Command::new(program).arg("--help").output().is_err() {
            println!("skipped: no {program} (apt-get install {program})");
            return None;
        }
    }
    assert!(world.in_namespace("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = format!("127.0.0.1:{port}");
    let config = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
        world.path("registry")
    );
    let config = world.write("registry.yml", &config);
    let mut command = world.in_namespace("docker-registry");
    let command = command.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server(command.spawn().unwrap());
    let url = format!("http://{host}/v2/");
    until("the registry answers", || {
        world.in_namespace("curl").args(["-sf", &url]).output().unwrap().status.success()
    });
    Some((server, host))
}

#[test]
fn servers_of_a_registry_are_reached_by_port_and_by_name() {
    let Some(world) = World::new("servers") else { return };
    let Some(_) = debian() else { return };
    let Some((_server, host)) = registry(&world) else { return };
    let nginx = pack(
        &world,
        "nginx",
        "/usr/sbin/nginx /etc/nginx /etc/passwd /etc/group /usr/share/nginx \
        /usr/lib/nginx /var/lib/nginx /var/log/nginx /run /tmp /usr/bin/sh /var/www/html",
    );
    let python = pack(
        &world,
        "python",
        "/usr/bin/python3 /usr/bin/python3.11 /usr/lib/python3.11 /usr/bin/sh /etc/passwd /tmp",
    );
    // One is pushed by podman, one by skopeo.
    let script =
        "mount -t tmpfs tmpfs /run; P=\"podman --root $1/podman --runroot /run/podman --storage-driver vfs\"
        $P import -q $2 localhost/nginx; $P import -q $3 localhost/python
        $P push -q --tls-verify=false localhost/nginx $4/nginx:1
        $P save -q -o $1/saved.tar localhost/python
        skopeo copy -q --dest-tls-verify=false docker-archive:$1/saved.tar docker://$4/python:1";
    let mut push = world.in_namespace("unshare");
    push.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
    let pushed = push.arg(world.scratch.path()).args([&nginx, &python]).arg(&host).output().unwrap();
    assert!(pushed.status.success(), "{}", stderr(&pushed));
    for image in ["nginx", "python"] {
        let name = format!("{host}/{image}:1");
        assert_eq!(world.says(&["pull", "-q", &name]), format!("{name}\n"));
    }
    let (nginx, python) = (format!("{host}/nginx:1"), format!("{host}/python:1"));
    world.says(&["run", "-d", "--name", "web", "-p", "8080:80", &nginx, "nginx", "-g", "daemon off;"]);
    let page = || world.in_namespace("curl").args(["-s", "http://127.0.0.1:8080/"]).output().unwrap();
    until("the page is there", || stdout(&page()).contains("<html"));
    world.says(&["network", "create", "net"]);
    let server = ["python3", "-m", "http.server", "80"];
    world.says(
        &[&["run", "-d", "--name", "pages", "--network", "net", "-w", "/etc", &python], &server[..]].concat(),
    );
    until("the page is served by name", || {
        let client = "import urllib.request as u; print(u.urlopen('http://pages/passwd').read()[:5])";
        let got = world.run(&["--network", "net", &python, "python3", "-c", client]);
        stdout(&got) == "b'root:'\n"
    });
}
