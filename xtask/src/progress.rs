//! Telling a person what happens: one line on stderr per fact, and long steps with their progress.
//!
//! stdout belongs to the program that is run, so nothing here ever writes to it.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{paths, process};

/// A step that ends sooner than this is not worth a line.
const QUIET: Duration = Duration::from_millis(700);
/// How often the last line moves on a terminal.
const FRAME: Duration = Duration::from_millis(120);
/// How often a line says that we are alive where there is no terminal.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How much of a failed step's output is shown; all of it is in the log.
const TAIL_LINES: usize = 40;

/// Says one thing on stderr.
pub fn say(text: &str) {
    eprintln!("xtask: {text}");
}

/// A duration for people.
pub fn spent(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else {
        format!(
            "{} min {:02} s",
            duration.as_secs() / 60,
            duration.as_secs() % 60
        )
    }
}

/// One program that may run long: its output goes to a log, its progress to the person.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// What is being done, as a clause: "building the kernel program".
    pub title: &'a str,
    /// How long it usually takes, said with the title.
    pub usual: &'a str,
    /// Short name of the log file.
    pub log: &'a str,
    /// A directory that fills while the step runs, and the bytes expected in it.
    pub watched: Option<(&'a Path, u64)>,
}

impl Step<'_> {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// It cannot be started or fails; the last lines of its output have been shown by then, and
    /// the error names the log that holds all of it.
    pub fn run(&self, command: &mut Command) -> Result<()> {
        let log_path = paths::log(self.log);
        if let Some(directory) = log_path.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let mut log = File::create(&log_path)
            .with_context(|| format!("cannot write the log {}", log_path.display()))?;
        let line = process::shown(command);
        writeln!(log, "$ {line}")?;

        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}: cannot start `{line}`", self.title))?;
        let lines = collect_output(&mut child);
        let mut display = Display::new(*self, started);
        let status = follow(&mut child, &lines, &mut log, &mut display)?;
        display.finish(status);
        if !status.success() {
            bail!(
                "{} failed ({status})\n  command: {line}\n  its whole output: {}",
                self.title,
                log_path.display()
            );
        }
        Ok(())
    }
}

/// Both outputs of the child, line by line; a carriage return ends a line too.
fn collect_output(child: &mut Child) -> Receiver<String> {
    let (sender, lines) = channel();
    if let Some(output) = child.stdout.take() {
        forward(output, sender.clone());
    }
    if let Some(output) = child.stderr.take() {
        forward(output, sender);
    }
    lines
}

fn forward(output: impl Read + Send + 'static, sender: Sender<String>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut bytes = Vec::new();
        while matches!(reader.read_until(b'\n', &mut bytes), Ok(1..)) {
            let text = String::from_utf8_lossy(&bytes);
            for line in text
                .split(['\r', '\n'])
                .filter(|line| !line.trim().is_empty())
            {
                if sender.send(line.to_owned()).is_err() {
                    return;
                }
            }
            bytes.clear();
        }
    });
}

fn follow(
    child: &mut Child,
    lines: &Receiver<String>,
    log: &mut File,
    display: &mut Display<'_>,
) -> Result<ExitStatus> {
    loop {
        match lines.recv_timeout(FRAME) {
            Ok(line) => {
                writeln!(log, "{line}")?;
                display.line(line);
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(child.wait()?),
            // A daemon that the child leaves behind may hold its output open for ever.
            Err(RecvTimeoutError::Timeout) => {
                if let Some(status) = child.try_wait()? {
                    return Ok(status);
                }
            }
        }
        display.tick();
    }
}

/// What a person sees of one running step.
struct Display<'a> {
    step: Step<'a>,
    started: Instant,
    terminal: bool,
    announced: bool,
    drawn: Instant,
    frame: usize,
    tail: VecDeque<String>,
}

impl<'a> Display<'a> {
    fn new(step: Step<'a>, started: Instant) -> Self {
        Self {
            step,
            started,
            terminal: io::stderr().is_terminal(),
            announced: false,
            drawn: started,
            frame: 0,
            tail: VecDeque::with_capacity(TAIL_LINES),
        }
    }

