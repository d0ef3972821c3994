//! What can go wrong with the store, and what to do about it.
//!
//! Every message has two parts: what happened to which thing, then, indented on a line of its
//! own, what to do now.

use std::io;
use std::path::PathBuf;

use super::clickhouse::verdict::is_busy;
use super::schema::SchemaError;

/// Why the store could not be opened, used or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Neither a `clickhouse` program nor `libchdb.so` was found.
    #[error(
        "no ClickHouse engine on this machine; looked for {}\n  \
         `cargo xtask setup` fetches one into ~/.cache/pinger: put its libchdb.so at one of those \
         places, or let PINGER_LIBCHDB name it; or use --store URL (a ClickHouse server); \
         `pinger run --store none` needs no engine and keeps no results",
        looked.join(", ")
    )]
    EngineMissing {
        /// Where it was looked for.
        looked: Vec<String>,
    },
    /// PINGER_LIBCHDB names no file.
    #[error(
        "PINGER_LIBCHDB is set to {}, and there is no such file\n  \
         let it name libchdb.so, or unset it", path.display()
    )]
    EngineNotThere {
        /// Its value.
        path: PathBuf,
    },
    /// The engine ended or stayed silent before it answered.
    #[error(
        "the ClickHouse engine did not start: {reason}\n  \
         its last words, from {}:\n{tail}", log.display()
    )]
    EngineStart {
        /// What was seen.
        reason: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The port that the user asked for is in use.
    #[error(
        "port {port} on 127.0.0.1 is taken\n  \
         leave --store-port out and a free one is chosen, or name another \
         (`ss -ltnp sport = :{port}` shows who has it)"
    )]
    PortTaken {
        /// That port.
        port: u16,
    },
    /// Another process works with the data directory.
    #[error(
        "the data directory {} is in use by {holder}\n  \
         stop that one, or give this one another --data-dir \
         (`pinger sql` may ask a running pinger at any time)", path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who, as far as is known.
        holder: String,
    },
    /// A file of the data directory could not be used.
    #[error("cannot {action} {}: {source}\n  {hint}", path.display())]
    File {
        /// A verb: what was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no embedded store to look at.
    #[error(
        "there is no store in {}\n  \
         no pinger has kept results there: check --data-dir, or name a server by --store",
        path.display()
    )]
    NothingThere {
        /// The data directory.
        path: PathBuf,
    },
    /// `--store none` was given to something that needs a store.
    #[error("there is no store to use: --store is `none`\n  use --store embedded, or --store URL")]
    NoStore,
    /// Results cannot wait on disk.
    #[error(
        "cannot keep results in {}: {words}\n  \
         make room or take rights there, choose another --data-dir, or keep them in memory only: \
         --spool memory",
        path.display()
    )]
    Spool {
        /// The data directory.
        path: PathBuf,
        /// What failed.
        words: String,
    },
    /// The store's URL cannot be used.
    #[error(
        "--store {url}: {reason}\n  \
         the form is http://USER@HOST:8123/DATABASE, or https and 8443; the password goes into the environment \
         variable PINGER_STORE_PASSWORD or into a file named by --store-password-file"
    )]
    Url {
        /// The URL, without any password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers at the URL.
    #[error(
        "cannot reach ClickHouse at {url}: {reason}\n  \
         check that the server runs and that host and port are right \
         (its HTTP port, 8123 unless changed)"
    )]
    Unreachable {
        /// The URL, without any password.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The server cannot prove who it is, or speaks no TLS.
    #[error(
        "no safe connection to ClickHouse at {url}: {reason}\n  {}",
        tls_advice(reason)
    )]
    Tls {
        /// The URL, without any password.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// Something else answers at the URL.
    #[error(
        "{url} answers{}, but is no ClickHouse\n  \
         check host and port: ClickHouse's HTTP port is 8123 unless changed",
        status.map_or_else(String::new, |status| format!(" HTTP {status}"))
    )]
    NoClickHouse {
        /// The URL, without any password.
        url: String,
        /// The status of its answer, if that is known.
        status: Option<u16>,
    },
    /// Wrong user or password.
    #[error(
        "ClickHouse at {url} refuses user `{user}`\n  \
         set PINGER_STORE_PASSWORD or --store-password-file to the password of that user, \
         or name another user in the URL: http://USER@HOST:8123/DATABASE"
    )]
    Password {
        /// The URL, without any password.
        url: String,
        /// The user tried.
        user: String,
    },
    /// The database does not exist.
    #[error(
        "ClickHouse at {url} has no database `{database}`\n  \
         `pinger schema apply --store {url}` creates it with its tables"
    )]
    UnknownDatabase {
        /// The URL, without any password.
        url: String,
        /// The database.
        database: String,
    },
    /// The user may read, not write.
    #[error(
        "ClickHouse at {url} is read-only for user `{user}`: {message}\n  \
         use a user who may INSERT into `{database}`, or ask for the server to be made writable"
    )]
    ReadOnly {
        /// The URL, without any password.
        url: String,
        /// The user tried.
        user: String,
        /// The database.
        database: String,
        /// What the server said.
        message: String,
    },
    /// The schema in the database is not the one this program needs.
    #[error("the schema of database `{database}` at {url} does not fit: {source}")]
    Schema {
        /// The URL, without any password.
        url: String,
        /// The database.
        database: String,
        /// How it differs.
        source: Box<SchemaError>,
    },
    /// The user may not change gaps, whose results are sent after all.
    #[error(
        "{server} does not let this user write down that results are no longer missing: {message}\n  \
         use a user who has the role pinger_owner of schema/users.sql"
    )]
    NotOwner {
        /// Which ClickHouse.
        server: String,
        /// What it said.
        message: String,
    },
    /// ClickHouse refused a statement for another reason.
    #[error("{server} says: {message}{}", server_advice(*code))]
    Server {
        /// Which ClickHouse: with its URL, unless it is our own engine.
        server: String,
        /// Its error number.
        code: u32,
        /// Its message, on one line.
        message: String,
    },
}

