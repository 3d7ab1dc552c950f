//! Whose private key a program uses: identity files, in the clear or locked with a passphrase.
//!
//! 1. A private key is in memory as long as somebody signs with it, and zeroised then; so is a passphrase, and what Argon2id
//!    made of it.
//! 2. A wrong passphrase and an altered file look the same, and say nothing about the key.
//! 3. Who only wants to know whose file it is needs no passphrase. The public key of a locked file is believed until somebody
//!    unlocks it: only the seal binds it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use offset_protocol::bytes::PublicKey;
use offset_protocol::files::{Hardness, Kind, LockedIdentity, SALT_BYTES, SEALED_BYTES};
use offset_protocol::identity::{Identity, Signer};
use zeroize::Zeroizing;

use super::exit::Failure;
use super::files;

/// Bytes of a passphrase.
const MAX_PASSPHRASE: usize = 1024;

/// A passphrase; zeroised on drop, never printed.
pub type Passphrase = Zeroizing<Vec<u8>>;

/// Why a locked identity stays locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Locked {
    /// Not the passphrase that it was locked with, or not the file that was written.
    #[error("the passphrase is wrong, or the file was altered")]
    WrongPassphrase,
    /// The numbers of the file are none that Argon2id takes, or there is not the memory that they demand.
    #[error("its key derivation cannot be done here")]
    Hardness,
}

/// Reads an identity file. A locked one is opened with the first line of `passphrase_file`, or with what is typed on the terminal.
///
/// # Errors
/// A [`Failure`] that names the file.
pub fn read(path: &Path, passphrase_file: Option<&Path>) -> Result<Identity, Failure> {
    [Some(path), passphrase_file].into_iter().flatten().for_each(warn_if_exposed);
    if files::kind(path)? != Kind::LockedIdentity {
        let identity = files::read(path)?;
        return match passphrase_file {
            None => Ok(identity),
            Some(_) => Err(Failure::usage(format_args!(
                "{} is not locked: leave out --passphrase-file, or lock it with `stmgr lock-ident`",
                path.display()
            ))),
        };
    }
    let locked: LockedIdentity = files::read(path)?;
    let passphrase = match passphrase_file {
        Some(file) => passphrase_of(file)?,
        None => ask(&format!("passphrase of {}: ", path.display()))
            .map_err(|why| Failure::failed(format_args!("{} is locked: {}", path.display(), why.sentence)))?,
    };
    unlock(&locked, &passphrase).map_err(|why| Failure::failed(format_args!("{}: {why}", path.display())))
}

/// A secret that others may read is one no more, but a card that does not work helps nobody either.
fn warn_if_exposed(path: &Path) {
    // Whoever reads the file says what is wrong with it, if this fails.
    let mode = std::fs::metadata(path).map_or(0, |file| if file.is_file() { file.permissions().mode() } else { 0 });
    if mode & 0o077 != 0 {
        let mode = format!("{:04o}", mode & 0o7777);
        tracing::warn!(path = %path.display(), mode, "others on this machine can read this secret: chmod 600");
    }
}

/// Whose identity file this is. Needs no passphrase.
///
/// # Errors
/// A [`Failure`] that names the file.
pub fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    if files::kind(path)? == Kind::LockedIdentity {
        Ok(files::read::<LockedIdentity>(path)?.public_key)
    } else {
        Ok(files::read::<Identity>(path)?.public_key())
    }
}

/// A passphrase for a new file: the first line of `file`, or typed twice on the terminal.
///
/// # Errors
/// A [`Failure`] if there is none, or the two differ.
pub fn new_passphrase(file: Option<&Path>) -> Result<Passphrase, Failure> {
    if let Some(file) = file {
        warn_if_exposed(file);
        return passphrase_of(file);
    }
    let first = ask("new passphrase: ")?;
    let second = ask("the same again: ")?;
    if first == second { Ok(first) } else { Err(Failure::failed("the two passphrases differ")) }
}

