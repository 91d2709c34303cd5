//! The functions of templates: Go's own and docker's.

use std::cmp::Ordering;

use serde_json::Value;

/// Arguments to a value, or to what is wrong with them.
pub type Function = fn(&[Value]) -> Result<Value, String>;

/// The function of this name.
pub fn named(name: &str) -> Option<Function> {
    Some(match name {
        "json" => json,
        "join" => join,
        "split" => split,
        "upper" => |arguments| text(arguments).map(|text| text.to_uppercase().into()),
        "lower" => |arguments| text(arguments).map(|text| text.to_lowercase().into()),
        "title" => |arguments| text(arguments).map(|text| title(text).into()),
        "truncate" => truncate,
        "pad" => pad,
        "len" => len,
        "index" => index,
        "slice" => slice,
        "print" => |arguments| Ok(print(arguments).into()),
        "println" => |arguments| Ok(format!("{}\n", spaced(arguments)).into()),
        "printf" => printf,
        "not" => |arguments| one(arguments).map(|value| (!is_true(value)).into()),
        "and" => |arguments| first(arguments, |value| !is_true(value)),
        "or" => |arguments| first(arguments, is_true),
        "eq" => |arguments| {
            let (value, others) = arguments.split_first().ok_or("eq wants two values")?;
            Ok(others.iter().any(|other| same(value, other)).into())
        },
        "ne" => |arguments| two(arguments).map(|(a, b)| (!same(a, b)).into()),
        "lt" => |arguments| compare(arguments, Ordering::is_lt),
        "le" => |arguments| compare(arguments, Ordering::is_le),
        "gt" => |arguments| compare(arguments, Ordering::is_gt),
        "ge" => |arguments| compare(arguments, Ordering::is_ge),
        _ => return None,
    })
}

/// What Go calls true: what is not empty and not zero.
pub fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// As Go's `fmt` prints: `[a b]`, `map[key:value]`.
pub fn printed(value: &Value) -> String {
    let spaced = |parts: Vec<String>| parts.join(" ");
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("[{}]", spaced(values.iter().map(printed).collect())),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{key}:{}", printed(value)));
            format!("map[{}]", spaced(fields.collect()))
        }
        other => other.to_string(),
    }
}

fn json(arguments: &[Value]) -> Result<Value, String> {
    serde_json::to_string(one(arguments)?).map(Value::from).map_err(|error| error.to_string())
}

fn join(arguments: &[Value]) -> Result<Value, String> {
    let (values, between) = two(arguments)?;
    let between = between.as_str().ok_or("join wants a list and a text")?;
    match values {
        Value::Null => Ok("".into()),
        Value::Array(values) => Ok(values.iter().map(printed).collect::<Vec<_>>().join(between).into()),
        _ => Err("join wants a list and a text".to_owned()),
    }
}

fn split(arguments: &[Value]) -> Result<Value, String> {
    let (text, between) = two(arguments)?;
    match (text.as_str(), between.as_str()) {
        (Some(text), Some(between)) => Ok(text.split(between).collect::<Vec<_>>().into()),
        _ => Err("split wants a text and what separates it".to_owned()),
    }
}

fn title(text: &str) -> String {
    let mut before = ' ';
    let capital = |character: char| {
        let starts = before.is_whitespace();
        before = character;
        if starts { character.to_uppercase().collect() } else { character.to_string() }
    };
    text.chars().map(capital).collect()
}

fn truncate(arguments: &[Value]) -> Result<Value, String> {
    let (text, len) = two(arguments)?;
    match (text.as_str(), len.as_u64()) {
        (Some(text), Some(len)) => Ok(text.chars().take(len as usize).collect::<String>().into()),
        _ => Err("truncate wants a text and a number".to_owned()),
    }
}

/// More spaces than this are a mistake.
const WIDEST: u64 = 1000;

fn pad(arguments: &[Value]) -> Result<Value, String> {
    let wrong = || format!("pad wants a text and two numbers up to {WIDEST}");
    let [text, before, after] = arguments else { return Err(wrong()) };
    let spaces = |count: &Value| {
        count.as_u64().filter(|count| *count <= WIDEST).map(|count| " ".repeat(count as usize))
    };
    match (text.as_str(), spaces(before), spaces(after)) {
        (Some(""), ..) => Ok("".into()),
        (Some(text), Some(before), Some(after)) => Ok(format!("{before}{text}{after}").into()),
        _ => Err(wrong()),
    }
}

