//! Drawings of numbers. Each has a text that says the same to those who do not see it.

use std::fmt::Write as _;

use super::escape;
use crate::result::Histogram;

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 190.0;
/// Room for the numbers at the left, above and below.
const LEFT: f64 = 44.0;
const RIGHT: f64 = 392.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 164.0;

/// A line over time: a value for each slice that has one.
pub(super) struct Line<'l> {
    pub(super) name: &'l str,
    /// Whether it is the second, in the other colour.
    pub(super) style: Style,
    pub(super) values: Vec<Option<f64>>,
    /// The scale ends here at least.
    pub(super) up_to: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Line,
    SecondLine,
    SecondBars,
}

/// Lines and bars over time. `width_us` is that of a slice. Each has a scale of its own; that of the first is shown.
pub(super) fn over_time(label: &str, width_us: u64, lines: &[Line<'_>], show: impl Fn(f64) -> String) -> String {
    let slices = lines.iter().map(|line| line.values.len()).max().unwrap_or(0);
    if lines.iter().all(|line| line.values.iter().all(Option::is_none)) {
        return NOTHING.to_owned();
    }
    let mut svg = begin(label);
    let at = |n: f64| LEFT + (RIGHT - LEFT) * n / (slices as f64);
    for (place, line) in lines.iter().enumerate() {
        let high = line.values.iter().flatten().copied().fold(line.up_to, f64::max).max(f64::MIN_POSITIVE);
        let y = |value: f64| BOTTOM - (BOTTOM - TOP) * value / high;
        if place == 0 {
            axis_left(&mut svg, high, &show);
        }
        match line.style {
            Style::SecondBars => {
                for (n, value) in line.values.iter().enumerate().filter_map(|(n, value)| Some((n, (*value)?))) {
                    let (x, width) = (at(n as f64), (at(1.0) - at(0.0)).max(1.0));
                    let y = y(value);
                    let _ = write!(
                        svg,
                        "<rect class=\"bar second\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
                        BOTTOM - y
                    );
                }
            }
            Style::Line | Style::SecondLine => {
                let class = if line.style == Style::Line { "series" } else { "series second" };
                let _ =
                    write!(svg, "<path class=\"{class}\" d=\"{}\"/>", path(&line.values, |n| at(n as f64 + 0.5), y));
            }
        }
    }
    let _ = write!(svg, "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{BOTTOM}\" x2=\"{RIGHT}\" y2=\"{BOTTOM}\"/>");
    let seconds = slices as f64 * width_us as f64 / 1e6;
    for (part, anchor) in [(0.0, "start"), (0.5, "middle"), (1.0, "end")] {
        let x = LEFT + (RIGHT - LEFT) * part;
        let _ = write!(svg, "<text x=\"{x:.1}\" y=\"180\" text-anchor=\"{anchor}\">{}</text>", time(seconds * part));
    }
    svg.push_str("</svg>");
    svg
}

/// A path that is interrupted where there is no value.
fn path(values: &[Option<f64>], x: impl Fn(usize) -> f64, y: impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    let mut drawing = false;
    for (n, value) in values.iter().enumerate() {
        if let Some(value) = value {
            let _ = write!(path, "{}{:.1} {:.1}", if drawing { "L" } else { "M" }, x(n), y(*value));
            // A value alone is a dot.
            if !drawing && values.get(n + 1).is_none_or(Option::is_none) {
                let _ = write!(path, "h2");
            }
        }
        drawing = value.is_some();
    }
    path
}

/// The key of lines.
pub(super) fn key(lines: &[Line<'_>]) -> String {
    let mut list = String::from("<ul class=\"key\">");
    for line in lines {
        let class = if line.style == Style::Line { "" } else { " class=\"second\"" };
        let _ = write!(list, "<li><i{class}></i>{}</li>", escape(line.name));
    }
    list.push_str("</ul>");
    list
}

/// How many bars a distribution has at most.
const MOST_BARS: usize = 36;

/// A distribution; its axis is logarithmic when it spans much.
pub(super) fn distribution(label: &str, histogram: &Histogram, show: impl Fn(u64) -> String) -> String {
    if histogram.count() == 0 {
        return NOTHING.to_owned();
    }
    let bars = bars(histogram);
    let high = bars.iter().map(|(.., times)| *times).max().unwrap_or(1).max(1) as f64;
    let mut svg = begin(label);
    let all = histogram.count() as f64;
    axis_left(&mut svg, 100.0 * high / all, &|share| {
        if share >= 10.0 { format!("{share:.0} %") } else { format!("{share:.1} %") }
    });
    let step = (RIGHT - LEFT) / bars.len() as f64;
    for (n, (low, up, times)) in bars.iter().enumerate() {
        let (x, height) = (LEFT + step * n as f64, (BOTTOM - TOP) * *times as f64 / high);
        let (width, y) = ((step - 1.0).clamp(1.0, 48.0), BOTTOM - height);
        let x = x + (step - width) / 2.0;
        let range = if low == up { show(*low) } else { format!("{} to {}", show(*low), show(*up)) };
        let _ = write!(
            svg,
            "<rect class=\"bar\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{}: {times}</title></rect>",
            escape(&range)
        );
    }
    let _ = write!(svg, "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{BOTTOM}\" x2=\"{RIGHT}\" y2=\"{BOTTOM}\"/>");
    // A label under each of a few bars, and under the first and the last of many.
    let every = if bars.len() <= 8 { 1 } else { bars.len().div_ceil(4) };
    for (n, (low, ..)) in
        bars.iter().enumerate().filter(|(n, _)| n % every == 0 && (n + every / 2 < bars.len() || every == 1))
    {
        let x = LEFT + step * (n as f64 + 0.5);
        let _ = write!(svg, "<text x=\"{x:.1}\" y=\"180\" text-anchor=\"middle\">{}</text>", escape(&show(*low)));
    }
    svg.push_str("</svg>");
    svg
}

/// The buckets of a histogram, so many of them together that there are few; those without values between them included.
fn bars(histogram: &Histogram) -> Vec<(u64, u64, u64)> {
    let (low, high) = (histogram.low(), histogram.high());
    let span = (high - low).saturating_add(1);
    // Few values: one bar each. Otherwise bars of one width, or, when it spans much, of one ratio.
    let edges: Vec<u64> = if span <= MOST_BARS as u64 {
        (low..=high).collect()
    } else if low > 0 && high / low < 8 || high < 64 {
        let width = span.div_ceil(MOST_BARS as u64);
        (0..span.div_ceil(width)).map(|n| low + n * width).collect()
    } else {
        let first = low.max(1) as f64;
        let ratio = (high as f64 / first).powf(1.0 / MOST_BARS as f64);
        let mut edges: Vec<u64> = (0..MOST_BARS).map(|n| (first * ratio.powi(n as i32)) as u64).collect();
        edges[0] = low;
        edges.dedup();
        edges
    };
    let mut bars: Vec<(u64, u64, u64)> = edges
        .iter()
        .enumerate()
        .map(|(n, edge)| (*edge, edges.get(n + 1).map_or(high, |next| next - 1).max(*edge), 0))
        .collect();
    let place_of = |value: u64| edges.partition_point(|edge| *edge <= value).saturating_sub(1);
    for (from, to, times) in histogram.buckets() {
        // Nobody knows where in a bucket its values lie. One that is wider than a bar is shared out evenly, so that no gaps
        // appear which are not there.
        let (from, to) = (from.clamp(low, high), to.clamp(low, high));
        let (first, last) = (place_of(from), place_of(to));
        let width = u128::from(to - from) + 1;
        let mut left = times;
        for bar in &mut bars[first..last] {
            let within = u128::from(bar.1.min(to) - bar.0.max(from)) + 1;
            let part = (u128::from(times) * within / width) as u64;
            bar.2 += part;
            left -= part;
        }
        bars[last].2 += left;
    }
    bars
}

const NOTHING: &str = "<p class=\"none\">Nothing to show.</p>";

fn begin(label: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" xmlns=\"http://www.w3.org/2000/svg\">",
        escape(label)
    )
}

fn axis_left(svg: &mut String, high: f64, show: &impl Fn(f64) -> String) {
    for part in [0.0, 0.5, 1.0] {
        let y = BOTTOM - (BOTTOM - TOP) * part;
        let _ = write!(svg, "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>");
        let text = escape(&show(high * part));
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", LEFT - 6.0, y + 4.0);
    }
}

/// Seconds as people say it.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        0.0 => "0".to_owned(),
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

/// How many times as much, as people say it.
pub(crate) fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.1}") } else { short(ratio.round()) }
}

