//! A failure as a sequence diagram: one SVG file that any browser shows, light or dark, without scripts.
//!
//! | drawn | as |
//! |---|---|
//! | servers, nodes, strangers that something happens to | lifelines |
//! | what nodes say to each other | arrows from where it was made to where it was taken in; dashed if it never was |
//! | what people do, what goes wrong | dots on the lifelines that it is about |
//! | programs that start again | triangles |
//! | what was found | the last line, and words below |
//!
//! Rows are in the order of events; times stand at the left. Of long stories the middle is left out, and the diagram says
//! how much.
//!
//! Not drawn: single packets, what people say to each other, what nodes say to servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use offset_protocol::machine::Instant;

use crate::case::{Case, Operation, Role};
use crate::faults::Fault;
use crate::host::HostId;
use crate::net::Cut;
use crate::replay::Replay;
use crate::trace::Kind;
use crate::words;

/// Rows of a diagram: what fits on two screens.
const MOST_ROWS: usize = 60;
/// Of those, rows from the beginning, if the middle is left out. The end is what matters.
const FIRST_ROWS: usize = 12;
/// Lifelines of a diagram.
const MOST_LIFELINES: usize = 12;
/// Letters of a label; all of it is in its title.
const MOST_LETTERS: usize = 64;
/// Letters of a line of the text below, and lines of it.
const WRAP: usize = 110;
const MOST_LINES: usize = 8;

// Sizes in pixels.
const TIMES_WIDTH: i64 = 110;
const COLUMN: i64 = 190;
const ROW: i64 = 30;
const HEAD: i64 = 92;
const LINE: i64 = 18;

const STYLE: &str = "
.sequence { background: #ffffff; --ink: #1c2024; --faint: #a8b0b8; --quiet: #5f6670; --back: #ffffff; --good: #0b6bcb; --bad: #c4281c; }
@media (prefers-color-scheme: dark) {
  .sequence { background: #1e2125; --ink: #e6e9ec; --faint: #59626b; --quiet: #a3abb5; --back: #1e2125; --good: #6cb2ff; --bad: #ff8276; }
}
.sequence text { font: 13px system-ui, sans-serif; fill: var(--ink); paint-order: stroke; stroke: var(--back); stroke-width: 4px; }
.sequence .title { font-weight: 600; font-size: 16px; }
.sequence .time { fill: var(--quiet); font-size: 12px; font-variant-numeric: tabular-nums; }
.sequence .life { stroke: var(--faint); stroke-dasharray: 2 4; }
.sequence .said { stroke: var(--good); fill: none; stroke-width: 1.5; }
.sequence .lost { stroke-dasharray: 5 4; }
.sequence .head { fill: var(--good); }
.sequence .done { fill: var(--good); }
.sequence .bad { fill: var(--bad); }
.sequence .rule { stroke: var(--bad); stroke-width: 1.5; }
";

/// The diagram of a run that kept its events.
pub fn sequence(case: &Case, replay: &Replay) -> String {
    Drawing::new(case, replay).draw()
}

/// What stands in a row.
#[derive(Clone, Debug)]
enum Entry {
    /// The n-th thing said is made.
    Made(usize),
    /// The n-th thing said is taken in.
    Taken(usize),
    /// A step of the plan.
    Step { about: Vec<HostId>, words: String, sort: Sort },
    /// A program starts again.
    Start(HostId),
    /// So many rows are left out.
    LeftOut(usize),
    /// The end.
    Found,
}

/// Of which sort a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Done,
    Fault,
}

struct Row {
    at: Instant,
    entry: Entry,
}

struct Drawing<'a> {
    case: &'a Case,
    replay: &'a Replay,
    rows: Vec<Row>,
    /// The lifelines, by host.
    columns: BTreeMap<HostId, i64>,
    svg: String,
}

impl<'a> Drawing<'a> {
    fn new(case: &'a Case, replay: &'a Replay) -> Self {
        let rows = cut_middle(rows(case, replay));
        let mut hosts: BTreeSet<HostId> = BTreeSet::new();
        for row in &rows {
            match &row.entry {
                Entry::Made(index) | Entry::Taken(index) => {
                    let said = &replay.trace.said()[*index];
                    hosts.extend([HostId(said.from), HostId(said.to)]);
                }
                Entry::Step { about, .. } => hosts.extend(about.iter().copied()),
                Entry::Start(host) => drop(hosts.insert(*host)),
                Entry::Found => hosts.extend(replay.finding.as_ref().and_then(|found| found.host).map(HostId)),
                Entry::LeftOut(_) => {}
            }
        }
        let hosts = hosts.into_iter().map(|host| lifeline(case, host)).collect::<BTreeSet<_>>();
        let columns = hosts.into_iter().take(MOST_LIFELINES).zip(0i64..);
        let columns = columns.map(|(host, place)| (host, TIMES_WIDTH + COLUMN / 2 + place * COLUMN)).collect();
        Drawing { case, replay, rows, columns, svg: String::new() }
    }

