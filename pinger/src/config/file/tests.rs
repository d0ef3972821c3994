//! Config files that are wrong, and what is said; those that are right, in full.

use proptest::prelude::*;

use super::*;

fn read(body: &str) -> Result<Settings, Mistakes> {
    settings_of_file(&Text {
        name: "p.toml".into(),
        body: body.into(),
    })
}

/// A file with exactly these mistakes: the beginning of each one's text, a part of its advice.
fn check(body: &str, expected: &[(&str, &str)]) {
    let Mistakes(mistakes) = read(body).expect_err(body);
    assert_eq!(mistakes.len(), expected.len(), "{body}\n{mistakes:#?}");
    for (mistake, (what, advice)) in mistakes.iter().zip(expected) {
        assert!(mistake.what.starts_with(what), "{body}\n{mistake}");
        assert!(mistake.advice.contains(advice), "{body}\n{mistake}");
    }
}

#[test]
fn mistakes_name_line_column_key_and_what_is_allowed() {
    check(
        "interval = \"5\"",
        &[("p.toml:1:12: interval: \"5\" has no unit", "10us to 1d")],
    );
    check(
        "\n  ttl = 300 # far",
        &[("p.toml:2:9: ttl: 300 is too large", "1 to 255 hops")],
    );
    check(
        "interval = 5",
        &[("p.toml:1:12: interval: 5 has no unit", "interval = \"5s\"")],
    );
    check(
        "timeout = 0.5",
        &[(
            "p.toml:1:11: timeout: 0.5 has no unit",
            "timeout = \"0.5s\"",
        )],
    );
    check(
        "ttl = \"64\"",
        &[("p.toml:1:7: ttl: found a text", "a number, without quotes")],
    );
    check(
        "ttl = 6.5",
        &[(
            "p.toml:1:7: ttl: found a number with a fraction",
            "whole number",
        )],
    );
    check(
        "size = -1",
        &[(
            "p.toml:1:8: size: \"-1\" is not a whole number",
            "0 to 3,456",
        )],
    );
    check(
        "size = 0xffff",
        &[("p.toml:1:8: size: 65535 is too large", "0 to 3,456 bytes")],
    );
}

#[test]
fn so_do_mistakes_in_choices_and_tables() {
    check(
        "flood = \"yes\"",
        &[("p.toml:1:9: flood: found a text", "true or false")],
    );
    check(
        "interface = 3",
        &[("p.toml:1:13: interface: found a number", "a text in quotes")],
    );
    check(
        "format = \"jsn\"",
        &[("p.toml:1:10: format: \"jsn\"", "Did you mean json?")],
    );
    check(
        "store = \"x\"",
        &[("p.toml:1:9: store: \"x\" is not a choice", "embedded, none")],
    );
    check(
        "store = 1",
        &[(
            "p.toml:1:9: store: found a number",
            "a table: a line [store]",
        )],
    );
    check(
        "[store]\nport = 0",
        &[("p.toml:2:8: store.port: 0 is too small", "1 to 65,535")],
    );
    check(
        "[store]\nspool_size = 10\nspool_age = 7\nspool_drop = \"old\"",
        &[
            (
                "p.toml:2:14: store.spool_size: 10 has no unit",
                "spool_size = \"10GiB\" or spool_size = \"10MiB\"",
            ),
            (
                "p.toml:3:13: store.spool_age: 7 has no unit",
                "spool_age = \"7s\"",
            ),
            (
                "p.toml:4:14: store.spool_drop: \"old\" is not",
                "oldest, newest",
            ),
        ],
    );
    check(
        "[source]\nid = -1",
        &[("p.toml:2:6: source.id: \"-1\"", "0 to 4,294,967,295")],
    );
    check(
        "source = []",
        &[("p.toml:1:10: source: found a list", "[source]")],
    );
    check(
        "interval = 1979-05-27",
        &[("p.toml:1:12: interval: found a date", "in quotes")],
    );
}

