//! A network of real programs: a relay, two index servers, a line of nodes, and an app at each node.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use offset_protocol::app::{Answer, Command, IndexAddress, Name};
use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::List;
use offset_protocol::files::NodeTicket;
use offset_protocol::identity::{Identity, SharedSigner, Signer};
use offset_protocol::index::MultiRoute;
use offset_protocol::machine::Seed;
use offset_protocol::money::{Currency, Rate};
use offset_protocol::relay::RelayAddress;
use tempfile::TempDir;

use super::process::{Server, run};
use crate::app_client::{AppClient, ClientError, Target};
use crate::entropy;
use crate::programs::exit::Failure;
use crate::programs::files;

/// How long the network may take for one step. Chosen freely, for a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// One node with its app.
pub(super) struct Member {
    /// What its friends call it.
    pub(super) name: String,
    pub(super) client: AppClient,
    pub(super) public_key: PublicKey,
    pub(super) ticket: PathBuf,
    pub(super) app_ident: PathBuf,
}

/// Everything that runs.
pub(super) struct Network {
    pub(super) folder: TempDir,
    pub(super) servers: Vec<Server>,
    pub(super) members: Vec<Member>,
    pub(super) currency: Currency,
    relay: Option<RelayAddress>,
    index_servers: Vec<IndexAddress>,
    seed: Seed,
}

/// What mediators charge in the demo: 1 % and 1.
pub(super) const RATE: Rate = Rate { mul: 42_949_673, add: 1 };