/// Seals the private key of `identity`. `salt` must be fresh: the key that is made of it is used for this one file.
///
/// # Errors
/// [`Locked::Hardness`].
pub fn lock(
    identity: &Identity,
    passphrase: &[u8],
    argon2id: Hardness,
    salt: [u8; SALT_BYTES],
) -> Result<LockedIdentity, Locked> {
    let public_key = identity.public_key();
    let mut locked = LockedIdentity { public_key, argon2id, salt, sealed: [0; SEALED_BYTES] };
    let cipher = cipher(&locked, passphrase)?;
    let private_key = identity.private_key();
    let payload = Payload { msg: private_key.as_slice(), aad: &locked.bound() };
    let sealed = cipher.encrypt(&Nonce::default(), payload).map_err(|_| Locked::Hardness)?;
    locked.sealed.copy_from_slice(&sealed);
    Ok(locked)
}

/// Opens what [`lock`] sealed.
///
/// # Errors
/// [`Locked`].
pub fn unlock(locked: &LockedIdentity, passphrase: &[u8]) -> Result<Identity, Locked> {
    let cipher = cipher(locked, passphrase)?;
    let payload = Payload { msg: &locked.sealed, aad: &locked.bound() };
    let opened = cipher.decrypt(&Nonce::default(), payload).map(Zeroizing::new).map_err(|_| Locked::WrongPassphrase)?;
    let mut private_key = Zeroizing::new([0; 32]);
    if opened.len() != private_key.len() {
        return Err(Locked::WrongPassphrase);
    }
    private_key.copy_from_slice(&opened);
    let identity = Identity::from_private_key(&private_key);
    // Whoever knows the passphrase could have sealed another key under this name.
    if identity.public_key() == locked.public_key { Ok(identity) } else { Err(Locked::WrongPassphrase) }
}

fn cipher(locked: &LockedIdentity, passphrase: &[u8]) -> Result<ChaCha20Poly1305, Locked> {
    let Hardness { memory_kib, passes, lanes } = locked.argon2id;
    let mut key = Zeroizing::new([0; 32]);
    let params = Params::new(memory_kib, passes, lanes, Some(key.len())).map_err(|_| Locked::Hardness)?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, &locked.salt, key.as_mut_slice())
        .map_err(|_| Locked::Hardness)?;
    Ok(ChaCha20Poly1305::new((&*key).into()))
}

/// The first line of a file, without its end.
fn passphrase_of(path: &Path) -> Result<Passphrase, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PASSPHRASE + 3));
    let read = File::open(path).and_then(|file| file.take(MAX_PASSPHRASE as u64 + 3).read_to_end(&mut bytes));
    read.map_err(|error| Failure::failed(format_args!("cannot read {}: {error}", path.display())))?;
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    bytes.truncate(end);
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    checked(bytes).map_err(|why| Failure::failed(format_args!("{}: {why}", path.display())))
}

/// Typed on the terminal, without being seen.
fn ask(prompt: &str) -> Result<Passphrase, Failure> {
    let typed = rpassword::prompt_password(prompt).map(|typed| Zeroizing::new(typed.into_bytes()));
    let typed = typed.map_err(|error| {
        Failure::failed(format_args!("no passphrase can be asked for ({error}); give one with --passphrase-file"))
    })?;
    checked(typed).map_err(Failure::failed)
}

