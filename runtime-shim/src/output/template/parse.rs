//! From a template's words to what they mean.

use serde_json::Value;

use super::Problem;
use super::functions::{self, Function};
use super::scan::{Piece, Token, Word, scan};

/// Parentheses and blocks in each other, at most.
const DEEPEST: usize = 64;

/// A part of a template.
#[derive(Debug)]
pub enum Node {
    /// Copied.
    Text(String),
    /// What a pipeline gives is printed.
    Print(Pipeline),
    /// It gets a name.
    Let(String, Pipeline),
    /// The first that is true, or else the last.
    If(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    /// Its value is the dot inside, if it is true.
    With(Pipeline, Vec<Node>, Vec<Node>),
    /// Each of its elements is the dot inside.
    Range {
        /// What it goes over.
        over: Pipeline,
        /// The variable that holds the index or key.
        key: Option<String>,
        /// The variable that holds the element.
        element: Option<String>,
        /// For each element.
        body: Vec<Node>,
        /// If there is none.
        otherwise: Vec<Node>,
    },
}

/// Commands, each with the value of the one before as its last argument.
#[derive(Debug)]
pub struct Pipeline {
    /// Where it begins.
    pub at: usize,
    /// At least one.
    pub commands: Vec<Command>,
}

/// A function and its arguments, or one operand alone.
#[derive(Debug)]
pub struct Command {
    /// Where it begins.
    pub at: usize,
    /// Called, if it is there.
    pub function: Option<Function>,
    /// Its arguments.
    pub operands: Vec<Operand>,
}

/// A value, and which of its fields.
#[derive(Debug)]
pub struct Operand {
    /// Where it begins.
    pub at: usize,
    /// The value.
    pub base: Base,
    /// Fields of fields, each with where it stands.
    pub fields: Vec<(usize, String)>,
}

/// Where a value comes from.
#[derive(Debug)]
pub enum Base {
    /// The dot.
    Dot,
    /// A variable; the empty name is the template's own value.
    Variable(String),
    /// Itself.
    Literal(Value),
    /// What is in parentheses.
    Pipeline(Pipeline),
}

/// Parses a template.
pub fn parse(source: &str) -> Result<Vec<Node>, Problem> {
    let mut blocks = Blocks { pieces: scan(source)?.into_iter(), depth: 0 };
    match blocks.block()? {
        (nodes, None) => Ok(nodes),
        (_, Some(end)) => Err(Problem::new(end.at, format!("{:?} without a beginning", end.word))),
    }
}

/// What ended a block: `end` or `else`.
struct End {
    at: usize,
    word: String,
    tokens: Vec<Token>,
}

struct Blocks {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
}

impl Blocks {
    /// Nodes up to what ends them.
    fn block(&mut self) -> Result<(Vec<Node>, Option<End>), Problem> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (at, mut tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(at, tokens) => (at, tokens),
            };
            let keyword = match tokens.first().map(|token| &token.word) {
                Some(Word::Name(name)) if is_keyword(name) => name.clone(),
                _ => {
                    nodes.push(Words::new(at, tokens).statement()?);
                    continue;
                }
            };
            tokens.remove(0);
            match keyword.as_str() {
                "end" | "else" => return Ok((nodes, Some(End { at, word: keyword, tokens }))),
                "if" | "with" | "range" => nodes.push(self.branch(at, &keyword, tokens)?),
                _ => return Err(Problem::new(at, format!("{keyword:?} is not known here"))),
            }
        }
        Ok((nodes, None))
    }

    /// What a keyword begins, up to its `end`.
    fn branch(&mut self, at: usize, keyword: &str, tokens: Vec<Token>) -> Result<Node, Problem> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Problem::new(at, format!("more than {DEEPEST} blocks are in each other")));
        }
        let mut words = Words::new(at, tokens);
        let (key, element) = if keyword == "range" { words.range_variables()? } else { (None, None) };
        let pipeline = words.whole_pipeline()?;
        let (body, end) = self.block()?;
        let end = end.ok_or_else(|| Problem::new(at, format!("{keyword:?} without \"end\"")))?;
        let mut branches = vec![(pipeline, body)];
        let mut otherwise = Vec::new();
        if end.word == "else" {
            otherwise = self.otherwise(at, keyword, end)?;
        } else {
            nothing_more(&end.tokens)?;
        }
        self.depth -= 1;
        // `else if` is an `if` in an `else`; flat, chains cost no depth.
        if keyword == "if" {
            while let [Node::If(..)] = otherwise[..] {
                let Some(Node::If(more, rest)) = otherwise.pop() else { break };
                branches.extend(more);
                otherwise = rest;
            }
            return Ok(Node::If(branches, otherwise));
        }
        let Some((over, body)) = branches.pop() else {
            return Err(Problem::new(at, format!("{keyword:?} of nothing")));
        };
        Ok(match keyword {
            "with" => Node::With(over, body, otherwise),
            _ => Node::Range { over, key, element, body, otherwise },
        })
    }

    fn otherwise(&mut self, at: usize, keyword: &str, mut end: End) -> Result<Vec<Node>, Problem> {
        if let Some(Word::Name(next)) = end.tokens.first().map(|token| token.word.clone()) {
            if next == keyword && next != "range" {
                end.tokens.remove(0);
                return Ok(vec![self.branch(end.at, keyword, end.tokens)?]);
            }
        }
        nothing_more(&end.tokens)?;
        match self.block()? {
            (nodes, Some(end)) if end.word == "end" => {
                nothing_more(&end.tokens)?;
                Ok(nodes)
            }
            (_, Some(end)) => Err(Problem::new(end.at, "a second \"else\"")),
            (_, None) => Err(Problem::new(at, format!("{keyword:?} without \"end\""))),
        }
    }
}