/// A number as people say it.
pub(super) fn short(value: f64) -> String {
    match value {
        v if v < 10.0 && v.fract() != 0.0 => format!("{v:.1}"),
        v if v < 10_000.0 => format!("{v:.0}"),
        v if v < 1e6 => format!("{:.0} k", v / 1e3),
        v if v < 1e9 => format!("{:.1} M", v / 1e6),
        v => format!("{:.1} G", v / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bar() {
        let tries: [&[u64]; 5] =
            [&[3], &[0, 1, 1, 2], &[1_000_000, 1_000_001, 1_400_000], &[1, 10, 1_000_000], &[0, 7, u64::MAX]];
        for values in tries {
            let mut histogram = Histogram::default();
            values.iter().for_each(|value| histogram.add(*value));
            let bars = bars(&histogram);
            assert!(bars.len() <= MOST_BARS + 1);
            assert_eq!(bars.iter().map(|(.., times)| *times).sum::<u64>(), values.len() as u64, "{values:?}");
            assert!(bars.windows(2).all(|pair| pair[0].1 < pair[1].0), "{bars:?}");
        }
    }

    #[test]
    fn a_gap_interrupts_a_line() {
        let path = path(&[Some(1.0), Some(2.0), None, Some(3.0)], |n| n as f64, |value| value);
        assert_eq!(path, "M0.0 1.0L1.0 2.0M3.0 3.0h2");
    }
}
