//! What a failed insert means: whose trouble it is, what to do about it, and whether the same rows
//! are worth another try.
//!
//! In: an error of the client. Out: a [`Verdict`] in words for an operator. Only rows that are
//! wrong themselves are refused; all else passes, by itself or when somebody has mended it.

use super::fault::{ServerFault, root};
use crate::store::timeouts::SILENT;

/// What to do with rows that could not be inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The trouble may pass: try the same rows again.
    Retry(String),
    /// The server will never take these rows.
    Refused(String),
}

/// Whose trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Of these rows alone: others may pass.
    Data,
    /// Of the tables: until somebody changes them.
    Schema,
    /// Of rights: until somebody grants them.
    Access,
    /// Of the server, which has too much to do or lacks something.
    Busy,
    /// Of the network, or of the server's host.
    Away,
}

/// Error codes of ClickHouse that mean the same to an operator.
struct Group {
    class: Class,
    codes: &'static [u32],
    /// What it means and what to do, in half a line.
    words: &'static str,
}

/// Codes that are not here are of class [`Class::Busy`], without words.
const GROUPS: [Group; 16] = [
    Group {
        class: Class::Data,
        codes: &[
            6,   // CANNOT_PARSE_TEXT
            9,   // SIZES_OF_COLUMNS_DOESNT_MATCH
            19,  // SIZE_OF_FIXED_STRING_DOESNT_MATCH
            26,  // CANNOT_PARSE_QUOTED_STRING
            27,  // CANNOT_PARSE_INPUT_ASSERTION_FAILED
            32,  // ATTEMPT_TO_READ_AFTER_EOF
            33,  // CANNOT_READ_ALL_DATA
            38,  // CANNOT_PARSE_DATE
            39,  // TOO_LARGE_SIZE_COMPRESSED
            40,  // CHECKSUM_DOESNT_MATCH
            41,  // CANNOT_PARSE_DATETIME
            69,  // ARGUMENT_OUT_OF_BOUND
            72,  // CANNOT_PARSE_NUMBER
            89,  // UNKNOWN_COMPRESSION_METHOD
            117, // INCORRECT_DATA
            128, // TOO_LARGE_ARRAY_SIZE
            131, // TOO_LARGE_STRING_SIZE
            261, // UNKNOWN_BLOCK_INFO_FIELD
            271, // CANNOT_DECOMPRESS
            321, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
            349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
            407, // DECIMAL_OVERFLOW
            618, // LZ4_DECODER_FAILED
            632, // UNEXPECTED_DATA_AFTER_PARSED_VALUE
            691, // UNKNOWN_ELEMENT_OF_ENUM
        ],
        words: "the rows came to it in a form that it cannot read: please report this to pinger's \
                makers, or look for a proxy that changes what passes",
    },
    Group {
        class: Class::Data,
        codes: &[
            395, // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
            469, // VIOLATED_CONSTRAINT
        ],
        words: "a constraint of the table forbids these rows: change the constraint",
    },
    Group {
        class: Class::Data,
        codes: &[565], // TOO_MANY_PARTITIONS
        words: "the rows are of too many days for one insert: has this host's clock jumped?",
    },
    Group {
        class: Class::Schema,
        codes: &[
            60,  // UNKNOWN_TABLE
            81,  // UNKNOWN_DATABASE
            218, // TABLE_IS_DROPPED
        ],
        words: "database or tables are missing: `pinger schema apply` makes them",
    },
    Group {
        class: Class::Schema,
        codes: &[
            7,   // INCORRECT_NUMBER_OF_COLUMNS
            8,   // THERE_IS_NO_COLUMN
            10,  // NOT_FOUND_COLUMN_IN_BLOCK
            15,  // DUPLICATE_COLUMN
            16,  // NO_SUCH_COLUMN_IN_TABLE
            20,  // NUMBER_OF_COLUMNS_DOESNT_MATCH
            43,  // ILLEGAL_TYPE_OF_ARGUMENT
            44,  // ILLEGAL_COLUMN
            47,  // UNKNOWN_IDENTIFIER
            53,  // TYPE_MISMATCH
            70,  // CANNOT_CONVERT_TYPE
            122, // INCOMPATIBLE_COLUMNS
            772, // INCOMPATIBLE_SCHEMA
        ],
        words: "the tables are not as this pinger needs them: `pinger schema status` tells how, \
                `pinger schema apply` mends it",
    },
    Group {
        class: Class::Schema,
        codes: &[
            46,  // UNKNOWN_FUNCTION
            48,  // NOT_IMPLEMENTED
            50,  // UNKNOWN_TYPE
            62,  // SYNTAX_ERROR
            63,  // UNKNOWN_AGGREGATE_FUNCTION
            73,  // UNKNOWN_FORMAT
            115, // UNKNOWN_SETTING
            432, // UNKNOWN_CODEC
        ],
        words: "it does not know what this pinger asks for: it is too old, or a setting is gone",
    },
    Group {
        class: Class::Access,
        codes: &[
            192, // UNKNOWN_USER
            193, // WRONG_PASSWORD
            194, // REQUIRED_PASSWORD
            516, // AUTHENTICATION_FAILED
            720, // USER_EXPIRED
        ],
        words: "user or password is refused: let the server take them again, or start pinger with \
                others (PINGER_STORE_PASSWORD, --store-password-file)",
    },
    Group {
        class: Class::Access,
        codes: &[195], // IP_ADDRESS_NOT_ALLOWED
        words: "the user may not come from this host: allow its address on the server",
    },
    Group {
        class: Class::Access,
        codes: &[
            291, // DATABASE_ACCESS_DENIED
            392, // QUERY_IS_PROHIBITED
            452, // SETTING_CONSTRAINT_VIOLATION
            472, // READONLY_SETTING
            497, // ACCESS_DENIED
        ],
        words: "the user lacks a right: grant what is named here",
    },
    Group {
        class: Class::Access,
        codes: &[
            164, // READONLY
            242, // TABLE_IS_READ_ONLY
            774, // TABLE_IS_PERMANENTLY_READ_ONLY
        ],
        words: "user, table or server may only be read: make it writable (of a replica, look at \
                its Keeper)",
    },
    Group {
        class: Class::Busy,
        codes: &[
            252, // TOO_MANY_PARTS
            692, // TOO_MANY_MUTATIONS
        ],
        words: "it merges more slowly than rows come: it needs time, a faster disk, or writers \
                that insert less often",
    },
    Group {
        class: Class::Busy,
        codes: &[
            173, // CANNOT_ALLOCATE_MEMORY
            241, // MEMORY_LIMIT_EXCEEDED
            777, // MEMORY_RESERVATION_KILLED
            778, // MEMORY_RESERVATION_FAILED
        ],
        words: "it lacks memory: raise its limit, or ask it for less at a time",
    },
    Group {
        class: Class::Busy,
        codes: &[243], // NOT_ENOUGH_SPACE
        words: "its disk is full: make room there",
    },
    Group {
        class: Class::Busy,
        codes: &[201], // QUOTA_EXCEEDED
        words: "the user's quota is used up: raise it, or wait until it starts anew",
    },
    Group {
        class: Class::Busy,
        codes: &[
            159, // TIMEOUT_EXCEEDED
            160, // TOO_SLOW
            202, // TOO_MANY_SIMULTANEOUS_QUERIES
            209, // SOCKET_TIMEOUT
            236, // ABORTED
            364, // RECEIVED_ERROR_TOO_MANY_REQUESTS
            394, // QUERY_WAS_CANCELLED
            439, // CANNOT_SCHEDULE_TASK
            574, // DISTRIBUTED_TOO_MANY_PENDING_BYTES
            700, // USER_SESSION_LIMIT_EXCEEDED
            745, // SERVER_OVERLOADED
            749, // TCP_CONNECTION_LIMIT_REACHED
            762, // HTTP_CONNECTION_LIMIT_REACHED
            776, // RESOURCE_LIMIT_EXCEEDED
        ],
        words: "it has too much to do, or is ending: it needs time",
    },
    Group {
        class: Class::Busy,
        codes: &[
            225, // NO_ZOOKEEPER
            244, // UNEXPECTED_ZOOKEEPER_ERROR
            254, // NO_ACTIVE_REPLICAS
            279, // ALL_CONNECTION_TRIES_FAILED
            285, // TOO_FEW_LIVE_REPLICAS
            286, // UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
            297, // SHARD_HAS_NO_CONNECTIONS
            319, // UNKNOWN_STATUS_OF_INSERT
            519, // NO_REMOTE_SHARD_AVAILABLE
            904, // TOO_MANY_UNAVAILABLE_SHARDS
            999, // KEEPER_EXCEPTION
        ],
        words: "parts of the cluster do not answer: look at its shards, replicas and Keeper",
    },
];

