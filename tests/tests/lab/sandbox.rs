//! A network and a `/run` of its own for the machine's lab, and the xtask that is tested in it.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use xtask::lab::INTERFACE;

/// A network and a `/run` of its own, in which the machine's lab is made.
pub(crate) struct Sandbox {
    holder: Child,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let script = "mount -t tmpfs none /run && ip link set lo up && echo ready && read end";
        let mut holder = Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "no sandbox: is this root?");
        Self { holder }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--mount",
            "--net",
            "--target",
            &self.holder.id().to_string(),
            "--",
        ]);
        command.arg(program);
        command
    }

    pub(crate) fn xtask(&self, arguments: &str) -> Output {
        let program = xtask_program();
        let mut command = self.command(program.to_str().unwrap());
        command.args(arguments.split_whitespace()).output().unwrap()
    }

    pub(crate) fn shell(&self, script: &str) -> String {
        let output = self.command("sh").args(["-c", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Interfaces, namespaces, routes, and files below `/run` that are the lab's.
    pub(crate) fn left(&self) -> String {
        self.shell(
            "ls -d /run/pinger /run/netns/* 2>/dev/null; ip route; \
             ip -brief link | grep -v ^lo; true",
        )
    }

    /// A run whose pinger is a stand-in that does what the script says; waits for its first line.
    pub(crate) fn run(&self, script: &str) -> Run {
        let program = std::env::temp_dir().join(format!("lab-test-{}", self.holder.id()));
        std::fs::write(
            &program,
            format!("#!/bin/sh\n[ \"$2\" = --help ] && exit\n{script}\n"),
        )
        .unwrap();
        let made = Command::new("chmod")
            .arg("755")
            .arg(&program)
            .status()
            .unwrap();
        assert!(made.success());
        let mut xtask = self
            .command(xtask_program().to_str().unwrap())
            .arg("run")
            .env("PINGER_BIN", &program)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(xtask.stdout.take().unwrap());
        let mut first = String::new();
        said.read_line(&mut first).unwrap();
        Run {
            xtask,
            first,
            said,
            program,
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A lab that is left would outlive the sandbox by a moment.
        drop(
            self.command("ip")
                .args(["link", "delete", INTERFACE])
                .output(),
        );
        // It waits for a line on its input: the end of that is its end too.
        drop(self.holder.stdin.take());
        self.holder.wait().unwrap();
    }
}

pub(crate) struct Run {
    xtask: Child,
    pub(crate) first: String,
    said: BufReader<std::process::ChildStdout>,
    program: PathBuf,
}

impl Run {
    pub(crate) fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.xtask.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Exit code and what xtask itself said; the stand-in has ended too by then.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        self.said.read_to_string(&mut String::new()).unwrap();
        let output = self.xtask.wait_with_output().unwrap();
        std::fs::remove_file(self.program).unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }
}

/// The xtask that runs these tests.
fn xtask_program() -> PathBuf {
    let named = std::env::var_os("XTASK_BIN").expect(
        "XTASK_BIN names the xtask to test; run these tests by `cargo xtask test`, which sets it",
    );
    PathBuf::from(named)
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
