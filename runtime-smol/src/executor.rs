//! One async executor on all cores: every connection is a task, and a task runs wherever a core is free.

use std::future::Future;
use std::io;
use std::sync::Arc;

use crate::workers::cores;

/// Runs tasks on as many threads as the machine has cores, until it is dropped.
#[derive(Clone, Debug)]
pub struct Executor {
    tasks: Arc<smol::Executor<'static>>,
    _running: smol::channel::Sender<()>,
}

impl Executor {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let threads = cores();
        let tasks = Arc::new(smol::Executor::new());
        // Nothing is ever sent: the threads end when the last sender is gone.
        let (running, until) = smol::channel::bounded::<()>(1);
        for n in 0..threads {
            let (tasks, until) = (tasks.clone(), until.clone());
            // The receiver's error is the end that it waits for.
            let run = move || {
                let _ended = smol::block_on(tasks.run(until.recv()));
            };
            std::thread::Builder::new().name(format!("tasks-{n}")).spawn(run)?;
        }
        Ok(Executor { tasks, _running: running })
    }

    /// Runs `future` to its end, without anybody waiting for it.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(future).detach();
    }

    /// Runs `future` until the handle is dropped.
    #[must_use = "dropping the task cancels it"]
    pub fn spawn_owned(&self, future: impl Future<Output = ()> + Send + 'static) -> smol::Task<()> {
        self.tasks.spawn(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_run_to_their_end() {
        let executor = Executor::start().unwrap();
        let (tell, hear) = smol::channel::unbounded();
        for n in 0..100 {
            let tell = tell.clone();
            executor.spawn(async move { tell.send(n).await.unwrap() });
        }
        drop(tell);
        let mut heard: Vec<i32> = smol::block_on(async { futures_lite::StreamExt::collect(hear).await });
        heard.sort_unstable();
        assert_eq!(heard, (0..100).collect::<Vec<_>>());
    }
}