#[test]
fn so_do_mistakes_in_what_shapes_probes() {
    check(
        "protocol = \"sctp\"",
        &[("p.toml:1:12: protocol: \"sctp\" is not", "icmp, udp, tcp")],
    );
    check(
        "port = 0",
        &[("p.toml:1:8: port: 0 is too small", "1 to 65,535")],
    );
    check(
        "data = \"\"",
        &[("p.toml:1:8: data: there is no data", "1 to 3,456 bytes")],
    );
    check(
        "data_hex = \"0g\"",
        &[("p.toml:1:12: data_hex: \"0g\"", "two digits a byte")],
    );
    check(
        "tos = 1\ndscp = 46",
        &[("p.toml:1:1: tos and dscp say the same", "Leave one")],
    );
    check(
        "[[destination]]\nhost = \"a\"\ndata = \"x\"\ndata_hex = \"00\"",
        &[("p.toml:4:1: data_hex and data say the same", "Leave one")],
    );
    check(
        "dont_fragment = 1",
        &[(
            "p.toml:1:17: dont_fragment: found a number",
            "true or false",
        )],
    );
    check(
        "from = \"10.0.0.0/8\"",
        &[("p.toml:1:8: from: \"10.0.0.0/8\" is neither", "ip -brief")],
    );
    check(
        "[[destination]]\nhost = \"icmp://b:80\"",
        &[(
            "p.toml:2:8: destination.host: \"icmp://b:80\" names a port",
            "icmp://b",
        )],
    );
}

#[test]
fn unknown_keys_get_the_nearest_known_one() {
    check(
        "intervall = \"5ms\"",
        &[("p.toml:1:1: there is no setting", "mean interval?")],
    );
    check(
        "kernel-log = true",
        &[("p.toml:1:1: there is no setting", "mean kernel_log?")],
    );
    check(
        "data_dir = \"/d\"",
        &[("p.toml:1:1: there is no setting", "belongs under [store]")],
    );
    check(
        "\n[store]\nprot = 1",
        &[("p.toml:3:1: there is no setting \"prot\"", "mean port?")],
    );
    check(
        "[store]\nttl = 1",
        &[("p.toml:2:1: there is no setting", "belongs at the top")],
    );
    check(
        "[sourc]\nid = 1",
        &[("p.toml:1:2: there is no setting \"sourc\"", "mean source?")],
    );
    check(
        "xyzzy = 1",
        &[(
            "p.toml:1:1: there is no setting",
            "Allowed at the top:\ninterface,",
        )],
    );
    check(
        "[[destination]]\nhost = \"a\"\nintervall = 1",
        &[(
            "p.toml:3:1: there is no setting",
            "Allowed in [destination]:\nhost, id, interface, protocol",
        )],
    );
}

#[test]
fn destinations_are_checked_where_they_stand() {
    check(
        "destinations = \"a\"",
        &[("p.toml:1:16: destinations: found a text", "a list such")],
    );
    check(
        "destinations = [\"a\", 7]",
        &[("p.toml:1:22: destinations: found a number", "quotes")],
    );
    check(
        "destinations = [\n  \"a\",\n  \"10.0.0.0/33\",\n  \"b:80\",\n]",
        &[
            (
                "p.toml:3:3: destinations: \"10.0.0.0/33\": the prefix",
                "10.0.0.0/24",
            ),
            (
                "p.toml:4:3: destinations: \"b:80\" names a port, but not the protocol",
                "tcp://b:80 or udp://b:80, or the host alone: b",
            ),
        ],
    );
    check(
        "[[destination]]\nttl = 1",
        &[("p.toml:1:1: this destination has no host", "host =")],
    );
    check(
        "[destination]\nhost = \"a\"",
        &[("p.toml:1:1: destination: found a table", "[[dest")],
    );
    check(
        "[[destination]]\nhost = \"\"\nid = 0",
        &[
            (
                "p.toml:2:8: destination.host: \"\" names no destination",
                "a host name",
            ),
            (
                "p.toml:3:6: destination.id: 0 is too small",
                "1 to 9,223,372,036,854,775,807",
            ),
        ],
    );
}

#[test]
fn what_is_not_toml_is_told_where() {
    check(
        "ttl = 1\nttl = 2",
        &[("p.toml:2:1: not TOML: duplicate key", "key = value")],
    );
    check(
        "interval = 100ms",
        &[("p.toml:1:12: not TOML:", "texts in \"quotes\"")],
    );
    check(
        "= 1\nttl = 3\n[[",
        &[("p.toml:1:1: not TOML:", ""), ("p.toml:3:", "")],
    );
}

