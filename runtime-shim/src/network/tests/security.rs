//! What must not get through.
//!
//! Where an attack must fail, the same attack succeeds once the rule against
//! it is taken away: so it is the rule that stops it, and not a slip in the attack.

use super::frames::*;
use super::*;

#[test]
fn networks_do_not_reach_each_other() {
    on_a_host("tests::security::networks_do_not_reach_each_other", |host| {
        run("ip addr add 192.0.2.1/24 dev lo");
        host.create("front", |new| new.ipv6 = true);
        host.create("back", |new| new.ipv6 = true);
        let (a, b) = (host.container("a", &["front"], &[]), host.container("b", &["back"], &["8000:80"]));
        serve(Some(&a.namespace), addr("[::]:80"));
        serve(Some(&b.namespace), addr("[::]:80"));
        for (from, to) in [(&a, &b), (&b, &a)] {
            assert_eq!(fetch(Some(&from.namespace), at(to.ip(), 80)), None);
            assert_eq!(fetch(Some(&from.namespace), at(to.ip6(), 80)), None);
        }
        assert_eq!(fetch(Some(&a.namespace), addr("192.0.2.1:8000")), None, "by a published port");
        assert!(fetch(None, addr("192.0.2.1:8000")).is_some());
        run("nft delete chain inet runion0 forward; nft delete chain inet runion1 forward");
        assert!(fetch(Some(&a.namespace), at(b.ip(), 80)).is_some());
        assert!(fetch(Some(&a.namespace), at(b.ip6(), 80)).is_some());
    });
}

#[test]
fn from_an_internal_network_nobody_outside_is_reached() {
    on_a_host("tests::security::from_an_internal_network_nobody_outside_is_reached", |host| {
        let outside = host.neighbour();
        serve(Some(&outside), addr("[::]:80"));
        serve(None, addr("[::]:81"));
        let network = host.create("inner", |new| (new.internal, new.ipv6) = (true, true));
        let a = host.container("a", &["inner"], &["8000:80"]);
        let b = host.container("b", &["inner"], &[]);
        assert!(a.attached.ports.is_empty(), "nothing is published from it");
        serve(Some(&b.namespace), addr("[::]:80"));
        assert!(fetch(Some(&a.namespace), at(b.ip(), 80)).is_some());
        assert!(fetch(Some(&a.namespace), at(b.ip6(), 80)).is_some());
        let gateways = [network.ipv4().unwrap().gateway, network.ipv6().unwrap().gateway];
        // Not even for a container that makes itself a route.
        run_in(&a.namespace, &format!("ip route add default via {}", gateways[0]));
        run_in(&a.namespace, &format!("ip -6 route add default via {}", gateways[1]));
        let subnet = network.ipv4().unwrap().subnet;
        run_in(&outside, &format!("ip route add {subnet} via 192.0.2.1"));
        run("echo 1 > /proc/sys/net/ipv4/ip_forward");
        for text in ["192.0.2.2:80", "[fd99::2]:80", "192.0.2.1:81", "[fd99::1]:81"] {
            assert_eq!(fetch(Some(&a.namespace), addr(text)), None, "{text}");
        }
        assert_eq!(fetch(Some(&outside), at(b.ip(), 80)), None);
        assert!(fetch(Some(&a.namespace), at(gateways[0], 81)).is_some(), "the bridge's own address");
        run("nft delete table inet runion0");
        assert!(fetch(Some(&a.namespace), addr("192.0.2.2:80")).is_some());
        assert!(fetch(Some(&a.namespace), addr("192.0.2.1:81")).is_some());
    });
}

#[test]
fn only_published_ports_are_reached_from_outside() {
    on_a_host("tests::security::only_published_ports_are_reached_from_outside", |host| {
        let outside = host.neighbour();
        let a = host.container("a", &["bridge"], &[]);
        serve(Some(&a.namespace), addr("[::]:80"));
        let network = &a.attached.endpoints[0].network;
        let subnets = [network.ipv4().unwrap().subnet, network.ipv6().unwrap().subnet];
        run_in(&outside, &format!("ip route add {} via 192.0.2.1", subnets[0]));
        run_in(&outside, &format!("ip -6 route add {} via fd99::1", subnets[1]));
        assert_eq!(fetch(Some(&outside), at(a.ip(), 80)), None);
        assert_eq!(fetch(Some(&outside), at(a.ip6(), 80)), None);
        run("nft delete table inet runion0");
        assert!(fetch(Some(&outside), at(a.ip(), 80)).is_some());
        assert!(fetch(Some(&outside), at(a.ip6(), 80)).is_some());
    });
}

/// A socket of the host that takes datagrams, and whether one comes.
struct Ear(UdpSocket);

impl Ear {
    fn at(text: &str) -> Ear {
        let socket = UdpSocket::bind(text).unwrap();
        socket.set_read_timeout(Some(PATIENCE / 2)).unwrap();
        Ear(socket)
    }

