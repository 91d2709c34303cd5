//! What is there, and what is left.

use std::time::Instant;

use super::*;

/// Containers' links go with their namespaces, a moment later.
fn assert_no_links() {
    let start = Instant::now();
    while !run("ip -o link | grep -F rn || true").is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", traces());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The elements that containers have in packet filters.
fn elements() -> String {
    run("nft list ruleset | grep -A3 elements || true")
}

#[test]
fn nothing_is_left() {
    on_a_host("tests::lifecycle::nothing_is_left", |host| {
        host.create("front", |new| new.ipv6 = true);
        let a = host.container("a", &["front", "bridge"], &["8000:80", "9000/udp"]);
        assert_eq!(a.attached.ports.len(), 4, "{:?}", a.attached.ports);
        let names: Vec<_> = a.attached.endpoints.iter().map(|end| end.lease.interface.clone()).collect();
        assert_eq!(names, ["eth0", "eth1"]);
        let used = host.networks.remove("front").unwrap_err().to_string();
        assert!(used.contains("error while removing network: network front id"), "{used}");
        assert!(used.contains("has active endpoints"), "{used}");
        detach(&host.networks, &a.id, Namespace::Ends).unwrap();
        detach(&host.networks, &a.id, Namespace::Ends).unwrap();
        drop(a);
        assert_eq!(elements(), "");
        assert_no_links();
        let b = host.container("b", &["bridge"], &["8000:80"]);
        detach(&host.networks, &b.id, Namespace::Stays).unwrap();
        assert_eq!(run("ip -o link | grep -F rn0 || true"), "", "removed although the namespace stays");
        assert_eq!(leases(&host.dir), 0);
        let removed = host.networks.prune(&|_| true).unwrap();
        assert_eq!(removed.len(), 1);
        assert_eq!(traces(), "");
        // And all of it comes again.
        let c = host.container("c", &["bridge"], &[]);
        serve(Some(&c.namespace), addr("0.0.0.0:80"));
        assert!(fetch(None, at(c.ip(), 80)).is_some());
    });
}

#[test]
fn a_container_starts_again_at_once() {
    on_a_host("tests::lifecycle::a_container_starts_again_at_once", |host| {
        let mut before = Vec::new();
        for _ in 0..5 {
            let a = host.container("a", &["bridge"], &["8000:80"]);
            serve(Some(&a.namespace), addr("0.0.0.0:80"));
            assert!(fetch(None, addr("127.0.0.1:8000")).is_some());
            detach(&host.networks, &a.id, Namespace::Ends).unwrap();
            // Its namespace may take its time.
            before.push(a.namespace);
        }
    });
}

#[test]
fn a_container_that_was_killed_starts_again() {
    on_a_host("tests::lifecycle::a_container_that_was_killed_starts_again", |host| {
        host.create("front", |_| ());
        drop(host.container("a", &["front", "bridge"], &["8000:80"]));
        // Nobody has taken it off its networks.
        let a = host.container("a", &["bridge"], &["8000:80"]);
        serve(Some(&a.namespace), addr("0.0.0.0:80"));
        assert!(fetch(None, addr("127.0.0.1:8000")).is_some());
        assert_eq!(leases(&host.dir), 1);
        let twice = host.try_container("b", &["bridge", "bridge"], &[]).err().unwrap().to_string();
        assert!(twice.contains("endpoint with name b already exists in network bridge"), "{twice}");
        assert_eq!(leases(&host.dir), 1);
    });
}

#[test]
fn a_taken_port_fails_before_anything_is_made() {
    on_a_host("tests::lifecycle::a_taken_port_fails_before_anything_is_made", |host| {
        let _web = host.container("web", &["bridge"], &["8000:80"]);
        let _listener = TcpListener::bind("127.0.0.1:9000").unwrap();
        let before = traces();
        let refused = |ports: &[&str]| host.try_container("b", &["bridge"], ports).err().unwrap().to_string();
        let words = refused(&["8000:80"]);
        assert!(words.contains("Bind for 0.0.0.0:8000 failed: port is already allocated"), "{words}");
        assert!(words.contains("container web publishes it"), "{words}");
        let words = refused(&["7000:80", "9000:80"]);
        assert!(words.contains("listen tcp4 0.0.0.0:9000: bind: address already in use"), "{words}");
        assert_eq!(traces(), before);
        assert_eq!(leases(&host.dir), 1);
        assert!(TcpListener::bind("0.0.0.0:7000").is_ok(), "what was reserved for nothing is free");
        assert!(TcpListener::bind("0.0.0.0:8000").is_err(), "what is published is not");
    });
}

#[test]
fn addresses_are_as_asked_for() {
    on_a_host("tests::lifecycle::addresses_are_as_asked_for", |host| {
        let subnets = ["10.5.0.0/29", "fd05::/64"].map(|text| text.parse().unwrap()).to_vec();
        host.create("small", |new| (new.ipv6, new.subnets) = (true, subnets));
        let with = |name: &str, ip: &str, ip6: Option<&str>| {
            let mut request = request(name, &["small"], &[]);
            request.networks[0].ip = Some(ip.parse().unwrap());
            request.networks[0].ip6 = ip6.map(|ip| ip.parse().unwrap());
            request.networks[0].mac = Some("02:00:00:00:00:05".parse().unwrap());
            attach_now(&host.networks, &request, namespace().as_fd())
        };
        let lease = with("a", "10.5.0.5", Some("fd05::55")).unwrap().endpoints[0].lease.clone();
        assert_eq!(
            (lease.address.to_string(), lease.address6.unwrap().to_string()),
            ("10.5.0.5".into(), "fd05::55".into())
        );
        assert_eq!(lease.mac.to_string(), "02:00:00:00:00:05");
        for (ip, words) in [
            ("10.5.0.5", "Address already in use"),
            ("10.5.0.1", "Address already in use"),
            ("10.5.0.8", "It does not belong to any of this network's subnets"),
            ("10.5.0.7", "It does not belong to any of this network's subnets"),
            ("10.5.0.6", "another container's hardware address"),
        ] {
            let failure = with("b", ip, None).unwrap_err().to_string();
            assert!(failure.contains(words), "{ip}: {failure}");
        }
        let free: Vec<_> =
            ["c", "d", "e", "f"].map(|name| host.container(name, &["small"], &[])).into_iter().collect();
        let given: Vec<_> = free.iter().map(|container| container.ip().to_string()).collect();
        assert_eq!(given, ["10.5.0.2", "10.5.0.3", "10.5.0.4", "10.5.0.6"]);
        let full = host.try_container("g", &["small"], &[]).err().unwrap().to_string();
        assert!(
            full.contains("no available IPv4 addresses on this network's address pools: small ("),
            "{full}"
        );
        let fixed = Wish { ip: Some("10.86.0.9".parse().unwrap()), ..wish("bridge") };
        let request = Request { networks: vec![fixed], ..request("h", &[], &[]) };
        let failure = attach_now(&host.networks, &request, namespace().as_fd()).unwrap_err().to_string();
        assert!(failure.contains("user specified IP address is supported on user defined networks only"));
    });
}

#[test]
fn rules_that_another_program_flushed_come_again() {
    on_a_host("tests::lifecycle::rules_that_another_program_flushed_come_again", |host| {
        let a = host.container("a", &["bridge"], &["8000:80"]);
        serve(Some(&a.namespace), addr("0.0.0.0:80"));
        assert_eq!(diagnosis::restore(&host.networks).unwrap(), []);
        run("nft flush ruleset");
        assert!(fetch(None, addr("127.0.0.1:8000")).is_none());
        let _b = host.container("b", &["bridge"], &[]);
        assert!(fetch(None, addr("127.0.0.1:8000")).is_some());
        // One of the two tables is enough to be missed.
        for lost in ["flush ruleset", "delete table bridge runion0"] {
            run(&format!("nft {lost}"));
            let found = diagnosis::without_filters(&host.networks).unwrap();
            assert_eq!(found.iter().map(|network| network.name.as_str()).collect::<Vec<_>>(), ["bridge"]);
            assert_eq!(diagnosis::restore(&host.networks).unwrap().len(), 1);
            assert_eq!(diagnosis::without_filters(&host.networks).unwrap(), []);
            assert!(fetch(None, addr("127.0.0.1:8000")).is_some());
        }
    });
}

#[test]
fn others_rules_stay_as_they_are() {
    on_a_host("tests::lifecycle::others_rules_stay_as_they_are", |host| {
        run(
            "nft add table inet theirs; nft add chain inet theirs c \"{ type filter hook input priority 0; }\"",
        );
        run("ip link add runion0 type bridge; ip link set runion0 alias theirs");
        let before = run("nft list table inet theirs");
        let a = host.container("a", &["bridge"], &["8000:80"]);
        assert_eq!(a.attached.endpoints[0].network.bridge, "runion1", "the first name is taken");
        detach(&host.networks, &a.id, Namespace::Stays).unwrap();
        host.networks.prune(&|_| true).unwrap();
        assert_eq!(run("nft list ruleset"), before);
        assert!(run("ip link show runion0").contains("theirs"));
    });
}

#[test]
fn many_come_at_once() {
    on_a_host("tests::lifecycle::many_come_at_once", |host| {
        let addresses: Vec<IpAddr> = std::thread::scope(|scope| {
            let start = |at: usize| {
                let host = &*host;
                scope.spawn(move || {
                    let container = host.container(&format!("c{at}"), &["bridge"], &["80"]);
                    (container.ip(), container.attached.ports[0].host_port)
                })
            };
            let started: Vec<_> = (0..20).map(start).collect();
            started.into_iter().map(|thread| thread.join().unwrap().0).collect()
        });
        let different: std::collections::HashSet<_> = addresses.iter().collect();
        assert_eq!(different.len(), 20);
        assert_eq!(sweep(&host.networks, &|_| false).unwrap().len(), 20);
        assert_eq!(elements(), "");
        assert_no_links();
    });
}

/// A process that only comes and goes, to be killed anywhere.
#[test]
fn victim() {
    let Some(dir) = std::env::var_os("RUNION_TEST_VICTIM") else { return };
    let networks = Networks::open(Path::new(&dir)).unwrap();
    for round in 0.. {
        let request = request(&format!("v{round}"), &["bridge"], &["127.0.0.1::80"]);
        drop(attach_now(&networks, &request, namespace().as_fd()).unwrap());
        let ends = if round % 2 == 0 { Namespace::Ends } else { Namespace::Stays };
        detach(&networks, &request.container, ends).unwrap();
    }
}

#[test]
fn a_killed_process_leaves_what_the_next_removes() {
    on_a_host("tests::lifecycle::a_killed_process_leaves_what_the_next_removes", |host| {
        for round in 0..40 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "network::tests::lifecycle::victim"])
                .env("RUNION_TEST_VICTIM", &host.dir)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_micros(4_000 + round * 613));
            child.kill().unwrap();
            child.wait().unwrap();
            sweep(&host.networks, &|_| false).unwrap();
            assert_eq!(elements(), "", "round {round}");
            assert_eq!(leases(&host.dir), 0, "round {round}");
            if round % 2 == 0 {
                // So that making the bridge is among what is interrupted.
                host.networks.prune(&|_| true).unwrap();
            }
        }
        assert_no_links();
        let a = host.container("a", &["bridge"], &["8000:80"]);
        serve(Some(&a.namespace), addr("0.0.0.0:80"));
        assert!(fetch(None, addr("127.0.0.1:8000")).is_some());
        let lives = |id: &str| id == a.id;
        assert_eq!(sweep(&host.networks, &lives).unwrap(), [""; 0]);
        assert!(fetch(None, addr("127.0.0.1:8000")).is_some());
    });
}