fn is_keyword(name: &str) -> bool {
    matches!(
        name,
        "if" | "else" | "end" | "range" | "with" | "define" | "template" | "block" | "break" | "continue"
    )
}

fn nothing_more(tokens: &[Token]) -> Result<(), Problem> {
    match tokens.first() {
        None => Ok(()),
        Some(token) => Err(Problem::new(token.at, "nothing can follow here")),
    }
}

/// The words of one action.
struct Words {
    at: usize,
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
}

impl Words {
    fn new(at: usize, tokens: Vec<Token>) -> Words {
        Words { at, tokens: tokens.into_iter().peekable(), depth: 0 }
    }

    /// `$name := pipeline`, or a pipeline.
    fn statement(mut self) -> Result<Node, Problem> {
        let mut ahead = self.tokens.clone();
        if let (Some(Word::Variable(name)), Some(Word::Assign)) =
            (ahead.next().map(|token| token.word), ahead.next().map(|token| token.word))
        {
            self.tokens = ahead;
            return Ok(Node::Let(name, self.whole_pipeline()?));
        }
        Ok(Node::Print(self.whole_pipeline()?))
    }

    /// `$element :=` or `$key, $element :=`, if they are there.
    fn range_variables(&mut self) -> Result<(Option<String>, Option<String>), Problem> {
        let mut ahead = self.tokens.clone();
        let mut names = Vec::new();
        while let Some(Word::Variable(name)) = ahead.next().map(|token| token.word) {
            names.push(name);
            match ahead.next().map(|token| token.word) {
                Some(Word::Comma) => {}
                Some(Word::Assign) if names.len() <= 2 => {
                    self.tokens = ahead;
                    let element = names.pop();
                    return Ok((names.pop(), element));
                }
                Some(Word::Assign) => return Err(Problem::new(self.at, "a range has two variables at most")),
                _ => break,
            }
        }
        Ok((None, None))
    }

    fn whole_pipeline(&mut self) -> Result<Pipeline, Problem> {
        let pipeline = self.pipeline()?;
        match self.tokens.next() {
            None => Ok(pipeline),
            Some(token) if token.word == Word::Close => Err(Problem::new(token.at, "\")\" without \"(\"")),
            Some(token) => Err(Problem::new(token.at, "nothing can follow here")),
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline, Problem> {
        let at = self.tokens.peek().map_or(self.at, |token| token.at);
        let mut commands = vec![self.command()?];
        while self.tokens.next_if(|token| token.word == Word::Pipe).is_some() {
            let command = self.command()?;
            if command.function.is_none() {
                return Err(Problem::new(command.at, "after \"|\" stands a function"));
            }
            commands.push(command);
        }
        Ok(Pipeline { at, commands })
    }

    fn command(&mut self) -> Result<Command, Problem> {
        let Some(first) = self.tokens.peek().cloned() else {
            return Err(Problem::new(self.at, "a value is missing here"));
        };
        let function = match &first.word {
            Word::Name(name) => {
                self.tokens.next();
                let known = functions::named(name);
                Some(known.ok_or_else(|| Problem::new(first.at, format!("there is no function {name:?}")))?)
            }
            _ => None,
        };
        let mut operands = Vec::new();
        while let Some(token) = self.tokens.peek() {
            match token.word {
                Word::Pipe | Word::Close => break,
                Word::Comma | Word::Assign => return Err(Problem::new(token.at, "this cannot stand here")),
                _ => operands.push(self.operand()?),
            }
        }
        match (&function, &operands[..]) {
            (None, []) => Err(Problem::new(first.at, "a value is missing here")),
            (None, [_, second, ..]) => Err(Problem::new(second.at, "what stands before it is no function")),
            _ => Ok(Command { at: first.at, function, operands }),
        }
    }

    fn operand(&mut self) -> Result<Operand, Problem> {
        let Some(token) = self.tokens.next() else {
            return Err(Problem::new(self.at, "a value is missing here"));
        };
        let mut fields = Vec::new();
        let base = match token.word {
            Word::Dot => Base::Dot,
            Word::Field(name) => {
                fields.push((token.at, name));
                Base::Dot
            }
            Word::Variable(name) => Base::Variable(name),
            Word::Literal(value) => Base::Literal(value),
            Word::Open => {
                self.depth += 1;
                if self.depth > DEEPEST {
                    return Err(Problem::new(token.at, "too many parentheses"));
                }
                let inside = self.pipeline()?;
                self.depth -= 1;
                if self.tokens.next_if(|token| token.word == Word::Close).is_none() {
                    return Err(Problem::new(token.at, "\"(\" without \")\""));
                }
                Base::Pipeline(inside)
            }
            Word::Name(name) => {
                return Err(Problem::new(token.at, format!("{name:?} is no value"))
                    .or_hint(functions::named(&name).is_some()));
            }
            _ => return Err(Problem::new(token.at, "this cannot stand here")),
        };
        while let Some(next) = self.tokens.next_if(|next| next.glued && matches!(next.word, Word::Field(_))) {
            if let Word::Field(name) = next.word {
                fields.push((next.at, name));
            }
        }
        Ok(Operand { at: token.at, base, fields })
    }
}

impl Problem {
    /// A function among arguments wants parentheses.
    fn or_hint(mut self, is_function: bool) -> Problem {
        if is_function {
            self.message.push_str("; a function among arguments stands in parentheses");
        }
        self
    }
}
