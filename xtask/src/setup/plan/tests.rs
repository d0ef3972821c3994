//! The plan for machines of all kinds, as tables of facts and steps.

use super::*;
use crate::setup::facts::Compiler;

pub(in crate::setup) fn any_engine() -> &'static EnginePackage {
    &ENGINES[0]
}

fn compiler(rustc: &str, has_source: bool) -> Compiler {
    Compiler {
        rustc: rustc.into(),
        version: (1, 97),
        llvm: 22,
        has_source,
    }
}

/// A Debian machine with nothing but rustup's stable Rust.
fn bare() -> Facts {
    Facts {
        root: true,
        os_id: "debian".into(),
        os_name: "Debian GNU/Linux 12".into(),
        apt: true,
        arch: "x86_64".into(),
        ..Facts::default()
    }
}

fn complete() -> Facts {
    Facts {
        ip: true,
        fping: true,
        npm: true,
        cxx: true,
        llvm: true,
        system: Some(compiler("/usr/bin/rustc", true)),
        linker: Some("/cache/bpf-linker".into()),
        engine: Some("/cache/libchdb.so".into()),
        ..bare()
    }
}

/// The steps in few words: package names, then `linker`, `engine` and `nightly`.
fn words(plan: &Plan) -> String {
    let mut words = Vec::new();
    for step in &plan.steps {
        match step {
            Step::Packages(packages) => words.extend(packages.iter().map(|package| package.name)),
            Step::Nightly => words.push("nightly"),
            Step::Linker => words.push("linker"),
            Step::Engine(_) => words.push("engine"),
        }
    }
    words.join(" ")
}

#[track_caller]
fn check(facts: &Facts, needs: Needs, expected: &str, obstacle: Option<&Obstacle>) {
    let plan = plan(facts, needs);
    assert_eq!(words(&plan), expected);
    assert_eq!(plan.obstacle.as_ref(), obstacle);
}

#[test]
fn a_bare_machine_gets_everything_and_a_complete_one_nothing() {
    let all = "iproute2 fping rustc-web rust-web-src llvm-22-dev g++ npm linker engine";
    check(&bare(), Needs::EVERYTHING, all, None);
    check(&complete(), Needs::EVERYTHING, "", None);
    // Nobody needs to be root where nothing is missing.
    check(
        &Facts {
            root: false,
            ..complete()
        },
        Needs::EVERYTHING,
        "",
        None,
    );
}

#[test]
fn only_what_is_asked_for_is_got() {
    check(
        &bare(),
        Needs::BUILD,
        "rustc-web rust-web-src llvm-22-dev g++ linker",
        None,
    );
    let lab = Needs {
        build: false,
        lab: true,
        engine: Engine::None,
        fping: false,
    };
    check(&bare(), lab, "iproute2", None);
    let engine = Needs {
        engine: Engine::Any,
        lab: false,
        ..lab
    };
    check(&bare(), engine, "npm engine", None);
}

#[test]
fn what_is_there_already_is_used() {
    let nightly = Facts {
        nightly: Some(compiler("/n/rustc", true)),
        ..bare()
    };
    check(&nightly, Needs::BUILD, "llvm-22-dev g++ linker", None);
    let half = Facts {
        nightly: Some(compiler("/n/rustc", false)),
        ..bare()
    };
    check(
        &half,
        Needs::BUILD,
        "rustc-web rust-web-src llvm-22-dev g++ linker",
        None,
    );
    let linker = Facts {
        linker: Some("/cache/bpf-linker".into()),
        ..bare()
    };
    check(&linker, Needs::BUILD, "rustc-web rust-web-src", None);

    let server = Facts {
        clickhouse: Some("/usr/bin/clickhouse".into()),
        ..bare()
    };
    let engine = |engine| Needs {
        build: false,
        lab: false,
        engine,
        fping: false,
    };
    check(&server, engine(Engine::Any), "", None);
    check(&server, engine(Engine::Library), "npm engine", None);
    check(
        &Facts {
            npm: true,
            ..bare()
        },
        engine(Engine::Any),
        "engine",
        None,
    );
}

