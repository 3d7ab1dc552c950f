//! The process itself, under the names that every Prometheus client library uses.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::sample::{Sample, Value};

/// When the process started, in seconds since 1970; 0 if the system believes it is earlier.
pub(super) fn start_time_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// What it has used. What the system does not tell is left out.
pub(super) fn samples(started_s: f64) -> Vec<Sample> {
    let started = "When the process started, in seconds since 1970";
    let mut samples = vec![
        Sample::new("process_start_time_seconds", started, Value::FractionalGauge(started_s)),
        Sample::new(
            "process_cpu_seconds_total",
            "CPU time used by all threads, user and system",
            Value::FractionalCounter(cpu_s()),
        ),
    ];
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        let help = "How many files and sockets may be open";
        samples.push(Sample::new("process_max_fds", help, Value::Gauge(limit)));
    }
    if let Some(open) = open_files() {
        samples.push(Sample::gauge("process_open_fds", "Files and sockets that are open", open));
    }
    if let Some(bytes) = resident_bytes() {
        samples.push(Sample::gauge("process_resident_memory_bytes", "Memory in use, in bytes", bytes));
    }
    samples
}

fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    std::time::Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)).as_secs_f64()
}

/// On Linux; one of them is the folder that is being read.
fn open_files() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

/// On Linux.
fn resident_bytes() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let resident = pages.split_ascii_whitespace().nth(1)?.parse::<usize>().ok()?;
    resident.checked_mul(rustix::param::page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_everything() {
        let samples = samples(start_time_s());
        assert_eq!(samples.len(), 5);
        for sample in samples {
            let large = match sample.value {
                Value::Counter(n) | Value::Gauge(n) => n > 0,
                Value::FractionalCounter(n) | Value::FractionalGauge(n) => n > 0.0,
            };
            assert!(large, "{sample:?}");
        }
    }
}
