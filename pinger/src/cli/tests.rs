//! Command lines as tables: what they set, and what is said against the wrong ones.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;
use crate::config::{RunOptions, SpoolOptions, assemble};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("pinger").chain(line.split_whitespace()))
}

fn options(line: &str) -> RunOptions {
    let (settings, own) = match parse(line)
        .unwrap_or_else(|e| panic!("{line}: {e}"))
        .command
    {
        Command::Run(args) => (args.settings(), Settings::default()),
        Command::Ping(args) => (args.settings(), PingArgs::own_defaults()),
        other => panic!("{line}: {other:?}"),
    };
    assemble(&settings, &Settings::default(), &own, false).unwrap_or_else(|e| panic!("{line}: {e}"))
}

#[test]
fn the_parser_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_option_of_run_arrives() {
    let found = options(
        "run -i eth7 -4 --interval 20ms --timeout 7ms -s 9 --ttl 4 -c 3 --duration 2m --flood \
         --batch 8 --cpu 2 --no-verify --kernel-log --source-id 1 --source-location 2 \
         --source-host 3 --store http://db:8123 --store-port 9 --store-password-file /p \
         --data-dir /d --spool memory --spool-size 2GB --spool-age 1h --spool-drop newest \
         --spool-sync never --format json --picture /tmp/x.svg a.example 10.0.0.0/24",
    );
    assert_eq!(found.interface.as_deref(), Some("eth7"));
    assert_eq!(found.family, Some(Family::Ipv4));
    assert_eq!(
        (found.count, found.duration),
        (Some(3), Some(Duration::from_secs(120)))
    );
    assert_eq!((found.flood, found.batch, found.cpu), (true, 8, Some(2)));
    assert_eq!((found.verify, found.kernel_log), (false, true));
    assert_eq!(
        (found.source.id, found.source.location, found.source.host),
        (1, 2, 3)
    );
    assert_eq!(
        found.store.choice,
        StoreChoice::Url("http://db:8123".into())
    );
    assert_eq!(
        (found.store.port, found.store.data_dir),
        (Some(9), PathBuf::from("/d"))
    );
    assert_eq!(found.store.password_file, Some(PathBuf::from("/p")));
    let spool = SpoolOptions {
        place: SpoolPlace::Memory,
        bytes_max: 2_000_000_000,
        age_max_ns: 3_600_000_000_000,
        drop: DropPolicy::Newest,
        sync: SyncPolicy::Never,
    };
    assert_eq!(found.store.spool, spool);
    assert_eq!(
        (found.format, found.picture),
        (Format::Json, Some(PathBuf::from("/tmp/x.svg")))
    );
    assert_eq!(found.destinations.len(), 2);
    let first = &found.destinations[0];
    assert_eq!(
        (first.host.as_str(), first.size, first.ttl),
        ("a.example", 9, 4)
    );
    assert_eq!(
        (first.interval_ns, first.timeout_ns),
        (20_000_000, 7_000_000)
    );
}

#[test]
fn every_option_of_a_probe_arrives() {
    let found = options(
        "ping --protocol udp --port 7 --data hello -s 12 --dscp 46 --fragment --from eth1 \
         192.0.2.1 udp://192.0.2.2:9",
    );
    let [first, second] = &found.destinations[..] else {
        panic!("{found:?}")
    };
    assert_eq!((first.protocol, first.port), (ProtocolName::Udp, 7));
    assert_eq!((second.protocol, second.port), (ProtocolName::Udp, 9));
    assert_eq!(first.data.as_deref(), Some(&b"hello"[..]));
    assert_eq!((first.size, first.traffic_class), (12, 0xb8));
    assert!(!first.dont_fragment);
    assert_eq!(
        first.from,
        Some(destination::From::Interface("eth1".into()))
    );
    let tos = options("run --tos 3 --from 192.0.2.9 192.0.2.1");
    assert_eq!(tos.destinations[0].traffic_class, 3);
    let address = destination::From::Address([192, 0, 2, 9].into());
    assert_eq!(tos.destinations[0].from, Some(address));
}

#[test]
fn ping_is_short_and_keeps_nothing() {
    let found = options("ping 192.0.2.1");
    assert_eq!((found.count, found.format), (Some(5), Format::Replies));
    assert_eq!(found.store.choice, StoreChoice::None);
    assert_eq!(found.destinations[0].interval_ns, 1_000_000_000);
    assert_eq!(options("ping -c 2 192.0.2.1").count, Some(2));
}

