//! `--config FILE.toml`: every flag of a server from a file. Keys are the flags' long names; what the command line says too
//! is taken from there.
//!
//! The file is read as flags: each key is checked by the very rules of its flag, and then the program sees one command line.
//! A file that cannot be read ends the program with exit 1, as other files do; a key or value that makes no sense with exit
//! 2, as a flag does. Both name the file, and the key. Paths are relative to where the program runs, as with flags.

use std::any::TypeId;
use std::error::Error as _;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Arg, Command};
use toml::de::{DeTable, DeValue};

use super::exit::{self, Failure};

/// Bytes of a file. Chosen freely: every flag of a server takes some two kilobytes.
const MAX_BYTES: u64 = 64 * 1024;
/// The flag of this file itself.
const CONFIG: &str = "config";

/// Parses a command line, and the file that it may name with `--config`.
///
/// # Errors
/// The exit code with which the program ends at once; why stands on stderr.
pub(super) fn parse<A: clap::Parser>(program: &str, args: impl Iterator<Item = OsString>) -> Result<A, ExitCode> {
    match with_file(&A::command(), args.collect()) {
        Ok(args) => exit::parse(args.into_iter()),
        Err(failure) => Err(exit::finish(program, Err(failure))),
    }
}

/// The command line with what the file says and it does not.
fn with_file(command: &Command, args: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    // What is wrong with the command line is said when all of it is parsed; so are help and version.
    let Ok(said) = command.clone().ignore_errors(true).try_get_matches_from(&args) else { return Ok(args) };
    let Ok(Some(path)) = said.try_get_one::<PathBuf>(CONFIG) else { return Ok(args) };
    let text = read(path)?;
    let mut args = args.into_iter();
    let mut all: Vec<OsString> = args.by_ref().take(1).collect();
    for (flag, value) in
        flags(command, &text).map_err(|why| Failure::usage(format_args!("{}: {why}", path.display())))?
    {
        if said.value_source(flag.get_id().as_str()) != Some(ValueSource::CommandLine) {
            all.push(value.into());
        }
    }
    all.extend(args);
    Ok(all)
}

