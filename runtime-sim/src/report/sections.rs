//! What stands in a report, from top to bottom.

use std::fmt::Write as _;

use super::charts::{Line, Style, distribution, key, over_time, short, time, times};
use super::map::map;
use super::{Report, escape};
use crate::result::{Gauge, Histogram, Record, Slice, Verdict};
use crate::scenario::field::family_name;

/// Rows of a table of reasons or relays. Chosen freely.
const MOST_ROWS: usize = 20;
/// Failed runs that are listed.
const MOST_FAILURES: usize = 50;

pub(super) fn all(report: &Report<'_>) -> String {
    let record = report.record;
    let mut page = head(report);
    page.push_str("<main>\n");
    page.push_str(&tiles(report));
    page.push_str(&failure(report));
    page.push_str("<div class=\"grid\">\n");
    page.push_str(&success(record));
    page.push_str(&credit(record));
    page.push_str(&cheats(record));
    page.push_str(&index(record));
    page.push_str(&distributions(record));
    page.push_str(&reasons(record));
    page.push_str(&faults(record));
    page.push_str(&network(report));
    page.push_str(&relays(record));
    page.push_str(&resources(report));
    page.push_str("</div>\n");
    page.push_str(&marks(record));
    page.push_str("</main>\n");
    let _ = writeln!(page, "<footer>stsim {}. This file needs nothing else.</footer>", escape(&report.version));
    page
}

fn head(report: &Report<'_>) -> String {
    let mut text = format!("<header>\n<h1>{}</h1>\n", escape(&report.title));
    let (word, what, class) = match report.verdict {
        Some(verdict @ Verdict::Pass) => (verdict.word().to_owned(), String::new(), "verdict good"),
        Some(verdict) => {
            let whole = verdict.to_string();
            let what = whole.strip_prefix(verdict.word()).unwrap_or(&whole).trim_start_matches(": ");
            (verdict.word().to_owned(), what.to_owned(), "verdict")
        }
        None if report.failures.is_empty() => ("pass".to_owned(), String::new(), "verdict good"),
        None => (format!("{} of {} failed", report.failures.len(), report.runs), String::new(), "verdict"),
    };
    let _ = writeln!(text, "<p class=\"{class}\" role=\"status\">{}</p>", escape(&word));
    if !what.is_empty() {
        let _ = writeln!(text, "<p class=\"what\">{}</p>", escape(&what));
    }
    let _ = writeln!(text, "<p class=\"sub\">Show it again:</p>\n<pre>{}</pre>", escape(&report.command));
    text.push_str("</header>\n");
    text
}