#[test]
fn two_stores_share_a_host() {
    on_a_host("tests::lifecycle::two_stores_share_a_host", |host| {
        // Both choose the same name and addresses, for neither is there yet.
        let other =
            Host { dir: host.dir.join("other"), networks: Networks::open(&host.dir.join("other")).unwrap() };
        assert_eq!(
            host.networks.find("bridge").unwrap().bridge,
            other.networks.find("bridge").unwrap().bridge
        );
        let (a, b) = (host.container("a", &["bridge"], &[]), other.container("b", &["bridge"], &[]));
        let subnet = |container: &Container| container.attached.endpoints[0].network.subnets[0].subnet;
        assert!(!subnet(&a).overlaps(subnet(&b)));
        for container in [&a, &b] {
            serve(Some(&container.namespace), addr("0.0.0.0:80"));
            assert!(fetch(None, at(container.ip(), 80)).is_some());
        }
        assert_eq!(fetch(Some(&a.namespace), at(b.ip(), 80)), None, "and keep apart");
    });
}

#[test]
fn a_host_goes_on_listening_to_its_routers() {
    on_a_host("tests::lifecycle::a_host_goes_on_listening_to_its_routers", |host| {
        let _outside = host.neighbour();
        let setting = |link: &str| run(&format!("cat /proc/sys/net/ipv6/conf/{link}/accept_ra"));
        run("echo 1 > /proc/sys/net/ipv6/conf/out0/accept_ra");
        let a = host.container("a", &["bridge"], &[]);
        assert_eq!(run("cat /proc/sys/net/ipv6/conf/all/forwarding"), "1\n");
        assert_eq!(setting("out0"), "2\n", "a host that forwards would listen no longer");
        assert_eq!(setting("runion0"), "0\n");
        assert_eq!(run_in(&a.namespace, "cat /proc/sys/net/ipv6/conf/eth0/accept_ra"), "0\n");
    });
}

#[test]
fn a_host_may_have_its_ipv6_switched_off() {
    on_a_host("tests::lifecycle::a_host_may_have_its_ipv6_switched_off", |host| {
        for which in ["all", "default"] {
            run(&format!("echo 1 > /proc/sys/net/ipv6/conf/{which}/disable_ipv6"));
        }
        let (a, b) = (host.container("a", &["bridge"], &["8000:80"]), host.container("b", &["bridge"], &[]));
        serve(Some(&a.namespace), addr("[::]:80"));
        assert!(fetch(Some(&b.namespace), at(a.ip(), 80)).is_some());
        assert!(fetch(Some(&b.namespace), at(a.ip6(), 80)).is_some());
        assert!(fetch(None, addr("127.0.0.1:8000")).is_some());
    });
}
