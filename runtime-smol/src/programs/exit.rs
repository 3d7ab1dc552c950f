//! How every program ends: one plain sentence on stderr if something is wrong, and an exit code that scripts can rely on.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | refused or failed; a payment of which nobody here will ever know whether it is paid (its status is `unknown`) |
//! | 2 | wrong usage |
//! | 3 | cannot reach the node |
//! | 4 | not permitted |
//! | 5 | pending: the outcome is not known yet |

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was asked is done.
    Done,
    /// It was refused, or it failed.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// The node does not answer.
    Unreachable,
    /// The node knows us, but does not let us do that.
    NotPermitted,
    /// A payment's outcome is not known yet.
    Pending,
}

impl Exit {
    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::NotPermitted => 4,
            Exit::Pending => 5,
        }
    }

    /// A stable name, for `--json`.
    pub const fn name(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::Unreachable => "unreachable",
            Exit::NotPermitted => "not-permitted",
            Exit::Pending => "pending",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a program did not do what was asked: one plain sentence that names the file or argument, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The sentence, without the program's name and without a full stop.
    pub sentence: String,
}

impl Failure {
    /// A failure with `exit` and what `why` prints.
    pub fn new(exit: Exit, why: impl fmt::Display) -> Self {
        Failure { exit, sentence: why.to_string() }
    }

    /// Refused or failed, exit 1.
    pub fn failed(why: impl fmt::Display) -> Self {
        Failure::new(Exit::Failed, why)
    }

    /// Wrong usage, exit 2.
    pub fn usage(why: impl fmt::Display) -> Self {
        Failure::new(Exit::Usage, why)
    }

    /// Cannot reach the node, exit 3.
    pub fn unreachable(why: impl fmt::Display) -> Self {
        Failure::new(Exit::Unreachable, why)
    }

    /// Not permitted, exit 4.
    pub fn not_permitted(why: impl fmt::Display) -> Self {
        Failure::new(Exit::NotPermitted, why)
    }

    /// Pending, exit 5.
    pub fn pending(why: impl fmt::Display) -> Self {
        Failure::new(Exit::Pending, why)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

/// An error with its causes becomes exit 1 and one sentence, outermost first.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(error) => Failure::failed(format_args!("{error:#}")),
        }
    }
}

/// Parses a command line. Help and version go to stdout with exit 0; a usage error goes to stderr with exit 2.
///
/// # Errors
/// The exit code with which the program ends at once.
pub fn parse<A: clap::Parser>(args: impl Iterator<Item = OsString>) -> Result<A, ExitCode> {
    A::try_parse_from(args).map_err(|error| {
        // Nobody is left to tell if even stderr is closed.
        let _ = error.print();
        if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
    })
}

/// Ends a program: prints the failure, if any, as `PROGRAM: SENTENCE` on stderr.
pub fn finish(program: &str, result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            // Nobody is left to tell if even stderr is closed.
            let _ = writeln!(std::io::stderr(), "{program}: {failure}");
            failure.exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_that_scripts_rely_on() {
        let all = [Exit::Done, Exit::Failed, Exit::Usage, Exit::Unreachable, Exit::NotPermitted, Exit::Pending]
            .map(Exit::code);
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn an_error_with_causes_becomes_one_sentence() {
        let error = anyhow::Error::msg("no such file").context("cannot read alice.ident");
        let failure = Failure::from(error);
        assert_eq!((failure.exit, failure.sentence.as_str()), (Exit::Failed, "cannot read alice.ident: no such file"));
    }

    #[test]
    fn a_failure_keeps_its_code_on_its_way_through_other_errors() {
        let error = anyhow::Error::from(Failure::not_permitted("the app may not pay"));
        assert_eq!(Failure::from(error), Failure::not_permitted("the app may not pay"));
    }
}