fn tiles(report: &Report<'_>) -> String {
    let record = report.record;
    let payments = &record.payments;
    let mut tiles = vec![
        (payments.paid.to_string(), format!("of {} payments paid", payments.ordered)),
        (payments.all_failed().to_string(), "failed".to_owned()),
        (payments.open().to_string(), "open at the end".to_owned()),
    ];
    if record.latency_us.count() > 0 {
        tiles.push((latency(record.latency_us.quantile(500)), "median latency".to_owned()));
        tiles.push((latency(record.latency_us.quantile(990)), "latency of 99 of 100 at most".to_owned()));
    }
    tiles.push((short(record.all_faults() as f64), "faults".to_owned()));
    if let Some(settled) = report.settled_us {
        tiles.push((time(settled as f64 / 1e6), "to settle after healing".to_owned()));
    }
    if let Some(events) = report.events {
        tiles.push((short(events as f64), "events".to_owned()));
    }
    let mut text = String::from("<div class=\"tiles\">");
    for (number, name) in tiles {
        let _ = write!(text, "<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(&number), escape(&name));
    }
    text.push_str("</div>\n");
    text
}

fn failure(report: &Report<'_>) -> String {
    let mut text = String::new();
    if !report.failures.is_empty() {
        let mut table = String::from("<table><thead><tr><th>Seed</th><th>Verdict</th></tr></thead><tbody>");
        for (seed, what, command) in report.failures.iter().take(MOST_FAILURES) {
            let what: String = what.chars().take(400).collect();
            let (what, command) = (escape(&what), escape(command));
            let _ = write!(table, "<tr><td>{seed}</td><td>{what}<br/><code>{command}</code></td></tr>");
        }
        table.push_str("</tbody></table>");
        if report.failures.len() > MOST_FAILURES {
            let _ = write!(table, "<p class=\"none\">And {} more.</p>", report.failures.len() - MOST_FAILURES);
        }
        text.push_str(&section("Runs that failed", &table));
    }
    if let Some(story) = &report.story {
        let about = format!("<p class=\"what\">{}</p>", escape(&story.about));
        if let Some(diagram) = &story.diagram {
            let body = format!("{about}<div class=\"wide\">{diagram}</div>");
            text.push_str(&section("The smallest story that fails alike", &body));
        }
        let causes = escape(&story.causes.join("\n"));
        let about = if story.diagram.is_some() { String::new() } else { about };
        let body = format!(
            "{about}<p class=\"none\">In the smaller case, the newest first.</p><div class=\"wide\"><pre class=\"lines\">{causes}</pre></div>"
        );
        text.push_str(&section("The last event there and its causes", &body));
    }
    text
}

fn success(record: &Record) -> String {
    let slices = record.series.slices();
    let lines = [
        Line {
            name: "payments paid, of those that ended",
            style: Style::Line,
            values: slices.iter().map(|slice| slice.success_per_mille().map(|share| share as f64 / 10.0)).collect(),
            up_to: 100.0,
        },
        Line {
            name: "faults that struck",
            style: Style::SecondBars,
            values: slices.iter().map(|slice| (slice.struck > 0).then_some(slice.struck as f64)).collect(),
            up_to: 1.0,
        },
    ];
    let most = slices.iter().map(|slice| slice.struck).max().unwrap_or(0);
    let note = format!("Bars have a scale of their own: the highest is {most} faults.");
    // Bars first, so that the line lies over them.
    let [line, bars] = lines;
    let label = "How many payments were paid, and how many faults struck, over time";
    let drawing = over_time(label, width(record), &[line, bars], |share| format!("{share:.0} %"));
    let names = key(&[
        Line { name: "paid, of those that ended", style: Style::Line, values: Vec::new(), up_to: 0.0 },
        Line { name: "faults that struck", style: Style::SecondBars, values: Vec::new(), up_to: 0.0 },
    ]);
    section("Success under faults", &figure(&format!("{names}{drawing}"), &note))
}

fn credit(record: &Record) -> String {
    let lines = [
        gauge_line(record, "frozen credit", Style::Line, |slice| slice.frozen, 1.0),
        gauge_line(
            record,
            "directions used up, in a thousand",
            Style::SecondLine,
            |slice| slice.saturated_per_mille,
            1_000.0,
        ),
    ];
    if !was_looked_at(record) {
        return section("Frozen credit and saturation", NOT_LOOKED_AT);
    }
    let high = record.series.slices().iter().map(|slice| slice.frozen.high).max().unwrap_or(0);
    let label = "Credit frozen in open requests, and how many directions of friendships are used up, over time";
    let drawing = over_time(label, width(record), &lines, short);
    let note = format!(
        "At most {} units frozen. A direction is used up when less than a tenth of what was granted is left; its scale ends at 1000.",
        short(high as f64)
    );
    section("Frozen credit and saturation", &figure(&format!("{}{drawing}", key(&lines)), &note))
}

/// What cheaters did, what they froze, and what was noticed; nothing if there were none.
fn cheats(record: &Record) -> String {
    let mut text = String::new();
    if let Some(hit) = record.hardest_hit {
        let of = |slice: &Slice| slice.frozen_by_cheaters_per_mille;
        let mut line = gauge_line(record, "", Style::Line, of, 10.0);
        line.values.iter_mut().flatten().for_each(|value| *value /= 10.0);
        line.up_to = 1.0;
        let label = "Part of the lines between honest nodes that requests of cheaters freeze, over time";
        let drawing = over_time(label, width(record), &[line], |share| format!("{share:.1} %"));
        let note = format!(
            "Of what honest friends could pass to each other, all together. At most {:.1} % of what node {} could pay, or be paid.",
            hit.frozen_per_mille as f64 / 10.0,
            hit.node
        );
        text.push_str(&section("Frozen by cheaters", &figure(&drawing, &note)));
    }
    if !record.tricks.is_empty() {
        let rows = |named: &std::collections::BTreeMap<String, u64>| named.clone().into_iter().collect();
        text.push_str(&section("Tricks played", &meters(rows(&record.tricks), "Trick", short)));
        text.push_str(&section("What the honest noticed", &meters(rows(&record.noticed), "What", short)));
    }
    text
}

/// What stands there instead of a drawing of what nobody looked at.
const NOT_LOOKED_AT: &str =
    "<p class=\"none\">Nobody looked: a large world of money alone is not looked at as a whole while it runs.</p>";

fn was_looked_at(record: &Record) -> bool {
    record.series.slices().iter().any(|slice| slice.frozen.looks > 0)
}

fn index(record: &Record) -> String {
    if !was_looked_at(record) {
        return section("Index convergence", NOT_LOOKED_AT);
    }
    let lines = [gauge_line(record, "reports behind", Style::Line, |slice| slice.index_behind, 1.0)];
    let drawing = over_time(
        "Reports that index servers do not have in their newest state, over time",
        width(record),
        &lines,
        short,
    );
    let note = "Reports that some index server does not have, or has in an older state; zero: all servers hold the same graph. Small changes wait for the node's next heartbeat, up to half a minute.";
    section("Index convergence", &figure(&drawing, note))
}

fn gauge_line<'l>(record: &Record, name: &'l str, style: Style, of: fn(&Slice) -> Gauge, up_to: f64) -> Line<'l> {
    let values = record.series.slices().iter().map(|slice| of(slice).mean().map(|mean| mean as f64)).collect();
    Line { name, style, values, up_to }
}

