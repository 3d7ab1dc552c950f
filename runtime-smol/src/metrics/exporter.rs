//! Gathers everything for one page of `/metrics`.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant as StdInstant};

use futures_lite::FutureExt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use smol::Timer;

use super::door::Site;
use super::http::{Answer, Page};
use super::sample::{self, Sample, Value};
use super::{Meters, process};
use crate::connection::{Budget, NetCounters};
use crate::gate::Gate;
use crate::store::StoreCounters;

/// How old what the machine said may be when it is told again: more scrapers cost the state thread no more.
pub const FRESH: Duration = Duration::from_millis(100);
/// How long a scrape waits for the state thread; after that it tells what the machine said last, and how long ago.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(1);

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where the numbers come from.
pub(crate) struct Sources {
    /// The labels of `offset_build_info`.
    pub(crate) build: &'static [(&'static str, &'static str)],
    pub(crate) net: Arc<NetCounters>,
    pub(crate) gates: Vec<Gate>,
    pub(crate) budget: Budget,
    /// If the program has a database.
    pub(crate) store: Option<Arc<StoreCounters>>,
    pub(crate) meters: Meters,
    /// Asks the state thread how the machine stands.
    pub(crate) observe: Box<dyn Fn() -> Question + Send + Sync>,
}

/// The pages of one program.
pub(super) struct Exporter {
    sources: Sources,
    registry: Registry,
    samples: Samples,
    started_s: f64,
    machine: smol::lock::Mutex<Machine>,
}

/// Where the answer of the state thread comes.
type Question = smol::channel::Receiver<Vec<Sample>>;

/// What the machine said last.
#[derive(Default)]
struct Machine {
    samples: Vec<Sample>,
    /// When it said so.
    told: Option<StdInstant>,
    /// When it was last asked, answer or not.
    asked: Option<StdInstant>,
    /// A question that it has not answered yet; there is never a second one.
    waiting: Option<Question>,
}

/// What the registry writes besides histograms.
#[derive(Clone, Debug, Default)]
struct Samples(Arc<Mutex<Vec<Sample>>>);

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // A lock that a panic has poisoned holds samples all the same.
        sample::encode(&self.0.lock().unwrap_or_else(PoisonError::into_inner), &mut encoder)
    }
}

impl Exporter {
    /// The pages of a program that starts now.
    pub(super) fn new(sources: Sources) -> Self {
        let (mut registry, samples) = (Registry::default(), Samples::default());
        sources.meters.register_turns(&mut registry);
        if sources.store.is_some() {
            sources.meters.register_commits(&mut registry);
        }
        registry.register_collector(Box::new(samples.clone()));
        Exporter { sources, registry, samples, started_s: process::start_time_s(), machine: Default::default() }
    }