    fn hears(&self) -> bool {
        self.0.recv_from(&mut [0; 64]).is_ok()
    }
}

/// The default bridge's hardware address.
fn bridge_mac() -> Mac {
    Mac::of("10.86.0.1".parse().unwrap())
}

#[test]
fn the_hosts_loopback_is_not_there_for_others() {
    on_a_host("tests::security::the_hosts_loopback_is_not_there_for_others", |host| {
        let outside = host.neighbour();
        let (ear, open_ear) = (Ear::at("127.0.0.1:5555"), Ear::at("0.0.0.0:5556"));
        let a = host.container("a", &["bridge"], &["127.0.0.1:8002:80/udp"]);
        let (mine, bridge) = (a.attached.endpoints[0].lease.mac, bridge_mac());
        let to = |text: &str| datagram((mine, bridge), a.ip(), addr(text), b"hello");
        send(&a.namespace, "eth0", &to("10.86.0.1:5556"));
        assert!(open_ear.hears(), "the frame is a good one");
        send(&a.namespace, "eth0", &to("127.0.0.1:5555"));
        assert!(!ear.hears());
        run("nft delete chain inet runion0 loopback");
        send(&a.namespace, "eth0", &to("127.0.0.1:5555"));
        assert!(ear.hears());

        // What is published on 127.0.0.1 is nothing for the machine next door.
        let inner = inside(a.namespace.as_fd(), || Ok(Ear::at("0.0.0.0:80"))).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", "127.0.0.1:8002").unwrap();
        assert!(inner.hears());
        let macs = run("ip -o link show out0") + &run_in(&outside, "ip -o link show in0");
        let macs: Vec<Mac> = macs
            .split("link/ether ")
            .skip(1)
            .map(|rest| rest.split(' ').next().unwrap().parse().unwrap())
            .collect();
        let frame = datagram((macs[1], macs[0]), "192.0.2.2".parse().unwrap(), addr("127.0.0.1:8002"), b"x");
        send(&outside, "in0", &frame);
        assert!(!inner.hears());
        run("nft flush chain inet runion0 prerouting");
        run("nft add rule inet runion0 prerouting fib daddr type local jump publish");
        send(&outside, "in0", &frame);
        assert!(inner.hears());
    });
}

#[test]
fn a_container_sends_as_itself_alone() {
    on_a_host("tests::security::a_container_sends_as_itself_alone", |host| {
        let (a, b) = (host.container("a", &["bridge"], &[]), host.container("b", &["bridge"], &[]));
        let ear = Ear::at("0.0.0.0:5555");
        let bridge = bridge_mac();
        let (mine, other) = (a.attached.endpoints[0].lease.mac, b.attached.endpoints[0].lease.mac);
        let gateway = addr("10.86.0.1:5555");
        let attacks = [
            ("another's address", datagram((mine, bridge), b.ip(), gateway, b"x")),
            ("another's hardware address", datagram((other, bridge), a.ip(), gateway, b"x")),
            ("another altogether", datagram((other, bridge), b.ip(), gateway, b"x")),
            ("nobody's address", datagram((mine, bridge), "10.86.9.9".parse().unwrap(), gateway, b"x")),
        ];
        send(&a.namespace, "eth0", &datagram((mine, bridge), a.ip(), gateway, b"x"));
        assert!(ear.hears(), "the frame is a good one");
        for (what, frame) in &attacks {
            send(&a.namespace, "eth0", frame);
            assert!(!ear.hears(), "{what}");
        }
        run("nft delete table bridge runion0");
        for (what, frame) in &attacks {
            send(&a.namespace, "eth0", frame);
            assert!(ear.hears(), "{what} without the rules");
        }
    });
}

#[test]
fn a_container_says_of_no_other_address_that_it_has_it() {
    on_a_host("tests::security::a_container_says_of_no_other_address_that_it_has_it", |host| {
        let (a, b) = (host.container("a", &["bridge"], &[]), host.container("b", &["bridge"], &[]));
        let bridge = bridge_mac();
        let (mine, other) = (a.attached.endpoints[0].lease.mac, b.attached.endpoints[0].lease.mac);
        let gateway = a.attached.endpoints[0].network.ipv4().unwrap().gateway;
        let gateway6 = a.attached.endpoints[0].network.ipv6().unwrap().gateway;
        serve(Some(&b.namespace), addr("[::]:80"));
        let known = |ip: IpAddr| run(&format!("ip neigh show {ip} dev runion0"));
        let arp = arp(mine, mine, b.ip(), (bridge, gateway));
        let advertisement = advertisement((mine, bridge), (a.ip6(), gateway6), b.ip6(), mine);
        let attack = || {
            for ip in [b.ip(), b.ip6()] {
                assert!(fetch(None, at(ip, 80)).is_some());
                assert!(known(ip).contains(&other.to_string()), "{}", known(ip));
            }
            send(&a.namespace, "eth0", &arp);
            send(&a.namespace, "eth0", &advertisement);
            std::thread::sleep(PAUSE);
            [b.ip(), b.ip6()].map(|ip| known(ip).contains(&mine.to_string()))
        };
        // A kernel believes no second answer within a second of the first.
        run("echo 0 > /proc/sys/net/ipv4/neigh/runion0/locktime");
        assert_eq!(attack(), [false, false]);
        run("nft delete table bridge runion0");
        run("ip neigh flush dev runion0");
        assert_eq!(attack(), [true, true], "without the rules");
    });
}

