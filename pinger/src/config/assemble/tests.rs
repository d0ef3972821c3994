//! Precedence, defaults and the checks across settings, as tables.

mod probes;

use super::*;
use crate::config::{
    DropPolicy, Family, ProbeSettings, SpoolPlace, SyncPolicy, Text, destinations_of_list,
    settings_of_file, show_duration,
};
use crate::destination::{self, ProtocolName};

fn file(body: &str) -> Settings {
    settings_of_file(&Text {
        name: "p.toml".into(),
        body: body.into(),
    })
    .unwrap()
}

fn command_line(hosts: &[&str]) -> Settings {
    let asked = |host: &&str| Asked {
        host: (*host).into(),
        ..Asked::default()
    };
    Settings {
        destinations: hosts.iter().map(asked).collect(),
        ..Settings::default()
    }
}

fn run(command_line: &Settings, file: &Settings) -> Result<RunOptions, Mistakes> {
    assemble(command_line, file, &Settings::default(), false)
}

/// Host, interval, timeout, size and ttl of each destination.
fn shapes(options: &RunOptions) -> Vec<(&str, String, String, u16, u8)> {
    let show = |ns| show_duration(ns);
    options
        .destinations
        .iter()
        .map(|d| {
            (
                d.host.as_str(),
                show(d.interval_ns),
                show(d.timeout_ns),
                d.size,
                d.ttl,
            )
        })
        .collect()
}

#[test]
fn silence_means_the_defaults() {
    let options = run(&command_line(&["192.0.2.1"]), &Settings::default()).unwrap();
    let expected = RunOptions {
        interface: None,
        destinations: vec![DestinationSpec {
            host: "192.0.2.1".into(),
            id: None,
            protocol: ProtocolName::Icmp,
            port: 0,
            interval_ns: 1_000_000_000,
            timeout_ns: 1_000_000_000,
            size: 56,
            ttl: 64,
            data: None,
            traffic_class: 0,
            dont_fragment: true,
            from: None,
            interface: None,
        }],
        family: None,
        count: None,
        duration: None,
        flood: false,
        batch: 1,
        verify: true,
        cpu: None,
        source: Source::default(),
        store: StoreOptions {
            choice: StoreChoice::Embedded,
            port: None,
            password_file: None,
            data_dir: "/var/lib/pinger".into(),
            spool: SpoolOptions {
                place: SpoolPlace::Disk,
                bytes_max: 10 << 30,
                age_max_ns: 7 * 86_400_000_000_000,
                drop: DropPolicy::Oldest,
                sync: SyncPolicy::Batch,
            },
        },
        format: Format::Plain,
        picture: None,
        kernel_log: false,
        trace: None,
    };
    assert_eq!(options, expected);
    let on_terminal = assemble(
        &command_line(&["192.0.2.1"]),
        &Settings::default(),
        &Settings::default(),
        true,
    );
    assert_eq!(on_terminal.unwrap().format, Format::Live);
}

#[test]
fn the_command_line_beats_the_destination_beats_the_file() {
    let file = file(
        "interval = \"100ms\"\nttl = 3\n\
         destinations = [\"a.example\"]\n\
         [[destination]]\nhost = \"b.example\"\ninterval = \"10ms\"\nsize = 8\ntimeout = \"5ms\"\n",
    );
    let options = run(&Settings::default(), &file).unwrap();
    assert_eq!(
        shapes(&options),
        [
            ("b.example", "10ms".into(), "5ms".into(), 8, 3),
            ("a.example", "100ms".into(), "1s".into(), 56, 3),
        ]
    );
    let all = Settings {
        probe: ProbeSettings {
            interval_ns: Some(20_000_000),
            timeout_ns: Some(7_000_000),
            size: Some(9),
            ttl: Some(4),
            ..ProbeSettings::default()
        },
        ..Settings::default()
    };
    assert_eq!(
        shapes(&run(&all, &file).unwrap()),
        [
            ("b.example", "20ms".into(), "7ms".into(), 9, 4),
            ("a.example", "20ms".into(), "7ms".into(), 9, 4),
        ]
    );
}

#[test]
fn destinations_of_the_command_line_replace_those_of_the_file() {
    let file = file("destinations = [\"a.example\"]\nttl = 7");
    let options = run(&command_line(&["b.example"]), &file).unwrap();
    assert_eq!(
        shapes(&options),
        [("b.example", "1s".into(), "1s".into(), 56, 7)]
    );
}

#[test]
fn every_setting_of_the_file_arrives() {
    let file = file(
        "interface = \"eth7\"\ncount = 3\nduration = \"2m\"\nflood = true\nfamily = \"ipv6\"\n\
         format = \"json\"\nbatch = 8\ncpu = 2\nverify = false\nkernel_log = true\n\
         destinations = [\"a.example\"]\n\
         [source]\nid = 1\nlocation = 2\nhost = 3\nsourceid = 4\n\
         [store]\nto = \"http://db:8123\"\nport = 9\npassword_file = \"/p\"\ndata_dir = \"/d\"\n\
         spool = \"memory\"\nspool_size = \"500MB\"\nspool_age = \"2h\"\n\
         spool_drop = \"newest\"\nspool_sync = \"chunk\"\n",
    );
    let options = run(&Settings::default(), &file).unwrap();
    assert_eq!(options.interface.as_deref(), Some("eth7"));
    assert_eq!(options.count, Some(3));
    assert_eq!(options.duration.map(|d| d.as_secs()), Some(120));
    assert_eq!(options.family, Some(Family::Ipv6));
    assert_eq!(
        (options.flood, options.batch, options.cpu),
        (true, 8, Some(2))
    );
    assert_eq!((options.verify, options.kernel_log), (false, true));
    assert_eq!(options.format, Format::Json);
    assert_eq!(
        options.source,
        Source {
            id: 1,
            location: 2,
            host: 3,
            sourceid: 4
        }
    );
    let store = StoreOptions {
        choice: StoreChoice::Url("http://db:8123".into()),
        port: Some(9),
        password_file: Some("/p".into()),
        data_dir: "/d".into(),
        spool: SpoolOptions {
            place: SpoolPlace::Memory,
            bytes_max: 500_000_000,
            age_max_ns: 7_200_000_000_000,
            drop: DropPolicy::Newest,
            sync: SyncPolicy::Chunk,
        },
    };
    assert_eq!(options.store, store);
}

