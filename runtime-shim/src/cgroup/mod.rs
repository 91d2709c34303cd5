//! placeholder
use crate::failure::Result;
use serde::{Deserialize, Serialize};
#[derive(Clone, Serialize, Deserialize)]
pub struct Group;
impl Group {
    pub fn oom_kills(&self) -> Result<u64> {
        Ok(0)
    }
    pub fn pause(&self) -> Result<()> {
        Ok(())
    }
    pub fn resume(&self) -> Result<()> {
        Ok(())
    }
    pub fn kill_all(&self) -> Result<()> {
        Ok(())
    }
    pub fn remove(&self) -> Result<()> {
        Ok(())
    }
}