/// A value as people say it.
type Show = fn(u64) -> String;

fn distributions(record: &Record) -> String {
    let number: Show = |value| short(value as f64);
    let all: [(&str, &Histogram, Show); 4] = [
        ("Latency", &record.latency_us, latency),
        ("Attempts", &record.attempts, number),
        ("Hops", &record.hops, number),
        ("Fees", &record.fees, number),
    ];
    let mut text = String::new();
    for (name, histogram, show) in all {
        let about = match name {
            "Latency" => "from the order of a payment to its end, of those that were paid",
            "Attempts" => "tries of a buyer, of payments that ended",
            "Hops" => "friendships on the way of payments that were paid",
            _ => "what mediators got of payments that were paid",
        };
        let note = if histogram.count() == 0 {
            about.to_owned()
        } else {
            let [half, most] = [500, 990].map(|per_mille| show(histogram.quantile(per_mille)));
            let (mean, high) = (histogram.mean_milli() as f64 / 1e3, show(histogram.high()));
            let mean = if name == "Latency" { time(mean / 1e6) } else { format!("{mean:.2}") };
            format!(
                "{about}: {} of them, {mean} on average, half up to {half}, 99 of 100 up to {most}, all up to {high}",
                histogram.count()
            )
        };
        let drawing = distribution(&format!("{name}: {note}"), histogram, show);
        let mut note = note;
        if let Some(first) = note.get_mut(0..1) {
            first.make_ascii_uppercase();
        }
        text.push_str(&section(name, &figure(&drawing, &format!("{note}."))));
    }
    text
}

fn reasons(record: &Record) -> String {
    let rows = record.payments.failed.iter().map(|(why, times)| (why.clone(), *times)).collect();
    section("Why payments failed", &meters(rows, "Reason", short))
}

fn faults(record: &Record) -> String {
    let rows = record.faults.iter().map(|(family, times)| (family_name(*family), *times)).collect();
    section("Faults by family", &meters(rows, "Family", short))
}

fn relays(record: &Record) -> String {
    if record.relays.is_empty() {
        return String::new();
    }
    let rows = record.relays.iter().map(|(relay, bytes)| (format!("relay {relay}"), *bytes)).collect();
    section("Busiest relays", &meters(rows, "Relay", bytes))
}

