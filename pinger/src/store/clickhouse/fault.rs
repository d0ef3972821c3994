//! Reads ClickHouse's error messages, and decides which failed insert is worth another try.

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

/// What to do with a batch that could not be inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The trouble may pass: try the same batch again.
    Retry(String),
    /// The server will never take these rows.
    Refused(String),
}

/// Codes that say the rows or the statement are wrong. Everything else may pass, also what an
/// operator has to mend (a password, a full disk, a missing table), and is tried again.
const REFUSED: &[u32] = &[
    6,   // CANNOT_PARSE_TEXT
    8,   // THERE_IS_NO_COLUMN
    10,  // NOT_FOUND_COLUMN_IN_BLOCK
    16,  // NO_SUCH_COLUMN_IN_TABLE
    20,  // NUMBER_OF_COLUMNS_DOESNT_MATCH
    26,  // CANNOT_PARSE_QUOTED_STRING
    27,  // CANNOT_PARSE_INPUT_ASSERTION_FAILED
    33,  // CANNOT_READ_ALL_DATA
    38,  // CANNOT_PARSE_DATE
    41,  // CANNOT_PARSE_DATETIME
    43,  // ILLEGAL_TYPE_OF_ARGUMENT
    44,  // ILLEGAL_COLUMN
    47,  // UNKNOWN_IDENTIFIER
    53,  // TYPE_MISMATCH
    62,  // SYNTAX_ERROR
    69,  // ARGUMENT_OUT_OF_BOUND
    70,  // CANNOT_CONVERT_TYPE
    72,  // CANNOT_PARSE_NUMBER
    117, // INCORRECT_DATA
    131, // TOO_LARGE_STRING_SIZE
    271, // CANNOT_DECOMPRESS
    321, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    432, // UNKNOWN_CODEC
    469, // VIOLATED_CONSTRAINT
    691, // UNKNOWN_ELEMENT_OF_ENUM
];

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
    fn worth_quoting(self) -> String {
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

impl Verdict {
    /// What a failed insert calls for.
    pub(crate) fn of(error: &clickhouse::error::Error) -> Self {
        use clickhouse::error::Error;
        match (ServerFault::of(error), error) {
            (Some(fault), _) if REFUSED.contains(&fault.code) => Self::Refused(fault.message),
            (Some(fault), _) => Self::Retry(fault.worth_quoting()),
            (None, Error::Network(_) | Error::TimedOut | Error::Other(_)) => {
                Self::Retry(root(error))
            }
            // The client could not even write the row down.
            (None, _) => Self::Refused(error.to_string()),
        }
    }
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
    use clickhouse::error::Error;

    use super::*;

    fn bad(text: &str) -> Error {
        Error::BadResponse(text.to_owned())
    }

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
        let page = "<!DOCTYPE HTML><html><head><meta charset=\"utf-8\"><title>Error response</title>\
            </head><body><p>Error code: 501</p><p>Message: Unsupported method ('POST').</p></body>";
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
    fn only_wrong_rows_are_refused() {
        for (error, refused) in [
            (
                bad("Code: 252. DB::Exception: Too many parts. (TOO_MANY_PARTS)"),
                false,
            ),
            (
                bad("Code: 241. DB::Exception: memory limit (MEMORY_LIMIT_EXCEEDED)"),
                false,
            ),
            (
                bad("Code: 243. DB::Exception: no space (NOT_ENOUGH_SPACE)"),
                false,
            ),
            (
                bad("Code: 516. DB::Exception: password (AUTHENTICATION_FAILED)"),
                false,
            ),
            (
                bad("Code: 60. DB::Exception: no table (UNKNOWN_TABLE)"),
                false,
            ),
            (bad("503 Service Unavailable"), false),
            (Error::TimedOut, false),
            (Error::Network("connection refused".into()), false),
            (bad("Code: 33. DB::Exception: Cannot read all data"), true),
            (bad("Code: 117. DB::Exception: Expected end of line"), true),
            (
                bad("Code: 691. DB::Exception: Unknown element for enum"),
                true,
            ),
            (Error::SequenceMustHaveLength, true),
        ] {
            let verdict = Verdict::of(&error);
            assert_eq!(matches!(verdict, Verdict::Refused(_)), refused, "{error:?}");
        }
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
