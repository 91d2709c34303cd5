//! Networks for real: real bridges, real packet filters, real packets, in
//! network namespaces made for the test.
//!
//! Each test runs itself again in a namespace of its own, which plays the host;
//! containers are further namespaces without processes.

mod frames;
mod lifecycle;
mod rootless;
mod security;
mod traffic;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::attach::Attached;
use super::inside::inside;
use super::links::Links;
use super::subnet::Mac;
use super::*;
use crate::failure::Result;

/// Long enough for a loaded machine, where a first packet that is lost is sent again after a second; short enough to
/// wait for in vain.
pub const PATIENCE: Duration = Duration::from_millis(1500);
const MARK: &str = "RUNION_TEST_HOST";

/// Runs the test's body in a network namespace of its own; says why where it cannot.
pub fn on_a_host(name: &str, body: impl FnOnce(&mut Host)) {
    if std::env::var_os(MARK).is_some_and(|mark| mark == *name) {
        return body(&mut Host::new());
    }
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: network namespaces take root");
    }
    for tool in ["nft", "ip", "unshare", "nsenter", "python3"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return println!("skipped: {tool} is not installed");
        }
    }
    let dir =
        std::env::temp_dir().join(format!("runion-net-{}-{}", std::process::id(), name.replace(':', "-")));
    std::fs::create_dir_all(&dir).unwrap();
    let output = Command::new("unshare")
        .args(["-n", "-m", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("network::{name}")])
        .env(MARK, name)
        .env("RUNION_TEST_DIR", &dir)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}\n{}", said[0], said[1]);
    assert!(said[0].contains("1 passed"), "nothing was tested: {}", said[0]);
    for line in said[0].lines().filter(|line| line.starts_with("skipped:")) {
        println!("{line}");
    }
}

/// The namespace that plays the host.
pub struct Host {
    pub dir: PathBuf,
    pub networks: Networks,
}

/// A namespace that plays a container.
pub struct Container {
    pub id: String,
    pub namespace: OwnedFd,
    pub attached: Attached,
}

impl Host {
    fn new() -> Host {
        run("ip link set lo up");
        let dir = PathBuf::from(std::env::var_os("RUNION_TEST_DIR").unwrap());
        Host { networks: Networks::open(&dir).unwrap(), dir }
    }

    pub fn create(&self, name: &str, change: impl FnOnce(&mut New)) -> Network {
        let mut new = New { name: name.to_owned(), ..New::default() };
        change(&mut new);
        self.networks.create(new).unwrap()
    }

    /// A container on these networks with these ports.
    pub fn container(&self, name: &str, networks: &[&str], publish: &[&str]) -> Container {
        self.try_container(name, networks, publish).unwrap()
    }

    pub fn try_container(&self, name: &str, networks: &[&str], publish: &[&str]) -> Result<Container> {
        let namespace = namespace();
        let request = request(name, networks, publish);
        let attached = attach_now(&self.networks, &request, namespace.as_fd())?;
        Ok(Container { id: request.container, namespace, attached })
    }

    /// A machine beside the host: 192.0.2.2 and fd99::2; the host is .1 and ::1.
    pub fn neighbour(&self) -> OwnedFd {
        let namespace = namespace();
        run("ip link add out0 type veth peer name in0");
        run(&format!("ip link set in0 netns {}", path(&namespace)));
        run("ip addr add 192.0.2.1/24 dev out0");
        run("ip addr add fd99::1/64 dev out0 nodad");
        run("ip link set out0 up");
        run_in(&namespace, "ip link set lo up");
        run_in(&namespace, "ip addr add 192.0.2.2/24 dev in0");
        run_in(&namespace, "ip addr add fd99::2/64 dev in0 nodad");
        run_in(&namespace, "ip link set in0 up");
        Links::open().unwrap().settle("out0").unwrap();
        namespace
    }
}

impl Container {
    pub fn ip(&self) -> IpAddr {
        self.attached.endpoints[0].lease.address.into()
    }

    pub fn ip6(&self) -> IpAddr {
        self.attached.endpoints[0].lease.address6.unwrap().into()
    }
}

fn request(name: &str, networks: &[&str], publish: &[&str]) -> Request {
    Request {
        container: id(name),
        name: name.to_owned(),
        hostname: name.to_owned(),
        networks: networks.iter().map(|network| wish(network)).collect(),
        publish: publish.iter().flat_map(|text| words::publish(text).unwrap()).collect(),
        led_by: LedBy::Filters,
    }
}

/// Reserves and attaches.
pub fn attach_now(networks: &Networks, request: &Request, namespace: BorrowedFd) -> Result<Attached> {
    attach(networks, request, reserve(networks, request)?, namespace)
}

fn wish(network: &str) -> Wish {
    Wish { network: network.to_owned(), ..Wish::default() }
}

/// 64 hexadecimal digits that follow from a name and begin differently for each.
fn id(name: &str) -> String {
    let hex: String = name.bytes().rev().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex:0<64}")
}

pub fn namespace() -> OwnedFd {
    std::thread::spawn(|| {
        crate::sys::process::unshare(crate::sys::Namespaces::NETWORK).unwrap();
        OwnedFd::from(std::fs::File::open("/proc/thread-self/ns/net").unwrap())
    })
    .join()
    .unwrap()
}

pub fn path(namespace: &OwnedFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd())
}

/// Runs a command on the host and gives what it says.
pub fn run(command: &str) -> String {
    let (said, success) = tried(command);
    assert!(success, "{command}: {said}");
    said
}

pub fn tried(command: &str) -> (String, bool) {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), output.status.success())
}

pub fn run_in(namespace: &OwnedFd, command: &str) -> String {
    run(&in_namespace(namespace, command))
}

fn in_namespace(namespace: &OwnedFd, command: &str) -> String {
    format!("nsenter --net={} sh -c '{command}'", path(namespace))
}

/// Serves each connection the peer's address, for as long as the process lives.
fn serve(namespace: Option<&OwnedFd>, address: SocketAddr) {
    let bind = || Ok(TcpListener::bind(address).unwrap());
    let listener = match namespace {
        Some(namespace) => inside(namespace.as_fd(), bind).unwrap(),
        None => bind().unwrap(),
    };
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let peer = connection.peer_addr().unwrap().ip();
            // The client may be gone already.
            let _ = connection.write_all(peer.to_string().as_bytes());
        }
    });
}

/// As whom a server sees this client, if it is reached.
fn fetch(from: Option<&OwnedFd>, address: SocketAddr) -> Option<String> {
    let connect = || {
        let mut text = String::new();
        let connection = TcpStream::connect_timeout(&address, PATIENCE);
        let read = connection.and_then(|mut connection| {
            connection.set_read_timeout(Some(PATIENCE))?;
            connection.read_to_string(&mut text)
        });
        Ok(read.ok().map(|_| text))
    };
    match from {
        Some(namespace) => inside(namespace.as_fd(), connect).unwrap(),
        None => connect().unwrap(),
    }
}

fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What of ours is in the kernel.
fn traces() -> String {
    run("ip -o link | grep -E ': (runion|rn)' || true") + &run("nft list ruleset")
}

fn leases(dir: &Path) -> usize {
    let networks = std::fs::read_dir(dir.join("networks")).unwrap().flatten();
    networks
        .filter_map(|network| std::fs::read_dir(network.path().join("leases")).ok())
        .map(|leases| {
            leases.flatten().filter(|file| !file.file_name().to_string_lossy().starts_with('.')).count()
        })
        .sum()
}
