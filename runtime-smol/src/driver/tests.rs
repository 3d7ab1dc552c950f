//! A small server and a small client, each a real machine on a real driver, over loopback and with a real database.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc;
use std::thread::JoinHandle;

use offset_protocol::bytes::PublicKey;
use offset_protocol::identity::{Identity, Signer};
use offset_protocol::machine::{Alarm, Duration as Span, Seed};
use offset_protocol::net::{Address, Purpose};

use super::*;
use crate::connection::Reading;
use crate::executor::Executor;
use crate::hub::HubConfig;
use crate::store::Room;

/// Persists each message before it echoes it; a message `large` makes a large record. Says `bye` at the end.
#[derive(Default)]
struct Echo {
    open: BTreeMap<ConnId, ()>,
    waiting: VecDeque<(ConnId, Vec<u8>)>,
    revision: u64,
    ticks: u64,
    next_tick: Option<Instant>,
    /// Said each time a connection closes.
    again: Option<NetCommand>,
    outputs: VecDeque<Out>,
}

#[derive(Clone)]
enum In {
    Net(NetEvent),
    Durable,
    Tick,
    End,
    Say(NetCommand),
    Insist(NetCommand),
}

enum Out {
    Net(NetCommand),
    Persist(Revision, Vec<Change>),
    Finished,
}

impl Machine for Echo {
    type Input = In;
    type Output = Out;

    fn handle(&mut self, now: Instant, input: In) {
        match input {
            In::Net(NetEvent::Incoming { conn, .. }) => {
                self.open.insert(conn, ());
                self.outputs.push_back(Out::Net(NetCommand::Admit { conn }));
            }
            In::Net(NetEvent::Opened { .. }) => {}
            In::Net(NetEvent::Message { conn, bytes }) => {
                self.revision += 1;
                let size = if bytes == b"large" { 3 << 20 } else { 1 };
                let change = Change { key: self.revision.to_be_bytes().to_vec(), value: Some(vec![0; size]) };
                self.outputs.push_back(Out::Persist(Revision(self.revision), vec![change]));
                self.waiting.push_back((conn, bytes));
            }
            In::Net(NetEvent::Closed { conn }) => {
                self.open.remove(&conn);
                self.outputs.extend(self.again.clone().map(Out::Net));
            }
            In::Durable => {
                let (conn, bytes) = self.waiting.pop_front().unwrap();
                self.outputs.push_back(Out::Net(NetCommand::Send { conn, bytes }));
            }
            In::Tick => {
                self.ticks += 1;
                self.next_tick = Some(now + Span::from_millis(10));
            }
            In::End => {
                for conn in self.open.keys() {
                    self.outputs.push_back(Out::Net(NetCommand::Send { conn: *conn, bytes: b"bye".to_vec() }));
                }
                self.outputs.push_back(Out::Finished);
            }
            In::Say(command) => self.outputs.push_back(Out::Net(command)),
            In::Insist(command) => {
                self.again = Some(command.clone());
                self.outputs.push_back(Out::Net(command));
            }
        }
    }

    fn poll_output(&mut self) -> Option<Out> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        Some(Alarm { at: self.next_tick.unwrap_or(Instant::ZERO), why: "test" })
    }
}

/// Repeats what it hears from the network to the test, if the test wants to know.
struct Words {
    heard: Option<mpsc::Sender<NetEvent>>,
}

impl Program for Words {
    type Machine = Echo;
    type Input = In;
    type Output = Out;

    fn net(&mut self, event: NetEvent) -> In {
        match &self.heard {
            Some(heard) => {
                heard.send(event).unwrap();
                In::Tick
            }
            None => In::Net(event),
        }
    }

    /// `who` takes a while and becomes what is known of who said it.
    fn prepare(&mut self) -> Option<Prepare<In>> {
        Some(Box::new(|from, bytes| {
            if bytes != b"who" {
                return Err(bytes);
            }
            std::thread::sleep(Duration::from_millis(2));
            let on_task = std::thread::current().name().is_some_and(|name| name.starts_with("tasks-"));
            let bytes = format!("{:?} {} {on_task}", from.purpose, from.peer).into_bytes();
            Ok((In::Net(NetEvent::Message { conn: from.conn, bytes }), Handed::default()))
        }))
    }

    fn tick(&mut self) -> In {
        In::Tick
    }

    fn effect(&mut self, output: Out) -> Effect {
        match output {
            Out::Net(command) => Effect::Net(command),
            Out::Persist(revision, changes) => Effect::Persist { revision, changes },
            Out::Finished => Effect::Finished,
        }
    }

    fn durable(&mut self, _revision: Revision) -> Option<In> {
        Some(In::Durable)
    }

    fn end(&mut self) -> Option<In> {
        self.heard.is_none().then_some(In::End)
    }
}

struct Running {
    sender: Sender<In>,
    thread: JoinHandle<Result<Echo, DriverError>>,
    key: PublicKey,
    address: Option<Address>,
}