fn read(path: &Path) -> Result<String, Failure> {
    let cannot = |why: &dyn std::fmt::Display| Failure::failed(format_args!("cannot read {}: {why}", path.display()));
    let file = File::open(path).map_err(|error| cannot(&error))?;
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| cannot(&error))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(cannot(&format_args!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// Each key with its flag, and both as one argument.
fn flags<'a>(command: &'a Command, text: &str) -> Result<Vec<(&'a Arg, String)>, String> {
    let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let root = DeTable::parse(text).map_err(|error| {
        let at = line(error.span().map_or(0, |span| span.start));
        format!("line {at}: {}", error.message().replace('\n', " "))
    })?;
    let mut flags = Vec::new();
    for (key, value) in root.get_ref() {
        let (name, at) = (key.get_ref().as_ref(), line(key.span().start));
        let flag = command.get_arguments().find(|flag| flag.get_long() == Some(name) && name != CONFIG);
        let Some(flag) = flag.filter(|flag| flag.get_action().takes_values()) else {
            return Err(format!("line {at}: there is no key '{name}'; the keys are the flags of --help"));
        };
        let value = argument(flag, name, value.get_ref()).map_err(|why| format!("line {at}: {name}: {why}"))?;
        flags.push((flag, value));
    }
    Ok(flags)
}

fn argument(flag: &Arg, name: &str, value: &DeValue<'_>) -> Result<String, String> {
    let kind = flag.get_value_parser().type_id();
    let numbers = [TypeId::of::<u64>(), TypeId::of::<u32>()];
    let value = match (value, numbers.into_iter().any(|number| kind == number)) {
        (DeValue::String(text), false) => text.to_string(),
        (DeValue::Integer(number), true) if number.radix() == 10 => number.as_str().to_owned(),
        (wrong, true) => return Err(format!("a whole number is wanted, not {}", called(wrong))),
        (wrong, false) => return Err(format!("a text in quotes is wanted, not {}", called(wrong))),
    };
    let argument = format!("--{name}={value}");
    let alone = Command::new("").arg(flag.clone().required(false));
    match alone.try_get_matches_from(["", &argument]) {
        Ok(_) => Ok(argument),
        Err(error) => Err(match error.source() {
            Some(why) => why.to_string(),
            None => format!("'{value}' is none of the possible values; see --help"),
        }),
    }
}

fn called(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::super::exit::Exit;
    use super::*;

    #[derive(Debug, PartialEq, clap::Parser)]
    struct Args {
        #[arg(short, long)]
        idfile: PathBuf,
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
        most: u32,
        #[arg(long, value_enum, default_value_t)]
        log_format: crate::logging::LogFormat,
        #[arg(long)]
        config: Option<PathBuf>,
    }

    fn try_parse(text: &str, args: &[&str]) -> Result<Args, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        std::fs::write(&path, text).unwrap();
        let line = ["program", "--config", path.to_str().unwrap()].into_iter().chain(args.iter().copied());
        let all = with_file(&Args::command(), line.map(OsString::from).collect())?;
        Ok(Args::try_parse_from(all).unwrap())
    }

    fn refused(text: &str) -> String {
        let failure = try_parse(text, &["--idfile", "x"]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.sentence.contains("server.toml: ") && failure.sentence.lines().count() == 1, "{failure}");
        failure.sentence.split_once("server.toml: ").unwrap().1.to_owned()
    }

    #[test]
    fn a_file_gives_every_flag_and_the_command_line_wins() {
        let text = "idfile = 'a file'\nmost = 9 # a comment\nlog-format = \"json\"\n";
        let args = try_parse(text, &[]).unwrap();
        assert_eq!((args.idfile, args.most), (PathBuf::from("a file"), 9));
        assert_eq!(args.log_format, crate::logging::LogFormat::Json);
        let args = try_parse(text, &["-i", "mine", "--most=10"]).unwrap();
        assert_eq!((args.idfile, args.most), (PathBuf::from("mine"), 10));
        assert_eq!(try_parse("", &["-i", "mine"]).unwrap().most, 7);
    }

    #[test]
    fn what_makes_no_sense_is_named_with_file_line_and_key() {
        let unknown = "line 2: there is no key 'mosst'; the keys are the flags of --help";
        assert_eq!(refused("most = 1\nmosst = 2\n"), unknown);
        for name in ["help", "version", "config", "i"] {
            assert!(refused(&format!("{name} = 'x'")).contains(&format!("no key '{name}'")));
        }
        assert_eq!(refused("most = '3'"), "line 1: most: a whole number is wanted, not a text");
        assert_eq!(refused("most = 1.5"), "line 1: most: a whole number is wanted, not a number with a point");
        assert_eq!(refused("idfile = 3"), "line 1: idfile: a text in quotes is wanted, not a number");
        assert_eq!(refused("[idfile]"), "line 1: idfile: a text in quotes is wanted, not a table");
        assert_eq!(refused("most = 101"), "line 1: most: 101 is not in 1..=100");
        assert!(refused("most = -1").starts_with("line 1: most: "));
        assert!(refused("most = 0x10").starts_with("line 1: most: "));
        assert!(refused("log-format = 'xml'").starts_with("line 1: log-format: "));
        assert!(refused("most = 1\nmost = 2").starts_with("line 2: "));
        assert!(refused("nonsense").starts_with("line 1: "));
    }

    #[test]
    fn a_file_that_is_not_there_or_is_too_long_fails_as_other_files_do() {
        let line = ["program", "--config", "/no/such/file.toml"].map(OsString::from).to_vec();
        let failure = with_file(&Args::command(), line).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.sentence.starts_with("cannot read /no/such/file.toml: "), "{failure}");
        let long = "#".repeat(64 * 1024 + 1);
        let failure = try_parse(&long, &[]).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.sentence.ends_with("it has more than 65536 bytes"), "{failure}");
        assert!(try_parse(&"#".repeat(64 * 1024), &["-i", "x"]).is_ok());
    }
}
