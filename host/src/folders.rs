//! Where this user's files go when nobody says where.

use std::path::PathBuf;

/// A path that the environment names, if it does.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The folder `modelet` in the one that a variable of the XDG base directories
/// names, else in this folder of the user's home. A relative path counts as
/// none, as the specification has it.
pub(crate) fn of_user(xdg: &str, in_home: &str) -> Option<PathBuf> {
    variable(xdg)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(variable("HOME")?.join(in_home)))
        .map(|folder| folder.join("modelet"))
}
