//! Names asked for by dig, in network namespaces made for the test.

use std::net::IpAddr;

use super::message::Record;
use super::*;
use crate::network::tests::{Container, Host, attach_now, on_a_host, path, run, tried};
use crate::network::{LedBy, New, Request, Wish, detach};

/// Serves a container its names, for as long as the process lives.
fn serve_names(host: &Host, container: &Container) {
    let resolver = Resolver {
        networks: host.networks.clone(),
        container: container.id.clone(),
        wish: DnsWish::default(),
    };
    let sockets = bind(container.namespace.as_fd()).unwrap();
    std::thread::spawn(move || serve(&sockets, &resolver));
}

/// A server on the host's own loopback. It knows all names that end in
/// `.example`: `big.example` has a hundred addresses, `slow.example` never an answer.
pub fn host_server(address: &str) {
    let text = |question: &Question, longest| match question.name.as_str() {
        "slow.example" => None,
        "big.example" => {
            let many = (0..100u8).map(|at| Record::Address(IpAddr::from([203, 0, 113, at])));
            Some(question.answer(&many.collect::<Vec<_>>(), longest))
        }
        name if name.ends_with(".example") => {
            Some(question.answer(&[Record::Address(IpAddr::from([203, 0, 113, 5]))], longest))
        }
        _ => Some(question.refuse(Refusal::NoSuchName)),
    };
    let socket = UdpSocket::bind((address, PORT)).unwrap();
    std::thread::spawn(move || {
        while let Some((message, client)) = receive(&socket) {
            if let Some(answer) = text(&Question::parse(&message).unwrap(), LONGEST_DATAGRAM) {
                socket.send_to(&answer, client).unwrap();
            }
        }
    });
    let listener = TcpListener::bind((address, PORT)).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            while let Ok(message) = read_framed(&mut connection) {
                let answer = text(&Question::parse(&message).unwrap(), 65535).unwrap();
                write_framed(&mut connection, &answer).unwrap();
            }
        }
    });
}

/// The host's resolv.conf, in its own mount namespace.
pub fn host_asks(host: &Host, servers: &[&str]) {
    let lines: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    let file = host.dir.join("resolv.conf");
    std::fs::write(&file, lines).unwrap();
    run(&format!("mount --bind {} $(readlink -f /etc/resolv.conf)", file.display()));
}

/// The status and the sorted answers that dig gets.
fn dig(container: &Container, what: &str) -> (String, Vec<String>) {
    let path = path(&container.namespace);
    let command =
        format!("nsenter --net={path} dig @127.0.0.11 +tries=1 +time=5 +noall +answer +comments {what}");
    let (said, _) = tried(&command);
    let status = said.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or(&said);
    let answers = said
        .lines()
        .filter(|line| !line.starts_with(';') && line.split_ascii_whitespace().any(|word| word == "IN"));
    let mut answers: Vec<String> =
        answers.filter_map(|line| line.split_ascii_whitespace().last()).map(str::to_owned).collect();
    answers.sort();
    (status.to_owned(), answers)
}

fn found(addresses: &[&str]) -> (String, Vec<String>) {
    ("NOERROR".to_owned(), addresses.iter().map(|address| (*address).to_owned()).collect())
}

fn status(status: &str) -> (String, Vec<String>) {
    (status.to_owned(), Vec::new())
}

fn has_dig() -> bool {
    let has = tried("dig -v").1;
    if !has {
        println!("skipped: dig is not installed");
    }
    has
}