#[test]
fn the_last_of_two_equal_options_counts() {
    let found = options("run --interval 100ms -i a0 192.0.2.1 -4 --interval 5ms -i b0 -6");
    assert_eq!(found.destinations[0].interval_ns, 5_000_000);
    assert_eq!(found.interface.as_deref(), Some("b0"));
    assert_eq!(found.family, Some(Family::Ipv6));
}

#[test]
fn other_commands() {
    let Command::Engine { args } = parse("engine --help -x --path=/d y").unwrap().command else {
        panic!("not the engine");
    };
    assert_eq!(args, ["--help", "-x", "--path=/d", "y"]);
    let Command::Sql(sql) = parse("sql --data-dir /d SELECT").unwrap().command else {
        panic!("not sql");
    };
    assert_eq!(
        (sql.query.as_str(), sql.store.data_dir),
        ("SELECT", Some(PathBuf::from("/d")))
    );
    let apply = parse("schema apply --store http://db:8123")
        .unwrap()
        .command;
    let Command::Schema {
        action: SchemaAction::Apply(store),
    } = apply
    else {
        panic!("not schema apply");
    };
    assert_eq!(store.store, Some(StoreChoice::Url("http://db:8123".into())));
}

/// Command line, beginning of what is said, part of the advice.
const MISTAKES: [(&str, &str, &str); 26] = [
    (
        "rnu 10.0.0.1",
        "there is no command \"rnu\"",
        "Did you mean run?",
    ),
    (
        "10.0.0.1",
        "there is no command \"10.0.0.1\"",
        "pinger ping 10.0.0.1",
    ),
    (
        "xyzzy",
        "there is no command \"xyzzy\"",
        "See `pinger --help`.",
    ),
    (
        "schema aply",
        "there is no command \"aply\"",
        "mean apply? See `pinger schema --help`.",
    ),
    (
        "run --interval 5 a",
        "--interval: \"5\" has no unit",
        "for example 100ms",
    ),
    (
        "run --interval 5us a",
        "--interval: \"5us\" is too short",
        "10us to 1d",
    ),
    (
        "run --intervall 5ms a",
        "there is no option --intervall",
        "Did you mean --interval?",
    ),
    (
        "run a --interval",
        "--interval <TIME> needs a value",
        "See `pinger run --help`.",
    ),
    (
        "run -I eth0 a",
        "there is no option -I",
        "the interface is -i NAME",
    ),
    ("ping -W 1 a", "there is no option -W", "--timeout 500ms"),
    (
        "ping -i 0.2 a",
        "--interface: \"0.2\" looks like a time",
        "--interval 200ms",
    ),
    (
        "run --flood=yes a",
        "--flood takes no value, but has \"yes\"",
        "pinger run --help",
    ),
    (
        "run --spool-size 10G a",
        "--spool-size: \"10G\" is not an amount of bytes",
        "10GiB",
    ),
    (
        "run --spool dsk a",
        "--spool: \"dsk\" is not a choice",
        "Did you mean disk?",
    ),
    (
        "run --format jsn a",
        "--format: \"jsn\" is not a choice",
        "Did you mean json?",
    ),
    (
        "run 10.0.0.0/33",
        "\"10.0.0.0/33\": the prefix length",
        "10.0.0.0/24",
    ),
    (
        "run http://a.example/x",
        "\"http://a.example/x\" is a URL",
        "alone: a.example",
    ),
    (
        "run tcp://a:99999",
        "\"tcp://a:99999\": the port \"99999\"",
        "tcp://example.org:443",
    ),
    (
        "ping --protocol upd a",
        "--protocol: \"upd\" is not a choice",
        "Did you mean udp?",
    ),
    (
        "ping --data= a",
        "--data: there is no data in it",
        "1 to 3,456 bytes",
    ),
    (
        "ping --tos 1 --dscp 2 a",
        "--tos and --dscp cannot both be given",
        "See `pinger ping --help`.",
    ),
    ("ping -Q 1 a", "there is no option -Q", "--tos N"),
    (
        "run --data-dir= a",
        "--data-dir <DIR> needs a value",
        "pinger run --help",
    ),
    ("sql", "<QUERY> is missing", "See `pinger sql --help`."),
    (
        "--store none",
        "there is no option --store",
        "pinger run --store …",
    ),
    (
        "--xyzzy",
        "there is no option --xyzzy",
        "See `pinger --help`.",
    ),
];

