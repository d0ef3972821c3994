//! Where a server is and who asks, from a `--store` URL; the password comes from elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use url::Url;

use crate::store::StoreError;

/// The database of the embedded store, and of a URL that names none.
pub(in crate::store) const DATABASE: &str = "pinger";

/// Environment variable with the password for a store given by URL.
const PASSWORD_VARIABLE: &str = "PINGER_STORE_PASSWORD";

/// Where a server is and who asks.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::store) struct Address {
    /// Scheme, host and port only.
    pub origin: String,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// The password; never shown.
    pub password: String,
    /// One more header to send, name and value: the key of the embedded engine.
    pub header: Option<(String, String)>,
    /// Settings of each query, by name: what the embedded engine shall work with.
    pub settings: BTreeMap<String, String>,
}

impl Address {
    /// Reads a `--store` URL; the password comes from the file or else from the environment.
    ///
    /// # Errors
    /// When the URL is not of the documented form, or the password file cannot be read.
    pub(in crate::store) fn from_url(
        text: &str,
        password_file: Option<&Path>,
    ) -> Result<Self, StoreError> {
        let mut address = parse(text)?;
        address.password = match password_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(StoreError::file(
                    "read the password from",
                    path,
                    "check the path given to --store-password-file",
                ))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
            None => std::env::var(PASSWORD_VARIABLE).unwrap_or_default(),
        };
        Ok(address)
    }

    /// The URL as people write it, for messages.
    pub(super) fn url(&self) -> String {
        let (scheme, rest) = self
            .origin
            .split_once("://")
            .unwrap_or(("http", &self.origin));
        let user = if self.user == "default" {
            String::new()
        } else {
            format!("{}@", self.user)
        };
        format!("{scheme}://{user}{rest}/{}", self.database)
    }
}

/// Without what is secret, so that no message or log can show it.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.url()).finish()
    }
}

fn parse(text: &str) -> Result<Address, StoreError> {
    let bad = |shown: &str, reason: &str| StoreError::Url {
        url: shown.to_owned(),
        reason: reason.to_owned(),
    };
    let mut url = Url::parse(text).map_err(|source| {
        // What cannot be parsed may hold a password anywhere.
        let shown = if text.contains('@') { "URL" } else { text };
        bad(shown, &format!("not a URL ({source})"))
    })?;
    if url.password().is_some() {
        // Cannot fail: a URL with a password has a host.
        let _ = url.set_password(None);
        return Err(bad(
            url.as_str(),
            "a password in it would show in process lists",
        ));
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad(text, "the scheme must be http or https"));
    }
    let Some(host) = url.host_str() else {
        return Err(bad(text, "it names no host"));
    };
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad(text, "it has a part behind ? or #"));
    }
    let database = match url.path().trim_matches('/') {
        "" => DATABASE,
        name => name,
    };
    if !database
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return Err(bad(text, "a database name has letters, digits and _ only"));
    }
    let user = if url.username().is_empty() {
        "default"
    } else {
        url.username()
    };
    Ok(Address {
        origin: format!("{}://{host}:{}", url.scheme(), port(text, &url)),
        database: database.to_owned(),
        user: user.to_owned(),
        password: String::new(),
        header: None,
        settings: BTreeMap::new(),
    })
}

/// The port written in a URL, else ClickHouse's for that scheme. `Url` drops a written port that
/// is the scheme's own, `:80` or `:443`, which ClickHouse's never is unless written.
fn port(text: &str, url: &Url) -> u16 {
    let authority = text.split('/').nth(2).unwrap_or_default();
    let (own, clickhouse) = match url.scheme() {
        "https" => (443, 8443),
        _ => (80, 8123),
    };
    let is_written = authority.ends_with(&format!(":{own}"));
    url.port()
        .unwrap_or(if is_written { own } else { clickhouse })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_address_user_and_database() {
        for (text, origin, user, database, shown) in [
            (
                "http://h",
                "http://h:8123",
                "default",
                "pinger",
                "http://h:8123/pinger",
            ),
            ("http://u@h:9/d", "http://h:9", "u", "d", "http://u@h:9/d"),
            (
                "http://u@[::1]:8123/",
                "http://[::1]:8123",
                "u",
                "pinger",
                "http://u@[::1]:8123/pinger",
            ),
            (
                "http://h:80/d",
                "http://h:80",
                "default",
                "d",
                "http://h:80/d",
            ),
            (
                "https://u@h/d",
                "https://h:8443",
                "u",
                "d",
                "https://u@h:8443/d",
            ),
            (
                "https://h:443",
                "https://h:443",
                "default",
                "pinger",
                "https://h:443/pinger",
            ),
        ] {
            let address = parse(text).expect(text);
            assert_eq!(
                (
                    address.origin.as_str(),
                    address.user.as_str(),
                    address.database.as_str()
                ),
                (origin, user, database)
            );
            assert_eq!(address.url(), shown);
        }
    }

    #[test]
    fn an_address_shows_nothing_secret() {
        let address = Address {
            password: "geheim".to_owned(),
            header: Some(("X".to_owned(), "geheim".to_owned())),
            settings: BTreeMap::new(),
            ..parse("https://u@h/d").expect("a URL")
        };
        assert_eq!(format!("{address:?}"), "Address(\"https://u@h:8443/d\")");
    }

    #[test]
    fn a_bad_url_is_refused_and_its_password_is_not_shown() {
        for (text, reason) in [
            ("localhost:8123", "scheme"),
            ("ftp://h/d", "scheme"),
            ("http://", "URL"),
            ("http://u:geheim@h/d", "process lists"),
            ("http://u:geheim@h:x/d", "URL"),
            ("http://h/a/b", "database name"),
            ("http://h/a;b", "database name"),
            ("http://h/d?x=1", "behind ?"),
        ] {
            let message = parse(text).expect_err(text).to_string();
            assert!(message.contains(reason), "{text}: {message}");
            assert!(!message.contains("geheim"), "{message}");
        }
    }
}