/// What servers say of a full disk under codes of their own, by the kernel's number and text.
const DISK_FULL: [&str; 2] = ["errno: 28", "No space left on device"];

/// What older servers say of too many days in one insert, under the code of too many parts.
const MANY_DAYS: &str = "partitions for single INSERT";

impl Group {
    fn of(fault: &ServerFault) -> Option<&'static Self> {
        let code = match fault.code {
            252 if fault.message.contains(MANY_DAYS) => 565,
            _ if DISK_FULL.iter().any(|text| fault.message.contains(text)) => 243,
            code => code,
        };
        GROUPS.iter().find(|group| group.codes.contains(&code))
    }
}

/// Whether a server that says so has too much to do, or lacks something, for a while.
pub(crate) fn is_busy(code: u32) -> bool {
    let group = GROUPS.iter().find(|group| group.codes.contains(&code));
    group.is_some_and(|group| group.class == Class::Busy)
}

impl Class {
    /// Whose trouble a failed insert is.
    pub(crate) fn of(error: &clickhouse::error::Error) -> Self {
        use clickhouse::error::Error;
        match (ServerFault::of(error), error) {
            (Some(fault), _) if fault.is_foreign() => Self::Away,
            (Some(fault), _) => Group::of(&fault).map_or(Self::Busy, |group| group.class),
            (None, Error::TimedOut) => Self::Busy,
            (None, Error::Network(_) | Error::Other(_)) => Self::Away,
            // The client could not even write the rows down.
            (None, _) => Self::Data,
        }
    }
}

