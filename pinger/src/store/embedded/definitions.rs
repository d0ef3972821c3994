//! Definitions of databases and tables, kept whole where a full disk tears them.
//!
//! In: the engine's files. Out: files that the engine can read, or an error before anybody builds
//! on one that it cannot.
//!
//! ClickHouse does not look whether the small files of a definition came onto the disk: when that
//! is full, it puts empty or torn ones into place and says that all is well (seen by strace, engine
//! 26.7). The table works until the engine ends, and no engine starts again. So before a change of
//! the schema the definitions are kept, as further links to their files, for ClickHouse writes none
//! in place; after each statement all are looked at; and before each start what is torn is mended.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::listing::{HINT, entries, subdirectories};

use crate::store::StoreError;
use crate::store::private;

/// What the format version of a table's directory says: there is only this one.
const FORMAT: &str = "1";

const FULL: &str = "free some space on the disk of --data-dir, then do this again";

/// The definitions of one engine.
#[derive(Clone, Debug)]
pub(in crate::store) struct Definitions {
    engine: PathBuf,
    kept: PathBuf,
}

impl Definitions {
    /// Those of the engine that works in a data directory.
    pub(in crate::store) fn of(data_dir: &Path) -> Self {
        Self {
            engine: data_dir.join("engine"),
            kept: data_dir.join("definitions"),
        }
    }

    /// Keeps all whole definitions as they are now.
    ///
    /// # Errors
    /// When one cannot be kept: then nothing should be changed.
    pub(in crate::store) fn keep(&self) -> Result<(), StoreError> {
        private::dir(&self.kept)?;
        let all = self.all()?.into_iter();
        let all: Vec<_> = all.filter(|file| file.kind == Kind::Definition).collect();
        for file in all.iter().filter(|file| !file.is_torn()) {
            let kept = self.kept_for(&file.path);
            put(&file.path, &kept).map_err(StoreError::file("keep a copy as", &kept, FULL))?;
        }
        let known: Vec<PathBuf> = all.iter().map(|file| self.kept_for(&file.path)).collect();
        for name in entries(&self.kept)? {
            let kept = self.kept.join(name);
            if !known.contains(&kept) {
                fs::remove_file(&kept).map_err(StoreError::file("remove", &kept, HINT))?;
            }
        }
        Ok(())
    }

    /// Looks whether all came onto the disk.
    ///
    /// # Errors
    /// When something did not.
    pub(in crate::store) fn check(&self) -> Result<(), StoreError> {
        match self.all()?.iter().find(|file| file.is_torn()) {
            None => Ok(()),
            Some(torn) => Err(StoreError::file("write", &torn.path, FULL)(
                io::ErrorKind::StorageFull.into(),
            )),
        }
    }

    /// Mends what is torn: what was kept takes the place of a definition, and what was never whole
    /// goes, for nothing was stored by it, and the change is not on record and is made again. Only
    /// while no engine runs.
    ///
    /// # Errors
    /// When a file cannot be looked at, put in place or removed.
    pub(super) fn restore(&self) -> Result<(), StoreError> {
        for torn in self.all()?.iter().filter(|file| file.is_torn()) {
            let path = &torn.path;
            let kept = Small {
                path: self.kept_for(path),
                kind: torn.kind,
            };
            let restored = match torn.kind {
                Kind::Definition if kept.path.exists() && !kept.is_torn() => put(&kept.path, path),
                Kind::Definition | Kind::Mutation => fs::remove_file(path),
                Kind::Format => fs::write(path, FORMAT),
            };
            restored.map_err(StoreError::file("mend", path, FULL))?;
        }
        Ok(())
    }

    /// The small files of all databases and tables. Each database has a directory in `store` with
    /// the definitions of its tables, and so has each table for what else there is of it.
    fn all(&self) -> Result<Vec<Small>, StoreError> {
        let mut folders = vec![self.engine.join("metadata")];
        for group in subdirectories(&self.engine.join("store"))? {
            folders.extend(subdirectories(&group)?);
        }
        let mut all = Vec::new();
        for folder in folders.into_iter().filter(|folder| folder.exists()) {
            let small = |name: String| Some((Kind::of(&name)?, name));
            let found = entries(&folder)?.into_iter().filter_map(small);
            all.extend(found.map(|(kind, name)| Small {
                path: folder.join(name),
                kind,
            }));
        }
        Ok(all)
    }

    /// Where a definition is kept: by its database's directory, whose name is random, and its own
    /// name.
    fn kept_for(&self, path: &Path) -> PathBuf {
        let name = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_owned();
        let mut kept = name(path.parent().and_then(Path::file_name));
        kept.push(".");
        kept.push(name(path.file_name()));
        self.kept.join(kept)
    }
}

/// A small file that ClickHouse writes once.
#[derive(Debug)]
struct Small {
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of a database or a table.
    Definition,
    /// What is to be done with the rows of a table.
    Mutation,
    /// How a table's directory is laid out.
    Format,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')? {
            (_, "sql") => Some(Self::Definition),
            ("format_version", "txt") => Some(Self::Format),
            (start, "txt") if start.starts_with("mutation_") => Some(Self::Mutation),
            _ => None,
        }
    }
}

