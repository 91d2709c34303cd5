use serde_json::json;

use super::Template;

fn value() -> serde_json::Value {
    json!({
        "ID": "abc", "Size": 12, "Tags": ["a", "b"], "None": [],
        "Config": { "Env": ["PATH=/bin"], "Labels": { "k": "v", "x.y": "z" }, "User": "" },
    })
}

fn render(template: &str) -> String {
    Template::parse(template).and_then(|template| template.render(&value())).unwrap()
}

fn refused(template: &str) -> String {
    Template::parse(template).and_then(|template| template.render(&value())).unwrap_err().to_string()
}

/// Each as Go's text/template gives it, with docker's functions.
#[test]
fn what_users_write() {
    for (template, printed) in [
        ("plain", "plain"),
        ("{{.ID}}:{{.Size}}", "abc:12"),
        ("{{.ID}}\\t{{\"\\n\"}}\\n", "abc\t\n\n"),
        ("{{ .ID }}", "abc"),
        ("{{json .Tags}}", r#"["a","b"]"#),
        ("{{.Tags | json}}", r#"["a","b"]"#),
        ("{{.Tags}} {{.Config.Labels}}", "[a b] map[k:v x.y:z]"),
        ("{{json .Config.Labels}}", r#"{"k":"v","x.y":"z"}"#),
        ("{{.Config.Labels.k}}{{index .Config.Labels \"x.y\"}}", "vz"),
        ("{{.Config.Labels.no}}|{{index .Config.Labels \"no\"}}|", "<no value>||"),
        ("{{index .Tags 1}} {{index .Config.Env 0}}", "b PATH=/bin"),
        ("{{range .Tags}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range .None}}x{{else}}none{{end}}", "none"),
        ("{{range $i, $t := .Tags}}{{$i}}={{$t}}{{$.ID}} {{end}}", "0=aabc 1=babc "),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "k=v;x.y=z;"),
        ("{{range $t := .Tags}}{{$t}}{{end}}", "ab"),
        ("{{if .Config.User}}user{{else}}root{{end}}", "root"),
        ("{{if eq .ID \"x\"}}1{{else if eq .Size 12}}2{{else}}3{{end}}", "2"),
        ("{{with .Config}}{{.Env}}{{end}}{{with .None}}x{{else}}{{.ID}}{{end}}", "[PATH=/bin]abc"),
        ("{{len .Tags}} {{len .ID}} {{len .Config.Labels}}", "2 3 2"),
        ("{{join .Tags \",\"}}", "a,b"),
        ("{{join (split \"x y\" \" \") \"-\"}}", "x-y"),
        ("{{upper .ID}}{{.ID | upper | lower}}{{title \"a word\"}}", "ABCabcA Word"),
        ("{{println .ID .Size}}", "abc 12\n"),
        ("{{print .ID .Size .Size}}", "abc12 12"),
        ("{{printf \"%-5s|%3d|%q|%v%%\" .ID .Size .ID .Tags}}", "abc  | 12|\"abc\"|[a b]%"),
        ("{{truncate .ID 2}}{{pad .ID 1 2}}|", "ab abc  |"),
        ("{{and .ID .Size}} {{or .None .ID}} {{not .None}}", "12 abc true"),
        ("{{lt 1 .Size}}{{ge .Size 13}}{{ne .ID \"abc\"}}", "truefalsefalse"),
        ("{{$x := .ID}}{{$x}}{{$x | len}}", "abc3"),
        ("a {{- .ID -}} b", "aabcb"),
        ("{{/* nothing */}}x{{- /* nothing */ -}} y", "xy"),
        ("{{\"\\t}}\"}}{{`raw \\t`}}", "\t}}raw \\t"),
        ("{{slice .ID 1}}{{slice .ID 0 2}}{{slice .Tags 1}}{{slice .ID 3}}", "bcab[b]"),
        ("{{(index .Tags 0)}}{{true}}{{nil}}", "atrue<no value>"),
        ("{{ (.Config).Env }}", "[PATH=/bin]"),
    ] {
        assert_eq!(render(template), printed, "{template}");
    }
}

#[test]
fn errors_point_at_the_place() {
    for (template, message, mark) in [
        ("a {{.ID", "\"{{\" without \"}}\"", "  ^"),
        ("{{.Nothing}}", "there is no field .Nothing; there are Config, ID", "  ^"),
        ("{{.Config.Nothing}}", "no field .Nothing", "         ^"),
        ("{{.ID.Length}}", "a text has no fields", "     ^"),
        ("{{nothing .ID}}", "no function \"nothing\"", "  ^"),
        ("{{if .ID}}x", "\"if\" without \"end\"", "^"),
        ("x{{end}}", "\"end\" without a beginning", " ^"),
        ("{{if .ID}}{{else}}{{else}}{{end}}", "a second \"else\"", "                  ^"),
        ("{{.ID .Size}}", "no function", "      ^"),
        ("{{.ID | .Size}}", "stands a function", "        ^"),
        ("{{index .Tags 7}}", "out of range: there are 2", "  ^"),
        ("{{slice .ID 2 9}}", "out of range: there are 3", "  ^"),
        ("{{slice .ID 2 1}}", "out of range", "  ^"),
        ("{{range .ID}}{{end}}", "no elements", "        ^"),
        ("{{\"open}}", "the quote is not closed", "  ^"),
        ("{{(.ID}}", "\"(\" without \")\"", "  ^"),
        ("{{.ID)}}", "\")\" without \"(\"", "     ^"),
        ("{{}}", "a value is missing", "^"),
        ("{{$x}}", "no variable $x", "  ^"),
        ("{{template \"x\"}}", "\"template\" is not known", "^"),
        ("{{len len}}", "in parentheses", "      ^"),
        ("{{/* open", "comment is not closed", "^"),
        ("x\n{{.ID", "without", "^"),
        ("{{1x}}", "no number", "  ^"),
        ("{{printf \"%d\" .ID}}", "as %d", "  ^"),
        ("{{printf \"%9999s\" .ID}}", "up to 1000", "  ^"),
        ("{{#}}", "'#' has no meaning", "  ^"),
    ] {
        let error = refused(template);
        assert!(error.contains(message), "{template}: {error}");
        assert_eq!(error.lines().last().unwrap(), format!("  {mark}"), "{template}: {error}");
    }
}

#[test]
fn depth_is_bounded() {
    for parentheses in [65, 100_000] {
        assert!(refused(&format!("{{{{{}.ID}}}}", "(".repeat(parentheses))).contains("too many parentheses"));
    }
    let nested = format!("{}{}", "{{if .ID}}".repeat(10_000), "{{end}}".repeat(10_000));
    assert!(refused(&nested).contains("in each other"));
    let chain = format!("{{{{if .None}}}}{}{{{{end}}}}", "{{else if .None}}".repeat(60));
    assert_eq!(render(&chain), "");
}

/// However long a line is, what is shown of it is not.
#[test]
fn errors_in_long_lines_are_short() {
    let error = refused(&format!("{}{{{{.Nothing}}}}{}", "ä".repeat(100_000), "x".repeat(100_000)));
    let lines: Vec<_> = error.lines().map(|line| line.chars().count()).collect();
    assert_eq!(lines[1..], [2 + 2 * super::SHOWN, 2 + super::SHOWN + 1], "{error}");
}

/// Words of templates in any order give a text or an error.
mod soup {
    use proptest::prelude::*;

    use super::super::Template;
    use super::value;

    const WORDS: [&str; 44] = [
        "{{",
        "}}",
        "{{-",
        "-}}",
        "/*",
        "*/",
        "if ",
        "else ",
        "end",
        "range ",
        "with ",
        ".",
        ".Tags",
        ".Config",
        ".ID",
        ".Labels",
        "$",
        "$x",
        "$y, ",
        ":=",
        "=",
        "|",
        "(",
        ")",
        "\"",
        "`",
        "\\",
        "1",
        "-2",
        "0.5",
        "99999999999999999999",
        "true",
        "nil",
        "len ",
        "index ",
        "printf ",
        "\"%5d%q%\"",
        "json ",
        "join ",
        "split ",
        " ",
        "\n",
        "ä",
        "{",
    ];

    proptest! {
        #[test]
        fn of_words(words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..24)) {
            let source = words.concat();
            if let Ok(template) = Template::parse(&source) {
                template.render(&value()).ok();
            }
            // Most of it in one action.
            if let Ok(template) = Template::parse(&format!("{{{{{source}}}}}")) {
                template.render(&value()).ok();
            }
        }
    }
}
