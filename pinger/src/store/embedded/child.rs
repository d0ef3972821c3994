//! What the child process does: makes itself small, then becomes ClickHouse.

use std::ffi::{CString, OsString, c_char, c_int, c_void};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, exit};

use super::find::Program;
use super::plan::Files;

/// How much more willingly than others the engine gives way for a CPU: the sender must be on
/// time, the engine need not.
const NICENESS: c_int = 5;

/// How much earlier than others the kernel ends the engine when memory runs out (0 to 1000).
const OOM_SCORE: &str = "500";

/// Symbol of the library that runs ClickHouse as its command line would.
const ENTRY: &[u8] = b"chdb_query_cmdline\0";

/// Symbol of the library that reads the error out of a result.
const ERROR: &[u8] = b"chdb_result_error\0";

/// Opens the port, then sleeps in a read until the parent's end of the pipe is closed.
const START_QUERY: &str = "SYSTEM START LISTEN HTTP; \
     SELECT * FROM file('/dev/stdin', 'LineAsString') FORMAT Null";

/// Arguments behind the subcommand: parent, lock, kind, path, then those of ClickHouse.
pub(super) fn arguments(
    parent: u32,
    lock_fd: RawFd,
    program: &Program,
    files: &Files,
    port: u16,
) -> Vec<OsString> {
    let option = |name: &str, path: &Path| {
        let mut option = OsString::from(format!("--{name}="));
        option.push(path);
        option
    };
    let mut arguments: Vec<OsString> = vec![parent.to_string().into(), lock_fd.to_string().into()];
    let config = option("config-file", &files.config);
    match program {
        Program::Server(path) => {
            arguments.extend(["server".into(), path.into(), "server".into(), config]);
        }
        Program::Library(path) => arguments.extend([
            "library".into(),
            path.into(),
            config,
            option("path", &files.data),
            format!("--http_port={port}").into(),
            "--listen_host=127.0.0.1".into(),
            format!("--query={START_QUERY}").into(),
        ]),
    }
    arguments
}

/// Runs the engine; `arguments` are those behind `pinger engine`. For pinger's own use.
///
/// Never returns: the process ends when the engine ends, with a message on stderr and exit code
/// 1 if it failed.
pub fn child_main(arguments: impl IntoIterator<Item = OsString>) -> ! {
    let error = run(arguments.into_iter().collect()).err();
    if let Some(message) = &error {
        eprintln!("pinger engine: {message}");
    }
    exit(i32::from(error.is_some()))
}

fn run(arguments: Vec<OsString>) -> Result<(), String> {
    let usage = "this subcommand is for pinger's own use; see `pinger --help`";
    let mut arguments = arguments.into_iter();
    let mut number = || arguments.next()?.to_str()?.parse::<c_int>().ok();
    let (Some(parent), Some(lock_fd)) = (number(), number()) else {
        return Err(usage.into());
    };
    let (Some(kind), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err(usage.into());
    };
    settle(parent, lock_fd)?;
    match kind.to_str() {
        Some("server") => {
            let error = Command::new(&path).args(arguments).exec();
            Err(format!("cannot execute {}: {error}", path.display()))
        }
        Some("library") => serve(&path, arguments),
        _ => Err(usage.into()),
    }
}

/// Ends with the parent, lets go of everything inherited, and steps back behind the prober.
fn settle(parent: c_int, lock_fd: RawFd) -> Result<(), String> {
    // SAFETY: plain system calls; the one pointer is to a local value. The descriptors closed are
    // open in nobody's hands: this process has just begun and opened none itself.
    let orphan = unsafe {
        // What an ended pinger leaves open here would keep its XDP program attached.
        if lock_fd > 3 {
            libc::close_range(3, (lock_fd - 1) as u32, 0);
        }
        libc::close_range(lock_fd.max(2) as u32 + 1, u32::MAX, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
        let ordinary = libc::sched_param { sched_priority: 0 };
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &ordinary);
        libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
        libc::getppid() != parent
    };
    // Only a request: not every container allows it.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    if orphan {
        Err("the pinger that started this has ended".to_owned())
    } else {
        Ok(())
    }
}

/// Opens the library and runs ClickHouse in it until stdin ends.
fn serve(path: &OsString, arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    let mut strings = vec![c"clickhouse".to_owned()];
    for argument in arguments {
        strings.push(CString::new(argument.into_vec()).map_err(|error| error.to_string())?);
    }
    let mut argv: Vec<*mut c_char> = strings
        .iter()
        .map(|text| text.as_ptr().cast_mut())
        .collect();
    argv.push(std::ptr::null_mut());

    type Entry = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void;
    type Error = unsafe extern "C" fn(*mut c_void) -> *const c_char;
    let broken = |error| format!("{} is not a usable libchdb.so: {error}", path.display());
    // SAFETY: the library's initialisers are ClickHouse's own; the user chose the file. The two
    // types are those of the symbols in the library's header. `argv` is a null-terminated array
    // of strings that outlive the call, which copies what it keeps. The result is the call's own
    // and stays valid until the process ends.
    let error = unsafe {
        let library = libloading::Library::new(path).map_err(broken)?;
        let entry = library.get::<Entry>(ENTRY).map_err(broken)?;
        let error = library.get::<Error>(ERROR).map_err(broken)?;
        let result = entry(strings.len() as c_int, argv.as_mut_ptr());
        let text = if result.is_null() {
            std::ptr::null()
        } else {
            error(result)
        };
        let text = (!text.is_null()).then(|| {
            std::ffi::CStr::from_ptr(text)
                .to_string_lossy()
                .into_owned()
        });
        // Its threads may still run: unloading their code would crash them.
        std::mem::forget(library);
        text
    };
    match error {
        Some(text) if !text.is_empty() => Err(text),
        _ => Ok(()),
    }
}
