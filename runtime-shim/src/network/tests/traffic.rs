//! What must get through.

use super::*;

#[test]
fn neighbours_reach_each_other_and_the_outside() {
    on_a_host("tests::traffic::neighbours_reach_each_other_and_the_outside", |host| {
        let outside = host.neighbour();
        let (a, b) = (host.container("a", &["bridge"], &[]), host.container("b", &["bridge"], &[]));
        serve(Some(&b.namespace), addr("[::]:80"));
        assert_eq!(fetch(Some(&a.namespace), at(b.ip(), 80)), Some(format!("::ffff:{}", a.ip())));
        assert_eq!(fetch(Some(&a.namespace), at(b.ip6(), 80)), Some(a.ip6().to_string()));
        // The container's own loopback, and the host as a client.
        assert!(fetch(Some(&b.namespace), addr("127.0.0.1:80")).is_some());
        assert!(fetch(None, at(b.ip(), 80)).is_some());
        assert!(fetch(None, at(b.ip6(), 80)).is_some());
        // Outside all containers are the host.
        serve(Some(&outside), addr("[::]:80"));
        assert_eq!(fetch(Some(&a.namespace), addr("192.0.2.2:80")).as_deref(), Some("::ffff:192.0.2.1"));
        assert_eq!(fetch(Some(&a.namespace), addr("[fd99::2]:80")).as_deref(), Some("fd99::1"));
        assert_eq!(leases(&host.dir), 2);
    });
}

#[test]
fn published_ports_are_reached_from_everywhere_asked_for() {
    on_a_host("tests::traffic::published_ports_are_reached_from_everywhere_asked_for", |host| {
        let outside = host.neighbour();
        for bridged_frames_pass_ip_filters in ["1", "0"] {
            let setting = "/proc/sys/net/bridge/bridge-nf-call-ip";
            for protocol in ["", "6"] {
                // Without the module br_netfilter it is 0.
                tried(&format!("echo {bridged_frames_pass_ip_filters} > {setting}{protocol}tables"));
            }
            let web =
                host.container("web", &["bridge"], &["8000:80", "192.0.2.1:8001:80", "127.0.0.1:8002:80"]);
            let other = host.container("other", &["bridge"], &[]);
            serve(Some(&web.namespace), addr("[::]:80"));
            let from = |client, text: &str| fetch(client, addr(text));
            assert!(from(None, "127.0.0.1:8000").is_some(), "the host's loopback");
            assert!(from(None, "192.0.2.1:8000").is_some());
            assert!(from(None, "[fd99::1]:8000").is_some());
            let client = Some("::ffff:192.0.2.2");
            assert_eq!(from(Some(&outside), "192.0.2.1:8000").as_deref(), client, "no disguise");
            assert_eq!(from(Some(&outside), "[fd99::1]:8000").as_deref(), Some("fd99::2"));
            for (who, inside) in [("itself", &web.namespace), ("its neighbour", &other.namespace)] {
                assert!(from(Some(inside), "192.0.2.1:8000").is_some(), "{who}");
                assert!(from(Some(inside), "[fd99::1]:8000").is_some(), "{who} by IPv6");
                assert!(from(Some(inside), "192.0.2.1:8001").is_some(), "{who}");
            }
            // One address alone.
            assert_eq!(from(Some(&outside), "192.0.2.1:8001").as_deref(), client);
            assert!(from(None, "127.0.0.1:8001").is_none());
            assert!(from(None, "127.0.0.1:8002").is_some());
            assert!(from(None, "192.0.2.1:8002").is_none());
            detach(&host.networks, &web.id, Namespace::Ends).unwrap();
            detach(&host.networks, &other.id, Namespace::Ends).unwrap();
            assert!(from(None, "127.0.0.1:8000").is_none());
            assert!(from(Some(&outside), "192.0.2.1:8000").is_none());
        }
    });
}

#[test]
fn datagrams_are_published_too() {
    on_a_host("tests::traffic::datagrams_are_published_too", |host| {
        let outside = host.neighbour();
        let container = host.container("a", &["bridge"], &["5300:53/udp"]);
        let server =
            inside(container.namespace.as_fd(), || Ok(UdpSocket::bind("0.0.0.0:53").unwrap())).unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let client = inside(outside.as_fd(), || Ok(UdpSocket::bind("0.0.0.0:0").unwrap())).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 16];
        client.send_to(b"hello", "192.0.2.1:5300").unwrap();
        let (length, peer) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"hello");
        server.send_to(b"answer", peer).unwrap();
        let (length, peer) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], peer), (&b"answer"[..], addr("192.0.2.1:5300")));
    });
}

#[test]
fn a_running_container_changes_its_networks() {
    on_a_host("tests::traffic::a_running_container_changes_its_networks", |host| {
        let outside = host.neighbour();
        serve(Some(&outside), addr("0.0.0.0:80"));
        host.create("front", |_| ());
        host.create("back", |_| ());
        let a = host.container("a", &["front"], &[]);
        let b = host.container("b", &["back"], &[]);
        serve(Some(&b.namespace), addr("0.0.0.0:80"));
        assert_eq!(fetch(Some(&a.namespace), at(b.ip(), 80)), None);
        let holder = Holder { container: &a.id, name: "a", hostname: "a" };
        let joined = connect(&host.networks, &holder, &wish("back"), a.namespace.as_fd()).unwrap();
        assert_eq!(joined.lease.interface, "eth1");
        assert!(fetch(Some(&a.namespace), at(b.ip(), 80)).is_some());
        let again = connect(&host.networks, &holder, &wish("back"), a.namespace.as_fd()).unwrap_err();
        assert!(again.to_string().contains("endpoint with name a already exists in network back"));
        assert!(fetch(Some(&a.namespace), at(b.ip(), 80)).is_some(), "a refusal takes nothing away");
        // The way out moves to the network that is left.
        disconnect(&host.networks, "front", &a.id).unwrap();
        assert!(fetch(Some(&a.namespace), addr("192.0.2.2:80")).is_some());
        assert!(disconnect(&host.networks, "front", &a.id).is_err());
    });
}

