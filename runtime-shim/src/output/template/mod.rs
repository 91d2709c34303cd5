//! Templates on the command line, in the words of Go's `text/template`, as
//! docker's users write them after `--format`.
//!
//! Of our own because the crate there is, `gtmpl`, has had no release since
//! 2021, does not know docker's functions and does not say where an error is.
//!
//! What there is: fields (`.A.B`), variables, literals, pipes, parentheses,
//! `if`, `range` and `with` with `else`, trimming (`{{-`), comments, and the
//! functions of [`functions`]. Templates in templates (`define`, `block`) are
//! not: a command line has no use for them.
//!
//! A template is evaluated over JSON. A field that is not there is an error
//! that names those that are, for a misspelt field should not print nothing;
//! in maps whose keys are anybody's ([`eval::MAPS`]) it is `<no value>`.

mod eval;
mod functions;
mod parse;
mod scan;

use serde_json::Value;

use crate::failure::Failure;
use parse::Node;

/// A template that can be evaluated.
#[derive(Debug)]
pub struct Template {
    source: String,
    nodes: Vec<Node>,
}

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Bytes from the template's start.
    at: usize,
    message: String,
}

impl Template {
    /// The template that is written so.
    pub fn parse(source: &str) -> Result<Template, Failure> {
        match parse::parse(source) {
            Ok(nodes) => Ok(Template { source: source.to_owned(), nodes }),
            Err(problem) => Err(problem.in_template(source)),
        }
    }

    /// What it makes of a value.
    pub fn render(&self, value: &Value) -> Result<String, Failure> {
        eval::render(&self.nodes, value).map_err(|problem| problem.in_template(&self.source))
    }
}

impl Problem {
    fn new(at: usize, message: impl Into<String>) -> Problem {
        Problem { at, message: message.into() }
    }

    /// The message, and what is around the place with a mark below it.
    fn in_template(&self, source: &str) -> Failure {
        let before = source.get(..self.at).unwrap_or(source);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = source.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
        let column = before.get(start..).unwrap_or_default().chars().count();
        let skipped = column.saturating_sub(SHOWN);
        let around = line.chars().skip(skipped).take(2 * SHOWN);
        let around: String = around.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mark = " ".repeat(column - skipped);
        Failure::failed(format!("the template is wrong: {}\n  {around}\n  {mark}^", self.message))
    }
}

/// So many characters of a line are shown on each side of a mistake.
const SHOWN: usize = 60;

#[cfg(test)]
mod tests;
