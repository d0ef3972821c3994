//! What `pinger schema` does with a store: opens it, then applies, tells or changes.
//!
//! In: options, and somebody to tell. Out: what was done or found. Prints nothing.

use super::{Applied, Company, Place, Retention, Say, Status, Table};
use crate::config::{StoreChoice, StoreOptions};
use crate::store::StoreError;
use crate::store::session::{Session, Sharing, look};

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
    let place = place(options, &session);
    session.block_on(super::status::status(session.connection(), place))
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
    let place = place(options, &session);
    session.block_on(async {
        if !change.is_empty() {
            super::check_at(connection, &place).await?;
            // The lock of the data directory is held by whoever has the engine.
            let company = if session.is_embedded() {
                Company::Alone
            } else {
                Company::Others
            };
            let definitions = session.definitions();
            super::retention::change(connection, company, definitions, change, say).await?;
        }
        let kept = super::retention::kept(connection).await?;
        if kept.is_empty() {
            // Most likely it has no schema at all, and then this says so.
            super::check_at(connection, &place).await?;
        }
        Ok(kept)
    })
}

fn place(options: &StoreOptions, session: &Session) -> Place {
    match options.choice {
        StoreChoice::Embedded => Place::embedded(&options.data_dir),
        _ => Place::at(session.connection().url()),
    }
}