    fn x(&self, host: HostId) -> Option<i64> {
        self.columns.get(&lifeline(self.case, host)).copied()
    }

    fn width(&self) -> i64 {
        (TIMES_WIDTH + self.columns.len() as i64 * COLUMN).max(900)
    }

    fn draw(mut self) -> String {
        let end = y_of(self.rows.len());
        let below = self.below();
        let height = end + 30 + below.len() as i64 * LINE;
        let width = self.width();
        let _ = write!(
            self.svg,
            "<svg class=\"sequence\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n",
            escaped(&self.title()),
        );
        let title = self.title();
        self.text((16, 28), "title", "start", &title);
        self.lifelines(end);
        let rows = std::mem::take(&mut self.rows);
        for (place, row) in rows.iter().enumerate() {
            self.row(&rows, place, row);
        }
        for (number, line) in below.iter().enumerate() {
            self.text((16, end + 24 + number as i64 * LINE), if number == 0 { "bad" } else { "" }, "start", line);
        }
        self.svg.push_str("</svg>\n");
        self.svg
    }

    fn title(&self) -> String {
        let found = match &self.replay.finding {
            Some(finding) => format!("{} at {}", finding.invariant, words::time(finding.at)),
            None => "nothing was found".to_owned(),
        };
        format!("{}, seed {}: {found}", self.case.scenario, self.case.seed)
    }

    /// What was found, in lines.
    fn below(&self) -> Vec<String> {
        let Some(finding) = &self.replay.finding else { return Vec::new() };
        let mut lines = wrapped(&finding.to_string());
        if lines.len() > MOST_LINES {
            lines.truncate(MOST_LINES);
            lines.push("…".to_owned());
        }
        lines
    }

    fn lifelines(&mut self, end: i64) {
        for (host, x) in self.columns.clone() {
            let _ =
                writeln!(self.svg, "<line class=\"life\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{end}\"/>", HEAD - 30);
            let name = words::host_name(self.case, host);
            self.text((x, HEAD - 38), "", "middle", &name);
        }
    }

    fn row(&mut self, rows: &[Row], place: usize, row: &Row) {
        let y = y_of(place);
        if !matches!(row.entry, Entry::LeftOut(_)) {
            self.text((TIMES_WIDTH - 14, y + 4), "time", "end", &words::time(row.at));
        }
        match &row.entry {
            Entry::Made(index) => self.said(rows, place, *index),
            Entry::Taken(index) => {
                let is_drawn = rows[..place].iter().any(|row| matches!(row.entry, Entry::Made(made) if made == *index));
                if !is_drawn {
                    self.heard(y, *index);
                }
            }
            Entry::Step { about, words, sort } => self.step(y, about, words, *sort),
            Entry::Start(host) => {
                if let Some(x) = self.x(*host) {
                    let _ = writeln!(
                        self.svg,
                        "<path class=\"done\" d=\"M{} {} l12 0 l-6 10 z\"><title>starts again</title></path>",
                        x - 6,
                        y - 5
                    );
                    self.text((x + 12, y + 4), "", "start", "starts again");
                }
            }
            Entry::LeftOut(count) => {
                let words = format!("… {count} rows are left out …");
                self.text((TIMES_WIDTH + 10, y + 4), "time", "start", &words);
            }
            Entry::Found => {
                let end = self.width() - 16;
                let _ = writeln!(
                    self.svg,
                    "<line class=\"rule\" x1=\"{TIMES_WIDTH}\" y1=\"{y}\" x2=\"{end}\" y2=\"{y}\"/>"
                );
                if let Some(x) =
                    self.replay.finding.as_ref().and_then(|found| found.host).and_then(|host| self.x(HostId(host)))
                {
                    let _ = writeln!(self.svg, "<circle class=\"bad\" cx=\"{x}\" cy=\"{y}\" r=\"6\"/>");
                }
            }
        }
    }

    /// An arrow from where something was made to where it was taken in.
    fn said(&mut self, rows: &[Row], place: usize, index: usize) {
        let said = &self.replay.trace.said()[index];
        let (Some(from), Some(to)) = (self.x(HostId(said.from)), self.x(HostId(said.to))) else { return };
        let taken = rows.iter().position(|row| matches!(row.entry, Entry::Taken(taken) if taken == index));
        let y = y_of(place);
        let sign = if to > from { 1 } else { -1 };
        if let Some(taken) = taken {
            let end = (to - 8 * sign, y_of(taken));
            let _ = writeln!(
                self.svg,
                "<path class=\"said\" d=\"M{from} {y} L{} {}\"/><path class=\"head\" d=\"M{to} {} l{} -5 l0 10 z\"/>",
                end.0,
                end.1,
                end.1,
                -10 * sign
            );
        } else {
            // Nobody took it in, or the row of that is left out.
            let middle = (from + to) / 2;
            let _ = writeln!(self.svg, "<path class=\"said lost\" d=\"M{from} {y} L{middle} {}\"/>", y + ROW / 2);
        }
        let words = said.words.clone();
        self.text((from + 10 * sign, y - 5), "", if sign > 0 { "start" } else { "end" }, &words);
    }