impl Verdict {
    /// What a failed insert calls for.
    pub(crate) fn of(error: &clickhouse::error::Error) -> Self {
        let reason = reason(error);
        match Class::of(error) {
            Class::Data => Self::Refused(reason),
            Class::Schema | Class::Access | Class::Busy | Class::Away => Self::Retry(reason),
        }
    }
}

/// What it means, what to do, and what the server says, on one line.
fn reason(error: &clickhouse::error::Error) -> String {
    use clickhouse::error::Error;
    match (ServerFault::of(error), error) {
        (Some(fault), _) => match Group::of(&fault) {
            Some(group) => format!(
                "{}; ClickHouse says: {}",
                group.words,
                fault.worth_quoting()
            ),
            None if fault.message.is_empty() => format!("ClickHouse's error {}", fault.code),
            None => fault.worth_quoting(),
        },
        (None, Error::TimedOut) => SILENT.to_owned(),
        (None, Error::Network(_) | Error::Other(_)) => {
            format!("the server cannot be reached: {}", root(error))
        }
        (None, _) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clickhouse::error::Error;

    use super::*;

    fn bad(text: &str) -> Error {
        Error::BadResponse(text.to_owned())
    }

    /// An error, its class, and a part of what is said of it.
    fn check(error: &Error, class: Class, part: &str) {
        assert_eq!(Class::of(error), class, "{error:?}");
        let (Verdict::Retry(reason) | Verdict::Refused(reason)) = Verdict::of(error);
        assert!(reason.contains(part), "{error:?}: {reason}");
        assert!(!reason.contains('\n'), "{reason}");
        let refused = matches!(Verdict::of(error), Verdict::Refused(_));
        assert_eq!(refused, class == Class::Data, "{error:?}");
    }

    #[test]
    fn only_wrong_rows_are_refused() {
        for (text, part) in [
            (
                "Code: 33. DB::Exception: Cannot read all data. (CANNOT_READ_ALL_DATA)",
                "report",
            ),
            (
                "Code: 117. DB::Exception: Expected end of line",
                "cannot read",
            ),
            (
                "Code: 691. DB::Exception: Unknown element for enum",
                "says: Unknown element",
            ),
            (
                "Code: 271. DB::Exception: Cannot decompress",
                "a proxy that changes",
            ),
            (
                "Code: 469. DB::Exception: Constraint `x` … (VIOLATED_CONSTRAINT)",
                "constraint",
            ),
            ("Code: 565. DB::Exception: Too many partitions", "clock"),
            (
                "Code: 252. DB::Exception: Too many partitions for single INSERT block (more \
                 than 100). (TOO_MANY_PARTS)",
                "clock",
            ),
        ] {
            check(&bad(text), Class::Data, part);
        }
        check(&Error::SequenceMustHaveLength, Class::Data, "");
    }

    #[test]
    fn what_somebody_must_mend_waits() {
        for (text, class, part) in [
            (
                "Code: 60. DB::Exception: Table p.incoming does not exist. (UNKNOWN_TABLE)",
                Class::Schema,
                "`pinger schema apply` makes them; ClickHouse says: Table p.incoming",
            ),
            (
                "Code: 16. DB::Exception: No such column",
                Class::Schema,
                "schema status",
            ),
            (
                "Code: 53. DB::Exception: Type mismatch",
                Class::Schema,
                "schema status",
            ),
            (
                "Code: 115. DB::Exception: Unknown setting",
                Class::Schema,
                "too old",
            ),
            (
                "Code: 516. DB::Exception: p",
                Class::Access,
                "PINGER_STORE_PASSWORD",
            ),
            ("Code: 195. DB::Exception: p", Class::Access, "this host"),
            (
                "Code: 497. DB::Exception: Not enough privileges",
                Class::Access,
                "grant what",
            ),
            (
                "Code: 242. DB::Exception: Table is in readonly mode",
                Class::Access,
                "Keeper",
            ),
            ("516", Class::Access, "--store-password-file"),
        ] {
            check(&bad(text), class, part);
        }
    }

    #[test]
    fn what_passes_by_itself_waits() {
        for (text, class, part) in [
            (
                "Code: 252. DB::Exception: Too many parts (3000). (TOO_MANY_PARTS)",
                Class::Busy,
                "merges more slowly",
            ),
            (
                "Code: 241. DB::Exception: memory limit",
                Class::Busy,
                "lacks memory",
            ),
            (
                "Code: 243. DB::Exception: Cannot reserve 1 MiB",
                Class::Busy,
                "disk is full",
            ),
            (
                "Code: 75. DB::Exception: Cannot write to file: , errno: 28, strerror: No space \
                 left on device",
                Class::Busy,
                "disk is full",
            ),
            (
                "Code: 202. DB::Exception: Too many queries",
                Class::Busy,
                "too much to do",
            ),
            (
                "Code: 999. Coordination::Exception: x",
                Class::Busy,
                "Keeper",
            ),
            (
                "Code: 49. DB::Exception: Bad cast (LOGICAL_ERROR)",
                Class::Busy,
                "Bad cast",
            ),
            ("1001", Class::Busy, "error 1001"),
            ("503 Service Unavailable", Class::Away, "503"),
            (
                "<html>a proxy's page</html>",
                Class::Away,
                "not from ClickHouse",
            ),
        ] {
            check(&bad(text), class, part);
        }
        check(&Error::TimedOut, Class::Busy, "no answer in time");
        let refused = Error::Network("connection refused".into());
        check(
            &refused,
            Class::Away,
            "cannot be reached: connection refused",
        );
    }

    #[test]
    fn a_code_is_of_one_group() {
        let mut seen = HashSet::new();
        for code in GROUPS.iter().flat_map(|group| group.codes) {
            assert!(seen.insert(code), "{code} is of two groups");
        }
    }
}