impl Small {
    /// Whether it is there, but not to its end.
    fn is_torn(&self) -> bool {
        let last = || -> io::Result<Option<u8>> {
            let mut file = File::open(&self.path)?;
            if file.metadata()?.len() == 0 {
                return Ok(None);
            }
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            Ok(Some(last[0]))
        };
        match (last(), self.kind) {
            (Ok(last), Kind::Format) => last.is_none(),
            (Ok(last), Kind::Definition | Kind::Mutation) => last != Some(b'\n'),
            // A view that was replaced in this moment is not.
            (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

/// Makes `to` another name of the file `from`, or a copy where the filesystem has no links.
fn put(from: &Path, to: &Path) -> io::Result<()> {
    let inode = |path| fs::symlink_metadata(path).map(|found| found.ino());
    if inode(to).is_ok_and(|there| inode(from).is_ok_and(|wanted| wanted == there)) {
        return Ok(());
    }
    let new = to.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if fs::hard_link(from, &new).is_err() {
        fs::copy(from, &new)?;
        File::open(&new)?.sync_all()?;
    }
    fs::rename(&new, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "ATTACH TABLE _ UUID 'x'\n";

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("pinger-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("engine/metadata")).unwrap();
            fs::create_dir_all(path.join("engine/store/5f2/5f2e")).unwrap();
            Self(path)
        }

        fn definitions(&self) -> Definitions {
            Definitions::of(&self.0)
        }

        /// As ClickHouse does: never in place.
        fn write(&self, name: &str, text: &str) {
            let path = self.0.join("engine").join(name);
            let _ = fs::remove_file(&path);
            fs::write(path, text).unwrap();
        }

        fn read(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.0.join("engine").join(name)).ok()
        }

        fn kept(&self) -> Vec<String> {
            let mut names = entries(&self.0.join("definitions")).unwrap();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const TABLE: &str = "store/5f2/5f2e/results.sql";
    const DATABASE: &str = "metadata/pinger.sql";

    #[test]
    fn a_torn_definition_is_found_and_gives_way_to_the_one_that_was_kept() {
        let folder = Folder::new("definitions");
        let definitions = folder.definitions();
        folder.write(DATABASE, WHOLE);
        folder.write(TABLE, WHOLE);
        definitions.keep().unwrap();
        for torn in ["", "ATTACH TABLE _ UU"] {
            folder.write(TABLE, torn);
            let error = definitions.check().unwrap_err().to_string();
            assert!(error.contains("results.sql"), "{error}");
            // What was kept outlives another try while the disk is full.
            definitions.keep().unwrap();
            definitions.restore().unwrap();
            assert_eq!(folder.read(TABLE).as_deref(), Some(WHOLE));
            definitions.check().unwrap();
        }
    }

    #[test]
    fn a_definition_that_was_never_whole_is_removed() {
        let folder = Folder::new("never-whole");
        let definitions = folder.definitions();
        definitions.keep().unwrap();
        folder.write(DATABASE, "");
        folder.write(TABLE, "ATTACH");
        folder.write("store/5f2/5f2e/results.sql.tmp", "ATTACH");
        definitions.restore().unwrap();
        assert_eq!((folder.read(TABLE), folder.read(DATABASE)), (None, None));
        definitions.check().unwrap();
    }

    #[test]
    fn what_else_a_full_disk_tears_in_a_new_table_is_mended() {
        let folder = Folder::new("torn-table");
        let definitions = folder.definitions();
        let table = |name: &str| format!("store/c1b/c1bd/{name}");
        fs::create_dir_all(folder.0.join("engine/store/c1b/c1bd")).unwrap();
        folder.write(&table("format_version.txt"), "1");
        folder.write(&table("mutation_1.txt"), "format version: 1\ncommands: x\n");
        definitions.check().unwrap();
        folder.write(&table("format_version.txt"), "");
        assert!(definitions.check().is_err());
        definitions.restore().unwrap();
        folder.write(&table("mutation_2.txt"), "format version: 1\ncomm");
        assert!(definitions.check().is_err());
        definitions.restore().unwrap();
        definitions.check().unwrap();
        assert_eq!(
            folder.read(&table("format_version.txt")).as_deref(),
            Some("1")
        );
        assert!(folder.read(&table("mutation_1.txt")).is_some());
        assert_eq!(folder.read(&table("mutation_2.txt")), None);
    }

    #[test]
    fn a_change_is_kept_anew_and_what_was_dropped_is_forgotten() {
        let folder = Folder::new("kept-anew");
        let definitions = folder.definitions();
        folder.write(TABLE, WHOLE);
        folder.write("store/5f2/5f2e/old.sql", WHOLE);
        definitions.keep().unwrap();
        assert_eq!(folder.kept(), ["5f2e.old.sql", "5f2e.results.sql"]);
        folder.write(TABLE, "ATTACH TABLE _ UUID 'y'\n");
        fs::remove_file(folder.0.join("engine/store/5f2/5f2e/old.sql")).unwrap();
        definitions.keep().unwrap();
        assert_eq!(folder.kept(), ["5f2e.results.sql"]);
        folder.write(TABLE, "");
        definitions.restore().unwrap();
        assert_eq!(
            folder.read(TABLE).as_deref(),
            Some("ATTACH TABLE _ UUID 'y'\n")
        );
    }

    #[test]
    fn an_engine_that_never_ran_has_nothing_to_keep() {
        let path = std::env::temp_dir().join(format!("pinger-no-engine-{}", std::process::id()));
        let definitions = Definitions::of(&path);
        definitions.restore().unwrap();
        definitions.check().unwrap();
        definitions.keep().unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}
