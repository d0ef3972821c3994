//! The head of the live screen: what runs, the totals, and how well the prober itself does.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::Pen;
use crate::stats::Quantiles;
use crate::view::screen::Screen;
use crate::view::theme::{Mood, Theme};
use crate::view::units::{self, Scale};

/// Lines that [`facts`] needs.
pub(super) const FACT_LINES: u16 = 5;

/// Characters for the name of a line of facts.
const TITLE_WIDTH: u16 = 11;
/// A fact and the gap behind it are not narrower, else figures would not fit.
const CELL_MIN: u16 = 16;
/// And not wider, else label and figure would drift apart.
const CELL_MAX: u16 = 20;
const CELL_GAP: u16 = 2;
const CELLS: usize = 6;
/// Narrower screens have no room for the version.
const VERSION_FROM: u16 = 50;
/// More than any rank.
const TROUBLE_FIRST: i8 = 10;

/// A labelled figure. Where not all fit, those of low rank stay.
struct Fact {
    label: &'static str,
    value: Value,
    rank: i8,
    mood: Mood,
}

enum Value {
    Count(u64),
    Text(String),
}

impl Fact {
    fn count(label: &'static str, value: u64, rank: i8) -> Self {
        Self {
            label,
            value: Value::Count(value),
            rank,
            mood: Mood::Plain,
        }
    }

    fn text(label: &'static str, value: String, rank: i8) -> Self {
        Self {
            label,
            value: Value::Text(value),
            rank,
            mood: Mood::Plain,
        }
    }

    /// A count that should be zero: quiet if so, else in the given mood, and then it is not the
    /// one that a narrow screen hides.
    fn trouble(label: &'static str, value: u64, rank: i8, mood: Mood) -> Self {
        if value == 0 {
            return Self {
                mood: Mood::Quiet,
                ..Self::count(label, value, rank)
            };
        }
        Self {
            mood,
            ..Self::count(label, value, rank - TROUBLE_FIRST)
        }
    }
}

/// The first line: what probes what, and for how long.
pub(super) fn title(screen: &Screen, line: Rect, buffer: &mut Buffer, theme: Theme) {
    let mut pen = Pen::new(buffer, line);
    pen.write_right(&units::clock(screen.snapshot.elapsed), theme.strong());
    if screen.stopping {
        let open = screen.snapshot.totals.in_flight;
        let text = if open > 0 {
            format!(
                " stopping: awaiting {} ",
                units::plural(open, "answer", "answers")
            )
        } else {
            " stopping ".to_owned()
        };
        pen.write_right(&text, theme.badge());
    }
    if screen.paused {
        pen.write_right(" paused ", theme.badge());
    }
    let header = &screen.header;
    let destinations = units::plural(header.destinations as u64, "destination", "destinations");
    pen.write("pinger", theme.accent());
    if line.width > VERSION_FROM {
        pen.write(&format!(" {}", header.version), theme.quiet());
    }
    let mut parts = vec![
        format!("   {destinations}"),
        format!(" {}", units::pace(header.pace)),
    ];
    for part in [&header.interface, &header.mode, &header.store] {
        if !part.is_empty() {
            parts.push(format!("  ·  {part}"));
        }
    }
    for part in parts {
        if part.chars().count() > pen.room() {
            break;
        }
        pen.write(&part, theme.plain());
    }
}

/// All figures of the run, a line for each of its sides.
pub(super) fn facts(screen: &Screen, area: Rect, buffer: &mut Buffer, theme: Theme) {
    let lag = Scale::Micros;
    let lines: [(String, Vec<Fact>); FACT_LINES as usize] = [
        ("network".to_owned(), network(screen)),
        (String::new(), answers(screen)),
        (
            format!("rtt {}", screen.scale.unit()),
            quantiles(screen.scale, &screen.snapshot.rtt),
        ),
        (
            format!("lag {}", lag.unit()),
            quantiles(lag, &screen.snapshot.lag),
        ),
        ("prober".to_owned(), prober(screen)),
    ];
    for ((title, facts), y) in lines.into_iter().zip(area.top()..area.bottom()) {
        let line = Rect {
            y,
            height: 1,
            ..area
        };
        buffer.set_stringn(line.x, y, &title, line.width.into(), theme.accent());
        let x = line.x + TITLE_WIDTH;
        let cells = Rect {
            x,
            width: line.right().saturating_sub(x),
            ..line
        };
        fact_line(facts, cells, buffer, theme);
    }
}