    fn line(&mut self, line: String) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn tick(&mut self) {
        if !self.announced {
            if self.started.elapsed() < QUIET {
                return;
            }
            self.announced = true;
            say(&format!("{} ({})", self.step.title, self.step.usual));
        }
        let pause = if self.terminal { FRAME } else { HEARTBEAT };
        if self.drawn.elapsed() < pause {
            return;
        }
        self.drawn = Instant::now();
        let state = self.state();
        if self.terminal {
            const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
            self.frame = (self.frame + 1) % SPINNER.len();
            let text = format!("  {} {state}", SPINNER[self.frame]);
            let shown: String = text
                .chars()
                .take(terminal_columns().saturating_sub(1))
                .collect();
            eprint!("\r\x1b[2K{shown}");
        } else {
            eprintln!("  … {state}");
        }
    }

    /// Time spent, bytes received where that is known, and the child's last line.
    fn state(&self) -> String {
        let mut state = spent(self.started.elapsed());
        if let Some((directory, expected)) = self.step.watched {
            let received = bytes_below(directory).min(expected);
            state += &format!("  {} of {} MB", received / 1_000_000, expected / 1_000_000);
        }
        if let Some(line) = self.tail.back() {
            state += "  ";
            state += plain(line).trim();
        }
        state
    }

    fn finish(&self, status: ExitStatus) {
        if self.announced && self.terminal {
            eprint!("\r\x1b[2K");
        }
        if status.success() {
            if self.announced {
                eprintln!("  done in {}", spent(self.started.elapsed()));
            }
            return;
        }
        for line in &self.tail {
            eprintln!("  | {line}");
        }
    }
}

/// A line without the escape sequences that colour it.
fn plain(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\x1b' {
            // A control sequence ends at its first letter.
            characters.by_ref().find(char::is_ascii_alphabetic);
        } else if !character.is_control() {
            kept.push(character);
        }
    }
    kept
}

fn bytes_below(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => bytes_below(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

fn terminal_columns() -> usize {
    // SAFETY: winsize is plain numbers, for which all zeroes is a value; the ioctl fills it.
    let (result, size) = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (
            libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size),
            size,
        )
    };
    if result == 0 && size.ws_col > 0 {
        usize::from(size.ws_col)
    } else {
        80
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well_at_every_size() {
        let check =
            |ms: u64, expected: &str| assert_eq!(spent(Duration::from_millis(ms)), expected);
        check(40, "0.0 s");
        check(1_240, "1.2 s");
        check(43_400, "43 s");
        check(125_000, "2 min 05 s");
    }

    #[test]
    fn colours_are_removed_from_a_line() {
        assert_eq!(
            plain("\x1b[1m\x1b[32m   Compiling\x1b[0m core\t"),
            "   Compiling core"
        );
        assert_eq!(plain("no colour"), "no colour");
    }

    #[test]
    fn a_failed_step_names_its_command_and_its_log() {
        let step = Step {
            title: "breaking",
            usual: "at once",
            log: "test-fails",
            watched: None,
        };
        let error = step
            .run(Command::new("sh").args(["-c", "echo why; exit 3"]))
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("breaking failed") && text.contains("exit 3"),
            "{text}"
        );
        let log = fs::read_to_string(paths::log("test-fails")).unwrap();
        assert!(log.ends_with("why\n"), "{log}");
    }

    #[test]
    fn a_step_does_not_wait_for_a_daemon_that_keeps_its_output_open() {
        let step = Step {
            title: "leaving",
            usual: "at once",
            log: "test-daemon",
            watched: None,
        };
        let started = Instant::now();
        step.run(Command::new("sh").args(["-c", "sleep 20 & echo $!"]))
            .unwrap();
        assert!(started.elapsed() < Duration::from_secs(10));
        let log = fs::read_to_string(paths::log("test-daemon")).unwrap();
        let pid = log.lines().last().unwrap().to_owned();
        let end = format!("kill {pid}");
        assert!(
            Command::new("sh")
                .args(["-c", &end])
                .status()
                .unwrap()
                .success()
        );
    }
}
