//! What a template makes of a value.

use serde_json::Value;

use super::Problem;
use super::functions::{is_true, printed};
use super::parse::{Base, Command, Node, Operand, Pipeline};

/// Fields that are maps with anybody's keys: one that is missing there is no
/// mistake.
pub const MAPS: [&str; 4] = ["Labels", "ExposedPorts", "Volumes", "Data"];
/// Fields that are lists; without elements they are `null` in JSON, as Go has
/// it, and yet print as lists.
pub const LISTS: [&str; 5] = ["Env", "Cmd", "Entrypoint", "OnBuild", "Shell"];

/// Fields that may have nothing, and print as Go prints a pointer to nothing.
const POINTERS: [&str; 1] = ["Healthcheck"];

/// Evaluates nodes over a value.
pub fn render(nodes: &[Node], value: &Value) -> Result<String, Problem> {
    let mut run = Run { top: value, variables: Vec::new(), out: String::new() };
    run.nodes(nodes, value)?;
    Ok(run.out)
}

struct Run<'v> {
    top: &'v Value,
    /// The last of a name counts.
    variables: Vec<(String, Value)>,
    out: String,
}

impl Run<'_> {
    /// Variables that are made inside end with it.
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), Problem> {
        let before = self.variables.len();
        nodes.iter().try_for_each(|node| self.node(node, dot))?;
        self.variables.truncate(before);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), Problem> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                match (&value, last_field(pipeline)) {
                    (Value::Null, Some(name)) if LISTS.contains(&name) => self.out.push_str("[]"),
                    (Value::Null, Some(name)) if MAPS.contains(&name) => self.out.push_str("map[]"),
                    (Value::Null, Some(name)) if POINTERS.contains(&name) => self.out.push_str("<nil>"),
                    _ => self.out.push_str(&printed(&value)),
                }
            }
            Node::Let(name, pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                self.variables.push((name.clone(), value));
            }
            Node::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if is_true(&self.pipeline(condition, dot)?) {
                        return self.nodes(body, dot);
                    }
                }
                self.nodes(otherwise, dot)?;
            }
            Node::With(pipeline, body, otherwise) => {
                let value = self.pipeline(pipeline, dot)?;
                match is_true(&value) {
                    true => self.nodes(body, &value)?,
                    false => self.nodes(otherwise, dot)?,
                }
            }
            Node::Range { over, key, element, body, otherwise } => {
                let elements = elements(over.at, self.pipeline(over, dot)?)?;
                if elements.is_empty() {
                    return self.nodes(otherwise, dot);
                }
                for (at, value) in elements {
                    let before = self.variables.len();
                    self.variables.extend(key.clone().map(|name| (name, at)));
                    self.variables.extend(element.clone().map(|name| (name, value.clone())));
                    self.nodes(body, &value)?;
                    self.variables.truncate(before);
                }
            }
        }
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Problem> {
        let mut piped = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, piped, dot)?);
        }
        piped.ok_or_else(|| Problem::new(pipeline.at, "a value is missing here"))
    }

    fn command(&self, command: &Command, piped: Option<Value>, dot: &Value) -> Result<Value, Problem> {
        let mut values = command
            .operands
            .iter()
            .map(|operand| self.operand(operand, dot))
            .collect::<Result<Vec<_>, _>>()?;
        values.extend(piped);
        match command.function {
            Some(function) => function(&values).map_err(|message| Problem::new(command.at, message)),
            None => values.pop().ok_or_else(|| Problem::new(command.at, "a value is missing here")),
        }
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, Problem> {
        let made;
        let base = match &operand.base {
            Base::Dot => dot,
            Base::Variable(name) if name.is_empty() => self.top,
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                &found.ok_or_else(|| Problem::new(operand.at, format!("there is no variable ${name}")))?.1
            }
            Base::Literal(value) => value,
            Base::Pipeline(pipeline) => {
                made = self.pipeline(pipeline, dot)?;
                &made
            }
        };
        let mut value = base;
        let mut parent = "";
        for (at, name) in &operand.fields {
            match field(value, name, parent) {
                Ok(found) => value = found,
                Err(message) => return Err(Problem::new(*at, message)),
            }
            parent = name;
        }
        Ok(value.clone())
    }
}

/// The field that a pipeline is, if it is no more.
fn last_field(pipeline: &Pipeline) -> Option<&str> {
    match &pipeline.commands[..] {
        [Command { function: None, operands, .. }] => {
            operands.last()?.fields.last().map(|(_, name)| name.as_str())
        }
        _ => None,
    }
}

fn field<'v>(value: &'v Value, name: &str, parent: &str) -> Result<&'v Value, String> {
    let fields = match value {
        Value::Object(fields) => fields,
        Value::Null if MAPS.contains(&parent) => return Ok(value),
        _ => return Err(format!("a {} has no fields", kind(value))),
    };
    match fields.get(name) {
        Some(value) => Ok(value),
        None if MAPS.contains(&parent) => Ok(&Value::Null),
        None => {
            let known: Vec<&str> = fields.keys().map(String::as_str).collect();
            Err(format!("there is no field .{name}; there are {}", known.join(", ")))
        }
    }
}

fn elements(at: usize, value: Value) -> Result<Vec<(Value, Value)>, Problem> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(values) => {
            Ok(values.into_iter().enumerate().map(|(at, value)| (at.into(), value)).collect())
        }
        Value::Object(fields) => Ok(fields.into_iter().map(|(key, value)| (key.into(), value)).collect()),
        other => Err(Problem::new(at, format!("a {} has no elements", kind(&other)))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "missing value",
        Value::Bool(_) => "truth value",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}
