//! Reading and writing the small JSON files that people hand to each other. No file is ever overwritten.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use offset_protocol::files::{self, Document, Kind, MAX_FILE_BYTES};
use zeroize::Zeroizing;

use super::exit::Failure;
use super::new_file::NewFile;

/// Reads a file of type `T`.
///
/// # Errors
/// A [`Failure`] that names the file and says what is wrong with it; a file of the wrong kind is named with both kinds.
pub fn read<T: Document>(path: &Path) -> Result<T, Failure> {
    files::parse(&read_bytes(path)?).map_err(|error| Failure::failed(format_args!("{}: {error}", path.display())))
}

/// What kind of file this is.
///
/// # Errors
/// A [`Failure`] that names the file, if it is none of ours.
pub fn kind(path: &Path) -> Result<Kind, Failure> {
    files::kind_of(&read_bytes(path)?).map_err(|error| Failure::failed(format_args!("{}: {error}", path.display())))
}

/// One byte more than allowed at most, so that a file that is too long is noticed and not read.
fn read_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Room enough that a secret is not left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES + 1));
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::failed(format_args!("cannot read {}: {error}", path.display())))?;
    Ok(bytes)
}

/// Writes `value` into a new file and makes it durable. A file with a private key is readable by its owner only.
///
/// # Errors
/// A [`Failure`] that names the file, if it exists or cannot be written. Then there is no new file.
pub fn write<T: Document>(path: &Path, value: &T) -> Result<(), Failure> {
    NewFile::reserve(path, T::KIND)?.write(value)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use offset_protocol::app::Permissions;
    use offset_protocol::bytes::PublicKey;
    use offset_protocol::files::AppTicket;
    use offset_protocol::identity::{Identity, Signer};

    use super::*;

    #[test]
    fn a_secret_is_written_for_its_owner_only_and_never_over_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ident");
        let identity = Identity::from_private_key(&[7; 32]);
        write(&path, &identity).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read::<Identity>(&path).unwrap().public_key(), identity.public_key());
        let failure = write(&path, &Identity::from_private_key(&[8; 32])).unwrap_err();
        assert!(failure.sentence.ends_with("a.ident exists already and is not overwritten"), "{failure}");
        assert_eq!(read::<Identity>(&path).unwrap().public_key(), identity.public_key());
    }

    #[test]
    fn errors_name_the_file_and_both_kinds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.ticket");
        let permissions = Permissions { routes: false, buyer: true, seller: false, config: false };
        write(&path, &AppTicket { public_key: PublicKey([1; 32]), permissions }).unwrap();
        let failure = read::<Identity>(&path).unwrap_err();
        assert!(failure.sentence.contains("app.ticket: it is an app ticket, but an identity is needed"), "{failure}");
        let failure = read::<Identity>(&folder.path().join("nothing")).unwrap_err();
        assert!(failure.sentence.starts_with("cannot read ") && failure.sentence.contains("nothing: "), "{failure}");
    }
}
