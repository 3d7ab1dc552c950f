//! `stmgr`: makes identities, tickets and node databases; backs databases up, restores and checks them. Needs no network, and
//! never overwrites a file.

mod database;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use offset_protocol::app::{IndexAddress, Permission, Permissions};
use offset_protocol::bytes::PublicKey;
use offset_protocol::files::{self as documents, AppTicket, Document, Hardness, Kind, NodeEntry, NodeTicket};
use offset_protocol::identity::{Identity, Signer};
use offset_protocol::net::Address;
use offset_protocol::relay::RelayAddress;
use serde_json::json;

use super::exit::Failure;
use super::new_file::NewFile;
use super::output::{self, Format, Shown};
use super::{core_dumps, files, identity};
use crate::entropy;
use crate::logging::{self, LogFormat};
use crate::store;

/// Makes identities, tickets and node databases; backs databases up, restores and checks them.
#[derive(Debug, Parser)]
#[command(name = "stmgr", version, propagate_version = true)]
pub struct StMgr {
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new identity.
    GenIdent(GenIdent),
    /// Make a copy of an identity file that is locked with a passphrase.
    LockIdent(LockIdent),
    /// Make the empty database of a new node.
    InitNodeDb(InitNodeDb),
    /// Make a relay's ticket, for nodes that use it.
    RelayTicket(TicketArgs),
    /// Make an index server's ticket, for nodes that use it or servers that trust it.
    IndexTicket(TicketArgs),
    /// Make a node's ticket, for its apps.
    NodeTicket(TicketArgs),
    /// Make an app's ticket, for the trusted folder of a node.
    AppTicket(AppTicketArgs),
    /// Make one secret file with all that an app needs to connect to a node.
    NodeEntry(NodeEntryArgs),
    /// Copy a node's database, also while the node runs.
    Backup(database::Backup),
    /// Make a database of a backup. Read first what that means: the node will have forgotten what came after.
    Restore(database::Restore),
    /// Verify every page, checksum, signature, hash and sum of a database or a backup, also while the node runs.
    Check(database::Check),
}

#[derive(Debug, Args)]
struct GenIdent {
    /// The new identity file, a secret.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Lock it with a passphrase that is typed on the terminal.
    #[arg(long, conflicts_with = "passphrase_file")]
    passphrase: bool,
    /// Lock it with the passphrase in the first line of this file.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct LockIdent {
    /// The identity file, in the clear. It stays as it is: remove it when the new one has proved good.
    #[arg(short, long, value_name = "FILE")]
    idfile: PathBuf,
    /// The new identity file.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The passphrase is the first line of this file. Without it, it is typed on the terminal.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct InitNodeDb {
    /// The node's identity file.
    #[arg(short, long, value_name = "FILE")]
    idfile: PathBuf,
    /// The new database.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct TicketArgs {
    /// The identity file of whom the ticket is about.
    #[arg(short, long, value_name = "FILE")]
    idfile: PathBuf,
    /// Where it can be reached.
    #[arg(short, long, value_name = "HOST:PORT", value_parser = documents::address)]
    address: Address,
    /// The new ticket.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct AppTicketArgs {
    /// The app's identity file.
    #[arg(short, long, value_name = "FILE")]
    idfile: PathBuf,
    /// The new ticket.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The app may request routes.
    #[arg(long)]
    proutes: bool,
    /// The app may pay.
    #[arg(long)]
    pbuyer: bool,
    /// The app may be paid.
    #[arg(long)]
    pseller: bool,
    /// The app may configure the node.
    #[arg(long)]
    pconfig: bool,
}

#[derive(Debug, Args)]
struct NodeEntryArgs {
    /// The node: its identity file or its ticket.
    #[arg(short, long, value_name = "FILE")]
    nodeid: PathBuf,
    /// The app's identity file; its private key goes into the output, in the clear.
    #[arg(short = 'i', long, value_name = "FILE")]
    appid: PathBuf,
    /// If the app's identity is locked: its passphrase is the first line of this file. Without it, it is typed on the terminal.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Where the node can be reached by the app.
    #[arg(short, long, value_name = "HOST:PORT", value_parser = documents::address)]
    address: Address,
    /// The new file, a secret.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    core_dumps::forbid();
    match output::parse::<StMgr>("stmgr", args) {
        Ok(args) => {
            logging::start(if args.json { LogFormat::Json } else { LogFormat::Text });
            output::print("stmgr", Format::json_if(args.json), run(&args))
        }
        Err(exit) => exit,
    }
}

