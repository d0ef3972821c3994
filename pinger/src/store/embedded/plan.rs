//! How the engine is started, the first time and again: its files, its command.
//!
//! In: the program, the data directory, the port and the secrets. Out: a command that becomes the
//! engine, and what it said last if it did not.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::config::{self, Secrets};
use super::definitions::Definitions;
use super::find::Program;
use super::lock::DirLock;
use super::{absolute, child, mend};
use crate::store::StoreError;
use crate::store::private;

/// Environment variable that names the `pinger` to start as the engine, for programs that use this
/// library and are not `pinger`, such as its tests; else it is the program that runs.
const PROGRAM_VARIABLE: &str = "PINGER_BIN";

/// Lines of the engine's log that an error shows.
const TAIL_LINES: usize = 8;

/// The log begins anew at a start that finds it longer, bytes: an engine that ends again and again
/// must not fill the disk with its last words.
const LOG_LEN_MAX: u64 = 1 << 20;

/// All that a start needs; each start is the same.
pub(super) struct Plan {
    pub(super) program: Program,
    pub(super) data_dir: PathBuf,
    pub(super) port: u16,
    pub(super) secrets: Secrets,
}

impl Plan {
    /// Writes the engine's configuration, mends what its last end may have left, and gives the
    /// command that becomes it: this program's hidden `engine` subcommand.
    ///
    /// # Errors
    /// When the data directory cannot be written or mended.
    pub(super) fn command(&self, lock: &DirLock) -> Result<Command, StoreError> {
        let files = self.prepare()?;
        let definitions = Definitions::of(&self.data_dir);
        definitions.restore()?;
        // Against changes by hand. On a disk that is full already, those kept earlier stay.
        let _ = definitions.keep();
        mend::free_burnt_tokens(&files.data)?;
        let log = open_log(&files.log)?;
        // Not our path: an upgrade may have replaced the file while we run.
        let itself = std::env::var_os(PROGRAM_VARIABLE).unwrap_or_else(|| "/proc/self/exe".into());
        let mut command = Command::new(absolute(Path::new(&itself))?);
        let lock_fd = lock.file().as_raw_fd();
        command
            .arg0("pinger-engine")
            .arg("engine")
            .args(child::arguments(
                std::process::id(),
                lock_fd,
                &self.program,
                &files,
                self.port,
            ))
            .current_dir("/")
            .env_clear()
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(log.0)
            .stderr(log.1)
            // Ctrl-C in a terminal is for us: the engine must outlive it to take the last rows.
            .process_group(0);
        // SAFETY: `fcntl` is async-signal-safe, and the descriptor belongs to the lock, which the
        // keeper holds until after the fork.
        unsafe {
            command.pre_exec(move || {
                if libc::fcntl(lock_fd, libc::F_SETFD, 0) == -1 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            })
        };
        Ok(command)
    }

    fn prepare(&self) -> Result<Files, StoreError> {
        let files = Files::of(&self.data_dir);
        for dir in [&files.settings, &files.data] {
            private::dir(dir)?;
        }
        let users = files.settings.join("users.xml");
        private::write(&users, &config::users(&self.secrets.password))?;
        let settings = config::Settings {
            users: &users,
            data: &files.data,
            port: self.port,
            key: &self.secrets.key,
            memory_bytes: config::memory_bytes(),
            server: matches!(self.program, Program::Server(_)),
        };
        private::write(&files.config, &settings.xml())?;
        Ok(files)
    }
}

/// Opens the log twice, for the engine's standard output and its standard error.
fn open_log(path: &Path) -> Result<(File, File), StoreError> {
    let open = || {
        let log = File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        if log.metadata()?.len() > LOG_LEN_MAX {
            log.set_len(0)?;
        }
        Ok((log.try_clone()?, log))
    };
    open().map_err(StoreError::file(
        "write",
        path,
        "check space and rights of --data-dir",
    ))
}

/// The files of an engine.
pub(super) struct Files {
    pub(super) log: PathBuf,
    /// The directory of the settings.
    settings: PathBuf,
    pub(super) config: PathBuf,
    pub(super) data: PathBuf,
}

impl Files {
    pub(super) fn of(data_dir: &Path) -> Self {
        let settings = data_dir.join("config");
        Self {
            log: data_dir.join("engine.log"),
            config: settings.join("config.xml"),
            settings,
            data: data_dir.join("engine"),
        }
    }

    /// Removes what earlier engines said.
    pub(super) fn forget_log(&self) {
        // If it stays, an error shows more than it should.
        let _ = fs::remove_file(&self.log);
    }

    /// The error of a start that failed, with what the engine said last.
    pub(super) fn failure(&self, reason: String) -> StoreError {
        let lines = self.last_lines(TAIL_LINES);
        let tail = match &lines[..] {
            [] => "    (nothing)".to_owned(),
            lines => {
                let lines: Vec<_> = lines.iter().map(|line| format!("    {line}")).collect();
                lines.join("\n")
            }
        };
        StoreError::EngineStart {
            reason,
            log: self.log.clone(),
            tail,
        }
    }

    /// The last so many lines of the log that say something.
    pub(super) fn last_lines(&self, count: usize) -> Vec<String> {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = &lines[lines.len().saturating_sub(count)..];
        last.iter().map(|line| (*line).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_goes_on_until_it_is_too_long() {
        use std::io::Write;
        let dir = std::env::temp_dir().join(format!("pinger-log-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("our own directory");
        let files = Files::of(&dir);
        assert!(files.last_lines(3).is_empty());
        for (text, lines) in [
            ("a\n\nb\n", vec!["a", "b"]),
            ("c\n", vec!["a", "b", "c"]),
            ("d\n", vec!["b", "c", "d"]),
        ] {
            let (mut log, _) = open_log(&files.log).expect("our own directory");
            log.write_all(text.as_bytes()).expect("there is room");
            assert_eq!(files.last_lines(3), lines);
        }
        let long = vec![b'x'; LOG_LEN_MAX as usize + 1];
        fs::write(&files.log, long).expect("there is room");
        let (mut log, _) = open_log(&files.log).expect("our own directory");
        log.write_all(b"e\n").expect("there is room");
        assert_eq!(files.last_lines(3), ["e"]);
        files.forget_log();
        assert!(!files.log.exists());
        fs::remove_dir_all(&dir).expect("our own directory");
    }
}
