//! What `stctrl`, `stmgr` and `stverify` print: text for a human, or with `--json` one JSON object, errors included.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::exit::{Exit, Failure, finish};

/// What a command has to show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// For a human; whole lines, without the last line's end.
    pub text: String,
    /// For programs: the fields of the object.
    pub fields: Map<String, Value>,
    /// If there is something to show, and still not all is well.
    pub failure: Option<Failure>,
}

impl Shown {
    /// Text and object of a success. `fields` is an object; anything else shows as none.
    pub fn new(text: impl Into<String>, fields: Value) -> Self {
        let fields = match fields {
            Value::Object(fields) => fields,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
        };
        Shown { text: text.into(), fields, failure: None }
    }

    /// The same, but the program ends with this failure.
    pub fn but(self, failure: Failure) -> Self {
        Shown { failure: Some(failure), ..self }
    }
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a human.
    Text,
    /// One JSON object.
    Json,
}

impl Format {
    /// By the flag `--json`.
    pub const fn json_if(json: bool) -> Self {
        if json { Format::Json } else { Format::Text }
    }
}

/// Parses the command line. Help and version go to stdout with exit 0, usage errors to stderr (and with `--json` to stdout) with exit 2.
///
/// # Errors
/// The exit code with which the program ends at once.
pub fn parse<A: clap::Parser>(program: &str, args: impl Iterator<Item = OsString>) -> Result<A, ExitCode> {
    let args: Vec<OsString> = args.collect();
    let json = args.iter().any(|arg| arg == "--json");
    A::try_parse_from(args).map_err(|error| {
        if !error.use_stderr() {
            // Nobody is left to tell if even stdout is closed.
            let _ = error.print();
            return Exit::Done.into();
        }
        if json {
            let text = error.render().to_string();
            let sentence = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            return print(program, Format::Json, Err(Failure::usage(sentence)));
        }
        let _ = error.print();
        Exit::Usage.into()
    })
}

/// Prints what came of a command and gives the exit code.
pub fn print(program: &str, format: Format, result: Result<Shown, Failure>) -> ExitCode {
    let (shown, failure) = match result {
        Ok(mut shown) => {
            let failure = shown.failure.take();
            (shown, failure)
        }
        Err(failure) => (Shown::default(), Some(failure)),
    };
    match format {
        Format::Text => {
            if !shown.text.is_empty() {
                say(&shown.text);
            }
            finish(program, failure.map_or(Ok(()), Err))
        }
        Format::Json => {
            say(&object(shown, failure.as_ref()));
            failure.map_or(Exit::Done, |failure| failure.exit).into()
        }
    }
}

/// The fields of `shown`, how it ended, and why if not well.
fn object(shown: Shown, failure: Option<&Failure>) -> String {
    let mut fields = shown.fields;
    if let Some(failure) = failure {
        fields.insert("error".to_owned(), json!(failure.sentence));
    }
    fields.insert("exit".to_owned(), json!(failure.map_or(Exit::Done, |failure| failure.exit).name()));
    Value::Object(fields).to_string()
}

/// A line on stdout. A reader that went away is no reason to fail: what was asked is done.
pub fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_always_says_how_it_ended() {
        let shown = || Shown::new("two apples", json!({ "apples": 2 }));
        assert_eq!(object(shown(), None), r#"{"apples":2,"exit":"done"}"#);
        let failure = Failure::pending("one is missing");
        let expected = r#"{"apples":2,"error":"one is missing","exit":"pending"}"#;
        assert_eq!(object(shown(), Some(&failure)), expected);
        assert_eq!(object(Shown::default(), Some(&failure)), r#"{"error":"one is missing","exit":"pending"}"#);
    }
}
