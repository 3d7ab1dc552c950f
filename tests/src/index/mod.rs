//! Real index servers as processes, and nodes that are this program: real secure channels over loopback; Linux only.
//!
//! | type | what |
//! |---|---|
//! | [`Servers`] | `stindex` processes that trust those beside them |
//! | [`Peer`] | one node's session: reports, asks, hears |
//! | [`Neighbour`] | the session of another index server, which may say anything |
//!
//! `stbench index` measures with them (`bench`); tests ask whether everybody is served.

pub mod bench;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use offset_protocol::bytes::{PublicKey, TickHash};
use offset_protocol::codec::{List, decode, encode};
use offset_protocol::identity::SharedSigner;
use offset_protocol::index::{
    Attestation, Delta, Entry, IndexToIndex, IndexToNode, NodeToIndex, Proof, RequestRoutes, Routes, State, state_hash,
};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::money::Rate;
use offset_protocol::net::Purpose;

use crate::programs::{PATIENCE, Server, Shell};
use crate::relay::client::{Client, Place, Who, is_nothing};
use crate::relay::process::Process;

/// Index servers in a line: each trusts those beside it.
pub struct Servers {
    // Declared first: the servers end before their folder goes.
    servers: Vec<(Server, Place)>,
    shell: Shell,
}

impl Servers {
    /// Starts `count` of them.
    ///
    /// # Errors
    /// If one says nothing that makes sense.
    ///
    /// # Panics
    /// As everything in [`crate::programs`], if the programs cannot be built or started.
    pub fn start(count: usize) -> Result<Servers> {
        let shell = Shell::new();
        let mut servers = Vec::new();
        for n in 0..count {
            shell.mkdir(&format!("trusted{n}"));
            shell.ok(&format!("stmgr gen-ident --output index{n}.ident"));
            let doors = "--lclient 127.0.0.1:0 --lserver 127.0.0.1:0 --metrics 127.0.0.1:0";
            let server = shell.start(&format!("stindex --idfile index{n}.ident {doors} --trusted trusted{n}"));
            let identity: serde_json::Value = serde_json::from_str(&shell.read(&format!("index{n}.ident")))?;
            let key = identity["public_key"].as_str().unwrap_or_default().parse().context("the identity file")?;
            let address = server.address().parse().context("the server's address")?;
            servers.push((server, Place { address, key }));
        }
        for (n, (server, _)) in servers.iter().enumerate() {
            let beside = [n.checked_sub(1), Some(n + 1).filter(|beside| *beside < count)];
            for beside in beside.into_iter().flatten() {
                let (address, output) = (server.second_address(), format!("trusted{beside}/index{n}.ticket"));
                shell.ok(&format!("stmgr index-ticket --idfile index{n}.ident --address {address} --output {output}"));
            }
        }
        Ok(Servers { servers, shell })
    }

    /// A session of the node with this number.
    ///
    /// # Errors
    /// If the server does not let it in.
    pub fn peer(&self, server: usize, node: u64) -> Result<Peer> {
        let (_, place) = self.servers.get(server).context("no such server")?;
        Peer::open(*place, &Who::number(node))
    }

    /// Lets this program speak with a server as the index server with this number, which listens nowhere.
    ///
    /// # Errors
    /// If the server does not let it in, though it is trusted.
    pub fn neighbour(&self, server: usize, number: u64) -> Result<Neighbour> {
        let (process, place) = self.servers.get(server).context("no such server")?;
        let ticket = serde_json::json!({
            "type": "index-ticket", "version": 1, "public_key": key(number).to_string(), "address": "127.0.0.1:1",
        });
        self.shell.write(&format!("trusted{server}/{number}.ticket"), ticket.to_string());
        let place = Place { address: process.second_address().parse().context("the server's address")?, ..*place };
        Neighbour::open(place, &Who::number(number))
    }

    /// The process of a server.
    ///
    /// # Errors
    /// If there is none.
    pub fn process(&mut self, server: usize) -> Result<&mut Server> {
        self.servers.get_mut(server).map(|(server, _)| server).context("no such server")
    }

