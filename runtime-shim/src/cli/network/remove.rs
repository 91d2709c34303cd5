//! `runion network rm`.

use clap::Args;
use layerstore::store::Store;

use super::prune::sweep;
use super::tell;
use crate::failure::Result;
use crate::monitor::where_bridges_are;
use crate::network::Networks;
use crate::output;

/// Remove networks
#[derive(Args)]
pub struct Remove {
    /// Do not mind what is not there
    #[arg(long, short)]
    force: bool,

    /// Names or ids
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

impl Remove {
    /// Removes each, and goes on after a failure.
    pub fn run(self, store: &Store) -> Result<u8> {
        let networks = Networks::open(store.root())?;
        sweep(store, &networks)?;
        let mut code = 0;
        for text in &self.networks {
            let network = networks.find(text).ok();
            match where_bridges_are(&networks, || networks.remove(text).map(drop)) {
                Ok(()) => {
                    if let Some(network) = &network {
                        tell(store.root(), network, "destroy", None);
                    }
                    output::print(&format!("{text}\n"))?;
                }
                Err(_) if self.force && networks.find(text).is_err() => {}
                Err(failure) => code = code.max(failure.report()),
            }
        }
        Ok(code)
    }
}
