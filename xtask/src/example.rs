//! The credit example, packed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::build;
use crate::usage::UsageError;
use crate::workspace::{binary, cargo, program, run as run_command, target};

pub fn run(args: &[&str]) -> Result<()> {
    if let [other, ..] = args {
        return Err(UsageError::argument("example", other).into());
    }
    let component = pack()?;
    println!("packed {}", component.display());
    Ok(())
}

/// Builds `modelet` without the neural engine, packs the example with it, and
/// gives the component's path.
pub fn pack() -> Result<PathBuf> {
    build::tabular()?;
    run_command(cargo("build").args(["--release", "-p", "modelet-host"]))?;
    pack_with_built()
}

/// Packs the example with the `modelet` that is built, whatever its features.
pub fn pack_with_built() -> Result<PathBuf> {
    let component = target().join("example/credit.wasm");
    let folder = component.parent().expect("the component is in a folder");
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    run_command(
        program(binary("modelet"))
            .args(["pack", "examples/credit/credit.onnx"])
            .args(["--data", "examples/credit/reference.csv"])
            .args(["--holdout", "examples/credit/holdout.csv"])
            .args(["--label", "defaulted"])
            .args(["--signature", "examples/credit/signature.json"])
            .args(["--expected", "examples/credit/expected.csv"])
            .args(["--name", "credit"])
            .args(["--model-version", "1.0.0"])
            .arg("--force")
            .arg("-o")
            .arg(&component),
    )?;
    Ok(component)
}
