//! Where an export is written: aside, and put in its place when it is whole.
//!
//! A file in the making has no name where the file system can do that, so that even a process that
//! is killed leaves nothing behind.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Output, unwritable};
use crate::store::StoreError;

/// What is written to.
pub(super) enum Target {
    /// Standard output.
    Stdout(io::Stdout),
    /// Something that is there and is no file to be replaced, such as a pipe.
    Direct(File),
    /// A file in the making.
    Aside(Aside),
}

/// A file in the making.
pub(super) struct Aside {
    file: File,
    /// Its name until it is whole, beside the one it is to have.
    temporary: PathBuf,
    /// Whether it has that name already.
    is_named: bool,
    path: PathBuf,
}

impl Target {
    /// Opens it; the place is checked before anything is asked of the store.
    pub(super) fn open(output: &Output) -> Result<Self, StoreError> {
        let Output::File(path) = output else {
            return Ok(Self::Stdout(io::stdout()));
        };
        Self::of_path(path).map_err(|error| unwritable(output, error))
    }

    fn of_path(path: &Path) -> io::Result<Self> {
        // Of a link, what it leads to is replaced.
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
        };
        match fs::metadata(&path) {
            Ok(found) if !found.is_file() => {
                File::options().write(true).open(&path).map(Self::Direct)
            }
            _ => Aside::new(path).map(Self::Aside),
        }
    }

    /// Puts the file in its place.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Stdout(mut out) => out.flush(),
            Self::Direct(_) => Ok(()),
            Self::Aside(aside) => aside.finish(),
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::Direct(file) => file.write(bytes),
            Self::Aside(aside) => aside.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::Direct(_) | Self::Aside(_) => Ok(()),
        }
    }
}

impl Aside {
    fn new(path: PathBuf) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(hidden);
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let unnamed = File::options()
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o666)
            .open(directory);
        let (file, is_named) = match unnamed {
            Ok(file) => (file, false),
            // Not every file system can; where there is another reason, it comes again.
            Err(_) => {
                let named = File::options()
                    .write(true)
                    .create_new(true)
                    .open(&temporary)?;
                (named, true)
            }
        };
        Ok(Self {
            file,
            temporary,
            is_named,
            path,
        })
    }

    fn finish(mut self) -> io::Result<()> {
        // A name must not appear before what it names is safe.
        self.file.sync_all()?;
        if !self.is_named {
            name(&self.file, &self.temporary)?;
            self.is_named = true;
        }
        fs::rename(&self.temporary, &self.path)?;
        self.is_named = false;
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if self.is_named {
            // There is nothing else to be done about it.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Gives a name to a file that has none, open(2).
fn name(file: &File, path: &Path) -> io::Result<()> {
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: both are strings that end in zero and outlive the call.
    let done = unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("pinger-export-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("the temporary directory is writable");
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(&self.0)
                .expect("our own directory")
                .map(|entry| {
                    entry
                        .expect("readable")
                        .file_name()
                        .to_string_lossy()
                        .into_owned()
                })
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_there_when_it_is_whole() {
        let folder = Folder::new("whole");
        let path = folder.0.join("a.csv");
        fs::write(&path, "old").expect("our own directory");
        symlink("a.csv", folder.0.join("link")).expect("our own directory");
        for name in ["a.csv", "link", "new.csv"] {
            let before = folder.names();
            let mut target = Target::of_path(&folder.0.join(name)).expect("writable");
            target.write_all(name.as_bytes()).expect("there is room");
            drop(target);
            assert_eq!(
                folder.names(),
                before,
                "nothing is left of one that was given up"
            );

            let mut target = Target::of_path(&folder.0.join(name)).expect("writable");
            target.write_all(name.as_bytes()).expect("there is room");
            target.finish().expect("writable");
            assert_eq!(
                fs::read_to_string(folder.0.join(name)).expect("it is there"),
                name
            );
        }
        assert_eq!(folder.names(), ["a.csv", "link", "new.csv"]);
        assert!(
            fs::symlink_metadata(folder.0.join("link"))
                .expect("there")
                .is_symlink()
        );
    }

    #[test]
    fn a_file_with_a_name_while_it_is_made_goes_too() {
        let folder = Folder::new("named");
        let aside = |name: &str| {
            let temporary = folder.0.join(".part");
            Aside {
                file: File::create(&temporary).expect("our own directory"),
                temporary,
                is_named: true,
                path: folder.0.join(name),
            }
        };
        drop(aside("a"));
        assert!(folder.names().is_empty());
        aside("a").finish().expect("writable");
        assert_eq!(folder.names(), ["a"]);
        fs::create_dir(folder.0.join("b")).expect("our own directory");
        aside("b").finish().expect_err("it is a directory");
        assert_eq!(folder.names(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_file_is_written_to_or_refused() {
        let mut full = Target::of_path(Path::new("/dev/full")).expect("it is a device");
        full.write_all(b"x").expect_err("it is full");
        Target::of_path(Path::new("/dev/null"))
            .expect("a device")
            .finish()
            .expect("nothing to do");
        assert!(Path::new("/dev/null").exists());
        for path in ["/nonexistent/a.csv", "/tmp", "/proc/a.csv", ""] {
            assert!(Target::of_path(Path::new(path)).is_err(), "{path}");
        }
    }
}