fn len(arguments: &[Value]) -> Result<Value, String> {
    match one(arguments)? {
        Value::Null => Ok(0.into()),
        Value::String(text) => Ok(text.len().into()),
        Value::Array(values) => Ok(values.len().into()),
        Value::Object(fields) => Ok(fields.len().into()),
        other => Err(format!("len of {other}, which is no text, list or map")),
    }
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let (value, path) = arguments.split_first().ok_or("index wants a list or a map")?;
    let mut value = value;
    for key in path {
        value = match (value, key) {
            (Value::Array(values), Value::Number(_)) => {
                let found = key.as_u64().and_then(|at| values.get(at as usize));
                found.ok_or_else(|| format!("the index {key} is out of range: there are {}", values.len()))?
            }
            // A map of texts, as Go's are: what is missing is empty.
            (Value::Object(fields), Value::String(key)) => match fields.get(key) {
                Some(value) => value,
                None => return Ok("".into()),
            },
            (Value::Null, _) => return Ok("".into()),
            (Value::Array(_), _) => return Err("a list's index is a number".to_owned()),
            (Value::Object(_), _) => return Err("a map's index is a text".to_owned()),
            _ => return Err("index wants a list or a map".to_owned()),
        };
    }
    Ok(value.clone())
}

/// The part of a text, by its bytes, or of a list from one place up to another.
fn slice(arguments: &[Value]) -> Result<Value, String> {
    let (value, [from, to]) = match arguments {
        [value] => (value, [None, None]),
        [value, from] => (value, [Some(from), None]),
        [value, from, to] => (value, [Some(from), Some(to)]),
        _ => return Err("slice wants a text or a list, and where it begins and ends".to_owned()),
    };
    let place = |place: Option<&Value>, otherwise: usize| match place {
        None => Ok(otherwise),
        Some(place) => {
            place.as_u64().map(|place| place as usize).ok_or_else(|| format!("{place} is no place in it"))
        }
    };
    let part = |len: usize| Ok::<_, String>(place(from, 0)?..place(to, len)?);
    let outside = |len: usize| format!("a slice out of range: there are {len}");
    match value {
        Value::String(text) => {
            let len = text.len();
            text.get(part(len)?).map(Value::from).ok_or_else(|| outside(len))
        }
        Value::Array(values) => {
            let len = values.len();
            values.get(part(len)?).map(|values| values.to_vec().into()).ok_or_else(|| outside(len))
        }
        other => Err(format!("a slice of {other}, which is no text or list")),
    }
}

/// As Go does: spaces only between what are no texts.
fn print(arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut before: Option<&Value> = None;
    for value in arguments {
        if before.is_some_and(|before| !before.is_string() && !value.is_string()) {
            out.push(' ');
        }
        out.push_str(&printed(value));
        before = Some(value);
    }
    out
}

fn spaced(arguments: &[Value]) -> String {
    arguments.iter().map(printed).collect::<Vec<_>>().join(" ")
}

/// The verbs `%s %v %d %q %t %%`, with a width and a minus.
fn printf(arguments: &[Value]) -> Result<Value, String> {
    let (format, values) = arguments.split_first().ok_or("printf wants a format")?;
    let format = format.as_str().ok_or("printf's format is a text")?;
    let mut values = values.iter();
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let (mut left, mut width) = (false, 0_u64);
        let verb = loop {
            match rest.next() {
                Some('-') => left = true,
                Some(digit @ '0'..='9') => width = width * 10 + u64::from(digit.to_digit(10).unwrap_or(0)),
                other => break other.ok_or("printf's format ends in a verb")?,
            }
            if width > WIDEST {
                return Err(format!("printf's widths go up to {WIDEST}"));
            }
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| format!("printf has no value for %{verb}"))?;
        let text = match (verb, value) {
            ('s' | 'v', value) => printed(value),
            ('d', Value::Number(number)) => number.to_string(),
            ('t', Value::Bool(value)) => value.to_string(),
            ('q', Value::String(text)) => format!("{text:?}"),
            _ => return Err(format!("printf cannot print {value} as %{verb}")),
        };
        let width = width as usize;
        out.push_str(&if left { format!("{text:<width$}") } else { format!("{text:>width$}") });
    }
    match values.next() {
        None => Ok(out.into()),
        Some(extra) => Err(format!("printf has no verb for {extra}")),
    }
}

fn one(arguments: &[Value]) -> Result<&Value, String> {
    match arguments {
        [value] => Ok(value),
        _ => Err(format!("it wants one value and has {}", arguments.len())),
    }
}

fn two(arguments: &[Value]) -> Result<(&Value, &Value), String> {
    match arguments {
        [first, second] => Ok((first, second)),
        _ => Err(format!("it wants two values and has {}", arguments.len())),
    }
}

fn text(arguments: &[Value]) -> Result<&str, String> {
    one(arguments)?.as_str().ok_or_else(|| "it wants a text".to_owned())
}

/// The first value of which it holds, or the last.
fn first(arguments: &[Value], holds: fn(&Value) -> bool) -> Result<Value, String> {
    let found = arguments.iter().find(|value| holds(value)).or(arguments.last());
    found.cloned().ok_or_else(|| "it wants a value".to_owned())
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn compare(arguments: &[Value], holds: fn(Ordering) -> bool) -> Result<Value, String> {
    let (a, b) = two(arguments)?;
    let order = match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
    };
    order.map(|order| holds(order).into()).ok_or_else(|| format!("{a} and {b} cannot be compared"))
}