    /// What a server's metrics say of `name` now.
    ///
    /// # Errors
    /// If it says nothing of that.
    pub fn metric(&self, server: usize, name: &str) -> Result<f64> {
        let (server, _) = self.servers.get(server).context("no such server")?;
        let mut stream = TcpStream::connect(server.metrics_address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {name} in {page}"))?.trim().parse()?)
    }

    /// CPU seconds that a server has used so far.
    ///
    /// # Errors
    /// If it is gone.
    pub fn cpu_s(&self, server: usize) -> Result<f64> {
        let (server, _) = self.servers.get(server).context("no such server")?;
        Process(server.id()).cpu_s()
    }

    /// Resident memory of a server, in bytes.
    ///
    /// # Errors
    /// If it is gone.
    pub fn resident(&mut self, server: usize) -> Result<u64> {
        Process(self.process(server)?.id()).resident_bytes()
    }

    /// Whether all of them still run.
    pub fn run(&mut self) -> bool {
        self.servers.iter_mut().all(|(server, _)| server.runs())
    }
}

/// The key of the node with this number.
pub fn key(node: u64) -> PublicKey {
    Who::number(node).key()
}

/// What a node says about the friend with this number. It passes on all, and charges nothing.
pub fn entry(friend: u64, recv_capacity: u128) -> Result<Entry> {
    let (friend, currency) = (key(friend), "USD".parse()?);
    Ok(Entry { friend, currency, recv_capacity, forward_capacity: recv_capacity, rate: Rate::ZERO })
}

/// A request for routes between the nodes with these numbers.
///
/// # Errors
/// Never in practice: the currency's name is a good one.
pub fn request(id: u64, amount: u128, from: u64, to: u64) -> Result<RequestRoutes> {
    let (source, destination) = (key(from), key(to));
    Ok(RequestRoutes { id, currency: "USD".parse()?, amount, source, destination, exclude: List::new(), max_fee: None })
}

/// A node's session with an index server.
pub struct Peer {
    client: Client,
    signer: SharedSigner,
    tick: TickHash,
    version: u64,
    entries: Vec<Entry>,
    last: Option<State>,
}

/// A session between index servers, one of which is this program.
pub struct Neighbour {
    client: Client,
    /// The last tick of the server.
    pub tick: TickHash,
}

impl Neighbour {
    fn open(place: Place, who: &Who) -> Result<Neighbour> {
        let began = Instant::now();
        // The ticket is found when the folder is looked at.
        loop {
            let opened = Client::open_for(place, Ipv4Addr::LOCALHOST, who.channel_for(Purpose::IndexIndex));
            match opened.and_then(Neighbour::begin) {
                Ok(neighbour) => return Ok(neighbour),
                Err(error) if began.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn begin(mut client: Client) -> Result<Neighbour> {
        match decode(&client.receive()?, MAX_FRAME)? {
            IndexToIndex::Tick { tick, .. } => Ok(Neighbour { client, tick }),
            other => bail!("an index server should begin with its tick, and said {other:?}"),
        }
    }

    /// Says something.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn say(&mut self, message: &IndexToIndex) -> Result<()> {
        self.client.send(&encode(message))
    }

    /// Hands on the first report of the node with this number, fresh as of the last tick that was heard.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn hand_on(&mut self, node: u64, mut entries: Vec<Entry>) -> Result<()> {
        entries.sort_unstable();
        let attestation = Attestation::sign(&Who::number(node).signer(), 1, state_hash(&entries), self.tick);
        let state = State { attestation, entries: List::truncated(entries) };
        self.say(&IndexToIndex::State { state, proof: Proof::new() })
    }

    /// The next that the server says.
    ///
    /// # Errors
    /// If it says nothing for a while, or ends the session.
    pub fn hear(&mut self) -> Result<IndexToIndex> {
        let said = decode(&self.client.receive()?, MAX_FRAME)?;
        if let IndexToIndex::Tick { tick, .. } = said {
            self.tick = tick;
        }
        Ok(said)
    }

    /// Waits until the server ends the session. Whether it did.
    pub fn is_ended(&mut self) -> bool {
        loop {
            match self.hear() {
                Ok(_) => {}
                Err(error) => return !error.downcast_ref().is_some_and(is_nothing),
            }
        }
    }
}

/// Where the next node comes from: 500 from each loopback address, as a server lets 2,000 come from one at once.
fn next_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 5, 0, 1).to_bits() + NEXT.fetch_add(1, Relaxed) / 500)
}

impl Peer {
    fn open(place: Place, who: &Who) -> Result<Peer> {
        let client = Client::open_for(place, next_address(), who.channel_for(Purpose::NodeIndex))?;
        let tick = TickHash([0; 32]);
        let mut peer = Peer { client, signer: who.signer(), tick, version: 0, entries: Vec::new(), last: None };
        match peer.said()? {
            IndexToNode::Tick(tick) => peer.tick = tick,
            other => bail!("an index server should begin with its tick, and said {other:?}"),
        }
        Ok(peer)
    }

    /// What another server could have heard of this node: its last report, as it was signed.
    pub fn last_state(&self) -> Option<State> {
        self.last.clone()
    }

