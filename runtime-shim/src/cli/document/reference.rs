//! Every command with its options, as Markdown. A command of a group that is
//! called alone too is described there only.

use std::collections::BTreeMap;

use clap::{Arg, Command};

/// All commands of the program.
pub fn page(mut program: Command) -> String {
    program.build();
    let alone: BTreeMap<String, String> =
        shown(&program).map(|command| (about(command), name(command))).collect();
    let mut text = String::new();
    for command in shown(&program) {
        text.push_str(&described(command, "###"));
        if command.has_subcommands() {
            text.push_str(&group(command, &alone));
        }
    }
    text
}

/// Those that users are shown.
fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn group(group: &Command, alone: &BTreeMap<String, String>) -> String {
    let (mut same, mut own) = (Vec::new(), String::new());
    for command in shown(group) {
        match alone.get(&about(command)) {
            Some(name) if !command.has_subcommands() => same.push((command.get_name().to_owned(), name)),
            _ => own.push_str(&described(command, "####")),
        }
    }
    let words = same.iter().map(|(name, full)| match full.ends_with(&format!(" {name}")) {
        true => format!("`{name}`"),
        false => format!("`{name}` (`{full}`)"),
    });
    let words = words.collect::<Vec<_>>().join(", ");
    match words.is_empty() {
        true => own,
        false => format!("As the commands that are called alone: {words}.\n\n{own}"),
    }
}

fn described(command: &Command, level: &str) -> String {
    let mut text = format!("{level} {}\n{}\n\n", name(command), about(command));
    if let Some(more) = command.get_long_about().map(ToString::to_string) {
        // Its first paragraph is what was said already.
        let more = more.split_once("\n\n").map(|(_, more)| more.trim().to_owned());
        text.extend(more.map(|more| format!("{}\n\n", escaped(&more))));
    }
    if !command.has_subcommands() {
        let usage = command.clone().render_usage().to_string();
        text.push_str(&format!("`{}`\n\n", usage.trim_start_matches("Usage: ").trim()));
    }
    let rows: Vec<String> =
        command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(row).collect();
    if !rows.is_empty() {
        text.push_str(&format!("| | |\n|---|---|\n{}\n", rows.concat()));
    }
    if let Some(after) = command.get_after_help() {
        let lines: Vec<String> = after.to_string().lines().map(|line| escaped(line.trim())).collect();
        text.push_str(&format!("{}\n\n", lines.join("  \n")));
    }
    text
}

/// One line of the table; none for what every command has.
fn row(arg: &Arg) -> Option<String> {
    if arg.get_id() == "help" || arg.get_id() == "version" {
        return None;
    }
    let value = arg.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>();
    let value = value.join(" ");
    let takes = arg.get_action().takes_values();
    let written = match (arg.get_short(), arg.get_long()) {
        (None, None) => format!("`{value}`"),
        (short, long) => {
            let words = short.map(|short| format!("-{short}")).into_iter();
            let words: Vec<String> = words.chain(long.map(|long| format!("--{long}"))).collect();
            match takes && !value.is_empty() {
                true => format!("`{} {value}`", words.join(", ")),
                false => format!("`{}`", words.join(", ")),
            }
        }
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let default = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
    let default = default.collect::<Vec<_>>().join(" ");
    let default = match takes && !default.is_empty() {
        true => format!(" [default: {default}]"),
        false => String::new(),
    };
    Some(format!("| {} | {}{default} |\n", written.replace('|', "\\|"), escaped(&help)))
}

fn name(command: &Command) -> String {
    command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// What Markdown would take for its own.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*").replace('<', "\\<")
}