fn start(number: u8, store: Option<Store>, heard: Option<mpsc::Sender<NetEvent>>) -> Running {
    let identity = Identity::from_private_key(&[number; 32]);
    let key = identity.public_key();
    let (inbox, clock, executor) = (Sender::new(), Clock::start(), Executor::start().unwrap());
    let config = HubConfig {
        signer: Arc::new(identity),
        seed: Seed::from_number(u64::from(number)),
        clock,
        executor,
        outlet: Arc::new(inbox.clone()),
        limits: crate::limits::NetLimits::default(),
    };
    let mut hub = Hub::new(config);
    let address = heard.is_none().then(|| {
        let listener = crate::tcp::listen("127.0.0.1:0").unwrap();
        let address = hub.listen(listener, Purpose::AppNode, Reading::Freely).unwrap();
        Address::new(&address.to_string()).unwrap()
    });
    let (sender, machine) = (inbox.clone(), Echo::default());
    let driver = Driver::new(DriverParts { program: Words { heard }, machine, inbox, hub, store, clock, meters: None });
    Running { sender, thread: std::thread::spawn(move || driver.run()), key, address }
}

struct Pair {
    server: Running,
    client: Running,
    heard: mpsc::Receiver<NetEvent>,
    folder: tempfile::TempDir,
}

const CONN: ConnId = ConnId::outgoing(1);

fn pair(limit: u64) -> Pair {
    let folder = tempfile::tempdir().unwrap();
    let room = Room { largest: limit, half: 64 << 10, ..Room::default() };
    let store = Store::create_with(&folder.path().join("db"), PublicKey([0; 32]), room).unwrap();
    let server = start(1, Some(store), None);
    let (tell, heard) = mpsc::channel();
    let client = start(2, None, Some(tell));
    let (address, peer) = (server.address.clone().unwrap(), server.key);
    client.sender.input(In::Say(NetCommand::Connect { conn: CONN, purpose: Purpose::AppNode, address, peer }));
    assert_eq!(heard.recv().unwrap(), NetEvent::Opened { conn: CONN });
    Pair { server, client, heard, folder }
}

fn say(client: &Running, bytes: &[u8]) {
    client.sender.input(In::Say(NetCommand::Send { conn: CONN, bytes: bytes.to_vec() }));
}

fn message(bytes: &[u8]) -> NetEvent {
    NetEvent::Message { conn: CONN, bytes: bytes.to_vec() }
}

#[test]
fn what_is_said_was_persisted_before_and_the_end_is_orderly_and_soon() {
    let Pair { server, client, heard, folder: _folder } = pair(1 << 30);
    for n in 0..50_u8 {
        say(&client, &[n; 20]);
    }
    for n in 0..50_u8 {
        assert_eq!(heard.recv().unwrap(), message(&[n; 20]));
    }
    let asked = StdInstant::now();
    server.sender.end();
    assert_eq!(heard.recv().unwrap(), message(b"bye"));
    assert_eq!(heard.recv().unwrap(), NetEvent::Closed { conn: CONN });
    let machine = server.thread.join().unwrap().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2), "took {:?}", asked.elapsed());
    assert_eq!((machine.revision, machine.waiting.len()), (50, 0));
    client.sender.end();
    client.thread.join().unwrap().unwrap();
}

/// TCP_NODELAY of every socket of this process that has this port at either end.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn no_delays(port: u16) -> Vec<bool> {
    let numbers =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let no_delay = |number: i32| {
        // SAFETY: whoever has it may close it meanwhile; nothing is done with it but two questions, which then end in an error.
        let file = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let socket = socket2::SockRef::from(&file);
        let ports = [socket.local_addr().ok()?.as_socket()?.port(), socket.peer_addr().ok()?.as_socket()?.port()];
        ports.contains(&port).then(|| socket.tcp_nodelay().ok())?
    };
    numbers.filter_map(no_delay).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn both_ends_of_a_connection_send_without_delay() {
    let Pair { server, client, heard, folder: _folder } = pair(1 << 30);
    say(&client, b"small");
    assert_eq!(heard.recv().unwrap(), message(b"small"));
    let port = server.address.as_ref().unwrap().as_str().rsplit(':').next().unwrap().parse().unwrap();
    assert_eq!(no_delays(port), [true, true]);
    for running in [server, client] {
        running.sender.end();
        running.thread.join().unwrap().unwrap();
    }
}

#[test]
fn messages_are_prepared_on_their_connections_task_and_stay_in_order() {
    let Pair { server, client, heard, folder: _folder } = pair(1 << 30);
    let prepared = format!("AppNode {} true", client.key);
    for n in 0..20_u8 {
        say(&client, b"who");
        say(&client, &[n; 20]);
    }
    for n in 0..20_u8 {
        assert_eq!(heard.recv().unwrap(), message(prepared.as_bytes()));
        assert_eq!(heard.recv().unwrap(), message(&[n; 20]));
    }
    for running in [server, client] {
        running.sender.end();
        running.thread.join().unwrap().unwrap();
    }
}