    /// Reports exactly these entries.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn report(&mut self, mut entries: Vec<Entry>) -> Result<()> {
        entries.sort_unstable();
        self.entries = entries;
        let entries = List::truncated(self.entries.iter().copied());
        let state = State { attestation: self.attest(), entries };
        self.last = Some(state.clone());
        self.client.send(&encode(&NodeToIndex::State(state)))
    }

    /// Reports that this entry has changed, or is new.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn change(&mut self, entry: Entry) -> Result<()> {
        match self.entries.iter_mut().find(|old| old.key() == entry.key()) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
        self.entries.sort_unstable();
        let base = self.version;
        let delta = Delta { attestation: self.attest(), base, set: List::truncated([entry]), removed: List::new() };
        self.client.send(&encode(&NodeToIndex::Delta(delta)))
    }

    /// Looks, without waiting, whether the server has made a tick, and attests the same report again if so, as nodes do each
    /// heartbeat. How many ticks came.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn beat(&mut self) -> Result<usize> {
        if !self.client.serve() {
            bail!("the session has ended");
        }
        let mut ticks = 0;
        while let Some(said) = self.client.heard() {
            let IndexToNode::Tick(tick) = decode(&said, MAX_FRAME)? else { continue };
            self.tick = tick;
            ticks += 1;
            let attestation = self.attest();
            self.client.send(&encode(&NodeToIndex::Attestation(attestation)))?;
        }
        Ok(ticks)
    }

    fn attest(&mut self) -> Attestation {
        self.version += 1;
        Attestation::sign(&self.signer, self.version, state_hash(&self.entries), self.tick)
    }

    /// Asks, without waiting.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn ask(&mut self, request: &RequestRoutes) -> Result<()> {
        self.client.send(&encode(&NodeToIndex::RequestRoutes(request.clone())))
    }

    /// Asks several things in one write.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn ask_all(&mut self, requests: impl IntoIterator<Item = RequestRoutes>) -> Result<()> {
        for request in requests {
            self.client.seal(&encode(&NodeToIndex::RequestRoutes(request)))?;
        }
        self.client.write()
    }

    /// The next answer: routes, or `None` if the server is busy; and to which request.
    ///
    /// # Errors
    /// If none comes in time, or something else than answers and ticks.
    pub fn answer(&mut self) -> Result<(u64, Option<Routes>)> {
        loop {
            match self.said()? {
                IndexToNode::Tick(tick) => self.tick = tick,
                IndexToNode::Routes(routes) => return Ok((routes.id, Some(routes))),
                IndexToNode::Busy { id } => return Ok((id, None)),
                other @ (IndexToNode::Want | IndexToNode::Later(_)) => bail!("the server wants {other:?}"),
            }
        }
    }

    /// Answers that have come meanwhile, without waiting.
    ///
    /// # Errors
    /// If the session has ended, or something else than answers and ticks has come.
    pub fn answers(&mut self) -> Result<Vec<(u64, Option<Routes>)>> {
        if !self.client.serve() {
            bail!("the session has ended");
        }
        let mut answers = Vec::new();
        while let Some(said) = self.client.heard() {
            match decode(&said, MAX_FRAME)? {
                IndexToNode::Tick(tick) => self.tick = tick,
                IndexToNode::Routes(routes) => answers.push((routes.id, Some(routes))),
                IndexToNode::Busy { id } => answers.push((id, None)),
                other @ (IndexToNode::Want | IndexToNode::Later(_)) => bail!("the server wants {other:?}"),
            }
        }
        Ok(answers)
    }

    /// Asks again for as long as the server is busy, and waits for the routes. How often it was busy.
    ///
    /// # Errors
    /// If the server says nothing, or is busy for too long.
    pub fn routes_in_the_end(&mut self, request: &RequestRoutes) -> Result<(Routes, u64)> {
        let (began, mut busy) = (Instant::now(), 0);
        loop {
            self.ask(request)?;
            match self.answer()?.1 {
                Some(routes) => return Ok((routes, busy)),
                None if began.elapsed() > PATIENCE => bail!("the server is busy"),
                None => busy += 1,
            }
            std::thread::sleep(Duration::from_millis(60));
        }
    }

    /// Asks, and waits for the routes.
    ///
    /// # Errors
    /// If the server is busy, or says nothing.
    pub fn routes(&mut self, request: &RequestRoutes) -> Result<Routes> {
        self.ask(request)?;
        self.answer()?.1.context("the server is busy")
    }

    fn said(&mut self) -> Result<IndexToNode> {
        Ok(decode(&self.client.receive()?, MAX_FRAME)?)
    }
}
