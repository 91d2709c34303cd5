//! `runion system check`.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use crate::failure::{Context, FAILED, Result};
use crate::host::{self, Finding, State};
use crate::output::{self, Format, table};

/// Say what this host has for containers, what it lacks, and what to do about it
///
/// Each line is found out by trying it as the user who asks, in namespaces of
/// its own: nothing is changed. `limited` is what some containers will miss,
/// `missing` what all need that say nothing else.
#[derive(Args)]
#[command(after_help = "Fields of --format: .Check .State .Found .Remedy\n\
    Exit codes: 0 if containers can run, 1 if not.")]
pub struct Check {
    /// Print by a template: table, json, 'table TEMPLATE', or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const COLUMNS: &str = "{{.Check}}\t{{.State}}\t{{.Found}}";
const HEADERS: [(&str, &str); 4] =
    [("Check", "CHECK"), ("State", "STATE"), ("Found", "FOUND"), ("Remedy", "REMEDY")];

impl Check {
    /// Looks, and prints what it found.
    pub fn run(self, store: &Path) -> Result<u8> {
        let format = Format::parse(self.format.as_deref(), COLUMNS)?;
        let findings = host::look(store);
        match self.format.as_deref().map(str::trim) {
            None | Some("" | "table") => output::print(&text(&findings))?,
            _ => format.print(&HEADERS, &rows(&findings)?)?,
        }
        let can_run = findings.iter().all(|finding| finding.state != State::Missing);
        Ok(if can_run { 0 } else { FAILED })
    }
}

/// Columns, and below what is not well what to do about it.
fn text(findings: &[Finding]) -> String {
    let mut lines = vec!["CHECK\tSTATE\tFOUND".to_owned()];
    for finding in findings {
        lines.push(format!("{}\t{}\t{}", finding.check, finding.state.word(), finding.found));
        lines.extend(finding.remedy.as_ref().map(|remedy| format!("  hint: {remedy}")));
    }
    table::aligned(&lines)
}

/// Every row has every field.
fn rows(findings: &[Finding]) -> Result<Vec<Value>> {
    let row = |finding: &Finding| {
        let mut row = serde_json::to_value(finding).context(|| "cannot write what was found".to_owned())?;
        if let Value::Object(fields) = &mut row {
            fields.entry("Remedy").or_insert_with(|| json!(""));
        }
        Ok(row)
    };
    findings.iter().map(row).collect()
}