#[test]
fn a_failed_commit_ends_the_driver_and_nothing_is_said_after_it() {
    let Pair { server, client, heard, folder: _folder } = pair(2 << 20);
    say(&client, b"small");
    assert_eq!(heard.recv().unwrap(), message(b"small"));
    say(&client, b"large");
    say(&client, b"small");
    let error = server.thread.join().unwrap().err().unwrap();
    assert!(matches!(error, DriverError::Store(StoreError::Full { .. })), "{error}");
    client.sender.end();
    client.thread.join().unwrap().unwrap();
    assert!(heard.try_iter().all(|event| event == NetEvent::Closed { conn: CONN }));
}

/// Whoever watches the program must hear of it, though everything is saved.
#[test]
fn an_end_that_the_store_could_not_make_in_order_is_how_the_driver_ended() {
    let Pair { server, client, heard, folder } = pair(1 << 30);
    say(&client, b"small");
    assert_eq!(heard.recv().unwrap(), message(b"small"));
    std::fs::remove_file(folder.path().join("db-log")).unwrap();
    server.sender.end();
    let error = server.thread.join().unwrap().err().unwrap();
    assert!(matches!(error, DriverError::Store(StoreError::LeftOpen { .. })), "{error}");
    client.sender.end();
    client.thread.join().unwrap().unwrap();
}

#[test]
fn alarms_come_when_they_are_due_and_not_more_often() {
    let server = start(1, None, None);
    std::thread::sleep(Duration::from_millis(200));
    server.sender.end();
    let machine = server.thread.join().unwrap().unwrap();
    assert!((3..=22).contains(&machine.ticks), "{} ticks of 10 ms in 200 ms", machine.ticks);
}

#[test]
fn a_machine_that_connects_again_whatever_is_closed_does_not_delay_the_end() {
    let (server, client) = (start(1, None, None), start(2, None, None));
    let (address, peer) = (server.address.clone().unwrap(), server.key);
    client.sender.input(In::Insist(NetCommand::Connect { conn: CONN, purpose: Purpose::AppNode, address, peer }));
    std::thread::sleep(Duration::from_millis(100));
    let asked = StdInstant::now();
    client.sender.end();
    client.thread.join().unwrap().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2), "took {:?}", asked.elapsed());
    server.sender.end();
    server.thread.join().unwrap().unwrap();
}

/// Takes its time for each input, and answers it.
#[derive(Default)]
struct Slow {
    answers: VecDeque<()>,
    handled: usize,
    ticked_at: Option<usize>,
    next_tick: Option<Instant>,
}

impl Machine for Slow {
    type Input = bool;
    type Output = ();

    fn handle(&mut self, now: Instant, tick: bool) {
        if tick {
            self.ticked_at = self.next_tick.and(self.ticked_at.or(Some(self.handled)));
            self.next_tick = Some(now + Span::from_millis(20));
            return;
        }
        self.handled += 1;
        self.answers.push_back(());
        std::thread::sleep(Duration::from_millis(2));
    }

    fn poll_output(&mut self) -> Option<()> {
        self.answers.pop_front()
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        Some(Alarm { at: self.next_tick.unwrap_or(Instant::ZERO), why: "test" })
    }
}

/// Notes how long the first answer took to leave, and how many answers there were.
struct Watch {
    pace: Pace,
    began: StdInstant,
    first: Option<mpsc::Sender<Duration>>,
}

impl Program for Watch {
    type Machine = Slow;
    type Input = bool;
    type Output = ();

    fn net(&mut self, _: NetEvent) -> bool {
        false
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    fn tick(&mut self) -> bool {
        true
    }

    fn effect(&mut self, (): ()) -> Effect {
        if let Some(first) = self.first.take() {
            first.send(self.began.elapsed()).unwrap();
        }
        Effect::Nothing
    }
}

/// Up to 4,096 inputs were taken in before the first answer left: with costly ones, seconds later.
#[test]
fn a_machine_with_costly_inputs_answers_and_ticks_in_between_and_others_take_all_at_once() {
    let run = |pace| {
        let (inbox, clock, executor) = (Sender::new(), Clock::start(), Executor::start().unwrap());
        let hub = Hub::new(HubConfig {
            signer: Arc::new(Identity::from_private_key(&[1; 32])),
            seed: Seed::from_number(1),
            clock,
            executor,
            outlet: Arc::new(inbox.clone()),
            limits: crate::limits::NetLimits::default(),
        });
        (0..100).for_each(|_| inbox.input(false));
        inbox.end();
        let (tell, first) = mpsc::channel();
        let program = Watch { pace, began: StdInstant::now(), first: Some(tell) };
        let parts = DriverParts { program, machine: Slow::default(), inbox, hub, store: None, clock, meters: None };
        let machine = Driver::new(parts).run().unwrap();
        assert_eq!(machine.handled, 100);
        (first.recv().unwrap(), machine.ticked_at)
    };
    let (first, ticked_at) = run(Pace::Sliced(Duration::from_millis(4)));
    assert!(first < Duration::from_millis(100), "{first:?}");
    assert!(ticked_at.is_some_and(|handled| handled < 100), "{ticked_at:?}");
    let (first, ticked_at) = run(Pace::Whole);
    assert!(first >= Duration::from_millis(200), "{first:?}");
    assert!(ticked_at.is_none_or(|handled| handled == 100), "{ticked_at:?}");
}
