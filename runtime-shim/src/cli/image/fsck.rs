//! `runion fsck`.

use clap::Args;
use layerstore::store::{Repair, Store};

use crate::failure::{FAILED, Result};
use crate::output;

/// Compare everything in the store with its digests
///
/// Each thing that is broken is a line. The exit code is 1 if something is
/// broken and was not repaired.
#[derive(Args)]
pub struct Fsck {
    /// Remove what is broken and what needs it, and make indexes anew
    #[arg(long)]
    repair: bool,
}

impl Fsck {
    /// Prints what was found and done.
    pub fn run(self, store: &Store) -> Result<u8> {
        let findings = store.fsck(if self.repair { Repair::Yes } else { Repair::No })?;
        let lines = findings.iter().map(|finding| match &finding.done {
            Some(done) => format!("{}: {done}\n", finding.what),
            None => format!("{}\n", finding.what),
        });
        let mut text: String = lines.collect();
        let broken = findings.iter().filter(|finding| finding.done.is_none()).count();
        text.push_str(&match (findings.len(), broken) {
            (0, _) => "clean\n".to_owned(),
            (found, 0) => format!("{found} repaired\n"),
            (found, _) => format!("{found} broken: runion fsck --repair removes what cannot be mended\n"),
        });
        output::print(&text)?;
        Ok(if broken == 0 { 0 } else { FAILED })
    }
}