#[test]
fn mistakes_say_what_and_what_instead() {
    for (line, what, advice) in MISTAKES {
        let error = parse(line).expect_err(line);
        let mistake = explain(&error, line.split_whitespace().next());
        assert!(mistake.what.starts_with(what), "{line}: {mistake}");
        assert!(mistake.advice.contains(advice), "{line}: {mistake}");
    }
}

#[test]
fn help_is_asked_for_or_given_where_a_word_is_missing() {
    for (line, kind) in [
        ("--help", ErrorKind::DisplayHelp),
        ("run --help", ErrorKind::DisplayHelp),
        ("--version", ErrorKind::DisplayVersion),
        ("", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        (
            "schema",
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ),
    ] {
        assert_eq!(parse(line).unwrap_err().kind(), kind, "{line}");
    }
}

/// Help must not lie: defaults and limits in it are those of the code.
#[test]
fn help_names_the_limits_and_defaults_of_the_code() {
    use crate::config::{show_bytes, show_duration as show};
    let help = parse("run --help").unwrap_err().render().to_string();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let range =
        |range: &std::ops::RangeInclusive<u64>| format!("{} to {}", range.start(), range.end());
    let times = |range: &std::ops::RangeInclusive<u64>| {
        format!("{} to {}", show(*range.start()), show(*range.end()))
    };
    for text in [
        format!(
            "{} [default: {}]",
            times(&value::INTERVAL_NS),
            show(value::INTERVAL_DEFAULT_NS)
        ),
        format!("{} and at most 32,000 intervals", times(&value::TIMEOUT_NS)),
        format!("[default: {}, or 32,000", show(value::TIMEOUT_DEFAULT_NS)),
        format!(
            "{}; tcp has none [default: {}, or",
            range(&value::SIZE),
            value::SIZE_DEFAULT
        ),
        format!("names none, {}", range(&value::PORT)),
        format!("traffic class), {} [default: 0]", range(&value::TOS)),
        format!("upper six bits, {}", range(&value::DSCP)),
        format!("{} [default: {}]", range(&value::TTL), value::TTL_DEFAULT),
        format!(
            "[default: {}, with --flood {}]",
            value::BATCH_DEFAULT,
            value::BATCH_FLOOD
        ),
        range(&value::BATCH),
        format!("[default: {}]", value::DATA_DIR_DEFAULT),
        format!(
            "wait, {} to {} [default: {}, in memory {}]",
            show_bytes(*spool::SPOOL_BYTES.start()),
            show_bytes(*spool::SPOOL_BYTES.end()),
            show_bytes(spool::SPOOL_BYTES_DEFAULT),
            show_bytes(spool::SPOOL_BYTES_MEMORY)
        ),
        format!(
            "{} [default: {}]",
            times(&spool::SPOOL_AGE_NS),
            show(spool::SPOOL_AGE_DEFAULT_NS)
        ),
        "at most 1,048,576 addresses".to_owned(),
    ] {
        assert!(help.contains(&text), "{text:?} is not in the help:\n{help}");
    }
    assert_eq!(value::IN_FLIGHT_MAX, 32_000);
    assert_eq!(destination::MAX_DESTINATIONS, 1_048_576);
}

/// The examples in the help texts are commands that work.
#[test]
fn examples_in_the_help_parse() {
    let mut tried = 0;
    for text in [
        help::AFTER,
        help::AFTER_RUN,
        help::AFTER_PING,
        schema::AFTER,
        spooled::AFTER,
        help::AFTER_SQL,
        export::AFTER,
    ] {
        for line in text
            .lines()
            .filter_map(|line| line.strip_prefix("  pinger "))
        {
            // What follows two blanks, a ">" or a "|" is said about the command.
            let command = line.split("  ").next().unwrap_or_default();
            let command = command.split(['>', '|']).next().unwrap_or_default();
            let quoted: Vec<_> = command.split('"').collect();
            let mut words: Vec<_> = quoted[0].split_whitespace().collect();
            words.extend(quoted.get(1));
            let parsed = Cli::try_parse_from(std::iter::once("pinger").chain(words));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
            tried += 1;
        }
    }
    assert!(tried >= 15, "only {tried} examples found");
}

#[test]
fn texts_fit_a_terminal_of_80_columns() {
    for text in [
        help::ABOUT,
        help::AFTER,
        help::AFTER_RUN,
        help::AFTER_PING,
        schema::AFTER,
        spooled::AFTER,
        help::AFTER_SQL,
        export::AFTER,
    ] {
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
