//! The built command from outside: exit codes, and which words go to which stream.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `pinger` with this on its standard input.
fn pinger(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pinger"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo has built pinger");
    // A command that does not read its input may have ended before all was written.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    child.wait_with_output().expect("pinger ends by itself")
}

/// Exit code 2, nothing on standard output, exactly these words on standard error.
fn refused(args: &[&str], input: &[u8], stderr: &str) {
    let output = pinger(args, input);
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr, "{args:?}");
    assert_eq!(output.status.code(), Some(2), "{args:?}");
    assert!(output.stdout.is_empty(), "{args:?}");
}

#[test]
fn help_and_version_are_answers() {
    for (args, part) in [
        (&["--help"][..], "First steps"),
        (&["run", "-h"], "--interval"),
        (&["--version"], "pinger "),
    ] {
        let output = pinger(args, b"");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(part),
            "{args:?}"
        );
        assert!(output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_wrong_command_line_is_told_on_stderr() {
    refused(
        &["run", "--ttl", "300", "192.0.2.1"],
        b"",
        "pinger: --ttl: 300 is too large\n  Allowed: 1 to 255 hops.\n",
    );
    refused(
        &["run"],
        b"",
        "pinger: there is nothing to probe: no destination is given\n  \
         Name one or more on the command line, for example: pinger run 192.0.2.1\n  \
         or in a list (-f FILE) or a config file (--config FILE).\n",
    );
    let output = pinger(&[], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage: pinger <COMMAND>"));
}

#[test]
fn what_a_protocol_needs_is_told() {
    refused(
        &["ping", "tcp://192.0.2.1", "udp://192.0.2.1:7"],
        b"",
        "pinger: \"tcp://192.0.2.1\" names no port, and TCP needs one\n  \
         Write tcp://192.0.2.1:PORT, or set a port: --port PORT, in the config file port = PORT.\n",
    );
    refused(
        &["ping", "--port", "80", "192.0.2.1"],
        b"",
        "pinger: --port: a port is set, but ICMP has none\n  \
         Leave it out, or choose a protocol with ports: tcp or udp.\n",
    );
}

#[test]
fn lists_are_read_from_standard_input() {
    refused(
        &["ping", "-f", "-"],
        b"192.0.2.1\n10.0.0.0/33\nhost:80\n",
        "pinger: standard input:2: \"10.0.0.0/33\": the prefix length \"33\" is not a number from \
         0 to 32\n  A block is written like 10.0.0.0/24.\n\
         pinger: standard input:3: \"host:80\" names a port, but not the protocol\n  \
         Write tcp://host:80 or udp://host:80, or the host alone: host\n",
    );
    let not_text = "pinger: the list of destinations standard input is not text in UTF-8\n  \
                    Is it the right file?\n";
    refused(&["ping", "-f", "-"], b"\xff\xfe", not_text);
}

#[test]
fn config_files_are_read_and_their_mistakes_told() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong.toml");
    std::fs::write(&path, "ttl = 0\nflood = 1\n").unwrap();
    let path = path.to_str().unwrap();
    let told = format!(
        "pinger: {path}:1:7: ttl: 0 is too small\n  Allowed: 1 to 255 hops.\n\
         pinger: {path}:2:9: flood: found a number\n  It must be true or false, without quotes.\n"
    );
    refused(&["run", "--config", path], b"", &told);
    refused(&["sql", "--config", path, "SELECT 1"], b"", &told);
    refused(
        &["run", "--config", "/nowhere/pinger.toml"],
        b"",
        "pinger: cannot read the config file /nowhere/pinger.toml: No such file or directory \
         (os error 2)\n  Check its path and its permissions.\n",
    );
}