fn checked(passphrase: Passphrase) -> Result<Passphrase, &'static str> {
    match passphrase.len() {
        0 => Err("the passphrase is empty"),
        1..=MAX_PASSPHRASE => Ok(passphrase),
        _ => Err("a passphrase has 1,024 bytes at most"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap: what is tested is not how hard it is.
    const EASY: Hardness = Hardness { memory_kib: 64, passes: 1, lanes: 1 };

    fn identity() -> Identity {
        Identity::from_private_key(&[7; 32])
    }

    fn locked() -> LockedIdentity {
        lock(&identity(), b"correct horse", EASY, [3; SALT_BYTES]).unwrap()
    }

    #[test]
    fn what_was_locked_opens_with_its_passphrase_only() {
        let locked = locked();
        assert_eq!(*unlock(&locked, b"correct horse").unwrap().private_key(), [7; 32]);
        for wrong in [b"correct horse ".as_slice(), b"Correct horse", b""] {
            assert_eq!(unlock(&locked, wrong).unwrap_err(), Locked::WrongPassphrase);
        }
        assert!(!locked.sealed.windows(8).any(|window| window == [7; 8]));
    }

    /// Made with argon2-cffi and Python's cryptography, from what the standard says.
    #[test]
    fn a_file_that_another_implementation_made_opens() {
        let text = r#"{"type":"locked-identity","version":1,"public_key":"6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw",
            "argon2id":{"memory_kib":65536,"passes":3,"lanes":1},"salt":"AAECAwQFBgcICQoLDA0ODw",
            "sealed":"Bcr1OLEbjyyKSOdWCcMIOFfHhr_SGIzMa6k7ywRxf11pbN1KRpmg0yPB7m7EDhCi"}"#;
        let locked: LockedIdentity = offset_protocol::files::parse(text.as_bytes()).unwrap();
        assert_eq!(*unlock(&locked, b"correct horse battery staple").unwrap().private_key(), [7; 32]);
        let salt = std::array::from_fn(|at| at as u8);
        let ours = lock(&identity(), b"correct horse battery staple", Hardness::DEFAULT, salt).unwrap();
        assert_eq!(ours, locked);
    }

    #[test]
    fn nothing_of_the_file_can_be_altered_unnoticed() {
        let altered = |alter: fn(&mut LockedIdentity)| {
            let mut locked = locked();
            alter(&mut locked);
            unlock(&locked, b"correct horse").unwrap_err()
        };
        assert_eq!(altered(|locked| locked.public_key = PublicKey([1; 32])), Locked::WrongPassphrase);
        assert_eq!(altered(|locked| locked.argon2id.passes = 2), Locked::WrongPassphrase);
        assert_eq!(altered(|locked| locked.argon2id.memory_kib = 72), Locked::WrongPassphrase);
        assert_eq!(altered(|locked| locked.salt[0] ^= 1), Locked::WrongPassphrase);
        (0..SEALED_BYTES).for_each(|at| {
            let mut locked = locked();
            locked.sealed[at] ^= 1;
            assert_eq!(unlock(&locked, b"correct horse").unwrap_err(), Locked::WrongPassphrase);
        });
        assert_eq!(altered(|locked| locked.argon2id.memory_kib = 1), Locked::Hardness);
    }

    #[test]
    fn files_are_opened_with_the_first_line_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        files::write(&at("locked"), &locked()).unwrap();
        files::write(&at("plain"), &identity()).unwrap();
        for (name, text) in [("bare", "correct horse"), ("unix", "correct horse\n"), ("dos", "correct horse\r\nmore\n")]
        {
            std::fs::write(at(name), text).unwrap();
            assert_eq!(*read(&at("locked"), Some(&at(name))).unwrap().private_key(), [7; 32], "{name}");
        }
        assert_eq!(public_key(&at("locked")).unwrap(), identity().public_key());
        assert_eq!(public_key(&at("plain")).unwrap(), identity().public_key());
        let why = |passphrase: &str| {
            std::fs::write(at("wrong"), passphrase).unwrap();
            read(&at("locked"), Some(&at("wrong"))).unwrap_err().sentence
        };
        assert!(why("wrong\n").ends_with("locked: the passphrase is wrong, or the file was altered"));
        assert!(why("\ncorrect horse").ends_with("wrong: the passphrase is empty"));
        assert!(why(&"x".repeat(4_000)).ends_with("wrong: a passphrase has 1,024 bytes at most"));
        let failure = read(&at("plain"), Some(&at("bare"))).unwrap_err();
        assert!(failure.sentence.contains("plain is not locked: leave out --passphrase-file"), "{failure}");
    }

    #[test]
    fn a_file_cannot_demand_more_memory_or_time_than_ours_do() {
        for argon2id in [
            Hardness { memory_kib: Hardness::MAX_MEMORY_KIB + 1, passes: 1, lanes: 1 },
            Hardness { memory_kib: 64 * 1024, passes: 1_000, lanes: 1 },
            Hardness { memory_kib: u32::MAX, passes: u32::MAX, lanes: 1 },
            Hardness { memory_kib: 64, passes: 0, lanes: 1 },
            Hardness { memory_kib: 64, passes: 1, lanes: 0 },
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("hostile");
            files::write(&path, &LockedIdentity { argon2id, ..locked() }).unwrap();
            let failure = read(&path, Some(Path::new("/dev/null"))).unwrap_err();
            assert!(failure.sentence.contains("its key derivation"), "{failure}");
        }
    }
}
