//! Machines with real connections, each a task among many: what a bench has thousands of, where a program has one with a thread
//! of its own. A disk is not among what they have: whatever a machine persists counts as written at once.

use std::sync::Arc;
use std::task::{Context, Poll};

use offset_protocol::identity::SharedSigner;
use offset_protocol::machine::{Machine, Seed, turn};
use offset_protocol::net::{ConnId, NetEvent};
use offset_runtime_smol::clock::Clock;
use offset_runtime_smol::connection::{Handed, Mail, Outlet, Whence};
use offset_runtime_smol::driver::{Effect, Program};
use offset_runtime_smol::executor::Executor;
use offset_runtime_smol::hub::{Hub, HubConfig};
use offset_runtime_smol::limits::NetLimits;
use smol::channel::{Receiver, Sender, unbounded};
use smol::future::FutureExt;

/// What all hosts of a process share.
#[derive(Clone)]
pub(crate) struct Ground {
    /// Their clock.
    pub(crate) clock: Clock,
    /// What runs them.
    pub(crate) executor: Executor,
}

impl Ground {
    /// A clock and an executor.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn new() -> std::io::Result<Ground> {
        Ok(Ground { clock: Clock::start(), executor: Executor::start()? })
    }
}

/// What waits for a machine.
enum Arrival<I> {
    Net(NetEvent),
    Input(I),
}

/// The way to a host's machine.
pub(crate) struct Door<I>(Sender<Arrival<I>>);

impl<I> Clone for Door<I> {
    fn clone(&self) -> Self {
        Door(self.0.clone())
    }
}

impl<I> Door<I> {
    /// Gives the machine an input.
    pub(crate) fn input(&self, input: I) {
        self.push(Arrival::Input(input));
    }

    fn push(&self, arrival: Arrival<I>) {
        // A host that has ended hears nothing more.
        let _ = self.0.try_send(arrival);
    }
}

/// Never waits: what peers of a bench say has its bounds elsewhere.
impl<I: Send> Outlet for Door<I> {
    fn poll_message(&self, _: &mut Context<'_>, from: &Whence, slot: &mut Option<Vec<u8>>) -> Poll<Handed> {
        if let Some(bytes) = slot.take() {
            self.event(NetEvent::Message { conn: from.conn, bytes });
        }
        Poll::Ready(Handed::default())
    }

    fn event(&self, event: NetEvent) {
        self.push(Arrival::Net(event));
    }

    fn incoming(&self, _: Arc<Mail>, _: NetEvent) {}

    fn join_ended(&self, _: ConnId, _: ConnId) {}
}

/// A machine and its connections.
pub(crate) struct Host<P: Program> {
    program: P,
    machine: P::Machine,
    hub: Hub,
    clock: Clock,
    arrivals: Receiver<Arrival<P::Input>>,
}

impl<P: Program> Host<P> {
    /// One that has not begun, and the way to it. `seed` is that of its connections.
    pub(crate) fn new(
        ground: &Ground,
        signer: SharedSigner,
        seed: Seed,
        program: P,
        machine: P::Machine,
    ) -> (Host<P>, Door<P::Input>) {
        let (push, arrivals) = unbounded();
        let door = Door(push);
        let hub = Hub::new(HubConfig {
            signer,
            seed,
            clock: ground.clock,
            executor: ground.executor.clone(),
            outlet: Arc::new(door.clone()),
            limits: NetLimits::default(),
        });
        (Host { program, machine, hub, clock: ground.clock, arrivals }, door)
    }

    /// Runs until it is dropped: takes all that waits, as a program does.
    pub(crate) async fn run(mut self) {
        let mut inputs = Vec::new();
        loop {
            self.turns(std::mem::take(&mut inputs));
            let alarm = self.machine.poll_timeout().and_then(|alarm| self.clock.system(alarm.at));
            let late = async {
                match alarm {
                    Some(at) => smol::Timer::at(at).await,
                    None => smol::future::pending().await,
                };
                None
            };
            let first = async { self.arrivals.recv().await.ok() }.or(late).await;
            let rest: Vec<_> = std::iter::from_fn(|| self.arrivals.try_recv().ok()).collect();
            inputs.extend(first.into_iter().chain(rest).map(|arrival| self.on_arrival(arrival)));
        }
    }

    fn on_arrival(&mut self, arrival: Arrival<P::Input>) -> P::Input {
        match arrival {
            Arrival::Input(input) => input,
            Arrival::Net(event) => {
                if let NetEvent::Closed { conn } = &event {
                    self.hub.on_closed(*conn);
                }
                self.program.net(event)
            }
        }
    }

    /// As many turns as it takes until nothing that was persisted has to be confirmed.
    fn turns(&mut self, mut inputs: Vec<P::Input>) {
        loop {
            let now = self.clock.now();
            if self.machine.poll_timeout().is_some_and(|alarm| alarm.at <= now) {
                inputs.push(self.program.tick());
            }
            let mut effects = Vec::new();
            let program = &mut self.program;
            turn(&mut self.machine, now, inputs, |output| effects.push(program.effect(output)));
            inputs = effects.into_iter().filter_map(|effect| self.carry_out(effect)).collect();
            self.hub.flush();
            if inputs.is_empty() {
                return;
            }
        }
    }

    /// Does what the machine wants; what that means for it at once.
    fn carry_out(&mut self, effect: Effect) -> Option<P::Input> {
        match effect {
            Effect::Net(command) => self.hub.command(command),
            Effect::Persist { revision, .. } => return self.program.durable(revision),
            Effect::Join { a, b } => self.hub.join(a, b),
            Effect::Resume { conn } => self.hub.resume(conn),
            Effect::Finished | Effect::Nothing => {}
        }
        None
    }
}