#[test]
fn columns_count_characters() {
    check(
        "ttl = 1 # ü\n'größe' = 1",
        &[("p.toml:2:1: there is no setting \"größe\"", "")],
    );
    check("source = { 'ü' = 1 }", &[("p.toml:1:12: there is", "")]);
    check(
        "source = { host = 'ü', id = 'x' }",
        &[
            ("p.toml:1:19: source.host: \"ü\"", ""),
            ("p.toml:1:29: source.id: \"x\"", ""),
        ],
    );
}

#[test]
fn every_key_that_is_offered_is_known() {
    let unknown = |text: String| {
        let Err(Mistakes(mistakes)) = read(&text) else {
            return false;
        };
        mistakes
            .iter()
            .any(|mistake| mistake.what.contains("there is no setting"))
    };
    for key in GENERAL_KEYS.into_iter().chain(PROBE_KEYS) {
        assert!(!unknown(format!("{key} = 1979-05-27")), "{key}");
    }
    let tables = [("[source]", &SOURCE_KEYS[..]), ("[store]", &STORE_KEYS)];
    for (table, keys) in tables
        .into_iter()
        .chain([("[[destination]]", &DESTINATION_KEYS[..])])
        .chain([("[[destination]]", &PROBE_KEYS[..])])
    {
        for key in keys {
            assert!(
                !unknown(format!("{table}\n{key} = 1979-05-27")),
                "{table} {key}"
            );
        }
    }
}

#[test]
fn the_short_forms_say_the_same_as_the_long_ones() {
    assert_eq!(read("store = \"none\""), read("[store]\nto = \"none\""));
    let places = |settings: Settings| -> Vec<(String, Option<String>)> {
        settings
            .destinations
            .into_iter()
            .map(|asked| (asked.host, asked.place))
            .collect()
    };
    assert_eq!(
        places(read("destinations = [\"a\", \"b\"]\n[[destination]]\nhost = \"c\"").unwrap()),
        [
            ("c".to_owned(), Some("p.toml:2:1".to_owned())),
            ("a".to_owned(), Some("p.toml:1:17".to_owned())),
            ("b".to_owned(), Some("p.toml:1:22".to_owned())),
        ]
    );
}

/// The example is the documentation of the file: it must parse, and show every key.
#[test]
fn the_example_parses_and_shows_every_setting() {
    let example = include_str!("../../../pinger.example.toml");
    let settings = read(example).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(settings.destinations.len() >= 3);
    let shown = |key: &str| {
        let comment_or_not = |line: &str| line.trim_start_matches(['#', ' ']).to_owned();
        example.lines().map(comment_or_not).any(|line| {
            let rest = line.strip_prefix(key).unwrap_or_default();
            rest.starts_with(" = ") || line == format!("[{key}]") || line == format!("[[{key}]]")
        })
    };
    for key in GENERAL_KEYS
        .iter()
        .chain(&SOURCE_KEYS)
        .chain(&STORE_KEYS)
        .chain(&DESTINATION_KEYS)
        .chain(&PROBE_KEYS)
    {
        assert!(shown(key), "{key} is not in the example");
    }
    // What is commented out there must be right as well.
    let all: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
                format!("{setting}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert_ne!(all.trim(), example.trim());
    read(&all).unwrap_or_else(|mistakes| panic!("{mistakes}\n{all}"));
}

proptest! {
    #[test]
    fn any_text_is_settings_or_mistakes_within_it(
        body in "\\PC{0,60}|([a-z_]{0,8}|\\[|\\]|=|\"|\n|[0-9]|destination|host| ){0,40}",
    ) {
        if let Err(Mistakes(mistakes)) = read(&body) {
            prop_assert!(!mistakes.is_empty());
            for mistake in mistakes {
                let mut parts = mistake.what.split(':');
                prop_assert_eq!(parts.next(), Some("p.toml"));
                let line: usize = parts.next().unwrap_or_default().parse().unwrap();
                prop_assert!((1..=body.matches('\n').count() + 1).contains(&line));
            }
        }
    }
}
