//! What happens in a round, drawn from a seed: pure data.

use pinger_tests::sim::rng::Rng;

/// A round: some runs of pinger in one data directory, one after another, each with its troubles.
/// One without any follows, which has to bring everything into the store.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) store: StoreKind,
    /// pinger's data directory is a disk so small that it can be filled.
    pub(crate) small_disk: bool,
    /// Where rows wait: `disk` or `memory`.
    pub(crate) spool: &'static str,
    pub(crate) runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Embedded,
    /// A server by URL, behind a wire that can fail.
    Server,
}

#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// What goes wrong while it starts, and how many milliseconds after the start of the process.
    pub(crate) early: Option<(u64, Act)>,
    /// What goes wrong how many milliseconds after its first probe, in this order.
    pub(crate) acts: Vec<(u64, Act)>,
    /// When it ends, milliseconds after its first probe.
    pub(crate) end_ms: u64,
    /// It ends so long after the start of the process, probe or not.
    pub(crate) ends_early: bool,
    pub(crate) ending: Ending,
}

/// Something goes wrong. What has a time is put right after so many milliseconds, in this run or
/// in a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// kill -9; the time is what it takes until a server is started again. The embedded engine is
    /// pinger's own to start.
    KillEngine(u64),
    /// SIGSTOP, then SIGCONT.
    StopEngine(u64),
    /// Cuts all connections and refuses new ones.
    Cut(u64),
    /// Keeps connections and moves nothing.
    Stall(u64),
    /// This many requests are answered by 500 and never reach the server.
    Refuse(u64),
    /// The answers to this many inserts are lost, with their connections.
    DropAnswers(u64),
    /// A file takes all the space there is.
    FillDisk(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Ctrl-C, and the time it takes.
    Interrupt,
    /// Ctrl-C and again so many milliseconds later.
    Twice(u64),
    /// kill -9.
    Kill,
    /// kill -9 of pinger, and of the engine at the same moment.
    KillBoth,
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let store = if rng.chance(0.6) {
            StoreKind::Embedded
        } else {
            StoreKind::Server
        };
        let small_disk = rng.chance(0.3);
        let runs = (0..=u64::from(rng.chance(0.65)))
            .map(|_| Run::draw(&mut rng, store, small_disk))
            .collect();
        Self {
            store,
            small_disk,
            spool: "disk",
            runs,
        }
    }

    /// One that cannot go well.
    pub(crate) fn loses() -> Self {
        Self {
            store: StoreKind::Server,
            small_disk: false,
            spool: "memory",
            runs: vec![Run {
                early: None,
                acts: vec![(200, Act::Cut(800))],
                end_ms: 800,
                ends_early: false,
                ending: Ending::Kill,
            }],
        }
    }

    /// The store is away for seconds, and then the run is killed: all that it knows is on disk.
    pub(crate) fn kills(store: StoreKind) -> Self {
        let away = match store {
            StoreKind::Embedded => Act::StopEngine(3000),
            StoreKind::Server => Act::Cut(3000),
        };
        Self {
            store,
            small_disk: false,
            spool: "disk",
            runs: vec![Run {
                early: None,
                acts: vec![(100, away)],
                end_ms: 3000,
                ends_early: false,
                ending: Ending::Kill,
            }],
        }
    }

    /// A run is killed, and the answers to the insert that tells of its gap are lost.
    pub(crate) fn doubts_gap() -> Self {
        let run = |early, ending| Run {
            early,
            acts: Vec::new(),
            end_ms: 600,
            ends_early: false,
            ending,
        };
        Self {
            store: StoreKind::Server,
            small_disk: false,
            spool: "disk",
            runs: vec![
                run(None, Ending::Kill),
                run(Some((0, Act::DropAnswers(20))), Ending::Interrupt),
            ],
        }
    }
}

impl Run {
    fn draw(rng: &mut Rng, store: StoreKind, small_disk: bool) -> Self {
        let ending = match rng.below(20) {
            0..7 => Ending::Interrupt,
            7..10 => Ending::Twice(rng.between([1, 300])),
            10..16 => Ending::Kill,
            _ => Ending::KillBoth,
        };
        let end_ms = rng.between([200, 1500]);
        let is_calm = ending == Ending::Interrupt;
        let mut acts: Vec<(u64, Act)> = (0..rng.between([u64::from(is_calm), 2]))
            .map(|_| {
                let at = rng.between([0, end_ms]);
                (at, Act::draw(rng, store, small_disk))
            })
            .collect();
        acts.sort_by_key(|(at, _)| *at);
        Self {
            early: rng
                .chance(0.3)
                .then(|| (rng.between([0, 1000]), Act::draw(rng, store, small_disk))),
            acts,
            end_ms,
            ends_early: rng.chance(0.1),
            ending,
        }
    }
}

impl Act {
    fn draw(rng: &mut Rng, store: StoreKind, small_disk: bool) -> Self {
        let time = rng.between([50, 1200]);
        if small_disk && rng.chance(0.5) {
            return Self::FillDisk(time);
        }
        let kinds = if store == StoreKind::Server { 6 } else { 2 };
        match rng.below(kinds) {
            0 => Self::KillEngine(time),
            1 => Self::StopEngine(time),
            2 => Self::Cut(time),
            3 => Self::Stall(time),
            4 => Self::Refuse(rng.between([1, 6])),
            _ => Self::DropAnswers(rng.between([1, 3])),
        }
    }
}
