//! All that is known of a volume.

use layerstore::store::Store;
use serde_json::{Value, json};

use crate::failure::Result;
use crate::output::time;
use crate::volume::Volumes;

/// What is known of a volume, in docker's names, if there is one.
pub fn shown(store: &Store, name: &str) -> Result<Option<Value>> {
    let volumes = Volumes::open(store.root());
    let Some(volume) = volumes.present(name)? else { return Ok(None) };
    let or_null = |map: &std::collections::BTreeMap<String, String>| match map.is_empty() {
        true => Value::Null,
        false => json!(map),
    };
    Ok(Some(json!({
        "CreatedAt": time::local_in_documents(time::parse(Some(&volume.created))),
        "Driver": "local",
        "Labels": or_null(&volume.labels),
        "Mountpoint": volumes.data(&volume.name),
        "Name": volume.name,
        "Options": or_null(&volume.options),
        "Scope": "local",
    })))
}
