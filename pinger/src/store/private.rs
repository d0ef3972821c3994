//! Directories and files that only this user can read.
//!
//! Who may write into the data directory can put a configuration of his own into the engine's
//! place, so one that others own or may write into is refused: what they have left there cannot be
//! told from what is ours. One that they may only read, or that is empty, is made private.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::StoreError;

/// What to do where a file of the data directory cannot be used.
pub(super) const HINT: &str = "choose another --data-dir, or run as the user who owns this one";

/// What to do where the data directory is not private.
pub(super) const PRIVATE_HINT: &str = "choose another --data-dir (one that is not there yet is \
     made private), or run as the user who owns this one";

/// What to do where a directory cannot be made.
const MAKE_HINT: &str = "choose another --data-dir, or run as a user who may write there";

/// The directories in a data directory.
const FOLDERS: [&str; 4] = ["config", "definitions", "engine", "spool"];

/// What else there may be in one that is pinger's alone. The last is the file system's own.
const FILES: [&str; 5] = [
    "lock",
    "endpoint.json",
    "endpoint.new",
    "engine.log",
    "lost+found",
];

/// Rights of a private directory.
const PRIVATE: u32 = 0o700;

/// Makes the data directory and its parents if need be, and makes sure that it is private, with
/// all that pinger has in it. The rights of a directory with files of others stay as they are.
///
/// # Errors
/// When it, or what pinger has in it, belongs to somebody else or is open to others and not ours
/// to close, or the disk refuses.
pub(super) fn data_dir(path: &Path) -> io::Result<()> {
    make(path)?;
    secure(path, us())
}

fn secure(path: &Path, we: u32) -> io::Result<()> {
    close_empty(path, we)?;
    let root = open_of(path, we)?;
    let alone = is_ours_alone(path)?;
    if alone {
        close(&root)?;
    }
    for folder in FOLDERS.map(|name| path.join(name)) {
        let opened = match open_of(&folder, we) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        // As `/var/spool` would be, for --data-dir /var.
        if !alone && mode(&opened)? & !PRIVATE != 0 && fs::read_dir(&folder)?.next().is_some() {
            return Err(denied(format!(
                "others may read {}, and pinger is not alone in {}",
                folder.display(),
                path.display()
            )));
        }
        close(&opened)?;
    }
    Ok(())
}

/// Makes a directory of ours private that has nothing in it yet: a container's new volume, say.
fn close_empty(path: &Path, we: u32) -> io::Result<()> {
    let opened = File::open(path)?;
    let metadata = opened.metadata()?;
    let is_empty = || Ok::<_, io::Error>(fs::read_dir(path)?.next().is_none());
    if metadata.uid() != we || !is_empty()? {
        return Ok(());
    }
    close(&opened)?;
    // Somebody was faster: as it was, it is refused.
    if !is_empty()? {
        opened.set_permissions(metadata.permissions())?;
    }
    Ok(())
}

/// Makes a directory that only this user can enter, and its parents.
pub(super) fn dir(path: &Path) -> Result<(), StoreError> {
    make(path).map_err(StoreError::file("create", path, MAKE_HINT))
}

fn make(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(PRIVATE).create(path)
}

/// Whether there is nothing in a directory but what pinger puts there.
fn is_ours_alone(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if !FOLDERS.iter().chain(&FILES).any(|ours| name == *ours) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The user that this process runs as.
fn us() -> u32 {
    // SAFETY: a plain system call.
    unsafe { libc::geteuid() }
}

/// Opens a directory of this user into which nobody else may write.
fn open_of(path: &Path, we: u32) -> io::Result<File> {
    let opened = File::open(path)?;
    let owner = opened.metadata()?.uid();
    if owner != we {
        return Err(denied(format!(
            "{} belongs to the user with id {owner}, and pinger runs as {we}",
            path.display()
        )));
    }
    let mode = mode(&opened)?;
    if mode & 0o022 != 0 {
        return Err(denied(format!(
            "others may write into {} (rights {mode:o}); if it is pinger's and nobody has meddled \
             with it, `chmod -R go-rwx` makes it private",
            path.display()
        )));
    }
    Ok(opened)
}

fn mode(opened: &File) -> io::Result<u32> {
    Ok(opened.metadata()?.mode() & 0o777)
}

fn close(opened: &File) -> io::Result<()> {
    if mode(opened)? & !PRIVATE == 0 {
        return Ok(());
    }
    opened.set_permissions(Permissions::from_mode(PRIVATE))
}

fn denied(words: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, words)
}

