//! `--change`: one instruction of a Dockerfile, applied to how an image runs.
//!
//! Those that docker allows there: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL,
//! ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR, in the shell form and the exec form
//! where there are two. Variables are not replaced: there is no build around.

use layerstore::document::{Execution, Healthcheck};

use crate::failure::{Failure, Result};

/// What docker runs a command in shell form by.
pub const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Applies an instruction.
pub fn apply(instruction: &str, to: &mut Execution) -> Result<()> {
    let instruction = instruction.trim();
    let (verb, rest) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
    let (verb, rest) = (verb.to_ascii_uppercase(), rest.trim());
    let wrong = |why: &str| Failure::failed(format!("cannot apply the change {instruction:?}: {why}"));
    if rest.is_empty() && !matches!(verb.as_str(), "CMD" | "ENTRYPOINT") {
        return Err(wrong(&format!("{verb} wants an argument")));
    }
    match verb.as_str() {
        "CMD" => to.cmd = command(rest, to),
        "ENTRYPOINT" => to.entrypoint = command(rest, to),
        "ENV" => {
            for (name, value) in pairs(rest).map_err(|why| wrong(&why))? {
                set_variable(&mut to.env, &name, &value);
            }
        }
        "LABEL" => to.labels.extend(pairs(rest).map_err(|why| wrong(&why))?),
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                for port in ports(port).map_err(|why| wrong(&why))? {
                    to.exposed_ports.insert(port, Default::default());
                }
            }
        }
        "VOLUME" => {
            let paths = match list(rest) {
                Some(paths) => paths,
                None => words(rest).map_err(|why| wrong(&why))?,
            };
            if paths.is_empty() || paths.iter().any(|path| path.trim().is_empty()) {
                return Err(wrong("a volume's path is empty"));
            }
            to.volumes.extend(paths.into_iter().map(|path| (path, Default::default())));
        }
        "HEALTHCHECK" => to.healthcheck = Some(check(rest).map_err(|why| wrong(&why))?),
        "ONBUILD" => {
            let first = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            if matches!(first.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
                return Err(wrong(&format!("{first} cannot be in ONBUILD")));
            }
            to.on_build.push(rest.to_owned());
        }
        "STOPSIGNAL" => to.stop_signal = Some(signal(rest).ok_or_else(|| wrong("there is no such signal"))?),
        "USER" => to.user = one(rest).ok_or_else(|| wrong("a user is one word"))?,
        "WORKDIR" => to.working_dir = directory(&to.working_dir, &unquoted(rest).map_err(|why| wrong(&why))?),
        _ => {
            return Err(wrong(&format!("{verb} is no instruction for it")).hint(
                "there are CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, \
                 WORKDIR",
            ));
        }
    }
    Ok(())
}

/// The exec form is a JSON list; everything else is given to a shell.
fn command(text: &str, to: &Execution) -> Vec<String> {
    match list(text) {
        Some(command) => command,
        None if text.is_empty() => Vec::new(),
        None => {
            let shell =
                if to.shell.is_empty() { SHELL.map(str::to_owned).to_vec() } else { to.shell.clone() };
            shell.into_iter().chain([text.to_owned()]).collect()
        }
    }
}

/// `NONE`, or options and then `CMD` with a command in either form.
fn check(text: &str) -> Result<Healthcheck, String> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    loop {
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = after.trim_start();
        let Some((name, value)) =
            word.strip_prefix("--").map(|option| option.split_once('=').unwrap_or((option, "")))
        else {
            return match (word.to_ascii_uppercase().as_str(), rest) {
                ("NONE", "") => Ok(Healthcheck { test: vec!["NONE".to_owned()], ..check }),
                ("NONE", _) => Err("NONE takes no arguments".to_owned()),
                ("CMD", "") => Err("a command is missing after CMD".to_owned()),
                ("CMD", line) => {
                    let (form, words) = match list(line) {
                        Some(words) => ("CMD", words),
                        None => ("CMD-SHELL", vec![line.to_owned()]),
                    };
                    check.test = [&[form.to_owned()], &words[..]].concat();
                    Ok(check)
                }
                _ => Err(format!("{word:?} is neither NONE nor CMD")),
            };
        };
        let duration =
            || crate::spec::health::duration(value).map_err(|why| format!("--{name}={value}: {why}"));
        match name {
            "interval" => check.interval = duration()?,
            "timeout" => check.timeout = duration()?,
            "start-period" => check.start_period = duration()?,
            "start-interval" => check.start_interval = duration()?,
            "retries" => {
                let retries =
                    value.parse::<u32>().map_err(|_| format!("--retries={value}: it is no number"))?;
                check.retries = retries.into();
            }
            _ => return Err(format!("there is no option --{name}")),
        }
    }
}