/// A table with a bar in each row, the largest first.
fn meters(mut rows: Vec<(String, u64)>, head: &str, show: impl Fn(f64) -> String) -> String {
    if rows.is_empty() {
        return "<p class=\"none\">None.</p>".to_owned();
    }
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let most = rows.first().map_or(1, |row| row.1).max(1);
    let mut table =
        format!("<table><thead><tr><th>{head}</th><th></th><th class=\"n\">Number</th></tr></thead><tbody>");
    for (name, number) in rows.iter().take(MOST_ROWS) {
        let _ = write!(
            table,
            "<tr><td>{}</td><td class=\"b\"><span class=\"meter\" style=\"width:{:.1}%\"></span></td><td class=\"n\">{}</td></tr>",
            escape(name),
            100.0 * *number as f64 / most as f64,
            show(*number as f64)
        );
    }
    table.push_str("</tbody></table>");
    if rows.len() > MOST_ROWS {
        let _ = write!(table, "<p class=\"none\">And {} more.</p>", rows.len() - MOST_ROWS);
    }
    table
}

fn network(report: &Report<'_>) -> String {
    match report.case {
        Some(case) => {
            let (drawing, note) = map(case, report.verdict);
            section("The network", &figure(&drawing, &note))
        }
        None => String::new(),
    }
}

fn resources(report: &Report<'_>) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    if let Some(us) = report.simulated_us {
        rows.push(("simulated time".to_owned(), time(us as f64 / 1e6)));
    }
    if report.wall_us > 0 {
        let wall = report.wall_us as f64 / 1e6;
        rows.push(("wall time".to_owned(), time(wall)));
        if let Some(events) = report.events {
            rows.push(("events a second".to_owned(), short(events as f64 / wall)));
        }
        if let Some(us) = report.simulated_us {
            rows.push(("simulated to real time".to_owned(), format!("{} times", times(us as f64 / 1e6 / wall))));
        }
    }
    if report.peak_memory_bytes > 0 {
        rows.push(("memory at most".to_owned(), bytes(report.peak_memory_bytes as f64)));
    }
    rows.extend(report.record.counts.iter().map(|(name, count)| (name.clone(), short(*count as f64))));
    if let Some(hash) = &report.trace_hash {
        rows.push(("trace hash".to_owned(), hash.chars().take(16).collect()));
    }
    let mut table = String::from("<table><tbody>");
    for (name, value) in rows {
        let _ =
            write!(table, "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td></tr>", escape(&name), escape(&value));
    }
    table.push_str("</tbody></table>");
    section("Resources", &table)
}

fn marks(record: &Record) -> String {
    let never: Vec<&str> = record.marks_unreached().collect();
    let reached: Vec<_> = record.marks.iter().filter(|(_, times)| **times > 0).collect();
    let mut body = String::new();
    let _ = write!(body, "<p class=\"none\">{} of {} were reached.</p>", reached.len(), record.marks.len());
    if !never.is_empty() {
        body.push_str("<details><summary>Never reached</summary><ul class=\"marks\">");
        never.iter().for_each(|mark| {
            let _ = write!(body, "<li>{}</li>", escape(mark));
        });
        body.push_str("</ul></details>");
    }
    if !reached.is_empty() {
        body.push_str("<details><summary>Reached, and how often</summary><ul class=\"marks\">");
        reached.iter().for_each(|(mark, times)| {
            let _ = write!(body, "<li>{}: {times}</li>", escape(mark));
        });
        body.push_str("</ul></details>");
    }
    section("Rare states", &body)
}

fn width(record: &Record) -> u64 {
    record.series.width().as_micros()
}

fn latency(us: u64) -> String {
    time(us as f64 / 1e6)
}

fn bytes(bytes: f64) -> String {
    match bytes {
        b if b < 1_024.0 => format!("{b:.0} B"),
        b if b < 1_048_576.0 => format!("{:.1} KiB", b / 1_024.0),
        b if b < 1_073_741_824.0 => format!("{:.1} MiB", b / 1_048_576.0),
        b => format!("{:.1} GiB", b / 1_073_741_824.0),
    }
}

fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{}</h2>\n{body}\n</section>\n", escape(title))
}

fn figure(drawing: &str, note: &str) -> String {
    format!("<figure>{drawing}<figcaption>{}</figcaption></figure>", escape(note))
}