/// Does what the command line says.
///
/// # Errors
/// Exit 1, naming the file.
pub fn run(args: &StMgr) -> Result<Shown, Failure> {
    match &args.command {
        Command::GenIdent(args) => gen_ident(args),
        Command::LockIdent(args) => lock_ident(args),
        Command::InitNodeDb(args) => init_node_db(args),
        Command::RelayTicket(args) => ticket(args, |public_key, address| RelayAddress { public_key, address }),
        Command::IndexTicket(args) => ticket(args, |public_key, address| IndexAddress { public_key, address }),
        Command::NodeTicket(args) => ticket(args, |public_key, address| NodeTicket { public_key, address }),
        Command::AppTicket(args) => app_ticket(args),
        Command::NodeEntry(args) => node_entry(args),
        Command::Backup(args) => database::backup(args),
        Command::Restore(args) => database::restore(args),
        Command::Check(args) => database::check(args),
    }
}

fn gen_ident(args: &GenIdent) -> Result<Shown, Failure> {
    let mut rng = entropy::seed().map_err(Failure::failed)?.rng();
    let new = Identity::from_private_key(&zeroize::Zeroizing::new(rng.bytes()));
    if args.passphrase || args.passphrase_file.is_some() {
        return write_locked(&new, args.passphrase_file.as_deref(), &args.output);
    }
    files::write(&args.output, &new)?;
    Ok(made(Kind::Identity, new.public_key(), &args.output))
}

fn lock_ident(args: &LockIdent) -> Result<Shown, Failure> {
    write_locked(&files::read(&args.idfile)?, args.passphrase_file.as_deref(), &args.output)
}

fn write_locked(new: &Identity, passphrase_file: Option<&Path>, output: &Path) -> Result<Shown, Failure> {
    // Seen before anybody types anything; let go, because who ends the program at the prompt shall leave nothing behind.
    drop(NewFile::reserve(output, Kind::LockedIdentity)?);
    let passphrase = identity::new_passphrase(passphrase_file)?;
    let file = NewFile::reserve(output, Kind::LockedIdentity)?;
    let salt = entropy::seed().map_err(Failure::failed)?.rng().bytes();
    let locked = identity::lock(new, &passphrase, Hardness::DEFAULT, salt).map_err(Failure::failed)?;
    file.write(&locked)?;
    Ok(made(Kind::LockedIdentity, new.public_key(), output))
}

fn init_node_db(args: &InitNodeDb) -> Result<Shown, Failure> {
    let node = identity::public_key(&args.idfile)?;
    store::create(&args.output, node).map_err(Failure::failed)?;
    let fields = json!({ "type": "node-database", "public_key": node.to_string(), "file": name(&args.output) });
    Ok(Shown::new(format!("{}: an empty database of the node {node}", args.output.display()), fields))
}

fn ticket<T: Document>(args: &TicketArgs, make: fn(PublicKey, Address) -> T) -> Result<Shown, Failure> {
    let public_key = identity::public_key(&args.idfile)?;
    files::write(&args.output, &make(public_key, args.address.clone()))?;
    Ok(made(T::KIND, public_key, &args.output))
}

fn app_ticket(args: &AppTicketArgs) -> Result<Shown, Failure> {
    let public_key = identity::public_key(&args.idfile)?;
    let AppTicketArgs { proutes: routes, pbuyer: buyer, pseller: seller, pconfig: config, .. } = *args;
    let permissions = Permissions { routes, buyer, seller, config };
    files::write(&args.output, &AppTicket { public_key, permissions })?;
    let mut shown = made(Kind::AppTicket, public_key, &args.output);
    let all = [Permission::Routes, Permission::Buyer, Permission::Seller, Permission::Config];
    let names: Vec<&str> = all.into_iter().filter(|one| permissions.allow(*one)).map(Permission::name).collect();
    let may = if names.is_empty() { "none, it may only look".to_owned() } else { names.join(", ") };
    shown.text = format!("{}; permissions: {may}", shown.text);
    shown.fields.insert("permissions".to_owned(), json!(names));
    Ok(shown)
}

fn node_entry(args: &NodeEntryArgs) -> Result<Shown, Failure> {
    let public_key = if files::kind(&args.nodeid)? == Kind::NodeTicket {
        files::read::<NodeTicket>(&args.nodeid)?.public_key
    } else {
        identity::public_key(&args.nodeid)?
    };
    let app = identity::read(&args.appid, args.passphrase_file.as_deref())?;
    let entry = NodeEntry { node: NodeTicket { public_key, address: args.address.clone() }, app };
    files::write(&args.output, &entry)?;
    let mut shown = made(Kind::NodeEntry, public_key, &args.output);
    shown.fields.insert("app_public_key".to_owned(), json!(entry.app.public_key().to_string()));
    Ok(shown)
}