#[test]
fn a_flood_sends_in_batches_unless_told_otherwise() {
    let flood = Settings {
        flood: Some(true),
        ..command_line(&["192.0.2.1"])
    };
    assert_eq!(run(&flood, &Settings::default()).unwrap().batch, 8);
    assert_eq!(
        run(
            &Settings {
                batch: Some(1),
                ..flood
            },
            &Settings::default()
        )
        .unwrap()
        .batch,
        1
    );
}

#[test]
fn the_default_timeout_keeps_the_sequence_unambiguous() {
    for (interval, expected) in [
        ("10us", "320ms"),
        ("31us", "992ms"),
        ("32us", "1s"),
        ("1s", "1s"),
        ("1d", "1s"),
    ] {
        let file = file(&format!(
            "interval = {interval:?}\ndestinations = [\"a.example\"]"
        ));
        let options = run(&Settings::default(), &file).unwrap();
        assert_eq!(
            show_duration(options.destinations[0].timeout_ns),
            expected,
            "{interval}"
        );
    }
}

#[test]
fn mistakes_across_settings_are_told_with_their_place() {
    let cases: [(&str, &[&str]); 9] = [
        ("", &["there is nothing to probe"]),
        ("destinations = []", &["there is nothing to probe"]),
        (
            "interval = \"10us\"\ntimeout = \"651ms\"\n\
             destinations = [\"a.example\", \"b.example\"]",
            &["p.toml:2:11: timeout 651ms is too long for interval 10us: 65,100 probes"],
        ),
        (
            "timeout = \"5s\"\ndestinations = [\"a.example\"]\n\n\
             [[destination]]\nhost = \"b.example\"\ninterval = \"10us\"",
            &["p.toml:4:1: timeout 5s is too long for interval 10us: 500,000 probes"],
        ),
        (
            "[[destination]]\nhost = \"10.0.0.0/24\"\nid = 5",
            &["p.toml:1:1: id 5 is given to 254 addresses"],
        ),
        (
            "[[destination]]\nhost = \"a\"\nid = 5\n[[destination]]\nhost = \"b\"\nid = 5",
            &["p.toml:4:1: id 5 is given to \"b\", but \"a\" has it already"],
        ),
        (
            "destinations = [\"10.0.0.0/12\", \"a.example\", \"b.example\", \"c.example\"]",
            &["the destinations together are 1,048,577 addresses"],
        ),
        (
            "[[destination]]\nhost = \"a\"\nid = 5\n\
             [[destination]]\nhost = \"10.0.0.0/30\"\nid = 5\n\
             timeout = \"10m\"\ninterval = \"1ms\"",
            &[
                "p.toml:4:1: id 5 is given to 2",
                "p.toml:4:1: timeout 10m is too long",
            ],
        ),
        (
            "interval = \"20us\"\ntimeout = \"2s\"\n[[destination]]\nhost = \"a\"\nid = 5\n\
             [[destination]]\nhost = \"b\"\nid = 5",
            &[
                "p.toml:2:11: timeout 2s",
                "p.toml:6:1: id 5 is given to \"b\"",
            ],
        ),
    ];
    for (text, expected) in cases {
        let Mistakes(mistakes) = run(&Settings::default(), &file(text)).unwrap_err();
        assert_eq!(mistakes.len(), expected.len(), "{text}\n{mistakes:#?}");
        for (mistake, expected) in mistakes.iter().zip(expected) {
            assert!(mistake.what.starts_with(expected), "{text}\n{mistake}");
        }
    }
}

#[test]
fn a_timeout_that_is_too_long_is_told_the_longest_and_the_way_out() {
    let times = |interval_ns, timeout_ns| Settings {
        probe: ProbeSettings {
            interval_ns: Some(interval_ns),
            timeout_ns: Some(timeout_ns),
            ..ProbeSettings::default()
        },
        ..command_line(&["192.0.2.1"])
    };
    let wrong = times(10_000, 2_000_000_000);
    let text = run(&wrong, &Settings::default()).unwrap_err().to_string();
    assert!(
        text.contains("at most 320ms, or an interval of at least 63us"),
        "{text}"
    );
    for (interval_ns, timeout_ns) in [(10_000, 320_000_000), (63_000, 2_000_000_000)] {
        let right = times(interval_ns, timeout_ns);
        assert!(
            run(&right, &Settings::default()).is_ok(),
            "{interval_ns}, {timeout_ns}"
        );
    }
}

#[test]
fn lists_count_as_the_command_line() {
    let list = Text {
        name: "hosts".into(),
        body: "192.0.2.1\n10.0.0.0/30\n".into(),
    };
    let destinations = destinations_of_list(&list).unwrap();
    let command_line = Settings {
        destinations,
        ..Settings::default()
    };
    let options = run(&command_line, &file("destinations = [\"a.example\"]")).unwrap();
    let hosts: Vec<_> = options
        .destinations
        .iter()
        .map(|d| d.host.as_str())
        .collect();
    assert_eq!(hosts, ["192.0.2.1", "10.0.0.0/30"]);
}
