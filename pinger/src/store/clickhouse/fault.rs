//! Reads ClickHouse's error messages.

pub(crate) use super::verdict::Verdict;

/// An error that a ClickHouse server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerFault {
    /// Its number in ClickHouse's list of error codes.
    pub(crate) code: u32,
    /// Its text, on one line, without number and version.
    pub(crate) message: String,
}

/// A foreign answer longer than this is a page, of which nobody wants to read more, bytes.
const QUOTED_MAX: usize = 120;

impl ServerFault {
    /// The server's part of a client error; `None` if the server did not say anything.
    pub(crate) fn of(error: &clickhouse::error::Error) -> Option<Self> {
        match error {
            clickhouse::error::Error::BadResponse(text) => Some(Self::parse(text)),
            _ => None,
        }
    }

    /// Reads `Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE) (version …)`.
    /// Other text, such as a proxy's page, becomes a message with code zero.
    fn parse(text: &str) -> Self {
        let numbered = text.split_once("Code: ").map(|(_, rest)| {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            (
                rest[..digits].parse().unwrap_or(0),
                rest[digits..].trim_start_matches('.'),
            )
        });
        // Of an answer without a body, the client has the header with the number.
        let bare = || text.parse().map_or((0, text), |code| (code, ""));
        let (code, message) = numbered.unwrap_or_else(bare);
        let message = message.split(" (version ").next().unwrap_or(message);
        let message = message.replace("DB::Exception: ", "");
        Self {
            code,
            message: message.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }

    /// The words of something that is no ClickHouse, or of a proxy before one: without a number.
    pub(crate) fn is_foreign(&self) -> bool {
        self.code == 0
    }

    /// The HTTP status of a foreign answer, as its text tells: the client keeps no other.
    pub(crate) fn status(&self) -> Option<u16> {
        self.message
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| word.len() == 3)
            .filter_map(|word| word.parse().ok())
            .find(|status| (300..600).contains(status))
    }

    /// The message, or what it is where that is a whole page.
    pub(super) fn worth_quoting(self) -> String {
        if self.message.len() <= QUOTED_MAX && !self.message.contains('<') {
            return self.message;
        }
        match self.status() {
            Some(status) if self.is_foreign() => format!("HTTP {status}, not from ClickHouse"),
            None if self.is_foreign() => "an answer that is not from ClickHouse".to_owned(),
            _ => self.message,
        }
    }

    /// Wrong password or unknown user.
    pub(crate) fn is_authentication(&self) -> bool {
        // REQUIRED_PASSWORD, WRONG_PASSWORD, UNKNOWN_USER, AUTHENTICATION_FAILED
        matches!(self.code, 192..=194 | 516)
    }

    /// The database does not exist.
    pub(crate) fn is_unknown_database(&self) -> bool {
        self.code == 81
    }

    /// Writing is not allowed: a read-only user, profile, table or server.
    pub(crate) fn is_read_only(&self) -> bool {
        // READONLY, TABLE_IS_READ_ONLY, and ACCESS_DENIED for lack of the grant INSERT
        matches!(self.code, 164 | 242)
            || self.code == 497 && self.message.contains("the grant INSERT")
    }
}

/// Whether an error is one of TLS: of certificates, or of a server that speaks something else.
pub(crate) fn is_of_tls(error: &clickhouse::error::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if this.is::<rustls::Error>() {
            return true;
        }
        // What an I/O error is made of is no source of it.
        let made_of = this
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        cause = match made_of {
            Some(inner) => Some(inner),
            None => this.source(),
        };
    }
    false
}

/// The innermost cause of a client error: "connection refused" rather than "network error".
pub(crate) fn root(error: &clickhouse::error::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_error_is_read() {
        for (text, code, message) in [
            (
                "Code: 60. DB::Exception: Table p.x does not exist. (UNKNOWN_TABLE) (version 26.7)",
                60,
                "Table p.x does not exist. (UNKNOWN_TABLE)",
            ),
            (
                "Code: 62. DB::Exception: Syntax\n  error (X)\n",
                62,
                "Syntax error (X)",
            ),
            ("Code: 516", 516, ""),
            ("516", 516, ""),
            ("502 Bad Gateway", 0, "502 Bad Gateway"),
            ("", 0, ""),
        ] {
            let fault = ServerFault::parse(text);
            assert_eq!((fault.code, fault.message.as_str()), (code, message));
        }
    }

    #[test]
    fn a_foreign_page_is_not_quoted() {
        let page = "<!DOCTYPE HTML><html><head><meta charset=\"utf-8\">\
            <title>Error response</title></head>\
            <body><p>Error code: 501</p><p>Message: Unsupported method ('POST').</p></body>";
        for (text, status, quoted) in [
            (page, Some(501), "HTTP 501, not from ClickHouse"),
            ("502 Bad Gateway", Some(502), "502 Bad Gateway"),
            (
                "<p>hello</p>",
                None,
                "an answer that is not from ClickHouse",
            ),
            ("", None, ""),
        ] {
            let fault = ServerFault::parse(text);
            assert!(fault.is_foreign(), "{text}");
            assert_eq!(fault.status(), status, "{text}");
            assert_eq!(fault.worth_quoting(), quoted);
        }
        let own = ServerFault::parse("Code: 60. DB::Exception: a < b (UNKNOWN_TABLE)");
        assert!(!own.is_foreign());
        assert_eq!(own.worth_quoting(), "a < b (UNKNOWN_TABLE)");
    }

    #[test]
    fn trouble_of_tls_is_found_however_deep() {
        use std::io::Error as Io;
        let network = |error: Io| clickhouse::error::Error::Network(error.into());
        let tls = || Io::other(rustls::Error::DecryptError);
        assert!(is_of_tls(&network(tls())));
        assert!(is_of_tls(&network(Io::other(tls()))));
        assert!(!is_of_tls(&network(Io::other("refused"))));
        assert!(!is_of_tls(&network(Io::from_raw_os_error(111))));
    }

    #[test]
    fn kinds_of_refusal_are_told_apart() {
        let fault = |text| ServerFault::parse(text);
        assert!(fault("Code: 516. x").is_authentication());
        assert!(fault("Code: 81. x").is_unknown_database());
        assert!(fault("Code: 164. x").is_read_only());
        assert!(
            fault("Code: 497. it's necessary to have the grant INSERT(a) ON p.r").is_read_only()
        );
        assert!(!fault("Code: 497. it's necessary to have the grant DROP ON p.r").is_read_only());
    }
}