/// What there is to say about a new file.
fn made(kind: Kind, public_key: PublicKey, path: &Path) -> Shown {
    let fields = json!({ "type": kind.name(), "public_key": public_key.to_string(), "file": name(path) });
    Shown::new(format!("{}: {kind} of {public_key}", path.display()), fields)
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::exit::Exit;
    use super::*;

    fn stmgr(folder: &Path, line: &str) -> Result<Shown, Failure> {
        // `@` stands for the folder.
        let line = line.replace('@', &format!("{}/", folder.display()));
        run(&StMgr::try_parse_from(std::iter::once("stmgr").chain(line.split(' '))).unwrap())
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        StMgr::command().debug_assert();
    }

    #[test]
    fn every_command_parses_with_long_and_short_flags() {
        for line in [
            "gen-ident --output f",
            "gen-ident -o f",
            "gen-ident -o f --passphrase",
            "gen-ident -o f --passphrase-file g",
            "lock-ident --idfile f --output g",
            "lock-ident -i f -o g --passphrase-file h",
            "init-node-db --idfile f --output g",
            "init-node-db -i f -o g --json",
            "relay-ticket --idfile f --address h:1 --output g",
            "relay-ticket -i f -a h:1 -o g",
            "index-ticket -i f -a [::1]:1 -o g",
            "node-ticket -i f -a h:1 -o g",
            "app-ticket -i f -o g --pbuyer --pseller --pconfig --proutes",
            "--json app-ticket --idfile f --output g",
            "node-entry --nodeid f --appid g --address h:1 --output i",
            "node-entry -n f -i g -a h:1 -o j",
            "backup --database f --output g",
            "backup -d f -o g --json",
            "restore --input f --database g",
            "restore -i f -d g",
            "check --database f",
            "check -d f",
        ] {
            assert!(StMgr::try_parse_from(std::iter::once("stmgr").chain(line.split(' '))).is_ok(), "{line}");
        }
        for line in [
            "gen-ident",
            "gen-ident -o f --passphrase --passphrase-file g",
            "relay-ticket -i f -a h -o g",
            "relay-ticket -i f -a h:0 -o g",
            "nothing",
        ] {
            assert!(StMgr::try_parse_from(std::iter::once("stmgr").chain(line.split(' '))).is_err(), "{line}");
        }
    }

    #[test]
    fn a_network_can_be_prepared() {
        let folder = tempfile::tempdir().unwrap();
        let at = |file: &str| folder.path().join(file);
        for who in ["node", "app", "relay", "index"] {
            stmgr(folder.path(), &format!("gen-ident -o @{who}.ident")).unwrap();
        }
        stmgr(folder.path(), "relay-ticket -i @relay.ident -a r:1 -o @relay.ticket").unwrap();
        stmgr(folder.path(), "index-ticket -i @index.ident -a i:2 -o @index.ticket").unwrap();
        stmgr(folder.path(), "node-ticket -i @node.ident -a n:3 -o @node.ticket").unwrap();
        stmgr(folder.path(), "app-ticket -i @app.ident -o @app.ticket --pbuyer --pconfig").unwrap();
        stmgr(folder.path(), "init-node-db -i @node.ident -o @node.db").unwrap();
        let key = |file: &str| files::read::<Identity>(&at(file)).unwrap().public_key();
        let relay: RelayAddress = files::read(&at("relay.ticket")).unwrap();
        assert_eq!((relay.public_key, relay.address.as_str()), (key("relay.ident"), "r:1"));
        let index: IndexAddress = files::read(&at("index.ticket")).unwrap();
        assert_eq!((index.public_key, index.address.as_str()), (key("index.ident"), "i:2"));
        let app: AppTicket = files::read(&at("app.ticket")).unwrap();
        let permissions = Permissions { buyer: true, config: true, ..Permissions::default() };
        assert_eq!(app, AppTicket { public_key: key("app.ident"), permissions });
        assert!(!at("node.db-lock").exists(), "root's lock file would be in the way of the node's user");
        assert!(store::Store::open(&at("node.db"), key("node.ident")).is_ok());
    }

    #[test]
    fn a_node_entry_is_made_from_an_identity_or_a_ticket_of_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let at = |file: &str| folder.path().join(file);
        stmgr(folder.path(), "gen-ident -o @node.ident").unwrap();
        stmgr(folder.path(), "gen-ident -o @app.ident").unwrap();
        stmgr(folder.path(), "node-ticket -i @node.ident -a inside:3 -o @node.ticket").unwrap();
        for (n, source) in ["node.ident", "node.ticket"].into_iter().enumerate() {
            stmgr(folder.path(), &format!("node-entry -n @{source} -i @app.ident -a outside:4 -o @{n}.entry")).unwrap();
            let entry: NodeEntry = files::read(&at(&format!("{n}.entry"))).unwrap();
            assert_eq!(entry.node.public_key, files::read::<Identity>(&at("node.ident")).unwrap().public_key());
            assert_eq!(entry.node.address.as_str(), "outside:4");
            assert_eq!(entry.app.public_key(), files::read::<Identity>(&at("app.ident")).unwrap().public_key());
        }
        let failure = stmgr(folder.path(), "node-entry -n @0.entry -i @app.ident -a o:4 -o @x").unwrap_err();
        assert!(failure.sentence.ends_with("it is a node entry, but an identity is needed"), "{failure}");
    }

    #[test]
    fn a_locked_identity_does_all_that_one_in_the_clear_does() {
        let folder = tempfile::tempdir().unwrap();
        let at = |file: &str| folder.path().join(file);
        std::fs::write(at("words"), "correct horse\n").unwrap();
        stmgr(folder.path(), "gen-ident -o @clear.ident").unwrap();
        stmgr(folder.path(), "lock-ident -i @clear.ident -o @locked.ident --passphrase-file @words").unwrap();
        stmgr(folder.path(), "gen-ident -o @new.ident --passphrase-file @words").unwrap();
        let key = identity::public_key(&at("clear.ident")).unwrap();
        assert_eq!(identity::public_key(&at("locked.ident")).unwrap(), key);
        let words = at("words");
        let opened = |file: &str| identity::read(&at(file), Some(&words)).unwrap();
        let clear: Identity = files::read(&at("clear.ident")).unwrap();
        assert_eq!(opened("locked.ident").private_key(), clear.private_key());
        assert_ne!(opened("new.ident").private_key(), clear.private_key());
        for file in ["locked.ident", "new.ident"] {
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(at(file)).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        stmgr(folder.path(), "init-node-db -i @locked.ident -o @node.db").unwrap();
        stmgr(folder.path(), "node-ticket -i @locked.ident -a n:3 -o @node.ticket").unwrap();
        stmgr(folder.path(), "app-ticket -i @new.ident -o @app.ticket").unwrap();
        let line = "node-entry -n @locked.ident -i @new.ident -a n:3 -o @entry --passphrase-file @words";
        stmgr(folder.path(), line).unwrap();
        assert_eq!(files::read::<NodeEntry>(&at("entry")).unwrap().node.public_key, key);
        let failure =
            stmgr(folder.path(), "lock-ident -i @locked.ident -o @twice --passphrase-file @words").unwrap_err();
        assert!(failure.sentence.ends_with("it is a locked identity, but an identity is needed"), "{failure}");
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        stmgr(folder.path(), "gen-ident -o @a.ident").unwrap();
        let before = std::fs::read(folder.path().join("a.ident")).unwrap();
        for line in [
            "gen-ident -o @a.ident",
            "gen-ident -o @a.ident --passphrase-file @a.ident",
            "lock-ident -i @a.ident -o @a.ident --passphrase-file @a.ident",
            "init-node-db -i @a.ident -o @a.ident",
            "relay-ticket -i @a.ident -a h:1 -o @a.ident",
            "app-ticket -i @a.ident -o @a.ident",
            "node-entry -n @a.ident -i @a.ident -a h:1 -o @a.ident",
        ] {
            let failure = stmgr(folder.path(), line).unwrap_err();
            assert_eq!(failure.exit, Exit::Failed);
            assert!(failure.sentence.contains("exists already"), "{failure}");
        }
        assert_eq!(std::fs::read(folder.path().join("a.ident")).unwrap(), before);
    }

    #[test]
    fn the_output_never_holds_a_private_key() {
        let folder = tempfile::tempdir().unwrap();
        let shown = stmgr(folder.path(), "gen-ident -o @a.ident").unwrap();
        let text = std::fs::read_to_string(folder.path().join("a.ident")).unwrap();
        let key = text.split('"').nth_back(1).unwrap();
        assert_eq!(key.len(), 43);
        assert!(!format!("{shown:?}").contains(key));
    }
}
