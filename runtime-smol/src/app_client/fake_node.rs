//! A node for tests: real socket, real channel, the real protocol of apps; what it answers, each test says.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use offset_protocol::app::{AppMessage, Command, Event, NodeMessage, Outcome, Permissions, ReportChange};
use offset_protocol::bytes::CommandId;
use offset_protocol::channel::{ChannelConfig, ChannelEvent, SecureChannel};
use offset_protocol::codec::{self, List, Text};
use offset_protocol::identity::{Identity, Signer};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::net::Purpose;
use smol::Async;

use super::Target;
use crate::clock::Clock;
use crate::entropy;

/// What the node does after a command.
pub(crate) enum Reaction {
    Say(Vec<NodeMessage>),
    /// Ends the connection without a word.
    Cut,
}

/// The answer `outcome` to the command `id`.
pub(crate) fn reply(id: CommandId, outcome: Outcome) -> Reaction {
    Reaction::Say(vec![NodeMessage::Reply { id, outcome }])
}

type Answering = Box<dyn FnMut(CommandId, Command) -> Reaction + Send>;

/// See the module.
#[derive(Clone)]
pub(crate) struct FakeNode {
    pub(crate) identity: Arc<Identity>,
    pub(crate) address: String,
    pub(crate) permissions: Permissions,
    pub(crate) trusted: bool,
    /// Sent to every app, whole, in one message.
    pub(crate) report: Arc<Mutex<Vec<ReportChange>>>,
    /// Kept events, told after the report until they are acknowledged.
    pub(crate) events: Arc<Mutex<Vec<(CommandId, u64, Event)>>>,
    /// Every command that came, in order.
    pub(crate) heard: Arc<Mutex<Vec<Command>>>,
    answering: Arc<Mutex<Answering>>,
}

impl FakeNode {
    /// A node that answers by `answering`, ready to be started.
    pub(crate) fn new(answering: impl FnMut(CommandId, Command) -> Reaction + Send + 'static) -> Self {
        FakeNode {
            identity: Arc::new(Identity::from_private_key(&[42; 32])),
            address: String::new(),
            permissions: Permissions::ALL,
            trusted: true,
            report: Arc::default(),
            events: Arc::default(),
            heard: Arc::default(),
            answering: Arc::new(Mutex::new(Box::new(answering))),
        }
    }

    /// Listens from now on.
    pub(crate) fn start(mut self) -> Self {
        let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
        self.address = listener.get_ref().local_addr().unwrap().to_string();
        let node = self.clone();
        smol::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                smol::spawn(node.clone().serve(stream)).detach();
            }
        })
        .detach();
        self
    }

    /// How to reach it, as some app.
    pub(crate) fn target(&self) -> Target {
        Target {
            node: self.identity.public_key(),
            address: self.address.parse().unwrap(),
            app: Arc::new(Identity::from_private_key(&[43; 32])),
        }
    }

    async fn serve(self, mut stream: Async<std::net::TcpStream>) {
        let clock = Clock::start();
        let config =
            ChannelConfig { purpose: Purpose::AppNode, signer: self.identity.clone(), seed: entropy::seed().unwrap() };
        let mut channel = SecureChannel::responder(config, clock.now());
        let (mut wire, mut buffer) = (Vec::new(), vec![0; 4096]);
        loop {
            while let Some(event) = channel.poll_event() {
                let messages = match event {
                    ChannelEvent::Identified { .. } if self.trusted => {
                        channel.admit(clock.now(), &mut wire);
                        continue;
                    }
                    ChannelEvent::Identified { .. } => {
                        channel.refuse(clock.now(), &mut wire);
                        continue;
                    }
                    ChannelEvent::Opened { .. } => self.greeting(),
                    ChannelEvent::Message(bytes) => match self.on_message(&bytes) {
                        Reaction::Say(messages) => messages,
                        Reaction::Cut => return,
                    },
                    ChannelEvent::Closed(_) => {
                        let _ = stream.write_all(&wire).await;
                        return;
                    }
                };
                for message in messages {
                    channel.send(clock.now(), &codec::encode(&message), &mut wire).unwrap();
                }
            }
            if stream.write_all(&wire).await.is_err() {
                return;
            }
            wire.clear();
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => channel.receive(clock.now(), &buffer[..length], &mut wire),
            }
        }
    }

    fn greeting(&self) -> Vec<NodeMessage> {
        let hello = NodeMessage::Hello { permissions: self.permissions, version: Text::new("test").unwrap() };
        let changes = List::truncated(self.report.lock().unwrap().clone());
        let kept = self.events.lock().unwrap().clone();
        let kept = kept.into_iter().map(|(id, number, event)| NodeMessage::Event { id, number: Some(number), event });
        [hello, NodeMessage::Report { number: 0, changes, complete: true }].into_iter().chain(kept).collect()
    }

    fn on_message(&self, bytes: &[u8]) -> Reaction {
        match codec::decode::<AppMessage>(bytes, MAX_FRAME).unwrap() {
            AppMessage::Command { id, command } => {
                self.heard.lock().unwrap().push(command.clone());
                (self.answering.lock().unwrap())(id, command)
            }
            AppMessage::Acknowledge { id, number } => {
                self.events.lock().unwrap().retain(|kept| (kept.0, kept.1) != (id, number));
                Reaction::Say(Vec::new())
            }
        }
    }
}
