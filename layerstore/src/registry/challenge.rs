//! What a server asks for when it says 401: `WWW-Authenticate` (RFC 9110).

/// A demand that we can meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and a password with each request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// The token server.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What it should allow.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best of what the headers offer: a token rather than a password.
    pub(super) fn of<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let mut basic = None;
        for (scheme, parameters) in headers.flat_map(parse) {
            let find = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
            };
            if scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = find("realm") {
                    return Some(Challenge::Bearer { realm, service: find("service"), scope: find("scope") });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
        basic
    }
}

type Parameters = Vec<(String, String)>;

/// `Scheme key=value, key="quoted \" value", Other key=value`.
fn parse(header: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return challenges;
        }
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match (value, challenges.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, after) = read_value(value.trim_start_matches([' ', '\t']));
                parameters.push((word.to_owned(), value));
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

/// A value, quoted or not, and what follows.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, character)| character)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let (service, scope) = (service.map(str::to_owned), scope.map(str::to_owned));
        Some(Challenge::Bearer { realm: realm.to_owned(), service, scope })
    }

    #[test]
    fn challenges_as_servers_write_them() {
        let parse = |header: &str| Challenge::of([header].into_iter());
        assert_eq!(
            parse("Bearer realm=\"https://a/t\",service=\"a b\",scope=\"repository:x:pull,push\""),
            bearer("https://a/t", Some("a b"), Some("repository:x:pull,push"))
        );
        assert_eq!(parse("bearer Realm = https://a/t , error=\"x\""), bearer("https://a/t", None, None));
        assert_eq!(parse("Basic realm=\"a \\\" b\", Bearer realm=\"c\""), bearer("c", None, None));
        assert_eq!(parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(parse("Basic"), Some(Challenge::Basic));
        for other in
            ["", "Negotiate", "Bearer", "realm=\"x\"", "Digest realm=\"a\", nonce=\"Bearer\"", "=,=,"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(header in "(Bearer|Basic|[a-z=\",\\\\ ]){0,12}") {
            let _parsed = Challenge::of([&header[..]].into_iter());
        }
    }
}