    /// Everything, as OpenMetrics text.
    async fn scrape(&self) -> Result<String, fmt::Error> {
        // Held to the end, so that two scrapes do not mix their samples.
        let mut machine = self.machine.lock().await;
        self.ask(&mut machine).await;
        let mut samples = self.own_samples();
        samples.extend(process::samples(self.started_s));
        if let Some(told) = machine.told {
            let help = "Age of what the state thread said about the machine; it grows while the thread is busy";
            let age = Value::FractionalGauge(told.elapsed().as_secs_f64());
            samples.push(Sample::new("offset_snapshot_age_seconds", help, age));
        }
        samples.extend(&machine.samples);
        *self.samples.0.lock().unwrap_or_else(PoisonError::into_inner) = samples;
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    async fn ask(&self, machine: &mut Machine) {
        if machine.asked.is_some_and(|asked| asked.elapsed() < FRESH) {
            return;
        }
        let question = machine.waiting.take().unwrap_or_else(|| (self.sources.observe)());
        let answer = async { Some(question.recv().await) };
        let late = async {
            Timer::after(ANSWER_LIMIT).await;
            None
        };
        match answer.or(late).await {
            Some(Ok(samples)) => {
                machine.samples = samples;
                machine.told = Some(StdInstant::now());
            }
            // The driver has ended; the process is about to.
            Some(Err(_)) => {}
            None => machine.waiting = Some(question),
        }
        machine.asked = Some(StdInstant::now());
    }

    fn own_samples(&self) -> Vec<Sample> {
        let Sources { build, net, gates, budget, store, meters, .. } = &self.sources;
        let build_info = Sample { labels: build, ..Sample::gauge("offset_build_info", "Which program this is", 1) };
        let draining = usize::from(meters.is_draining());
        let handshakes = "Handshakes of those who connect to us, now";
        let limit = "Bytes in buffers from which on every connection gets by with a message at a time";
        let mut samples = vec![
            build_info,
            Sample::gauge("offset_draining", "1 from the moment the program was asked to end, else 0", draining),
            Sample::gauge(
                "offset_handshakes_in_progress",
                handshakes,
                gates.iter().map(Gate::in_progress).sum::<usize>(),
            ),
            Sample::gauge("offset_buffer_bytes", "Bytes in the buffers of all connections, now", budget.held()),
            Sample::gauge("offset_buffer_limit_bytes", limit, budget.limit()),
        ];
        let open = "Connections now, by what they are for; those being dialled included";
        let kinds = net.open.read().into_iter().map(|(kind, number)| {
            Sample::new("offset_connections_open", open, Value::Gauge(number)).with("kind", kind)
        });
        samples.extend(kinds);
        for (name, help, tally) in [
            ("offset_connections_refused_total", "Connections refused, by reason", &net.refused),
            ("offset_connections_ended_total", "Connections and handshakes that ended, by reason", &net.ended),
        ] {
            let numbers = tally.read().into_iter();
            samples.extend(numbers.map(|(reason, number)| Sample::counter(name, help, number).with("reason", reason)));
        }
        for (name, help, counter) in [
            ("offset_bytes_received_total", "Bytes read from sockets, metrics left out", &net.bytes_in),
            ("offset_bytes_sent_total", "Bytes written to sockets, metrics left out", &net.bytes_out),
            ("offset_messages_received_total", "Messages from peers, forwarded ones included", &net.messages_in),
            ("offset_messages_sent_total", "Messages to peers, forwarded ones included", &net.messages_out),
        ] {
            samples.push(Sample::counter(name, help, counter.load(Relaxed)));
        }
        let Some(store) = store else { return samples };
        for (name, help, counter) in [
            ("offset_node_commits_total", "Commits of the database", &store.commits),
            ("offset_node_records_written_total", "Records written to the database or removed", &store.records),
            (
                "offset_node_record_bytes_written_total",
                "Bytes written to the log, and of keys and values to the pages behind it",
                &store.bytes,
            ),
            ("offset_node_page_commits_total", "How often the pages took what stood in the log", &store.page_commits),
            ("offset_node_flushes_total", "Flushes to the disk", &store.flushes),
        ] {
            samples.push(Sample::counter(name, help, counter.load(Relaxed)));
        }
        let used = Value::Gauge(store.database_bytes());
        let help = "Size of the database's pages in use and of what waits for them, in bytes";
        samples.push(Sample::new("offset_node_database_bytes", help, used));
        samples
    }
}

impl Site for Exporter {
    async fn page(&self, page: Page) -> Answer {
        match page {
            Page::Metrics => match self.scrape().await {
                Ok(body) => Answer { status: "200 OK", content_type: CONTENT_TYPE, body },
                // Writing into a string does not fail; if it ever does, half a page is worse than none.
                Err(error) => Answer::line("500 Internal Server Error", &error.to_string()),
            },
            Page::Health if self.sources.meters.is_draining() => Answer::line("503 Service Unavailable", "draining"),
            Page::Health => Answer::line("200 OK", "ok"),
        }
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    fn exporter(observe: impl Fn() -> Question + Send + Sync + 'static) -> Exporter {
        Exporter::new(Sources {
            build: &[("program", "test"), ("version", "1")],
            net: Arc::default(),
            gates: vec![Gate::default()],
            budget: Budget::new(100),
            store: Some(Arc::default()),
            meters: Meters::new(),
            observe: Box::new(observe),
        })
    }

    fn answered(samples: Vec<Sample>) -> Question {
        let (answer, answered) = smol::channel::bounded(1);
        answer.try_send(samples).unwrap();
        answered
    }

    #[test]
    fn a_page_holds_samples_of_all_sources_in_the_form_that_prometheus_reads() {
        let exporter = exporter(|| {
            let friends = |state, number| Sample::gauge("offset_node_friends", "Friends", number).with("state", state);
            answered(vec![friends("online", 3), friends("offline", 4), Sample::counter("offset_test_total", "Test", 5)])
        });
        exporter.sources.net.bytes_in.store(17, Relaxed);
        drop(exporter.sources.meters.time_turn());
        let text = block_on(exporter.scrape()).unwrap();
        for line in [
            "# TYPE offset_build_info gauge",
            "offset_build_info{program=\"test\",version=\"1\"} 1",
            "# TYPE offset_bytes_received counter",
            "offset_bytes_received_total 17",
            "offset_connections_refused_total{reason=\"address_limit\"} 0",
            "offset_connections_open{kind=\"app_node\"} 0",
            "offset_node_friends{state=\"online\"} 3",
            "offset_node_friends{state=\"offline\"} 4",
            "offset_test_total 5",
            "# TYPE offset_turn_seconds histogram",
            "offset_turn_seconds_count 1",
            "offset_node_commit_seconds_bucket{le=\"+Inf\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let mut types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        let all = types.len();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), all, "a name is there twice");
    }

    #[test]
    fn a_state_thread_that_is_busy_holds_no_scrape_up_for_long_and_is_asked_once() {
        let (tell, told) = smol::channel::unbounded::<smol::channel::Sender<Vec<Sample>>>();
        let exporter = exporter(move || {
            let (answer, answered) = smol::channel::bounded(1);
            tell.try_send(answer).unwrap();
            answered
        });
        let begun = StdInstant::now();
        let scrape = || block_on(exporter.scrape()).unwrap();
        assert!(scrape().contains("offset_bytes_sent_total 0") && !scrape().contains("offset_snapshot_age_seconds"));
        // A second at most for each of the two, on a machine that is not busy itself.
        assert!((ANSWER_LIMIT..10 * ANSWER_LIMIT).contains(&begun.elapsed()));
        std::thread::sleep(FRESH);
        let question = told.try_recv().unwrap();
        question.try_send(vec![Sample::gauge("offset_test", "Test", 7)]).unwrap();
        let text = scrape();
        assert!(text.contains("\noffset_test 7\n") && text.contains("offset_snapshot_age_seconds"), "{text}");
        assert!(told.is_empty());
    }

    #[test]
    fn health_follows_the_course_of_the_program() {
        let exporter = exporter(|| answered(Vec::new()));
        assert_eq!(block_on(exporter.page(Page::Health)).status, "200 OK");
        exporter.sources.meters.drain();
        assert_eq!(block_on(exporter.page(Page::Health)).status, "503 Service Unavailable");
        assert!(block_on(exporter.scrape()).unwrap().contains("\noffset_draining 1\n"));
    }
}
