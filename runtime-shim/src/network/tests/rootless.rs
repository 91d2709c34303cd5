//! Networks of an ordinary user, who is nobody on the host.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::Instant;

use super::*;
use crate::network::holder::{self, Holder, WayOut};
use crate::sandbox::Identity;
use crate::sandbox::identity::Plan;
use crate::sys::{Namespaces, Side};

/// A user of each test's own: nobody else's processes are to be waited for.
fn user_id() -> u32 {
    40_000 + std::process::id() % 20_000
}

const DIR: &str = "RUNION_TEST_USER";
const ROLE: &str = "RUNION_TEST_ROLE";

/// Starts this test binary as the user, with these programs to be found.
fn as_user(host: &Host, role: &str, programs: &Path) -> Child {
    Command::new("/usr/bin/setpriv")
        .args([
            format!("--reuid={0}", user_id()),
            format!("--regid={0}", user_id()),
            "--clear-groups".to_owned(),
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "network::tests::rootless::user"])
        .env(DIR, &host.dir)
        .env(ROLE, role)
        .env("PATH", programs)
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Kills it with all that it has forked.
fn kill(mut child: Child) {
    crate::sys::kill(-i32::try_from(child.id()).unwrap(), libc::SIGKILL).unwrap();
    child.wait().unwrap();
}

fn wait_for_the_users_last_process() {
    let start = Instant::now();
    while !processes_of_the_user().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", processes_of_the_user());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn with_system_programs(path: &Path) -> PathBuf {
    let all = [path.to_owned(), "/usr/sbin".into(), "/usr/bin".into(), "/bin".into()];
    std::env::join_paths(all).unwrap().into()
}

/// A user's store, a tunnel device as desktops have it, a neighbour, and these
/// programs; says so where one is missing.
fn prepared(host: &Host, programs: &[&str]) -> Option<(OwnedFd, PathBuf)> {
    let path = host.dir.join("programs");
    std::fs::create_dir(&path).unwrap();
    for program in programs {
        let (found, exists) = tried(&format!("command -v {program}"));
        if !exists {
            println!("skipped: {program} is not installed");
            return None;
        }
        symlink(found.trim(), path.join(program)).unwrap();
    }
    let tunnel = host.dir.join("tun");
    run(&format!("mknod -m 666 {} c 10 200", tunnel.display()));
    run(&format!("mount --bind {} /dev/net/tun", tunnel.display()));
    chown(&host.dir, Some(user_id()), Some(user_id())).unwrap();
    chown(host.dir.join("networks"), Some(user_id()), Some(user_id())).unwrap();
    std::fs::set_permissions(&host.dir, PermissionsExt::from_mode(0o755)).unwrap();
    let outside = host.neighbour();
    run("ip route add default via 192.0.2.2");
    serve(Some(&outside), addr("0.0.0.0:80"));
    Some((outside, path))
}

/// Waits for what the user's process writes.
fn said(host: &Host, child: &mut Child) -> String {
    let start = Instant::now();
    loop {
        if let Ok(text) = std::fs::read_to_string(host.dir.join("said")) {
            std::fs::remove_file(host.dir.join("said")).unwrap();
            return text;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "nothing was said");
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn processes_of_the_user() -> String {
    run(&format!("ps -o pid=,args= -u {} || true", user_id()))
}

/// What the user's processes do.
#[test]
fn user() {
    let (Some(dir), Ok(role)) = (std::env::var_os(DIR), std::env::var(ROLE)) else { return };
    // Only a process with one thread may change its user namespace.
    match crate::sys::clone(Namespaces::NONE).unwrap() {
        Side::Child => {
            let done = std::panic::catch_unwind(|| act(Path::new(&dir), &role));
            std::process::exit(i32::from(done.is_err()));
        }
        Side::Parent(pid) => {
            let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            assert_eq!(status.unwrap().unwrap().1.exit_status(), Some(0));
        }
    }
}

fn act(dir: &Path, role: &str) {
    let networks = Networks::open(dir).unwrap();
    // As commands do that pass signals on.
    crate::sys::SignalSet::of(&[libc::SIGTERM]).block().unwrap();
    let plan = Plan::new(Identity::Root).unwrap();
    let mut request = request("web", &["bridge"], &["8000:80", "127.0.0.1:8001:80", "5300:53/udp"]);
    request.led_by = LedBy::Program;
    let reserved = match role {
        "run" => Some(reserve(&networks, &request).unwrap()),
        _ => None,
    };
    let holder = Holder::ensure(&networks, &plan).unwrap();
    if role == "make" {
        std::thread::sleep(Duration::from_secs(120));
    }
    holder.enter().unwrap();
    let Some(reserved) = reserved else {
        let swept = sweep(&networks, &|_| false).unwrap();
        std::fs::write(
            dir.join(".said"),
            format!("{} {}", swept.len(), run("nft list ruleset | grep -c elements || true")),
        )
        .and_then(|()| std::fs::rename(dir.join(".said"), dir.join("said")))
        .unwrap();
        // It ends when it is asked to.
        let text = std::fs::read_to_string(networks.dir().join(".holder")).unwrap();
        let pid: i32 = text.split_whitespace().next().unwrap().parse().unwrap();
        crate::sys::kill(pid, libc::SIGTERM).unwrap();
        let start = Instant::now();
        while crate::settle::since(pid).is_some() {
            assert!(start.elapsed() < Duration::from_secs(60), "the holder does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        holder::stop(&networks).unwrap();
        return;
    };
    let namespaces = [namespace(), namespace()];
    let web = attach(&networks, &request, reserved, namespaces[0].as_fd()).unwrap();
    let other =
        attach_now(&networks, &super::request("other", &["bridge"], &[]), namespaces[1].as_fd()).unwrap();
    serve(Some(&namespaces[0]), addr("[::]:80"));
    let echo = inside(namespaces[0].as_fd(), || Ok(UdpSocket::bind("0.0.0.0:53").unwrap())).unwrap();
    std::thread::spawn(move || {
        loop {
            let mut buffer = [0; 64];
            let (length, peer) = echo.recv_from(&mut buffer).unwrap();
            echo.send_to(&buffer[..length], peer).unwrap();
        }
    });
    let web_ip = web.endpoints[0].lease.address.into();
    web.relays.into_iter().for_each(|relay| relay.start().unwrap());
    let from_other = |address| fetch(Some(&namespaces[1]), address).is_some();
    let seen = format!(
        "out {:?} neighbour {} outside {} host {}",
        holder.way_out,
        from_other(at(web_ip, 80)),
        from_other(addr("192.0.2.2:80")),
        // Where the way out has the host's loopback, if it is let.
        from_other(addr("10.0.2.2:81"))
            || from_other(addr("192.0.2.2:81"))
            || from_other(addr("127.0.0.1:81")),
    );
    let resolver = dns::Resolver {
        networks: networks.clone(),
        container: other.endpoints[0].lease.container.clone(),
        wish: holder::dns_wish(&files::DnsWish::default()),
    };
    let sockets = dns::bind(namespaces[1].as_fd()).unwrap();
    std::thread::spawn(move || dns::serve(&sockets, &resolver));
    let seen = format!("{seen} name {}", asks_for_a_name(&namespaces[1]));
    std::fs::write(dir.join(".said"), seen).unwrap();
    std::fs::rename(dir.join(".said"), dir.join("said")).unwrap();
    std::thread::sleep(Duration::from_secs(120));
}

/// Whether `www.example` has its address in a container.
fn asks_for_a_name(namespace: &OwnedFd) -> bool {
    let socket = inside(namespace.as_fd(), || Ok(UdpSocket::bind("127.0.0.1:0").unwrap())).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\0\0\x01\0\x01";
    socket.send_to(question, "127.0.0.11:53").unwrap();
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).unwrap_or(0);
    buffer[..length].ends_with(&[203, 0, 113, 5])
}

fn without_root(host: &Host, programs: &[&str], way_out: WayOut) {
    let Some((outside, path)) = prepared(host, programs) else { return };
    serve(None, addr("127.0.0.1:81"));
    dns::tests::host_server("127.0.0.53");
    dns::tests::host_asks(host, &["127.0.0.53"]);
    let mut child = as_user(host, "run", &path);
    let open = way_out == WayOut::Open;
    let seen = format!("out {way_out:?} neighbour true outside {open} host false name {open}");
    assert_eq!(said(host, &mut child), seen);
    assert_eq!(run("ip -o link | grep -E \"runion|rn0\" || true"), "", "the host has none of it");
    assert_eq!(run("nft list ruleset"), "");
    for text in ["127.0.0.1:8000", "[::1]:8000", "192.0.2.1:8000", "127.0.0.1:8001"] {
        assert!(fetch(None, addr(text)).is_some(), "{text}");
    }
    assert!(fetch(Some(&outside), addr("192.0.2.1:8000")).is_some());
    assert!(fetch(Some(&outside), addr("192.0.2.1:8001")).is_none());
    let asker = inside(outside.as_fd(), || Ok(UdpSocket::bind("0.0.0.0:0").unwrap())).unwrap();
    asker.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..3 {
        let mut buffer = [0; 64];
        // A packet may be lost.
        let answer = (0..3).find_map(|_| {
            asker.send_to(b"hello", "192.0.2.1:5300").unwrap();
            asker.recv_from(&mut buffer).ok()
        });
        let (length, peer) = answer.expect("an answer");
        assert_eq!((&buffer[..length], peer), (&b"hello"[..], addr("192.0.2.1:5300")));
    }
    let taken = TcpListener::bind("0.0.0.0:8000");
    assert!(taken.is_err());

    // Killed, it leaves its containers' traces to the next, which finds the same holder.
    let users = processes_of_the_user();
    kill(child);
    let mut child = as_user(host, "sweep", &with_system_programs(&path));
    assert_eq!(said(host, &mut child), "2 0\n", "{users}");
    child.wait().unwrap();
    wait_for_the_users_last_process();
}

#[test]
fn a_killed_maker_leaves_no_holder() {
    on_a_host("tests::rootless::a_killed_maker_leaves_no_holder", |host| {
        for (program, rounds) in [("slirp4netns", 12), ("pasta", 6)] {
            let Some((_outside, path)) = prepared(host, &[program]) else { return };
            for round in 0..rounds {
                let child = as_user(host, "make", &path);
                std::thread::sleep(Duration::from_millis(5 + round * 7));
                kill(child);
            }
            let mut child = as_user(host, "sweep", &with_system_programs(&path));
            assert_eq!(said(host, &mut child), "0 0\n");
            child.wait().unwrap();
            wait_for_the_users_last_process();
            run("ip link del out0; ip route flush dev lo; umount /dev/net/tun");
            run(&format!("rm -r {0}/programs {0}/tun", host.dir.display()));
        }
    });
}

#[test]
fn by_slirp4netns() {
    on_a_host("tests::rootless::by_slirp4netns", |host| without_root(host, &["slirp4netns"], WayOut::Open));
}

#[test]
fn by_pasta() {
    on_a_host("tests::rootless::by_pasta", |host| without_root(host, &["pasta"], WayOut::Open));
}

#[test]
fn with_no_way_out() {
    on_a_host("tests::rootless::with_no_way_out", |host| {
        without_root(host, &[], WayOut::Closed);
        assert!(WayOut::Closed.warning().unwrap().contains("neither slirp4netns nor pasta is installed"));
    });
}