/// What the TLS library calls a certificate that is an issuer's and a server's at once.
const OWN_ISSUER: &str = "CaUsedAsEndEntity";

fn tls_advice(reason: &str) -> &'static str {
    if reason.contains(OWN_ISSUER) {
        "the server's certificate signed itself and is marked as an issuer's (CA:TRUE), as \
         `openssl req -x509` makes it: make it anew with -addext \
         basicConstraints=critical,CA:FALSE and let SSL_CERT_FILE name it, or have it signed by an issuer"
    } else {
        "let SSL_CERT_FILE name a file with the certificate (PEM) of who issued the server's, or \
         add that to those which this host trusts; the host in the URL must be a name in the \
         server's certificate, and the port its HTTPS port (8443 unless changed)"
    }
}

/// ClickHouse's number of ACCESS_DENIED.
const ACCESS_DENIED: u32 = 497;

/// A line of its own, where the server's words do not say enough.
fn server_advice(code: u32) -> &'static str {
    match code {
        ACCESS_DENIED => {
            "\n  use a user who has the right; schema/users.sql has roles for writing, for reading \
             and for changing the tables"
        }
        _ => "",
    }
}

impl StoreError {
    /// Whether it may pass by itself: nobody answers just now, or somebody has too much to do.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            // What a proxy says whose server is away.
            Self::NoClickHouse { status, .. } => matches!(status, Some(502..=504)),
            Self::Server { code, .. } => is_busy(*code),
            _ => false,
        }
    }

    /// A function that makes an error of an I/O error on a file.
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
        hint: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            hint,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_fits_the_certificate() {
        let told = |reason: &str| {
            let (url, reason) = ("https://db:8443/net".to_owned(), reason.to_owned());
            StoreError::Tls { url, reason }.to_string()
        };
        let own = told("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))");
        assert!(own.contains("\n  ") && own.contains("CA:FALSE"), "{own}");
        let unknown = told("invalid peer certificate: UnknownIssuer");
        assert!(unknown.contains("\n  let SSL_CERT_FILE name"), "{unknown}");
    }

    #[test]
    fn who_lacks_a_right_is_told_where_rights_stand() {
        let told = |code| {
            let (server, message) = ("ClickHouse".to_owned(), "no".to_owned());
            let error = StoreError::Server {
                server,
                code,
                message,
            };
            error.to_string()
        };
        assert!(told(ACCESS_DENIED).contains("\n  use a user"));
        assert_eq!(told(62), "ClickHouse says: no");
    }
}
