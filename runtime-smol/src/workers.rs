//! Threads for what takes long and needs no state, such as searches: the state thread gives jobs and goes on.
//!
//! 1. The number of jobs is bounded by who gives them. They are taken in the order in which they were given.
//! 2. Workers whose jobs can wait give way: on Linux the system prefers the state thread and the connections' tasks to them.
//! 3. When [`Workers`] are dropped, those that run a job end after it, and jobs that nobody has begun are lost.
//!
//! A job that panics takes its thread with it; the programs end at a panic.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// By how much workers are nicer than the rest of the program. Chosen freely: a third of its weight.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// Threads that can run beside each other on this machine.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// How urgent jobs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// The rest of the program comes first.
    CanWait,
    /// The state thread waits for them.
    Urgent,
}

/// Threads that wait for jobs.
#[derive(Debug)]
pub struct Workers<J> {
    jobs: smol::channel::Sender<J>,
    busy_us: Arc<AtomicU64>,
}

impl<J: Send + 'static> Workers<J> {
    /// Starts `threads`, each with a function of its own that does a job.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start<W>(name: &str, threads: usize, urgency: Urgency, mut work: impl FnMut() -> W) -> io::Result<Self>
    where
        W: FnMut(J) + Send + 'static,
    {
        let (jobs, waiting) = smol::channel::unbounded::<J>();
        let busy_us = Arc::<AtomicU64>::default();
        for n in 0..threads.max(1) {
            let (mut work, waiting, busy_us) = (work(), waiting.clone(), busy_us.clone());
            let run = move || {
                if urgency == Urgency::CanWait {
                    give_way();
                }
                while let Ok(job) = waiting.recv_blocking() {
                    if waiting.is_closed() {
                        return;
                    }
                    let begun = Instant::now();
                    work(job);
                    busy_us.fetch_add(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX), Relaxed);
                }
            };
            std::thread::Builder::new().name(format!("{name}-{n}")).spawn(run)?;
        }
        Ok(Workers { jobs, busy_us })
    }

    /// Has a job done. Never waits.
    pub fn give(&self, job: J) {
        // The threads hear for as long as this exists.
        let _ = self.jobs.try_send(job);
    }

    /// Seconds that jobs took so far, all threads together.
    pub fn busy_seconds(&self) -> f64 {
        self.busy_us.load(Relaxed) as f64 / 1e6
    }
}

impl<J> Drop for Workers<J> {
    fn drop(&mut self) {
        self.jobs.close();
    }
}

/// Makes this thread nicer than the others. Without that everything works as well, only less smoothly under load.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "workers run at the priority of the rest");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn jobs_run_beside_each_other_and_all_are_done() {
        let (tell, hear) = mpsc::channel();
        // Two jobs that wait for each other: with one thread neither would end.
        let meeting = Arc::new(std::sync::Barrier::new(2));
        let workers = Workers::start("test", 2, Urgency::Urgent, || {
            let (tell, meeting) = (tell.clone(), meeting.clone());
            move |job: u32| {
                if job < 2 {
                    meeting.wait();
                }
                tell.send(job).unwrap();
            }
        })
        .unwrap();
        (0..50).for_each(|job| workers.give(job));
        let mut done: Vec<u32> = (0..50).map(|_| hear.recv_timeout(PATIENCE).unwrap()).collect();
        done.sort_unstable();
        assert_eq!(done, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn dropped_workers_end_after_the_job_that_they_run() {
        let (tell, hear) = mpsc::channel();
        let (go, begin) = mpsc::channel::<()>();
        let begin = Arc::new(std::sync::Mutex::new(begin));
        let workers = Workers::start("test", 1, Urgency::CanWait, || {
            let (tell, begin) = (tell.clone(), begin.clone());
            move |job: u32| {
                tell.send(job).unwrap();
                begin.lock().unwrap().recv().unwrap();
            }
        })
        .unwrap();
        drop(tell);
        (0..10).for_each(|job| workers.give(job));
        assert_eq!(hear.recv_timeout(PATIENCE), Ok(0));
        drop(workers);
        go.send(()).unwrap();
        assert_eq!(hear.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