    /// What was made in a row that is left out is taken in.
    fn heard(&mut self, y: i64, index: usize) {
        let said = &self.replay.trace.said()[index];
        let (Some(from), Some(to)) = (self.x(HostId(said.from)), self.x(HostId(said.to))) else { return };
        let sign = if to > from { 1 } else { -1 };
        let middle = (from + to) / 2;
        let _ = writeln!(
            self.svg,
            "<path class=\"said lost\" d=\"M{middle} {} L{} {y}\"/><path class=\"head\" d=\"M{to} {y} l{} -5 l0 10 z\"/>",
            y - ROW / 2,
            to - 8 * sign,
            -10 * sign
        );
    }

    fn step(&mut self, y: i64, about: &[HostId], words: &str, sort: Sort) {
        let class = match sort {
            Sort::Done => "done",
            Sort::Fault => "bad",
        };
        let places: Vec<i64> = about.iter().filter_map(|host| self.x(*host)).collect();
        for x in &places {
            let _ = writeln!(self.svg, "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"5\"/>");
        }
        let x = places.first().copied().unwrap_or(TIMES_WIDTH);
        let (x, anchor) = if x > self.width() / 2 { (x - 10, "end") } else { (x + 10, "start") };
        let class = match sort {
            Sort::Done => "",
            Sort::Fault => "bad",
        };
        self.text((x, y + 4), class, anchor, words);
    }

    fn text(&mut self, (x, y): (i64, i64), class: &str, anchor: &str, words: &str) {
        let short: String = words.chars().take(MOST_LETTERS.max(if class == "title" { WRAP } else { 0 })).collect();
        let is_whole = short.len() == words.len() || class == "bad" && anchor == "start" && x == 16;
        let shown = if is_whole { words.to_owned() } else { format!("{short}…") };
        let title = if is_whole { String::new() } else { format!("<title>{}</title>", escaped(words)) };
        let _ = writeln!(
            self.svg,
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}{title}</text>",
            escaped(&shown)
        );
    }
}

fn y_of(place: usize) -> i64 {
    HEAD + place as i64 * ROW
}

/// The host whose lifeline shows what happens to a host: a person has none.
fn lifeline(case: &Case, host: HostId) -> HostId {
    match case.role(host) {
        Some(Role::Person(node)) => case.host(Role::Node(node)),
        Some(Role::Relay(_) | Role::Index(_) | Role::Node(_) | Role::Stranger(_) | Role::Guest(_)) | None => host,
    }
}

/// Everything that is shown, in order.
fn rows(case: &Case, replay: &Replay) -> Vec<Row> {
    let mut all: Vec<(u64, Row)> = Vec::new();
    for (index, said) in replay.trace.said().iter().enumerate() {
        all.push((said.made.0, Row { at: said.made.1, entry: Entry::Made(index) }));
        if let Some((event, at)) = said.taken {
            all.push((event, Row { at, entry: Entry::Taken(index) }));
        }
    }
    // A program that starts takes its first turn because of that; one that runs already does not start.
    let turns = replay.trace.lines().filter(|line| line.kind == Kind::Turn);
    let begun: BTreeSet<u64> = turns.filter_map(|line| line.cause).collect();
    let mut started = BTreeSet::new();
    for line in replay.trace.lines() {
        let host = HostId(line.to);
        let entry = match line.kind {
            Kind::Plan => step(case, line.about as usize),
            Kind::Boot if begun.contains(&line.number) && !started.insert(host) => {
                is_server(case, host).then_some(Entry::Start(host))
            }
            Kind::Boot
            | Kind::Syn
            | Kind::Accepted
            | Kind::Refused
            | Kind::Arrive
            | Kind::Window
            | Kind::Reset
            | Kind::Turn
            | Kind::Wake
            | Kind::Flushed
            | Kind::Note
            | Kind::Letter
            | Kind::Durable
            | Kind::Up
            | Kind::Down
            | Kind::Dial
            | Kind::Report
            | Kind::Ask
            | Kind::Answer
            | Kind::Word
            | Kind::Operation
            | Kind::Fault
            | Kind::Look => None,
        };
        all.extend(entry.map(|entry| (line.number, Row { at: line.at, entry })));
    }
    all.sort_by_key(|(event, _)| *event);
    let mut rows: Vec<Row> = all.into_iter().map(|(_, row)| row).collect();
    rows.extend(replay.finding.as_ref().map(|finding| Row { at: finding.at, entry: Entry::Found }));
    rows
}