const PAUSE: Duration = Duration::from_millis(100);

#[test]
fn a_container_is_no_router() {
    on_a_host("tests::security::a_container_is_no_router", |host| {
        let (a, b) = (host.container("a", &["bridge"], &[]), host.container("b", &["bridge"], &[]));
        run_in(&b.namespace, "echo 2 > /proc/sys/net/ipv6/conf/eth0/accept_ra");
        let mac = a.attached.endpoints[0].lease.mac;
        // The address on the link alone of a new link is not to be used at once.
        run_in(
            &a.namespace,
            "timeout 3 sh -c \"while ip addr show eth0 | grep tentative; do sleep 0.1; done\"",
        );
        let attack = || {
            send(&a.namespace, "eth0", &router(mac));
            std::thread::sleep(PAUSE);
            [run("ip -6 route"), run_in(&b.namespace, "ip -6 route")]
                .map(|routes| routes.contains("2001:db8:bad"))
        };
        assert_eq!(attack(), [false, false]);
        run("nft delete table bridge runion0");
        assert_eq!(attack(), [false, true], "without the rules the neighbour believes it, the host does not");
    });
}

#[test]
fn an_address_of_ipv6_takes_a_network_with_ipv6() {
    on_a_host("tests::security::an_address_of_ipv6_takes_a_network_with_ipv6", |host| {
        host.create("old", |_| ());
        let a = host.container("a", &["old"], &[]);
        serve(None, addr("[::]:81"));
        let local = Mac::of("10.87.0.1".parse().unwrap()).link_local();
        let attempt = |container: &Container| {
            let path = path(&container.namespace);
            tried(&format!(
                "nsenter --net={path} python3 -c \
                 'import socket; socket.create_connection((\"{local}%eth0\", 81), 0.8)'"
            ))
        };
        run_in(&a.namespace, "echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6");
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!attempt(&a).1, "by the address that links make themselves");
        run("nft delete table bridge runion0");
        let (said, reached) = attempt(&a);
        assert!(reached, "without the rules: {said}");
    });
}

#[test]
fn neighbours_are_kept_apart_where_that_is_asked_for() {
    on_a_host("tests::security::neighbours_are_kept_apart_where_that_is_asked_for", |host| {
        let outside = host.neighbour();
        serve(Some(&outside), addr("0.0.0.0:80"));
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        host.create("apart", |new| {
            new.options.extend([
                option("com.docker.network.bridge.enable_icc", "false"),
                option("com.docker.network.driver.mtu", "1400"),
                option("com.docker.network.bridge.enable_ip_masquerade", "false"),
            ]);
        });
        let (a, b) = (host.container("a", &["apart"], &[]), host.container("b", &["apart"], &[]));
        serve(Some(&b.namespace), addr("0.0.0.0:80"));
        assert_eq!(fetch(Some(&a.namespace), at(b.ip(), 80)), None);
        assert!(fetch(None, at(b.ip(), 80)).is_some());
        assert!(run_in(&a.namespace, "ip link show eth0").contains("mtu 1400"));
        run_in(&outside, "ip route add 10.87.0.0/24 via 192.0.2.1");
        let undisguised = fetch(Some(&a.namespace), addr("192.0.2.2:80"));
        assert_eq!(undisguised, Some(a.ip().to_string()));
        run("nft delete table bridge runion0");
        assert!(fetch(Some(&a.namespace), at(b.ip(), 80)).is_some());
        let mut odd = New { name: "odd".to_owned(), ..New::default() };
        odd.options.extend([option("mtu", "much")]);
        assert!(host.networks.create(odd).unwrap_err().to_string().contains("invalid option mtu=much"));
    });
}

#[test]
fn what_others_drop_is_found() {
    on_a_host("tests::security::what_others_drop_is_found", |host| {
        let outside = host.neighbour();
        serve(Some(&outside), addr("0.0.0.0:80"));
        let a = host.container("a", &["bridge"], &[]);
        assert_eq!(diagnosis::diagnose(), []);
        run(
            "nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'",
        );
        assert_eq!(fetch(Some(&a.namespace), addr("192.0.2.2:80")), None);
        let findings = diagnosis::diagnose();
        assert_eq!(findings.len(), 1, "{findings:?}");
        // What the hint says helps.
        for command in findings[0].hint.split("nft '").skip(1) {
            run(&format!("nft '{}'", command.split('\'').next().unwrap()));
        }
        assert!(fetch(Some(&a.namespace), addr("192.0.2.2:80")).is_some());
    });
}
