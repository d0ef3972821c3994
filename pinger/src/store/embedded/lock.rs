//! One pinger at a time on a data directory.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::endpoint;

use crate::store::StoreError;
use crate::store::private::{self, HINT, PRIVATE_HINT};

/// The longest to wait for the engine of a pinger that is gone: it ends within seconds.
const ORPHAN_LIMIT: Duration = Duration::from_secs(15);

/// How long to wait for a pinger that lives: it may be in its last moments.
const ENDING_LIMIT: Duration = Duration::from_secs(1);

/// How often a held lock is tried.
const POLL: Duration = Duration::from_millis(50);

/// The right to work on a data directory, until dropped.
#[derive(Debug)]
pub(in crate::store) struct DirLock {
    file: File,
}

impl DirLock {
    /// Takes the directory, which is created if need be.
    ///
    /// The engine of a killed pinger holds on to the directory for the moment it needs to end;
    /// that is waited for.
    ///
    /// # Errors
    /// When a living process has it, or the directory cannot be used.
    pub(in crate::store) fn take(data_dir: &Path) -> Result<Self, StoreError> {
        let began = Instant::now();
        loop {
            if let Some(lock) = Self::try_take(data_dir)? {
                return Ok(lock);
            }
            let holder = holder(data_dir);
            let alive = holder.as_ref().is_some_and(Holder::is_alive);
            if began.elapsed() > if alive { ENDING_LIMIT } else { ORPHAN_LIMIT } {
                let holder = match holder {
                    Some(Holder { pid, command }) => format!("process {pid} (`{command}`)"),
                    None => "another process".to_owned(),
                };
                return Err(StoreError::InUse {
                    path: data_dir.to_owned(),
                    holder,
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Takes the directory unless somebody has it.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub(in crate::store) fn try_take(data_dir: &Path) -> Result<Option<Self>, StoreError> {
        private::dir(data_dir)?;
        private::data_dir(data_dir).map_err(StoreError::file("use", data_dir, PRIVATE_HINT))?;
        let path = data_dir.join("lock");
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::file("open", &path, HINT))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => {
                return Err(StoreError::file("lock", path, HINT)(source));
            }
        }
        let holder = Holder::current();
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{} {}", holder.pid, holder.command))
            .map_err(StoreError::file("write", &path, HINT))?;
        // Left by a pinger that was killed: its engine is gone, or it would hold the lock.
        endpoint::remove(data_dir);
        Ok(Some(Self { file }))
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

/// Who wrote the lock file.
struct Holder {
    pid: u32,
    command: String,
}

impl Holder {
    fn current() -> Self {
        let args: Vec<String> = std::env::args().take(2).collect();
        Self {
            pid: std::process::id(),
            command: args.join(" "),
        }
    }

    fn is_alive(&self) -> bool {
        // A killed process stays as a zombie until its parent looks; it holds nothing any more.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    }
}

fn holder(data_dir: &Path) -> Option<Holder> {
    let mut text = String::new();
    File::open(data_dir.join("lock"))
        .ok()?
        .read_to_string(&mut text)
        .ok()?;
    let (pid, command) = text.trim_end().split_once(' ')?;
    Some(Holder {
        pid: pid.parse().ok()?,
        command: command.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::super::endpoint::Endpoint;
    use super::*;
    use crate::store::clickhouse::Address;

    #[test]
    fn a_directory_has_one_holder_and_is_private() {
        let dir = std::env::temp_dir().join(format!("pinger-lock-{}", std::process::id()));
        let lock = DirLock::take(&dir).expect("nobody has it");
        assert!(
            DirLock::try_take(&dir)
                .expect("it is a directory")
                .is_none()
        );
        let refused = DirLock::take(&dir).expect_err("we have it").to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("lock"))), (0o700, 0o600));
        drop(lock);

        let lock = DirLock::take(&dir).expect("it is free again");
        let address = Address {
            origin: "http://127.0.0.1:1".to_owned(),
            database: "d".to_owned(),
            user: "u".to_owned(),
            password: "p".to_owned(),
            header: Some(("H".to_owned(), "v".to_owned())),
            settings: BTreeMap::from([("s".to_owned(), "1".to_owned())]),
        };
        Endpoint::from(&address)
            .write(&dir)
            .expect("the directory is ours");
        assert_eq!(mode(&endpoint::path(&dir)), 0o600);
        assert_eq!(Endpoint::read(&dir).map(Address::from), Some(address));
        drop(lock);
        let lock = DirLock::take(&dir).expect("it is free again");
        assert!(
            Endpoint::read(&dir).is_none(),
            "a new holder clears what a killed one left"
        );
        drop(lock);
        std::fs::remove_dir_all(&dir).expect("our own directory");
    }
}