fn text(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn gone(error: ClientError) -> Failure {
    Failure::failed(format_args!("a node of the demo failed: {error}"))
}

impl Network {
    /// An empty folder and nothing running.
    pub(super) fn new() -> Result<Network, Failure> {
        let folder = tempfile::Builder::new().prefix("offset-demo-").tempdir();
        let folder =
            folder.map_err(|error| Failure::failed(format_args!("cannot make a temporary folder: {error}")))?;
        Ok(Network {
            folder,
            servers: Vec::new(),
            members: Vec::new(),
            currency: "USD".parse().map_err(Failure::failed)?,
            relay: None,
            index_servers: Vec::new(),
            seed: entropy::seed().map_err(Failure::failed)?,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn make_ident(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.path(&format!("{name}.ident"));
        run("stmgr", &["gen-ident", "--output", &text(&path)])?;
        Ok(path)
    }

    fn make_folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.path(name);
        std::fs::create_dir(&path)
            .map_err(|error| Failure::failed(format_args!("cannot make {}: {error}", path.display())))?;
        Ok(path)
    }

    fn ticket(&self, kind: &str, ident: &Path, address: &str, output: &Path) -> Result<(), Failure> {
        let (ident, output) = (text(ident), text(output));
        run("stmgr", &[kind, "--idfile", &ident, "--address", address, "--output", &output]).map(drop)
    }

    /// Starts the relay.
    pub(super) fn start_relay(&mut self) -> Result<(), Failure> {
        let ident = self.make_ident("relay")?;
        let args = ["--idfile", &text(&ident), "--laddr", "127.0.0.1:0"];
        let server = Server::start(self.folder.path(), "strelay", "strelay", &args, 1)?;
        let ticket = self.path("relay.ticket");
        self.ticket("relay-ticket", &ident, &server.addresses[0], &ticket)?;
        self.relay = Some(files::read::<RelayAddress>(&ticket)?);
        self.servers.push(server);
        Ok(())
    }

    /// Starts two index servers that trust each other.
    pub(super) fn start_index_servers(&mut self) -> Result<(), Failure> {
        let folders = [self.make_folder("trusted-index1")?, self.make_folder("trusted-index2")?];
        for (at, trusted) in folders.iter().enumerate() {
            let name = format!("index{}", at + 1);
            let ident = self.make_ident(&name)?;
            let (ident_text, trusted_text) = (text(&ident), text(trusted));
            let args = [
                "--idfile",
                &ident_text,
                "--lclient",
                "127.0.0.1:0",
                "--lserver",
                "127.0.0.1:0",
                "--trusted",
                &trusted_text,
            ];
            let server = Server::start(self.folder.path(), &format!("stindex {}", at + 1), "stindex", &args, 2)?;
            let other = &folders[1 - at];
            self.ticket("index-ticket", &ident, &server.addresses[1], &other.join(format!("{name}.ticket")))?;
            let for_clients = self.path(&format!("{name}.ticket"));
            self.ticket("index-ticket", &ident, &server.addresses[0], &for_clients)?;
            self.index_servers.push(files::read::<IndexAddress>(&for_clients)?);
            self.servers.push(server);
        }
        Ok(())
    }

    /// Starts a node and connects an app with all permissions to it.
    pub(super) async fn start_node(&mut self, name: &str) -> Result<(), Failure> {
        let (ident, app_ident) = (self.make_ident(name)?, self.make_ident(&format!("{name}-app"))?);
        let database = self.path(&format!("{name}.db"));
        run("stmgr", &["init-node-db", "--idfile", &text(&ident), "--output", &text(&database)])?;
        let trusted = self.make_folder(&format!("trusted-{name}"))?;
        let (app_text, app_ticket) = (text(&app_ident), text(&trusted.join("app.ticket")));
        let permissions = ["--pbuyer", "--pseller", "--pconfig", "--proutes"];
        let args = ["app-ticket", "--idfile", &app_text, "--output", &app_ticket];
        run("stmgr", &[&args[..], &permissions[..]].concat())?;
        let (database, ident_text, trusted) = (text(&database), text(&ident), text(&trusted));
        let args = ["--database", &database, "--idfile", &ident_text, "--laddr", "127.0.0.1:0", "--trusted", &trusted];
        let label = format!("stnode {}", self.members.len() + 1);
        let server = Server::start(self.folder.path(), &label, "stnode", &args, 1)?;
        let ticket = self.path(&format!("{name}.ticket"));
        self.ticket("node-ticket", &ident, &server.addresses[0], &ticket)?;
        self.servers.push(server);
        let node: NodeTicket = files::read(&ticket)?;
        let public_key = files::read::<Identity>(&ident)?.public_key();
        let app: SharedSigner = std::sync::Arc::new(files::read::<Identity>(&app_ident)?);
        let target = Target { node: node.public_key, address: node.address, app };
        let client = AppClient::connect(&target, self.seed.fork(name), PATIENCE).await.map_err(gone)?;
        self.members.push(Member { name: name.to_owned(), client, public_key, ticket, app_ident });
        Ok(())
    }

    pub(super) async fn ask(&self, member: usize, command: Command) -> Result<Answer, Failure> {
        self.members[member].client.ask(command).await.map_err(gone)
    }

    /// Gives every node the relay and an index server, the two in turn.
    pub(super) async fn configure_servers(&self) -> Result<(), Failure> {
        for member in 0..self.members.len() {
            if let Some(relay) = self.relay.clone() {
                self.ask(member, Command::AddRelay { relay, name: named("relay")? }).await?;
            }
            if let Some(server) = self.index_servers.get(member % self.index_servers.len().max(1)).cloned() {
                self.ask(member, Command::AddIndex { server, name: named("index")? }).await?;
            }
        }
        Ok(())
    }

    /// Makes neighbours in the line friends who let each other owe `limit`.
    pub(super) async fn befriend(&self, limit: u128) -> Result<(), Failure> {
        let relays: List<RelayAddress, _> = List::truncated(self.relay.clone());
        let pairs = (1..self.members.len()).flat_map(|at| [(at - 1, at), (at, at - 1)]);
        for (us, friend) in pairs {
            let friend = &self.members[friend];
            let name = named(&friend.name)?;
            let add = Command::AddFriend { public_key: friend.public_key, relays: relays.clone(), name: name.clone() };
            self.ask(us, add).await?;
            let currency = self.currency;
            self.ask(us, Command::OpenCurrency { name: name.clone(), currency }).await?;
            self.ask(us, Command::SetMaxDebt { name: name.clone(), currency, max_debt: limit }).await?;
            self.ask(us, Command::SetRate { name, currency, rate: RATE }).await?;
        }
        for member in 0..self.members.len() {
            self.wait_for_friends(member).await?;
        }
        Ok(())
    }

    /// Waits until every friend of a member is connected and its currency usable.
    async fn wait_for_friends(&self, member: usize) -> Result<(), Failure> {
        let member = &self.members[member];
        let deadline = Instant::now() + PATIENCE;
        loop {
            let changed = member.client.changed();
            let report = member.client.report();
            let ready = report.friends.values().all(|friend| {
                friend.online && friend.currencies.iter().all(|currency| currency.listed && currency.friend_listed)
            });
            if ready {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::failed(format_args!("the friends of {} do not connect", member.name)));
            }
            let wake = async {
                smol::Timer::after(Duration::from_millis(200)).await;
            };
            let news = async {
                // An error means that the connection ended, which the deadline tells.
                let _ = changed.recv().await;
            };
            futures_lite::future::or(news, wake).await;
        }
    }

    /// The cheapest way from the first node to the last, as soon as the index servers know one.
    pub(super) async fn find_route(&self, amount: u128) -> Result<MultiRoute, Failure> {
        let destination = self.members[self.members.len() - 1].public_key;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let command = Command::FindRoutes {
                currency: self.currency,
                amount,
                source: None,
                destination,
                exclude: List::new(),
                max_fee: None,
            };
            match self.members[0].client.ask(command).await {
                Ok(Answer::Routes { options, .. }) => {
                    if let Some(option) = options.first() {
                        return Ok(option.clone());
                    }
                }
                Ok(_) | Err(ClientError::Refused(_)) if Instant::now() < deadline => {}
                Ok(_) => return Err(Failure::failed("the index servers find no route")),
                Err(error) => return Err(gone(error)),
            }
            smol::Timer::after(Duration::from_millis(100)).await;
        }
    }

    /// Closes apps and servers in order.
    pub(super) async fn end(self) -> Result<(), Failure> {
        for member in self.members {
            member.client.close().await;
        }
        for server in self.servers.into_iter().rev() {
            server.end().await?;
        }
        Ok(())
    }
}

fn named(name: &str) -> Result<Name, Failure> {
    name.parse().map_err(Failure::failed)
}
