//! What a bridge network takes, and how users without root reach out.
//!
//! Bridges, pairs and rules are made in a network namespace that ends with the
//! trial; the kernel loads its modules for it as it would for a container.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use super::probe::{self, Bits, Refused, Trial};
use super::{Caller, Finding, in_path, sysctl};
use crate::network::{Networks, diagnosis};
use crate::sys::Namespaces;

/// Everything about networks: nothing of it keeps a container from running.
pub fn look(caller: Caller, store: &Path) -> Vec<Finding> {
    let mut findings = vec![links(caller), rules(caller)];
    match caller {
        Caller::Root => {
            findings.push(forwarding());
            findings.extend(firewall(store));
        }
        Caller::Ordinary => findings.push(way_out()),
    }
    findings
}

const WITHOUT: &str = "--network host and none work";

fn links(caller: Caller) -> Finding {
    const CHECK: &str = "bridges";
    for (kind, trial) in [("bridge", make_bridge as Trial), ("veth", make_pair)] {
        match probe::try_in(Namespaces::NETWORK, caller, trial) {
            Ok(_) => {}
            Err(Refused::Trial(Errno::NOTSUP)) => {
                let remedy = format!("as root: modprobe {kind}; {WITHOUT}");
                return Finding::limited(
                    CHECK,
                    format!("this kernel has no links of the kind {kind}"),
                    remedy,
                );
            }
            Err(Refused::Trial(errno)) => {
                return Finding::limited(
                    CHECK,
                    format!("a link of the kind {kind} cannot be made: {errno}"),
                    WITHOUT,
                );
            }
            Err(Refused::Namespaces(_)) => {
                return Finding::limited(CHECK, "no network namespace can be made", "--network host works");
            }
        }
    }
    Finding::ok(CHECK, "bridges and veth pairs can be made")
}

/// rtnetlink(7).
const RTM_NEWLINK: u16 = 16;
const REQUEST_ACK_CREATE: u16 = 0x1 | 0x4 | 0x400 | 0x200;
const NLMSG_ERROR: u16 = 2;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
/// Of a `struct nlmsghdr`, and of a `struct ifinfomsg`.
const HEADER: usize = 16;
const LINK: usize = 16;

fn make_bridge() -> rustix::io::Result<Bits> {
    make_link("bridge")
}

fn make_pair() -> rustix::io::Result<Bits> {
    make_link("veth")
}

/// A link of this kind, named by the kernel.
fn make_link(kind: &str) -> rustix::io::Result<Bits> {
    let attribute = |number: u16, value: &[u8]| {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&number.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let info = attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, kind.as_bytes()));
    let mut message = ((HEADER + LINK + info.len()) as u32).to_ne_bytes().to_vec();
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&REQUEST_ACK_CREATE.to_ne_bytes());
    message.resize(HEADER + LINK, 0);
    message.extend_from_slice(&info);
    // Routing is netlink's protocol 0.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0_u8; 4096];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    acknowledged(answer.get(..length).unwrap_or_default())?;
    Ok(0)
}

/// An acknowledgement is an error of number 0.
fn acknowledged(answer: &[u8]) -> rustix::io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let errno =
        answer.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, errno) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(errno)) => Err(Errno::from_raw_os_error(-errno)),
        _ => Err(Errno::PROTO),
    }
}

fn rules(caller: Caller) -> Finding {
    const CHECK: &str = "nftables";
    const LOST: &str = "no ports are published and no addresses translated without it";
    let Some(nft) = in_path("nft") else {
        return Finding::limited(
            CHECK,
            format!("nft is not installed: {LOST}"),
            "as root: apt-get install nftables, or dnf install nftables",
        );
    };
    match probe::try_in(Namespaces::NETWORK, caller, make_rules) {
        Ok(_) => Finding::ok(CHECK, format!("{} and its address translation", nft.display())),
        Err(Refused::Trial(_)) => Finding::limited(
            CHECK,
            format!("this kernel refuses a table that translates addresses: {LOST}"),
            "as root: modprobe nf_tables nft_masq nft_nat (CONFIG_NF_TABLES, CONFIG_NFT_MASQ, CONFIG_NFT_NAT)",
        ),
        Err(Refused::Namespaces(_)) => Finding::limited(CHECK, "no network namespace can be made", WITHOUT),
    }
}