#[test]
fn neighbours_are_found_by_their_names() {
    on_a_host("dns::tests::neighbours_are_found_by_their_names", |host| {
        if !has_dig() {
            return;
        }
        host_asks(host, &[]);
        host.create("front", |new| new.ipv6 = true);
        host.create("back", |_| ());
        let a = host.container("web", &["front"], &[]);
        serve_names(host, &a);
        assert_eq!(dig(&a, "db"), status("SERVFAIL"), "not there yet, and nobody to ask");
        let namespace = crate::network::tests::namespace();
        let wish = |aliases: &[&str]| Wish {
            network: "front".to_owned(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            ..Wish::default()
        };
        let request = Request {
            container: "0123456789abcdef".repeat(4),
            name: "db".to_owned(),
            hostname: "postgres".to_owned(),
            networks: vec![wish(&["Store"])],
            publish: Vec::new(),
            led_by: LedBy::Filters,
        };
        let attached = attach_now(&host.networks, &request, namespace.as_fd()).unwrap();
        let lease = &attached.endpoints[0].lease;
        let (ip, ip6) = (lease.address.to_string(), lease.address6.unwrap().to_string());
        for name in ["db", "DB.front", "postgres", "store", "0123456789ab", "+tcp db"] {
            assert_eq!(dig(&a, name), found(&[&ip]), "{name}");
        }
        assert_eq!(dig(&a, "db AAAA"), found(&[&ip6]));
        assert_eq!(dig(&a, "db MX"), found(&[]), "the name exists");
        assert_eq!(dig(&a, &format!("-x {ip}")), found(&["db.front."]));
        assert_eq!(dig(&a, &format!("-x {ip6}")), found(&["db.front."]));
        assert_eq!(dig(&a, "-x 10.87.0.77"), status("NXDOMAIN"), "would be ours");
        assert_eq!(dig(&a, "web"), found(&[&a.ip().to_string()]), "itself");
        let own = || Ok((UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("[::]:53").unwrap()));
        let own = inside(a.namespace.as_fd(), own).unwrap();
        assert_eq!(dig(&a, "db"), found(&[&ip]), "a server of names itself");
        drop(own);

        // From another network there is no such name; two of one name are both found.
        let other = host.container("other", &["back"], &[]);
        serve_names(host, &other);
        assert_eq!(dig(&other, "db"), status("SERVFAIL"));
        let second =
            Request { container: "f".repeat(64), networks: vec![wish(&["store"])], ..request.clone() };
        let second_namespace = crate::network::tests::namespace();
        let second = attach_now(&host.networks, &second, second_namespace.as_fd()).unwrap();
        let both = second.endpoints[0].lease.address.to_string();
        assert_eq!(dig(&a, "store"), found(&[&ip, &both]));
        detach(&host.networks, &request.container, crate::network::Namespace::Ends).unwrap();
        assert_eq!(dig(&a, "store"), found(&[&both]));
    });
}

#[test]
fn everything_else_is_asked_from_where_the_host_stands() {
    on_a_host("dns::tests::everything_else_is_asked_from_where_the_host_stands", |host| {
        if !has_dig() {
            return;
        }
        host_server("127.0.0.53");
        host.create("front", |_| ());
        let a = host.container("web", &["front"], &[]);
        serve_names(host, &a);
        // The first server is not there, the second on the host's loopback.
        for servers in [&["127.0.0.53"][..], &["127.0.0.54", "127.0.0.53"]] {
            host_asks(host, servers);
            assert_eq!(dig(&a, "www.example"), found(&["203.0.113.5"]));
            assert_eq!(dig(&a, "www.example +tcp"), found(&["203.0.113.5"]));
            assert_eq!(dig(&a, "no.such.name"), status("NXDOMAIN"));
        }
        assert_eq!(dig(&a, "big.example").1.len(), 100, "what is too long comes by a connection");
        assert_eq!(dig(&a, "big.example +ignore +noedns").1.len(), 30, "what fits into a datagram");
        assert_eq!(dig(&a, "slow.example"), status("SERVFAIL"), "before the asker's patience ends");
    });
}

#[test]
fn from_an_internal_network_nobody_is_asked() {
    on_a_host("dns::tests::from_an_internal_network_nobody_is_asked", |host| {
        if !has_dig() {
            return;
        }
        host_server("127.0.0.53");
        host_asks(host, &["127.0.0.53"]);
        host.create("inner", |new: &mut New| new.internal = true);
        host.create("front", |_| ());
        let (a, b) = (host.container("a", &["inner"], &[]), host.container("b", &["inner", "front"], &[]));
        serve_names(host, &a);
        serve_names(host, &b);
        assert_eq!(dig(&a, "www.example"), status("NXDOMAIN"));
        assert_eq!(dig(&a, "b"), found(&[&b.ip().to_string()]));
        assert_eq!(dig(&b, "www.example"), found(&["203.0.113.5"]), "one of its networks is not internal");
    });
}

#[test]
fn hostile_packets_do_no_harm() {
    on_a_host("dns::tests::hostile_packets_do_no_harm", |host| {
        if !has_dig() {
            return;
        }
        host_asks(host, &[]);
        host.create("front", |_| ());
        let a = host.container("web", &["front"], &[]);
        serve_names(host, &a);
        let attack = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = SocketAddr::new(EMBEDDED.into(), PORT);
            for length in 0..600usize {
                let bytes: Vec<u8> = (0..length).map(|at| (at * 31 + length * 17) as u8).collect();
                socket.send_to(&bytes, address).unwrap();
            }
            // Connections that say nothing, or promise more than they send.
            let mut silent = Vec::new();
            for _ in 0..MOST_CONNECTIONS * 2 {
                let mut connection = TcpStream::connect(address).unwrap();
                io::Write::write_all(&mut connection, &[0xff, 0xff, 1]).unwrap();
                silent.push(connection);
            }
            Ok(silent)
        };
        let silent = inside(a.namespace.as_fd(), attack).unwrap();
        assert_eq!(dig(&a, "web"), found(&[&a.ip().to_string()]));
        drop(silent);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(dig(&a, "web +tcp"), found(&[&a.ip().to_string()]));
    });
}
