//! What `pinger schema` does with a store: opens it, then applies, tells or changes.
//!
//! In: options, and somebody to tell. Out: what was done or found. Prints nothing.

use super::{Applied, Company, Retention, Say, Status, Table};
use crate::config::{StoreChoice, StoreOptions};
use crate::store::StoreError;
use crate::store::session::{Session, Sharing};

/// Creates or upgrades the tables of the store.
///
/// # Errors
/// When the store cannot be used, or has a schema that this program does not know.
pub fn apply(options: &StoreOptions, say: &mut Say<'_>) -> Result<Applied, StoreError> {
    let session = Session::open_saying(options, Sharing::Guest, say)?;
    match session.applied() {
        Some(applied) => Ok(applied),
        None => session.block_on(super::apply(
            session.connection(),
            Company::Others,
            session.definitions(),
            say,
        )),
    }
}

/// Looks at the schema of the store, and changes nothing.
///
/// # Errors
/// When the store cannot be used, or there is none yet.
pub fn status(options: &StoreOptions) -> Result<Status, StoreError> {
    look(options)?;
    let session = Session::open(options, Sharing::Reader)?;
    session.block_on(super::status::status(session.connection()))
}

/// Changes for how long rows are kept, if `change` says so; the tables as they are then.
///
/// # Errors
/// When the store cannot be used, there is none yet, or the user may not change it.
pub fn retention(
    options: &StoreOptions,
    change: &Retention,
    say: &mut Say<'_>,
) -> Result<Vec<Table>, StoreError> {
    look(options)?;
    let session = Session::open(options, Sharing::Reader)?;
    let connection = session.connection();
    session.block_on(async {
        if !change.is_empty() {
            super::check(connection).await?;
            // The lock of the data directory is held by whoever has the engine.
            let company = if session.is_embedded() {
                Company::Alone
            } else {
                Company::Others
            };
            let definitions = session.definitions();
            super::retention::change(connection, company, definitions, change, say).await?;
        }
        super::retention::kept(connection).await
    })
}

/// Whether there is an embedded store, if that is the choice: to look must not make one.
fn look(options: &StoreOptions) -> Result<(), StoreError> {
    let StoreOptions {
        choice, data_dir, ..
    } = options;
    if *choice == StoreChoice::Embedded && !data_dir.join("engine").exists() {
        let hint =
            "no pinger has kept results there: check --data-dir, or name a server by --store";
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(StoreError::file("find a store in", data_dir, hint)(missing));
    }
    Ok(())
}
