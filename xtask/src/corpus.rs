//! Folders of models held against the answers that belong to them.
//!
//! The work is done by the test target `corpus`, which uses the host as a
//! library.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::build::{self, NeuralLto};
use crate::test::NATIVE;
use crate::usage::UsageError;
use crate::workspace::{cargo, run as run_command, target};

pub fn run(args: &[&str]) -> Result<()> {
    let wanted = Wanted::from(args)?;
    let folder = env::current_dir()?.join(wanted.folder);
    let folder = fs::canonicalize(&folder).with_context(|| folder.display().to_string())?;
    // Node tests run natively, without any component.
    if !is_of_nodes(&folder)? {
        build::all(NeuralLto::Thin)?;
    }
    let mut command = cargo("test");
    command.args(NATIVE).args(["--test", "corpus", "--"]);
    command.arg("--folder").arg(&folder);
    for filter in wanted.filters {
        command.args(["--filter", filter]);
    }
    if wanted.json {
        command.arg("--json");
    }
    // What was compiled for a model is not what a user's cache is for.
    command.env("MODELET_CACHE", target().join("corpus"));
    run_command(&mut command)
}

/// What was asked for.
struct Wanted<'a> {
    folder: PathBuf,
    filters: Vec<&'a str>,
    json: bool,
}

impl<'a> Wanted<'a> {
    fn from(args: &[&'a str]) -> Result<Wanted<'a>, UsageError> {
        let (flags, mut words): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| arg.starts_with('-'));
        if let Some(other) = flags.iter().find(|flag| **flag != "--json") {
            return Err(UsageError::argument("corpus", other));
        }
        if words.is_empty() {
            return Err(UsageError::new("corpus takes the folder of the models"));
        }
        Ok(Wanted {
            folder: words.remove(0).into(),
            filters: words,
            json: !flags.is_empty(),
        })
    }
}

/// Whether the folder holds ONNX's node tests, and not whole models.
fn is_of_nodes(folder: &Path) -> Result<bool> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut nodes = false;
    for entry in entries {
        let path = entry?.path();
        if path.join("expected.json").exists() {
            return Ok(false);
        }
        nodes |= path.join("test_data_set_0").exists();
    }
    Ok(nodes)
}