/// Several lines: nft before 1.1 wants each block's end on its own.
const RULES: &str = "table inet runion_check {
    chain out {
        type nat hook postrouting priority srcnat
        masquerade
    }
}
";

fn make_rules() -> rustix::io::Result<Bits> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let mut command = Command::new(in_path("nft").ok_or(Errno::NOENT)?);
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(errno)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(RULES.as_bytes()).map_err(errno)?;
    }
    if child.wait().map_err(errno)?.success() { Ok(0) } else { Err(Errno::NOTSUP) }
}

fn forwarding() -> Finding {
    const CHECK: &str = "forwarding";
    let v6 = match sysctl("net.ipv6.conf.all.forwarding") {
        Some(0) => "off",
        Some(_) => "on",
        None => "this kernel has none",
    };
    match sysctl("net.ipv4.ip_forward") {
        Some(0) | None => Finding::limited(
            CHECK,
            format!("IPv4: off, IPv6: {v6}: containers on a bridge reach nothing beyond this host"),
            "as root: sysctl net.ipv4.ip_forward=1 (and net.ipv6.conf.all.forwarding=1)",
        ),
        Some(_) => Finding::ok(CHECK, format!("IPv4: on, IPv6: {v6}")),
    }
}

/// What others' packet filters do to containers, and whether ours are there.
fn firewall(store: &Path) -> Vec<Finding> {
    const CHECK: &str = "packet filters";
    let mut findings: Vec<Finding> = diagnosis::diagnose()
        .into_iter()
        .map(|finding| Finding::limited(CHECK, finding.what, finding.hint))
        .collect();
    // A store without networks is to stay so.
    let has_networks = store.join("networks").is_dir();
    let lost = has_networks
        .then(|| Networks::open(store).and_then(|networks| diagnosis::without_filters(&networks)));
    match lost {
        Some(Ok(networks)) => findings.extend(networks.into_iter().map(|network| {
            Finding::limited(
                CHECK,
                format!("those of network {} are gone: nothing is published or kept apart there", network.name),
                "whoever flushed them should spare the tables runion*; any `runion network` command puts them back",
            )
        })),
        Some(Err(failure)) => findings.push(Finding::limited(CHECK, failure.message(), "as root: runion network ls")),
        None => {}
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "none in the way"));
    }
    findings
}

/// A program that carries packets between a user's network namespace and the
/// host's sockets, and the device it takes.
fn way_out() -> Finding {
    const CHECK: &str = "rootless network";
    let programs: Vec<String> = ["pasta", "slirp4netns"]
        .into_iter()
        .filter_map(in_path)
        .map(|path| path.display().to_string())
        .collect();
    if programs.is_empty() {
        return Finding::limited(
            CHECK,
            "neither pasta nor slirp4netns is installed",
            format!("as root: apt-get install passt slirp4netns; {WITHOUT}"),
        );
    }
    match std::fs::File::options().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Finding::ok(CHECK, programs.join(", ")),
        Err(error) => Finding::limited(
            CHECK,
            format!("cannot open /dev/net/tun: {error}"),
            format!("as root: modprobe tun; chmod 0666 /dev/net/tun; {WITHOUT}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_kernel_are_read_as_far_as_they_go() {
        let mut answer = vec![36, 0, 0, 0];
        answer.extend_from_slice(&NLMSG_ERROR.to_ne_bytes());
        answer.resize(HEADER, 0);
        assert_eq!(acknowledged(&answer), Err(Errno::PROTO));
        answer.extend_from_slice(&0_i32.to_ne_bytes());
        assert_eq!(acknowledged(&answer), Ok(()));
        answer.truncate(HEADER);
        answer.extend_from_slice(&(-95_i32).to_ne_bytes());
        assert_eq!(acknowledged(&answer), Err(Errno::OPNOTSUPP));
        assert_eq!(acknowledged(&[]), Err(Errno::PROTO));
    }
}
