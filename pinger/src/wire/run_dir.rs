//! Files in `/run/pinger`, where pingers of this host leave word for each other: which CPU has a
//! sender, how far a run came. The directory is in memory, so a reboot empties it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The directory. Only root writes there; xtask's record of the lab is in it too.
pub(super) const DIRECTORY: &str = "/run/pinger";

/// How often a file is opened whose directory vanishes: the lab removes it when it goes.
const OPENS_MAX: u32 = 3;

/// Opens a file of the directory, which is created if need be; follows no link.
///
/// # Errors
/// As `mkdir(2)` and `open(2)`.
pub(super) fn open(directory: &Path, name: &str, options: &mut OpenOptions) -> io::Result<File> {
    let mut tries = 0;
    loop {
        tries += 1;
        match DirBuilder::new().mode(0o755).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let opened = options
            .custom_flags(libc::O_NOFOLLOW)
            .open(directory.join(name));
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < OPENS_MAX => {}
            opened => return opened,
        }
    }
}
