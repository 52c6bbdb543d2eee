//! Arguments that no task takes.

use std::error::Error;
use std::fmt;

/// What was typed is wrong, as opposed to what was asked for having failed.
#[derive(Debug)]
pub struct UsageError(String);

impl UsageError {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    pub fn argument(task: &str, argument: &str) -> Self {
        Self(format!("{task} takes no argument {argument:?}"))
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for UsageError {}