fn list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// `NAME=value NAME="a value" …`, or the old `NAME a value`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        return match text.split_once(char::is_whitespace) {
            Some((name, value)) => Ok(vec![(unquoted(name)?, value.trim().to_owned())]),
            None => Err(format!("{text:?} is not of the form NAME=value")),
        };
    }
    words(text)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err("a name is empty".to_owned()),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(format!("{word:?} is not of the form NAME=value")),
        })
        .collect()
}

/// Words, their quotes and backslashes taken away as a shell does.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, character) if character.is_whitespace() => words.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (Some(open), character) if character == open => quote = None,
            (None | Some('"'), '\\') => {
                let next = characters.next().ok_or("it ends in a backslash")?;
                let word = word.get_or_insert_default();
                if quote.is_some() && !matches!(next, '"' | '\\' | '$') {
                    word.push('\\');
                }
                word.push(next);
            }
            (_, character) => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// All of a text as one word.
fn unquoted(text: &str) -> Result<String, String> {
    Ok(words(text)?.join(" "))
}

fn one(text: &str) -> Option<String> {
    match &words(text).ok()?[..] {
        [word] => Some(word.clone()),
        _ => None,
    }
}

fn set_variable(env: &mut Vec<String>, name: &str, value: &str) {
    let set = format!("{name}={value}");
    match env.iter_mut().find(|known| known.split('=').next() == Some(name)) {
        Some(known) => *known = set,
        None => env.push(set),
    }
}

/// `80`, `53/udp`, `8000-8002/tcp`, each port by itself.
fn ports(text: &str) -> Result<Vec<String>, String> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("{protocol:?} is no protocol: there are tcp, udp and sctp"));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first <= last => {
            Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
        }
        _ => Err(format!("{text:?} is no port: it is a number up to 65535, or two with a \"-\"")),
    }
}

/// A signal's name or number, as it is written.
fn signal(text: &str) -> Option<String> {
    let name = text.to_ascii_uppercase();
    let plain = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = |prefix: &str| {
        plain.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.parse::<i8>().is_ok())
    };
    let known = plain.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number))
        || SIGNALS.contains(&plain)
        || real_time("RTMIN")
        || real_time("RTMAX");
    known.then(|| text.to_owned())
}

/// signal(7), of Linux.
const SIGNALS: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "LOST", "UNUSED",
];

