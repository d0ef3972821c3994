//! How a running engine is reached: `endpoint.json` of its data directory, for other processes of
//! the same user.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::clickhouse::Address;
use crate::store::private::{self, HINT};

/// What the file says. Whoever has it can do all that pinger can.
#[derive(Serialize, Deserialize)]
pub struct Endpoint {
    /// Scheme, host and port.
    pub url: String,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// Name of the header without which nothing is answered.
    pub header_name: String,
    /// Its value.
    pub header_value: String,
    /// Settings that each query shall carry, by name.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

impl Endpoint {
    /// That of the engine that works on this data directory and is shared, if there is one.
    pub fn read(data_dir: &Path) -> Option<Self> {
        let text = fs::read_to_string(path(data_dir)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Tells other processes of it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self, data_dir: &Path) -> Result<(), StoreError> {
        let path = path(data_dir);
        let text = serde_json::to_string_pretty(self)
            .map_err(|source| StoreError::file("write", &path, HINT)(source.into()))?;
        private::write(&path, &text)
    }
}

impl From<&Address> for Endpoint {
    fn from(address: &Address) -> Self {
        let (header_name, header_value) = address.header.clone().unwrap_or_default();
        Self {
            url: address.origin.clone(),
            database: address.database.clone(),
            user: address.user.clone(),
            password: address.password.clone(),
            header_name,
            header_value,
            settings: address.settings.clone(),
        }
    }
}

impl From<Endpoint> for Address {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            origin: endpoint.url,
            database: endpoint.database,
            user: endpoint.user,
            password: endpoint.password,
            header: Some((endpoint.header_name, endpoint.header_value)),
            settings: endpoint.settings,
        }
    }
}

/// Tells others no longer.
pub(super) fn remove(data_dir: &Path) {
    // Mostly it is not there; and a left one leads nowhere, since its secrets are drawn anew.
    let _ = fs::remove_file(path(data_dir));
}

pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("endpoint.json")
}
