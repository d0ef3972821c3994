//! Recent results to a sparkline: one character a result, scaled per row.

use crate::stats::Recent;

/// What a lost probe looks like.
pub(super) const LOST: char = '×';

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The newest `width` results, oldest first, as bars and [`LOST`] marks.
///
/// The lowest bar is the row's smallest round trip and the highest its largest, but the bars span
/// at least half of the smallest, so that a quiet row does not look wild.
pub(super) fn bars(recent: &[Recent], width: usize) -> impl Iterator<Item = char> + '_ {
    let shown = &recent[recent.len().saturating_sub(width)..];
    let replies = || {
        shown.iter().filter_map(|result| match result {
            Recent::Reply(rtt_ns) => Some(*rtt_ns),
            Recent::Lost => None,
        })
    };
    let min = replies().min().unwrap_or(0);
    let max = replies().max().unwrap_or(0);
    let span = (max - min).max(min / 2).max(1);
    shown.iter().map(move |result| match result {
        Recent::Lost => LOST,
        Recent::Reply(rtt_ns) => BARS[level(rtt_ns - min, span)],
    })
}

fn level(above_min: u64, span: u64) -> usize {
    let top = BARS.len() - 1;
    let level = u128::from(above_min) * top as u128 / u128::from(span);
    usize::try_from(level).map_or(top, |level| level.min(top))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spark(rtts: &[u64], width: usize) -> String {
        let recent: Vec<_> = rtts
            .iter()
            .map(|&rtt| {
                if rtt == 0 {
                    Recent::Lost
                } else {
                    Recent::Reply(rtt)
                }
            })
            .collect();
        bars(&recent, width).collect()
    }

    #[test]
    fn rows_become_bars() {
        for (rtts, width, text) in [
            (&[][..], 8, ""),
            (&[5], 8, "▁"),
            (&[0], 8, "×"),
            (&[0, 0, 7], 8, "××▁"),
            (&[100, 200, 300, 400, 500, 600, 700, 800], 8, "▁▂▃▄▅▆▇█"),
            (&[100, 200, 300, 400, 500, 600, 700, 800], 3, "▁▃▅"),
            (&[1000, 1010, 990, 1005], 8, "▁▁▁▁"),
            (&[1, u64::MAX, 0, 1], 8, "▁█×▁"),
        ] {
            assert_eq!(spark(rtts, width), text, "{rtts:?}");
        }
    }
}