#[test]
fn nightly_is_preferred_to_debians_compiler() {
    let both = Facts {
        nightly: Some(compiler("/n/rustc", true)),
        ..complete()
    };
    let chosen = |facts: &Facts| plan(facts, Needs::BUILD).tools.compiler;
    assert_eq!(chosen(&both), Some((Way::Nightly, "/n/rustc".into())));
    assert_eq!(
        chosen(&complete()),
        Some((Way::Debian, "/usr/bin/rustc".into()))
    );
}

#[test]
fn packages_need_root_but_the_cache_does_not() {
    let user = Facts {
        root: false,
        ..bare()
    };
    let packages = "rustc-web rust-web-src llvm-22-dev g++ linker";
    check(&user, Needs::BUILD, packages, Some(&Obstacle::NotRoot));
    let linker = Facts {
        root: false,
        linker: None,
        ..complete()
    };
    check(&linker, Needs::BUILD, "linker", None);
}

#[test]
fn elsewhere_the_usual_way_is_shown() {
    let foreign = Facts {
        os_id: "fedora".into(),
        os_name: "Fedora".into(),
        apt: false,
        ..bare()
    };
    let obstacle = Obstacle::NotDebian("Fedora".into());
    check(
        &foreign,
        Needs::BUILD,
        "g++ nightly linker",
        Some(&obstacle),
    );
    let ready = Facts {
        nightly: Some(compiler("/n/rustc", true)),
        linker_on_path: Some("/home/me/.cargo/bin/bpf-linker".into()),
        ..foreign
    };
    check(&ready, Needs::BUILD, "", None);
}

#[test]
fn an_architecture_without_engine_package_is_told_so() {
    let other = Facts {
        arch: "riscv64".into(),
        engine: None,
        ..complete()
    };
    let obstacle = Obstacle::NoEngine("riscv64".into());
    check(&other, Needs::EVERYTHING, "", Some(&obstacle));
    check(
        &other,
        Needs {
            engine: Engine::None,
            ..Needs::EVERYTHING
        },
        "",
        None,
    );
}

#[test]
fn the_printed_commands_are_ready_to_paste() {
    let user = Facts {
        root: false,
        ..bare()
    };
    let plan = plan(
        &user,
        Needs {
            fping: false,
            ..Needs::EVERYTHING
        },
    );
    let cache = Path::new("/home/me/.cache/pinger");
    let lines: Vec<String> = plan
        .steps
        .iter()
        .flat_map(|step| step.by_hand(&Obstacle::NotRoot, cache))
        .collect();
    let expected = [
        "sudo apt-get update",
        "sudo apt-get install -y --no-install-recommends \
         iproute2 rustc-web rust-web-src llvm-22-dev g++ npm",
        "LLVM_PREFIX=/usr/lib/llvm-22 LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 \
         cargo install bpf-linker --version 0.13.0 --locked --no-default-features \
         --features llvm-22 --root /home/me/.cache/pinger/bpf-linker-0.13.0-llvm22",
    ];
    assert_eq!(&lines[..expected.len()], expected);
    let engine: Vec<&str> = lines[3].split(" && \\\n  ").collect();
    let folder = "/home/me/.cache/pinger/chdb-26.7.3-stable.1";
    assert_eq!(
        engine[0],
        format!("mkdir -p {folder}.new && cd {folder}.new")
    );
    assert_eq!(
        engine[1],
        "npm pack @chdb/lib-linux-x64-gnu@26.7.3-stable.1"
    );
    assert!(engine[2].ends_with("lib-linux-x64-gnu-26.7.3-stable.1.tgz' | sha512sum --check"));
    assert!(
        engine[4].ends_with(&format!("mv {folder}.new {folder}")),
        "{engine:?}"
    );
    assert_eq!(lines.len(), 4);
}

#[test]
fn engine_digests_are_whole() {
    for engine in &ENGINES {
        assert_eq!(engine.sha512.len(), 128, "{}", engine.name);
        assert!(engine.sha512.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
