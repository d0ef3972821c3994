//! `cargo xtask run` around a program that stands in for pinger: each signal reaches it once, its
//! exit code comes out, and it does not outlive us.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Says what reaches it, and ends a moment after the first signal: a second one would be told.
const STAND_IN: &str = "#!/bin/sh
case \"$*\" in *--help*) echo '      --duration <TIME>'; exit 0;; esac
trap 'echo TERM; ending=7' TERM
trap 'echo INT; ending=8' INT
echo \"arguments: $*\"
[ \"$3\" = 42 ] && exit 42
while [ -z \"$ending\" ]; do sleep 0.05; done
sleep 0.3
exit $ending
";

struct Run {
    xtask: Child,
    lines: Lines<BufReader<ChildStdout>>,
    script: PathBuf,
}

impl Run {
    /// Starts it in a process group of its own, and waits until the stand-in runs.
    fn start(name: &str, arguments: &[&str]) -> Self {
        let script = env::temp_dir().join(format!("xtask-stand-in-{name}-{}", std::process::id()));
        fs::write(&script, STAND_IN).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        // A shell that runs the tests in the background makes them and theirs ignore SIGINT.
        let mut xtask = Command::new("env")
            .args(["--default-signal=INT,QUIT", env!("CARGO_BIN_EXE_xtask")])
            .arg("run")
            .args(arguments)
            .env("PINGER_BIN", &script)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(xtask.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert_eq!(first, format!("arguments: run {}", arguments.join(" ")));
        Self {
            xtask,
            lines,
            script,
        }
    }

    fn signal(&self, target: &str) {
        let kill = format!(
            "kill {}",
            target.replace("PID", &self.xtask.id().to_string())
        );
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success(),
            "{kill}"
        );
    }

    /// All that the stand-in said since, once it has ended, and xtask's exit code.
    fn end(mut self) -> (Vec<String>, Option<i32>) {
        let said = self.lines.by_ref().map(Result::unwrap).collect();
        let code = self.xtask.wait().unwrap().code();
        fs::remove_file(&self.script).unwrap();
        (said, code)
    }
}

#[test]
fn a_signal_reaches_the_program_once_and_its_code_comes_out() {
    let check = |name: &str, target: &str, said: &str, code: i32| {
        let run = Run::start(name, &["192.0.2.1"]);
        run.signal(target);
        assert_eq!(run.end(), (vec![said.to_owned()], Some(code)), "{target}");
    };
    check("term", "-TERM PID", "TERM", 7);
    check("int", "-INT PID", "INT", 8);
    check("group", "-TERM -PID", "TERM", 7);
    check("group-int", "-INT -PID", "INT", 8);
}

#[test]
fn the_program_does_not_outlive_us() {
    let run = Run::start("killed", &["192.0.2.1"]);
    run.signal("-KILL PID");
    // The output ends only when the stand-in has ended too.
    assert_eq!(run.end(), (vec!["TERM".to_owned()], None));
}

#[test]
fn arguments_come_through_with_and_without_dashes() {
    let run = Run::start("code", &["192.0.2.1", "42", "--duration", "5s"]);
    assert_eq!(run.end(), (Vec::new(), Some(42)));
}
