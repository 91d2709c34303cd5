use proptest::prelude::*;

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn names_as_docker_reads_them() {
    let known = [
        ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
        ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("team/app", "docker.io/team/app:latest", "team/app:latest"),
        ("a/b/c/d", "docker.io/a/b/c/d:latest", "a/b/c/d:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("docker.io/foo.bar/baz", "docker.io/foo.bar/baz:latest", "docker.io/foo.bar/baz:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("127.0.0.1:5000/a/b_c", "127.0.0.1:5000/a/b_c:latest", "127.0.0.1:5000/a/b_c:latest"),
        ("Ghcr.io/a/b", "Ghcr.io/a/b:latest", "Ghcr.io/a/b:latest"),
        ("a__b.c--d_e:_T.a-g", "docker.io/library/a__b.c--d_e:_T.a-g", "a__b.c--d_e:_T.a-g"),
        ("xn--n3h.com/my.name", "xn--n3h.com/my.name:latest", "xn--n3h.com/my.name:latest"),
        (&HEX[1..], &format!("docker.io/library/{}:latest", &HEX[1..]), &format!("{}:latest", &HEX[1..])),
    ];
    for (text, canonical, short) in known {
        let reference = Reference::parse(text).unwrap();
        assert_eq!(reference.canonical(), canonical, "{text}");
        assert_eq!(reference.to_string(), short, "{text}");
    }
}

#[test]
fn a_digest_takes_the_place_of_the_default_tag() {
    let by_digest = Reference::parse(&format!("nginx@sha256:{HEX}")).unwrap();
    assert_eq!((by_digest.tag(), by_digest.digest()), (None, Some(Digest::of(b""))));
    let both = Reference::parse(&format!("quay.io/a/b:1@sha256:{HEX}")).unwrap();
    assert_eq!((both.tag(), both.digest()), (Some("1"), Some(Digest::of(b""))));
    assert_eq!(both.to_string(), format!("quay.io/a/b:1@sha256:{HEX}"));
}

/// Where the caret stands.
fn column(text: &str) -> usize {
    let error = Reference::parse(text).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    error.message().lines().last().unwrap().len() - "  ^".len()
}

#[test]
fn errors_point_at_the_character() {
    assert_eq!(Reference::parse("").unwrap_err().to_string(), "invalid reference \"\": the name is empty");
    for (text, at) in [
        ("ngi nx", 3),
        ("Nginx", 0),
        ("team/aPp", 6),
        ("Team/app", 0),
        ("nginx:la test", 8),
        ("nginx:", 6),
        ("nginx:.a", 6),
        ("a//b", 2),
        ("/a", 0),
        ("a/", 2),
        ("a:b/c", 2),
        ("a..b", 1),
        ("a___b", 1),
        ("a._b", 1),
        ("a-_b", 1),
        ("-a", 0),
        ("a-", 1),
        ("host.com:99999/a", 9),
        ("-host.com/a", 0),
        ("ho_st.com/a", 2),
        ("host..com/a", 5),
        ("[::x]:5000/a", 1),
        ("[::1]5000/a", 5),
        ("https://host.com/a", 5),
        ("nginx@sha256:123", 6),
        ("nginx:a@", 8),
        (HEX, 0),
    ] {
        assert_eq!(column(text), at, "{:?}", Reference::parse(text));
    }
}

#[test]
fn the_message_shows_where() {
    let error = Reference::parse("team/App").unwrap_err();
    let expected = "invalid reference \"team/App\": repository names are lower case\n  team/App\n       ^";
    assert_eq!(error.message(), expected);
    assert_eq!(error.remedy(), Some("write \"team/app\""));
    let other = Reference::parse("na\u{ef}ve").unwrap_err();
    assert!(other.message().ends_with("at character 3"), "{other}");
}

#[test]
fn lengths_are_limited() {
    let longest = "a".repeat(REPOSITORY_LIMIT - OFFICIAL.len());
    assert!(Reference::parse(&longest).is_ok());
    let error = Reference::parse(&format!("{longest}a")).unwrap_err();
    assert!(error.message().contains("255"), "{error}");
    assert!(Reference::parse(&format!("a:{}", "t".repeat(128))).is_ok());
    let error = Reference::parse(&format!("a:{}", "t".repeat(129))).unwrap_err();
    assert!(error.message().contains("128"), "{error}");
    assert!(Reference::parse(&"a".repeat(1 << 20)).unwrap_err().message().len() < 200);
    assert!(Reference::parse(&format!("{}.b/c", "a".repeat(300))).is_err());
}

#[test]
fn repositories_take_no_tag() {
    assert_eq!(Repository::parse("nginx").unwrap().canonical(), "docker.io/library/nginx");
    let error = Repository::parse("nginx:1").unwrap_err();
    assert!(error.message().ends_with("\n       ^"), "{error}");
    let reference = Reference::parse("nginx").unwrap();
    assert_eq!(reference.with_tag("2").unwrap().to_string(), "nginx:2");
    assert!(reference.with_tag("a/b").is_err());
}

#[test]
fn registries_have_one_name() {
    for text in ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"] {
        assert_eq!(parse_registry(text).unwrap(), "docker.io", "{text}");
    }
    assert_eq!(parse_registry("localhost:5000").unwrap(), "localhost:5000");
    assert_eq!(parse_registry("localhost").unwrap(), "localhost");
    assert!(parse_registry("").is_err());
    assert!(parse_registry("a b").is_err());
}

#[test]
fn ids_and_their_beginnings() {
    let id = Digest::of(b"");
    for text in [HEX, &HEX[..12], "e", &format!("sha256:{HEX}"), "sha256:e3b0"] {
        assert!(IdPrefix::parse(text).unwrap().matches(&id), "{text}");
    }
    assert!(!IdPrefix::parse("b0").unwrap().matches(&id));
    for text in ["", "sha256:", "E3", "nginx", &format!("{HEX}0")] {
        assert_eq!(IdPrefix::parse(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn nothing_panics(text in "\\PC{0,40}") {
        let _parsed = Reference::parse(&text).map(|r| r.to_string());
        let _parsed = Repository::parse(&text);
        let _parsed = parse_registry(&text);
    }

    /// Texts of the grammar's own characters, so that many of them parse.
    #[test]
    fn what_is_displayed_parses_again(text in "(localhost|docker\\.io|[a:.\\[\\]-]{1,3}|library)?/?[ab./_-]{1,6}(:[a.]{0,2})?") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
            prop_assert_eq!(&Reference::parse(&reference.canonical()).unwrap(), &reference);
            let repository = reference.repository();
            prop_assert_eq!(&Repository::parse(&repository.to_string()).unwrap(), repository);
        }
    }

    #[test]
    fn good_references_survive(text in "([a-z]{1,5}\\.io(:[1-9][0-9]{0,3})?/)?[a-z0-9]{1,4}(/[a-z0-9]{1,3}(\\.|_|__|-{1,3})[a-z0-9]){0,3}(:[\\w&&[A-Za-z0-9_]][a-z.-]{0,5})?(@sha256:[0-9a-f]{64})?") {
        let reference = Reference::parse(&text).unwrap();
        prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
        prop_assert_eq!(&Reference::parse(&reference.canonical()).unwrap(), &reference);
    }
}