/// A directory below another, unless it is absolute; without `.` and `..`.
fn directory(below: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{below}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn applied(instructions: &[&str]) -> serde_json::Value {
        let mut config = Execution::default();
        instructions.iter().for_each(|instruction| apply(instruction, &mut config).unwrap());
        serde_json::to_value(config).unwrap()
    }

    /// Each as `docker import --change` has it.
    #[test]
    fn instructions() {
        for (instructions, config) in [
            (&["CMD [\"a\", \"b c\"]"][..], r#"{"Cmd":["a","b c"]}"#),
            (&["cmd echo \"x y\""], r#"{"Cmd":["/bin/sh","-c","echo \"x y\""]}"#),
            (&["CMD [not json"], r#"{"Cmd":["/bin/sh","-c","[not json"]}"#),
            (&["CMD x", "CMD []"], "{}"),
            (&["ENTRYPOINT [\"/init\"]"], r#"{"Entrypoint":["/init"]}"#),
            (&["ENV A=1 B=\"2 3\" C=4\\ 5", "ENV A=6"], r#"{"Env":["A=6","B=2 3","C=4 5"]}"#),
            (&["ENV A some words"], r#"{"Env":["A=some words"]}"#),
            (&["ENV A='x=\"y\"'"], r#"{"Env":["A=x=\"y\""]}"#),
            (&["LABEL a=1 \"b c\"=\"d\\\"e\""], r#"{"Labels":{"a":"1","b c":"d\"e"}}"#),
            (
                &["EXPOSE 80 53/UDP 8000-8001"],
                r#"{"ExposedPorts":{"80/tcp":{},"53/udp":{},"8000/tcp":{},"8001/tcp":{}}}"#,
            ),
            (&["VOLUME /a /b", "VOLUME [\"/c d\"]"], r#"{"Volumes":{"/a":{},"/b":{},"/c d":{}}}"#),
            (&["HEALTHCHECK NONE"], r#"{"Healthcheck":{"Test":["NONE"]}}"#),
            (
                &["HEALTHCHECK --interval=5m --timeout=1.5s  --retries=2 CMD curl -f \"http://x\" || exit 1"],
                r#"{"Healthcheck":{"Test":["CMD-SHELL","curl -f \"http://x\" || exit 1"],"Interval":300000000000,
                    "Timeout":1500000000,"Retries":2}}"#,
            ),
            (
                &["healthcheck --start-period=1m --start-interval=500ms cmd [\"a\", \"b c\"]"],
                r#"{"Healthcheck":{"Test":["CMD","a","b c"],"StartPeriod":60000000000,"StartInterval":500000000}}"#,
            ),
            (&["ONBUILD RUN make"], r#"{"OnBuild":["RUN make"]}"#),
            (&["STOPSIGNAL SIGRTMIN+3"], r#"{"StopSignal":"SIGRTMIN+3"}"#),
            (&["STOPSIGNAL 9"], r#"{"StopSignal":"9"}"#),
            (&["USER www-data:1"], r#"{"User":"www-data:1"}"#),
            (&["WORKDIR /a", "WORKDIR b/../c"], r#"{"WorkingDir":"/a/c"}"#),
            (&["WORKDIR \"/a b\""], r#"{"WorkingDir":"/a b"}"#),
        ] {
            let expected: serde_json::Value = serde_json::from_str(config).unwrap();
            assert_eq!(applied(instructions), expected, "{instructions:?}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_applied_or_refused(
            verb in prop::sample::select(vec![
                "CMD", "ENV", "LABEL", "EXPOSE", "VOLUME", "ONBUILD", "STOPSIGNAL", "USER", "WORKDIR", "ENTRYPOINT",
                "HEALTHCHECK",
            ]),
            rest in "[ =\\[\\]\"'\\\\$a0-9/,-]{0,20}|.{0,10}",
        ) {
            let mut config = Execution::default();
            if apply(&format!("{verb} {rest}"), &mut config).is_ok() {
                prop_assert!(config.working_dir.is_empty() || config.working_dir.starts_with('/'));
            }
        }
    }

    #[test]
    fn what_is_none_is_refused_in_words() {
        for (instruction, why) in [
            ("RUN make", "RUN is no instruction for it"),
            ("", "wants an argument"),
            ("ENV", "ENV wants an argument"),
            ("ENV A", "not of the form"),
            ("ENV A=1 B", "not of the form"),
            ("ENV =1", "a name is empty"),
            ("ENV A=\"1", "a quote is not closed"),
            ("LABEL a=1\\", "ends in a backslash"),
            ("EXPOSE http", "is no port"),
            ("EXPOSE 70000", "is no port"),
            ("EXPOSE 9-8", "is no port"),
            ("EXPOSE 80/x", "no protocol"),
            ("VOLUME []", "path is empty"),
            ("ONBUILD ONBUILD RUN x", "cannot be in ONBUILD"),
            ("STOPSIGNAL SIGNOTHING", "no such signal"),
            ("STOPSIGNAL 0", "no such signal"),
            ("USER a b", "one word"),
            ("HEALTHCHECK", "wants an argument"),
            ("HEALTHCHECK NONE x", "takes no arguments"),
            ("HEALTHCHECK CMD", "a command is missing"),
            ("HEALTHCHECK curl x", "neither NONE nor CMD"),
            ("HEALTHCHECK --interval=5 CMD x", "write one as 30s"),
            ("HEALTHCHECK --retries=many CMD x", "no number"),
            ("HEALTHCHECK --often CMD x", "no option --often"),
        ] {
            let error = apply(instruction, &mut Execution::default()).unwrap_err().to_string();
            assert!(error.contains(why), "{instruction}: {error}");
        }
    }
}
