//! What shapes the probes of a destination: protocol, port, payload, and what does not go together.

use super::*;

/// Protocol, port, size and data of each destination.
fn probes(options: &RunOptions) -> Vec<(ProtocolName, u16, u16, Option<&[u8]>)> {
    options
        .destinations
        .iter()
        .map(|d| (d.protocol, d.port, d.size, d.data.as_deref()))
        .collect()
}

#[test]
fn protocols_ports_and_payloads_of_words_tables_and_general_settings() {
    use ProtocolName::{Icmp, Tcp, Udp};
    let file = file(
        "port = 7\nsize = 100\n\
         destinations = [\"icmp://a\", \"tcp://b:80\", \"udp://c\", \"10.0.0.1\"]\n\
         [[destination]]\nhost = \"d\"\nprotocol = \"tcp\"\nport = 443\n\
         [[destination]]\nhost = \"udp://e\"\nport = 53\nsize = 2\ninterval = \"10ms\"\n\
         [[destination]]\nhost = \"f\"\ndata = \"abcdef\"\nsize = 4\n",
    );
    let options = run(&Settings::default(), &file).unwrap();
    let data: Option<&[u8]> = Some(b"abcdef");
    assert_eq!(
        probes(&options),
        [
            (Tcp, 443, 0, None),
            (Udp, 53, 2, None),
            (Icmp, 0, 6, data),
            (Icmp, 0, 100, None),
            (Tcp, 80, 0, None),
            (Udp, 7, 100, None),
            (Icmp, 0, 100, None),
        ]
    );
    // Two bytes hold no number, so the timeout ends before the next probe.
    assert_eq!(options.destinations[1].timeout_ns, 10_000_000);

    let data = Settings {
        probe: ProbeSettings {
            protocol: Some(Udp),
            data: Some(b"hello"[..].into()),
            ..ProbeSettings::default()
        },
        ..command_line(&["a", "tcp://b:1", "udp://[2001:db8::1]:53"])
    };
    let hello: Option<&[u8]> = Some(b"hello");
    let expected = [(Udp, 7, 5, hello), (Tcp, 1, 0, None), (Udp, 53, 5, hello)];
    let general = self::file("port = 7");
    assert_eq!(probes(&run(&data, &general).unwrap()), expected);
}

#[test]
fn every_option_of_a_destination_arrives() {
    let file = file(
        "tos = 3\ndont_fragment = false\nfrom = \"192.0.2.9\"\ninterface = \"eth7\"\n\
         destinations = [\"a\"]\n\
         [[destination]]\nhost = \"b\"\ndscp = 46\ndont_fragment = true\nfrom = \"eth1\"\n\
         interface = \"eth2\"\ndata_hex = \"00 ff\"",
    );
    let options = run(&Settings::default(), &file).unwrap();
    let [b, a] = &options.destinations[..] else {
        panic!("{options:?}")
    };
    assert_eq!(options.interface.as_deref(), Some("eth7"));
    assert_eq!((a.traffic_class, b.traffic_class), (3, 0xb8));
    assert_eq!((a.dont_fragment, b.dont_fragment), (false, true));
    let address = destination::From::Address([192, 0, 2, 9].into());
    assert_eq!(a.from, Some(address));
    assert_eq!(b.from, Some(destination::From::Interface("eth1".into())));
    assert_eq!(
        (&a.interface, b.interface.as_deref()),
        (&None, Some("eth2"))
    );
    assert_eq!((b.size, b.data.as_deref()), (2, Some(&[0, 0xff][..])));

    let through = Settings {
        interface: Some("eth9".into()),
        ..Settings::default()
    };
    let options = run(&through, &file).unwrap();
    assert_eq!(options.interface.as_deref(), Some("eth9"));
    assert!(options.destinations.iter().all(|d| d.interface.is_none()));
}

