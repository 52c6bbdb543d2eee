//! Where things are, and how programs are started.

use std::env;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace")
}

/// The native target directory, whatever the caller's environment says: the
/// host's build script and the tests look there.
pub fn target() -> PathBuf {
    root().join("target")
}

/// A binary of the workspace, as `cargo build --release` leaves it.
pub fn binary(name: &str) -> PathBuf {
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    target().join("release").join(file)
}

/// A program started in the workspace's root.
pub fn program(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.current_dir(root());
    // `cargo run` describes xtask in these; a build script or a test below
    // would take them for its own.
    for (name, _) in env::vars_os() {
        let about_xtask = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if about_xtask {
            command.env_remove(name);
        }
    }
    command
}

/// A cargo command that leaves Cargo.lock as it is.
pub fn cargo(subcommand: &str) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = program(PathBuf::from(cargo));
    command.env("CARGO_TARGET_DIR", target());
    command.arg(subcommand);
    if subcommand != "fmt" {
        command.arg("--locked");
    }
    command
}

/// Prints the command line, runs it with its output passed through, and fails
/// if it does.
pub fn run(command: &mut Command) -> Result<()> {
    let line = command_line(command);
    note(&format!("$ {line}"));
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// What a command prints, without the line end.
pub fn output(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let output = command.output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed: {}\n{}", output.status, errors.trim_end());
    }
    let text =
        String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed something that is not UTF-8"))?;
    Ok(text.trim_end().to_owned())
}

/// The command as one would type it in the workspace's root.
pub fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = match program.strip_prefix(root()) {
        Ok(inside) => inside.as_os_str(),
        Err(_) => program.file_name().unwrap_or(program.as_os_str()),
    };
    let mut line = program.to_string_lossy().into_owned();
    for arg in command.get_args() {
        let arg = Path::new(arg);
        let arg = arg.strip_prefix(root()).unwrap_or(arg).to_string_lossy();
        line.push(' ');
        line.push_str(&shell_quoted(&arg));
    }
    line
}

/// The text as a POSIX shell reads it back.
pub fn shell_quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A line that stands out between the output of programs.
pub fn heading(text: &str) {
    if styled() {
        eprintln!("\x1b[1m{text}\x1b[0m");
    } else {
        eprintln!("{text}");
    }
}

/// A line that stays behind the output of programs.
pub fn note(text: &str) {
    if styled() {
        eprintln!("\x1b[2m{text}\x1b[0m");
    } else {
        eprintln!("{text}");
    }
}

fn styled() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_quoted_text_back() {
        for (text, quoted) in [
            ("--locked", "--locked"),
            ("", "''"),
            ("two words", "'two words'"),
            ("it's", r"'it'\''s'"),
            (r#"{"a": "$b"}"#, r#"'{"a": "$b"}'"#),
        ] {
            assert_eq!(shell_quoted(text), quoted);
        }
    }
}