#[test]
fn what_filters_cannot_lead_on_is_passed_on() {
    on_a_host("tests::traffic::what_filters_cannot_lead_on_is_passed_on", |host| {
        let outside = host.neighbour();
        host.create("old", |_| ());
        let ports = ["8000:80", "[::1]:8001:80", "5300:53/udp", "[::1]:5301:53/udp"];
        let six = host.container("six", &["bridge"], &ports);
        let ports = ["9000:80", "[fd99::1]:9001:80", "6300:53/udp", "[::1]:6301:53/udp"];
        let four = host.container("four", &["old"], &ports);
        for container in [six, four] {
            serve(Some(&container.namespace), addr("[::]:80"));
            echo(&container.namespace, addr("[::]:53"));
            assert!(!container.attached.relays.is_empty());
            container.attached.relays.into_iter().for_each(|relay| relay.start().unwrap());
        }
        std::thread::sleep(Duration::from_millis(100));
        let from = |client, text: &str| fetch(client, addr(text));
        for text in ["[::1]:8000", "[::1]:8001", "[::1]:9000", "127.0.0.1:9000", "[fd99::1]:9001"] {
            assert!(from(None, text).is_some(), "{text}");
        }
        assert!(from(Some(&outside), "[fd99::1]:9000").is_some(), "to a container without IPv6");
        let undisguised = from(Some(&outside), "[fd99::1]:8000");
        assert_eq!(undisguised.as_deref(), Some("fd99::2"), "by packet filters, where they can");
        for text in ["127.0.0.1:8001", "[fd99::1]:8001", "[::1]:9001", "127.0.0.1:9001"] {
            assert!(from(None, text).is_none(), "{text}");
        }
        for text in ["[::1]:5300", "127.0.0.1:5300", "[::1]:5301", "[::1]:6300", "[::1]:6301"] {
            assert!(asks(None, addr(text)), "{text}");
        }
        for text in ["[fd99::1]:5300", "[fd99::1]:6300", "192.0.2.1:6300"] {
            assert!(asks(Some(&outside), addr(text)), "{text}");
        }
        assert!(!asks(Some(&outside), addr("[fd99::1]:5301")), "it is the host's own alone");
    });
}

/// Answers each datagram with itself.
fn echo(namespace: &OwnedFd, address: SocketAddr) {
    let socket = inside(namespace.as_fd(), || Ok(UdpSocket::bind(address).unwrap())).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..length], peer).unwrap();
        }
    });
}

/// Whether a datagram is answered by whom it was sent to.
fn asks(client: Option<&OwnedFd>, address: SocketAddr) -> bool {
    let any = if address.is_ipv4() { addr("0.0.0.0:0") } else { addr("[::]:0") };
    let bind = || Ok(UdpSocket::bind(any).unwrap());
    let socket = client.map_or_else(bind, |client| inside(client.as_fd(), bind)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut buffer = [0; 64];
    // Only a connected socket minds whose answer it is; a first packet may be lost to
    // finding neighbours.
    socket.connect(address).unwrap();
    (0..3).any(|_| socket.send(b"hello").is_ok() && socket.recv(&mut buffer).is_ok())
}

#[test]
fn a_client_that_never_pauses_is_led_on_and_let_go() {
    on_a_host("tests::traffic::a_client_that_never_pauses_is_led_on_and_let_go", |host| {
        let outside = host.neighbour();
        let client = inside(outside.as_fd(), || Ok(UdpSocket::bind("192.0.2.2:4000").unwrap())).unwrap();
        let knock = || {
            // What was refused before is told on the next call.
            while client.send_to(b"hello", "192.0.2.1:5300").is_err() {}
        };
        knock();
        let serve = |container: &Container| {
            let ear = inside(container.namespace.as_fd(), || Ok(UdpSocket::bind("0.0.0.0:53").unwrap()));
            let ear = ear.unwrap();
            ear.set_read_timeout(Some(PATIENCE)).unwrap();
            ear
        };
        let hears = |ear: &UdpSocket| ear.recv_from(&mut [0; 16]).is_ok();
        let first = host.container("first", &["bridge"], &["5300:53/udp"]);
        let ear = serve(&first);
        knock();
        assert!(hears(&ear), "although it had knocked before");
        detach(&host.networks, &first.id, Namespace::Ends).unwrap();
        let second = host.container("second", &["bridge"], &[]);
        assert_eq!(second.ip(), first.ip());
        let ear = serve(&second);
        knock();
        assert!(!hears(&ear), "its address is another's now");
    });
}

#[test]
fn a_container_may_have_a_user_namespace_of_its_own() {
    on_a_host("tests::traffic::a_container_may_have_a_user_namespace_of_its_own", |host| {
        let mut child = Command::new("unshare").args(["-U", "-n", "sleep", "20"]).spawn().unwrap();
        let file = format!("/proc/{}/ns/net", child.id());
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        while std::fs::read_link(&file).unwrap() == own {
            std::thread::sleep(Duration::from_millis(5));
        }
        let namespace = OwnedFd::from(std::fs::File::open(file).unwrap());
        attach_now(&host.networks, &request("a", &["bridge"], &["8000:80"]), namespace.as_fd()).unwrap();
        serve(Some(&namespace), addr("0.0.0.0:80"));
        assert!(fetch(None, addr("127.0.0.1:8000")).is_some());
        dns::bind(namespace.as_fd()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    });
}