/// File, beginning of what is said, part of the advice.
const NEEDS: [(&str, &str, &str); 13] = [
    (
        "family = \"ipv6\"\nfrom = \"192.0.2.1\"\ndestinations = [\"a\"]",
        "p.toml:3:17: probes cannot come from 192.0.2.1: only the other family",
        "leave -4, -6 and family out",
    ),
    (
        "destinations = [\"tcp://a.example\"]",
        "p.toml:1:17: \"tcp://a.example\" names no port, and TCP needs one",
        "tcp://a.example:PORT",
    ),
    (
        "protocol = \"udp\"\ndestinations = [\"10.0.0.1\"]",
        "p.toml:2:17: \"10.0.0.1\" names no port, and UDP needs one",
        "udp://10.0.0.1:PORT",
    ),
    (
        "port = 80\ndestinations = [\"a\", \"icmp://b\"]",
        "p.toml:1:8: port: a port is set, but ICMP has none",
        "tcp or udp",
    ),
    (
        "[[destination]]\nhost = \"a\"\nport = 80",
        "p.toml:1:1: a port is set, but ICMP has none",
        "tcp or udp",
    ),
    (
        "[[destination]]\nhost = \"tcp://a:80\"\nsize = 8",
        "p.toml:1:1: a payload is set, but a TCP probe",
        "icmp or udp",
    ),
    (
        "[[destination]]\nhost = \"tcp://a:80\"\ndata = \"x\"",
        "p.toml:1:1: a payload is set, but a TCP probe",
        "icmp or udp",
    ),
    (
        "protocol = \"tcp\"\nport = 80\nsize = 1\ndestinations = [\"a\", \"b\"]",
        "p.toml:3:8: size: a payload is set, but a TCP probe",
        "Leave size and data out",
    ),
    (
        "data = \"x\"\ndestinations = [\"tcp://a:80\"]",
        "p.toml:1:8: data: a payload is set, but a TCP probe",
        "Leave size and data out",
    ),
    (
        "[[destination]]\nhost = \"tcp://a:80\"\nprotocol = \"udp\"",
        "p.toml:1:1: protocol is TCP in the host, but UDP beside it",
        "one of the two",
    ),
    (
        "[[destination]]\nhost = \"tcp://a:80\"\nport = 81",
        "p.toml:1:1: port is 80 in the host, but 81 beside it",
        "one of the two",
    ),
    (
        "size = 3\ntimeout = \"2s\"\ndestinations = [\"udp://a:7\"]",
        "p.toml:3:17: timeout 2s is longer than interval 1s by UDP of size 3",
        "a size of 4 or more, or a timeout of 1s or less",
    ),
    (
        "protocol = \"udp\"\nport = 7\nsize = 0\ntimeout = \"2s\"\n\
         destinations = [\"a\", \"b\"]",
        "p.toml:4:11: timeout 2s is longer than interval 1s by UDP of size 0",
        "a size of 4 or more, or a timeout of 1s or less",
    ),
];

#[test]
fn what_a_protocol_needs_or_has_no_use_for_is_told() {
    for (text, what, advice) in NEEDS {
        let Mistakes(mistakes) = run(&Settings::default(), &file(text)).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{text}\n{mistakes:#?}");
        let mistake = &mistakes[0];
        assert!(mistake.what.starts_with(what), "{text}\n{mistake}");
        assert!(mistake.advice.contains(advice), "{text}\n{mistake}");
    }
}

#[test]
fn what_the_command_line_sets_in_vain_is_told() {
    let set = |set: fn(&mut ProbeSettings), hosts: &[&str]| {
        let mut settings = command_line(hosts);
        set(&mut settings.probe);
        run(&settings, &Settings::default()).map(|options| options.destinations.len())
    };
    let port: fn(&mut ProbeSettings) = |probe| probe.port = Some(80);
    let size: fn(&mut ProbeSettings) = |probe| probe.size = Some(80);
    for (settings, hosts, what) in [
        (
            port,
            &["a", "icmp://b"][..],
            "--port: a port is set, but ICMP",
        ),
        (size, &["tcp://a:80"], "--size: a payload is set, but a TCP"),
    ] {
        let Mistakes(mistakes) = set(settings, hosts).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].what.starts_with(what), "{}", mistakes[0]);
    }
    // Whoever has a use for it takes it; a file's settings may serve other command lines.
    assert_eq!(set(port, &["a", "tcp://b"]), Ok(2));
    assert_eq!(set(size, &["a", "tcp://b:1"]), Ok(2));
    let file = file("size = 9\ndestinations = [\"a\"]");
    let by_tcp = |probe: &mut ProbeSettings| {
        probe.protocol = Some(ProtocolName::Tcp);
        probe.port = Some(80);
    };
    let mut settings = Settings::default();
    by_tcp(&mut settings.probe);
    assert_eq!(
        probes(&run(&settings, &file).unwrap()),
        [(ProtocolName::Tcp, 80, 0, None)]
    );
}

#[test]
fn different_payloads_are_limited() {
    let with_data = |count: usize| {
        let asked = |index: usize| Asked {
            host: format!("10.0.{}.{}", index / 200, 1 + index % 200),
            probe: ProbeSettings {
                data: Some(index.to_be_bytes()[..].into()),
                ..ProbeSettings::default()
            },
            ..Asked::default()
        };
        let settings = Settings {
            destinations: (0..count).map(asked).collect(),
            ..Settings::default()
        };
        run(&settings, &Settings::default())
    };
    assert!(with_data(PAYLOADS_MAX).is_ok());
    let told = with_data(PAYLOADS_MAX + 1).unwrap_err().to_string();
    assert!(told.contains("have 1,025 different payloads"), "{told}");
    assert!(told.contains("1,024 payloads at most"), "{told}");
}