/// Replaces a file by one that only this user can read, never half written.
pub(super) fn write(path: &Path, text: &str) -> Result<(), StoreError> {
    let temporary = path.with_extension("new");
    // Made anew, since the mode counts only then.
    let _ = fs::remove_file(&temporary);
    File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(StoreError::file("write", path, HINT))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A data directory of our own, removed when dropped.
    struct Home(PathBuf);

    impl Home {
        /// With these directories and rights; the first one is the data directory, as "".
        fn new(folders: &[(&str, u32)]) -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("pinger-private-{}-{number}", std::process::id());
            let home = Self(std::env::temp_dir().join(name));
            for (folder, mode) in folders {
                let path = home.0.join(folder);
                fs::create_dir(&path).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
            }
            home
        }

        fn modes(&self, folders: &[(&str, u32)]) -> Vec<u32> {
            let mode = |folder: &str| fs::metadata(self.0.join(folder)).unwrap().mode() & 0o7777;
            folders.iter().map(|(folder, _)| mode(folder)).collect()
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_others_may_only_read_is_made_private() {
        for mode in [0o755, 0o750, 0o711, 0o700] {
            let folders = [
                ("", mode),
                ("config", mode),
                ("spool", mode),
                ("engine", mode),
            ];
            let home = Home::new(&folders);
            for file in ["lock", "config/users.xml", "spool/3-1"] {
                fs::write(home.0.join(file), "").unwrap();
            }
            data_dir(&home.0).unwrap();
            assert_eq!(home.modes(&folders), [PRIVATE; 4], "{mode:o}");
        }
    }

    #[test]
    fn what_others_may_write_into_is_refused_and_left_alone() {
        for (root, folder) in [
            (0o777, 0o700),
            (0o1777, 0o700),
            (0o720, 0o700),
            (0o702, 0o700),
            (0o755, 0o770),
        ] {
            let folders = [("", root), ("config", folder)];
            let home = Home::new(&folders);
            let error = data_dir(&home.0).unwrap_err().to_string();
            assert!(error.contains("others may write into"), "{error}");
            assert!(error.contains("chmod -R go-rwx"), "{error}");
            let config = home.modes(&folders)[1];
            assert_eq!(config, folder, "{error}");
        }
    }

    #[test]
    fn a_new_volume_is_made_private() {
        for mode in [0o777, 0o2775, 0o1777, 0o755] {
            let home = Home::new(&[("", mode)]);
            data_dir(&home.0).unwrap();
            assert_eq!(home.modes(&[("", mode)])[0] & 0o777, PRIVATE, "{mode:o}");
        }
    }

    #[test]
    fn a_directory_with_files_of_others_keeps_its_rights() {
        let folders = [("", 0o755), ("spool", 0o755)];
        let home = Home::new(&folders);
        fs::write(home.0.join("letter.txt"), "").unwrap();
        data_dir(&home.0).unwrap();
        assert_eq!(
            home.modes(&folders),
            [0o755, 0o700],
            "an empty one may be ours"
        );

        // As `/var/spool`.
        fs::set_permissions(home.0.join("spool"), Permissions::from_mode(0o755)).unwrap();
        fs::write(home.0.join("spool/mail"), "").unwrap();
        let error = data_dir(&home.0).unwrap_err().to_string();
        assert!(error.contains("not alone"), "{error}");
        assert_eq!(home.modes(&folders), [0o755, 0o755]);

        fs::set_permissions(home.0.join("spool"), Permissions::from_mode(0o700)).unwrap();
        data_dir(&home.0).unwrap();
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        let home = Home::new(&[("", 0o700)]);
        let we = us();
        secure(&home.0, we).unwrap();
        let error = secure(&home.0, we + 1).unwrap_err().to_string();
        let words = format!(
            "belongs to the user with id {we}, and pinger runs as {}",
            we + 1
        );
        assert!(error.contains(&words), "{error}");
    }
}