/// Whether a host is anything but a person.
fn is_server(case: &Case, host: HostId) -> bool {
    case.role(host).is_some() && lifeline(case, host) == host
}

fn cut_middle(mut rows: Vec<Row>) -> Vec<Row> {
    if rows.len() <= MOST_ROWS {
        return rows;
    }
    let left_out = rows.len() + 1 - MOST_ROWS;
    let at = rows[FIRST_ROWS].at;
    let gap = Row { at, entry: Entry::LeftOut(left_out) };
    rows.splice(FIRST_ROWS..FIRST_ROWS + left_out, [gap]);
    rows
}

fn step(case: &Case, step: usize) -> Option<Entry> {
    if let Some(timed) = case.operations.get(step) {
        let nodes = match &timed.what {
            Operation::Pay { buyer, seller, .. } => vec![*buyer, *seller],
            Operation::Configure { node, .. } | Operation::PayAgain { buyer: node, .. } => vec![*node],
        };
        let about = nodes.into_iter().map(|node| case.host(Role::Node(node))).collect();
        return Some(Entry::Step { about, words: words::step(case, step), sort: Sort::Done });
    }
    let timed = case.faults.get(step - case.operations.len())?;
    let about = match &timed.what {
        Fault::Clog { host, .. }
        | Fault::Crash { host, .. }
        | Fault::Trap { host, .. }
        | Fault::Pause { host, .. }
        | Fault::Disk { host, .. }
        | Fault::Wall { host, .. }
        | Fault::Stop { host, .. }
        | Fault::DiskFails { host, .. }
        | Fault::Roam { host }
        | Fault::Pace { host, .. }
        | Fault::Leave { host }
        | Fault::Copy { host }
        | Fault::PutBack { host, .. }
        | Fault::Wipe { host, .. } => vec![*host],
        Fault::Cut { cut: Cut::Around(hosts), .. } => hosts.iter().copied().collect(),
        Fault::Cut { cut: Cut::OneWay { from, to }, .. } => from.iter().chain(to).copied().collect(),
        Fault::Cut { cut: Cut::Pair(a, b), .. } => vec![*a, *b],
        Fault::Reset { .. } | Fault::Swallow { .. } | Fault::Connect { .. } | Fault::Heal { .. } => Vec::new(),
    };
    Some(Entry::Step { about, words: words::step(case, step), sort: Sort::Fault })
}

/// Text in lines of at most [`WRAP`] letters, broken at spaces where there are any.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let room = lines.last().is_some_and(|line| line.chars().count() + 1 + word.chars().count() <= WRAP);
        match lines.last_mut() {
            Some(line) if line.is_empty() || room => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // Not allowed in XML, whatever is written for them.
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{self, LineSpec};
    use crate::replay;
    use crate::trace::Keep;
    use offset_protocol::machine::Seed;

    fn drawn(seed: u64) -> (Case, String) {
        let case = line::case(seed, &LineSpec::small(&Seed::from_number(seed)));
        let svg = sequence(&case, &replay::run(&case, Keep::Lines));
        (case, svg)
    }

    #[test]
    fn a_long_story_is_cut_in_the_middle_and_says_so() {
        let (case, svg) = drawn(3);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("rows are left out") && svg.contains("nothing was found"));
        assert!(svg.matches("class=\"time\"").count() <= MOST_ROWS);
        assert!(
            svg.contains(&format!("{}, seed 3", case.scenario)) && svg.contains(">node 0<") && svg.contains("batch 1")
        );
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }

    #[test]
    fn programs_that_run_already_do_not_start_again() {
        let spec = LineSpec { weather: line::Weather::Fair, ..LineSpec::small(&Seed::from_number(5)) };
        let case = line::case(5, &spec);
        let replay = replay::run(&case, Keep::Lines);
        assert!(replay.trace.lines().filter(|line| line.kind == Kind::Boot).count() > case.hosts() as usize);
        assert!(!rows(&case, &replay).iter().any(|row| matches!(row.entry, Entry::Start(_))));
    }

    #[test]
    fn words_cannot_break_the_file() {
        assert_eq!(escaped("a<b>&\"c\u{1}"), "a&lt;b&gt;&amp;&quot;c ");
        assert_eq!(wrapped("one two"), ["one two"]);
        let long = wrapped(&"word ".repeat(60));
        assert!(long.len() == 3 && long.iter().all(|line| line.chars().count() <= WRAP));
    }
}
