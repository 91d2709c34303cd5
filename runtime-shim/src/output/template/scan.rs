//! A template's text, cut into what is copied and what is done, and the latter
//! into words.

use serde_json::{Number, Value};

use super::Problem;

/// A piece of a template.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Copied as it is.
    Text(String),
    /// What stood between braces: its words, and where it begins.
    Action(usize, Vec<Token>),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Bytes from the template's start.
    pub at: usize,
    /// Whether it follows the word before without a space.
    pub glued: bool,
    /// What it is.
    pub word: Word,
}

/// What a word may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// `if`, `len`.
    Name(String),
    /// `.Name`.
    Field(String),
    /// `.`
    Dot,
    /// `$` and `$name`, without the dollar.
    Variable(String),
    /// `"text"`, `1`, `true`, `nil`.
    Literal(Value),
    /// `|`
    Pipe,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// `:=` and `=`.
    Assign,
}

/// Cuts a template.
pub fn scan(source: &str) -> Result<Vec<Piece>, Problem> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim = false;
    while let Some(found) = rest(source, at).find("{{") {
        let open = at + found;
        let mut inside = open + 2;
        let trims_before = rest(source, inside).strip_prefix('-').is_some_and(starts_with_space);
        push_text(&mut pieces, rest(source, at).get(..found).unwrap_or_default(), trim, trims_before);
        inside += usize::from(trims_before);
        let comment = rest(source, inside).trim_start().starts_with("/*");
        let (tokens, end) = if comment {
            let close = rest(source, inside).find("*/");
            let close = close.ok_or_else(|| Problem::new(open, "the comment is not closed"))?;
            (Vec::new(), inside + close + 2)
        } else {
            Scanner { source, at: inside, open }.action()?
        };
        let (len, trims_after) = closing(rest(source, end))
            .ok_or_else(|| Problem::new(open, "a comment is all there is between its braces: {{/* … */}}"))?;
        if !comment {
            pieces.push(Piece::Action(open, tokens));
        }
        at = end + len;
        trim = trims_after;
    }
    push_text(&mut pieces, rest(source, at), trim, false);
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        // A shell does not make them; docker's users write them all the same.
        pieces.push(Piece::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
    }
}

fn rest(source: &str, at: usize) -> &str {
    source.get(at..).unwrap_or_default()
}

fn starts_with_space(text: &str) -> bool {
    text.starts_with(char::is_whitespace)
}

/// How long the closing braces are, if the text begins with them, and whether
/// they trim what follows.
fn closing(text: &str) -> Option<(usize, bool)> {
    let spaces = text.len() - text.trim_start().len();
    match text.trim_start() {
        tail if tail.starts_with("}}") => Some((spaces + 2, false)),
        tail if spaces > 0 && tail.starts_with("-}}") => Some((spaces + 3, true)),
        _ => None,
    }
}

struct Scanner<'s> {
    source: &'s str,
    at: usize,
    open: usize,
}

impl Scanner<'_> {
    /// The words up to the closing braces, and where those begin.
    fn action(mut self) -> Result<(Vec<Token>, usize), Problem> {
        let mut tokens = Vec::new();
        loop {
            if closing(rest(self.source, self.at)).is_some() {
                return Ok((tokens, self.at));
            }
            let text = rest(self.source, self.at);
            let spaces = text.len() - text.trim_start().len();
            self.at += spaces;
            let at = self.at;
            let Some(first) = rest(self.source, at).chars().next() else {
                return Err(Problem::new(self.open, "\"{{\" without \"}}\""));
            };
            let word = self.word(first)?;
            tokens.push(Token { at, glued: spaces == 0 && !tokens.is_empty(), word });
        }
    }

    fn word(&mut self, first: char) -> Result<Word, Problem> {
        let text = rest(self.source, self.at);
        let second = text.chars().nth(1);
        let (len, word) = match first {
            '|' => (1, Word::Pipe),
            '(' => (1, Word::Open),
            ')' => (1, Word::Close),
            ',' => (1, Word::Comma),
            '=' => (1, Word::Assign),
            ':' if second == Some('=') => (2, Word::Assign),
            '"' => return self.quoted(),
            '`' => {
                let inside = text.get(1..).unwrap_or_default();
                let len = inside.find('`').ok_or_else(|| self.problem("the quote is not closed"))?;
                (len + 2, Word::Literal(inside.get(..len).unwrap_or_default().into()))
            }
            '.' => match name(text.get(1..).unwrap_or_default()) {
                "" => (1, Word::Dot),
                name => (1 + name.len(), Word::Field(name.to_owned())),
            },
            '$' => {
                let name = name(text.get(1..).unwrap_or_default());
                (1 + name.len(), Word::Variable(name.to_owned()))
            }
            '0'..='9' | '-' | '+' => return self.number(text),
            _ => match name(text) {
                "" => return Err(self.problem(format!("{first:?} has no meaning here"))),
                name @ ("true" | "false") => (name.len(), Word::Literal((name == "true").into())),
                name @ "nil" => (name.len(), Word::Literal(Value::Null)),
                name => (name.len(), Word::Name(name.to_owned())),
            },
        };
        self.at += len;
        Ok(word)
    }

    /// A text in double quotes, with Go's escapes.
    fn quoted(&mut self) -> Result<Word, Problem> {
        let mut value = String::new();
        let mut characters = rest(self.source, self.at).char_indices().skip(1);
        while let Some((offset, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += offset + 1;
                    return Ok(Word::Literal(value.into()));
                }
                '\\' => value.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, 't')) => '\t',
                    Some((_, 'r')) => '\r',
                    Some((_, same @ ('"' | '\\' | '\''))) => same,
                    _ => return Err(Problem::new(self.at + offset, "this escape is not known")),
                }),
                '\n' => break,
                other => value.push(other),
            }
        }
        Err(self.problem("the quote is not closed"))
    }

    fn number(&mut self, text: &str) -> Result<Word, Problem> {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"+-._".contains(c));
        let digits = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
        let number = match digits.parse::<i64>() {
            Ok(number) => Some(Number::from(number)),
            Err(_) => digits.parse().ok().and_then(Number::from_f64),
        };
        let number = number.ok_or_else(|| self.problem(format!("{digits:?} is no number")))?;
        self.at += digits.len();
        Ok(Word::Literal(Value::Number(number)))
    }

    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::new(self.at, message)
    }
}

/// The name a text begins with; perhaps nothing.
fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let name = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
    if name.starts_with(|c: char| c.is_ascii_digit()) { "" } else { name }
}