/// One line instead of all the facts, for small screens.
pub(super) fn compact(screen: &Screen, line: Rect, buffer: &mut Buffer, theme: Theme) {
    if line.height == 0 {
        return;
    }
    let snapshot = &screen.snapshot;
    let mut pen = Pen::new(buffer, line);
    let own = snapshot.totals.send_failed
        + snapshot.totals.skipped
        + snapshot.ring_dropped
        + snapshot.rows.dropped;
    if own > 0 {
        let text = format!("own drops {}", units::count_in(own, 5));
        pen.write_right(&text, theme.mood(Mood::Alarm));
    }
    let loss = snapshot.totals.loss_percent();
    for (value, label, mood) in [
        (
            format!("{}%", units::percent(loss)),
            "loss",
            loss_mood(loss),
        ),
        (
            screen.scale.with_unit(snapshot.rtt.p50_ns),
            "p50",
            Mood::Plain,
        ),
        (
            units::count_in(snapshot.totals.sent, 9),
            "sent",
            Mood::Plain,
        ),
        (
            screen.scale.with_unit(snapshot.rtt.p99_ns),
            "p99",
            Mood::Plain,
        ),
        (
            screen.scale.with_unit(snapshot.rtt.max_ns),
            "max",
            Mood::Plain,
        ),
    ] {
        if label.len() + 1 + value.chars().count() > pen.room() {
            break;
        }
        pen.write(label, theme.quiet());
        pen.write(" ", theme.plain());
        pen.write(&value, theme.mood(mood));
        pen.write("  ", theme.plain());
    }
}

/// How a loss in percent looks: any is worth a look, a tenth is an alarm.
pub(super) fn loss_mood(percent: f64) -> Mood {
    match percent {
        0.0 => Mood::Plain,
        _ if percent < 10.0 => Mood::Warn,
        _ => Mood::Alarm,
    }
}

fn network(screen: &Screen) -> Vec<Fact> {
    let totals = &screen.snapshot.totals;
    let loss = totals.loss_percent();
    let rate = screen.rate_pps.round() as u64;
    vec![
        Fact::count("sent", totals.sent, 0),
        Fact::count("reply", totals.reply, 4),
        // The share tells it already, so a narrow screen can hide it even when it is not zero.
        Fact {
            rank: 5,
            ..Fact::trouble("lost", totals.lost, 5, Mood::Warn)
        },
        Fact {
            mood: loss_mood(loss),
            ..Fact::text("loss %", units::percent(loss), 1)
        },
        Fact::count("in flight", totals.in_flight, 3),
        Fact::count("rate/s", rate, 2),
    ]
}

fn answers(screen: &Screen) -> Vec<Fact> {
    let totals = &screen.snapshot.totals;
    vec![
        Fact::trouble("error", totals.error, 0, Mood::Warn),
        Fact::trouble("late", totals.late, 1, Mood::Warn),
        Fact::trouble("duplicate", totals.duplicate, 2, Mood::Warn),
        Fact::trouble("mismatch", totals.mismatch, 3, Mood::Warn),
        Fact::trouble("forged", screen.snapshot.forged, 4, Mood::Warn),
    ]
}

fn quantiles(scale: Scale, quantiles: &Quantiles) -> Vec<Fact> {
    [
        ("min", quantiles.min_ns, 3),
        ("p50", quantiles.p50_ns, 0),
        ("p90", quantiles.p90_ns, 5),
        ("p99", quantiles.p99_ns, 1),
        ("p99.9", quantiles.p999_ns, 4),
        ("max", quantiles.max_ns, 2),
    ]
    .into_iter()
    .map(|(label, ns, rank)| {
        let text = if quantiles.count > 0 {
            scale.format(ns)
        } else {
            "–".to_owned()
        };
        Fact::text(label, text, rank)
    })
    .collect()
}

/// What the prober itself dropped, which is never the network's loss; and its rows.
fn prober(screen: &Screen) -> Vec<Fact> {
    let snapshot = &screen.snapshot;
    let mut facts = vec![
        Fact::trouble("unsent", snapshot.totals.send_failed, 0, Mood::Alarm),
        Fact::trouble("skipped", snapshot.totals.skipped, 1, Mood::Alarm),
        Fact::trouble("ring full", snapshot.ring_dropped, 2, Mood::Alarm),
    ];
    if !screen.header.store.is_empty() {
        facts.extend([
            Fact::trouble("rows lost", snapshot.rows.dropped, 3, Mood::Alarm),
            Fact::count("queued", snapshot.rows.spooled, 5),
            Fact::count("stored", snapshot.rows.written, 4),
        ]);
    }
    facts
}

/// Writes facts into equal cells, so that those of several lines stand below each other.
fn fact_line(mut facts: Vec<Fact>, line: Rect, buffer: &mut Buffer, theme: Theme) {
    let fit = usize::from((line.width + CELL_GAP) / CELL_MIN).min(CELLS);
    if fit == 0 {
        return;
    }
    let mut ranks: Vec<i8> = facts.iter().map(|fact| fact.rank).collect();
    ranks.sort_unstable();
    ranks.truncate(fit);
    facts.retain(|fact| ranks.contains(&fact.rank));
    let cell = ((line.width + CELL_GAP) / fit as u16).min(CELL_MAX);
    for (index, fact) in facts.into_iter().enumerate() {
        let x = line.x + index as u16 * cell;
        let width = (cell - CELL_GAP).into();
        // Where both do not fit, the figure wins over the end of its label.
        let value = match fact.value {
            Value::Count(count) => {
                units::count_in(count, usize::saturating_sub(width, fact.label.len() + 1))
            }
            Value::Text(text) => text,
        };
        let length = value.chars().count().min(width);
        let label_width = width.saturating_sub(length + 1);
        buffer.set_stringn(x, line.y, fact.label, label_width, theme.quiet());
        let x = x + (width - length) as u16;
        buffer.set_stringn(x, line.y, value, length, theme.mood(fact.mood));
    }
}
