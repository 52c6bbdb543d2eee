//! The generic components and the browser module, into `target/artifacts`.
//!
//! The host embeds what it finds there and is compiled again when a file
//! changes, so a file is only written when its bytes are new.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

use crate::tools::{self, BROWSER, WASI};
use crate::usage::UsageError;
use crate::workspace::{cargo, heading, note, output, program, root, run as run_command, target};

/// One build of the root package for wasm.
pub struct Variant {
    /// A component's file, or the folder of a browser module.
    artifact: &'static str,
    target: &'static str,
    feature: Option<&'static str>,
}

pub const TABULAR: [Variant; 3] = [
    Variant {
        artifact: "tabular.wasm",
        target: WASI,
        feature: None,
    },
    Variant {
        artifact: "tabular-0.2.wasm",
        target: WASI,
        feature: Some("wasi-0-2"),
    },
    Variant {
        artifact: "browser",
        target: BROWSER,
        feature: None,
    },
];

pub const NEURAL: [Variant; 2] = [
    Variant {
        artifact: "neural.wasm",
        target: WASI,
        feature: Some("neural"),
    },
    Variant {
        artifact: "browser-neural",
        target: BROWSER,
        feature: Some("neural"),
    },
];

/// How much the linker does for the components with tract in them, which are
/// most of the build's time. The tabular ones are always built as shipped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NeuralLto {
    /// As the profile says.
    Shipped,
    Thin,
}

pub fn run(args: &[&str]) -> Result<()> {
    match args {
        [] => tabular(),
        ["--neural"] => all(NeuralLto::Shipped),
        [.., other] => Err(UsageError::argument("build", other).into()),
    }
}

/// Builds the artifacts of the tabular engine.
pub fn tabular() -> Result<()> {
    tools::need_wasm_targets()?;
    let mut changed = false;
    for variant in &TABULAR {
        changed |= build(variant, NeuralLto::Shipped)?;
    }
    if changed {
        remove_neural()?;
    }
    Ok(())
}

/// Builds every artifact.
pub fn all(lto: NeuralLto) -> Result<()> {
    tools::need_wasm_targets()?;
    for variant in TABULAR.iter().chain(&NEURAL) {
        build(variant, lto)?;
    }
    Ok(())
}

/// Builds the engine alone as a module, which the bench runs; with the flags of
/// the components.
pub fn walk() -> Result<()> {
    let mut command = cargo("build");
    command.args([
        "-p",
        "modelet",
        "--example",
        "walk",
        "--profile",
        "wasm",
        "--target",
        BROWSER,
    ]);
    command.env("CARGO_TARGET_DIR", target().join("wasm"));
    command.env("CARGO_ENCODED_RUSTFLAGS", rust_flags()?.join("\x1f"));
    run_command(&mut command)
}

/// A cargo command on the root package's library, set up for a variant. It
/// works in a target directory of its own, so that it neither waits for native
/// builds nor shares their flags.
pub fn cargo_for(variant: &Variant, subcommand: &str, lto: NeuralLto) -> Result<Command> {
    let mut command = cargo(subcommand);
    command.args([
        "-p",
        "modelet",
        "--lib",
        "--profile",
        "wasm",
        "--target",
        variant.target,
    ]);
    if let Some(feature) = variant.feature {
        command.args(["--features", feature]);
    }
    if variant.feature == Some("neural") && lto == NeuralLto::Thin {
        command.args(["--config", "profile.wasm.lto=\"thin\""]);
    }
    if variant.target == BROWSER {
        // Stripped of everything, the module does not say which features of
        // wasm it uses, and wasm-bindgen keeps to the oldest ones.
        command.args(["--config", "profile.wasm.strip=\"debuginfo\""]);
        // What is sent counts more here than the twentieth in speed that the
        // components keep.
        command.args(["--config", "profile.wasm.opt-level=2"]);
    }
    command.env("CARGO_TARGET_DIR", target().join("wasm"));
    // Cargo keeps one build of a cdylib, whatever its crate features, unless
    // this is set; each variant would push the one before it out. Should a
    // later cargo ignore it, builds are slower and otherwise the same.
    command.env("__CARGO_DEFAULT_LIB_METADATA", "modelet");
    command.env("CARGO_ENCODED_RUSTFLAGS", rust_flags()?.join("\x1f"));
    Ok(command)
}

/// Builds one variant and says whether the artifact is another than before.
fn build(variant: &Variant, lto: NeuralLto) -> Result<bool> {
    let mut command = cargo_for(variant, "rustc", lto)?;
    // The package is an rlib too, and cargo does not optimise across crates
    // while one is asked for.
    command.args(["--crate-type", "cdylib"]);
    run_command(&mut command)?;

    let module = target().join("wasm").join(variant.target).join("wasm/modelet.wasm");
    let artifact = target().join("artifacts").join(variant.artifact);
    if variant.target == BROWSER {
        bind(&module, &artifact)
    } else {
        copy_if_changed(&module, &artifact)
    }
}

/// Writes the browser's bindings of a module, with their TypeScript types.
fn bind(module: &Path, folder: &Path) -> Result<bool> {
    let staging = target().join("wasm/bindgen");
    if staging.exists() {
        fs::remove_dir_all(&staging).with_context(|| format!("cannot clear {}", staging.display()))?;
    }
    Bindgen::new()
        .input_path(module)
        .web(true)?
        .typescript(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .out_name("modelet")
        .generate(&staging)
        .with_context(|| format!("wasm-bindgen cannot read {}", module.display()))?;
    let mut files: Vec<PathBuf> = fs::read_dir(&staging)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    files.sort();
    let mut changed = false;
    for file in files {
        let name = file.file_name().expect("a folder's entry has a name");
        let artifact = folder.join(name);
        let compressed = artifact.with_added_extension("br");
        let is_new = copy_if_changed(&file, &artifact)?;
        let is_sent = ["js", "wasm"].iter().any(|kind| name.to_string_lossy().ends_with(kind));
        if is_sent && (is_new || !compressed.exists()) {
            compress(&artifact, &compressed)?;
        }
        changed |= is_new;
    }
    Ok(changed)
}

/// Writes a file as browsers take it, as small as can be: it is done once and
/// sent often.
fn compress(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let parameters = brotli::enc::BrotliEncoderParams {
        quality: 11,
        lgwin: 24,
        size_hint: bytes.len(),
        ..Default::default()
    };
    let mut encoder = brotli::CompressorWriter::with_params(Vec::new(), 1 << 16, &parameters);
    encoder.write_all(&bytes)?;
    let small = encoder.into_inner();
    fs::write(to, &small).with_context(|| format!("cannot write {}", to.display()))?;
    note(&format!(
        "  {}: {} kB",
        to.strip_prefix(root()).unwrap_or(to).display(),
        small.len().div_ceil(1000)
    ));
    Ok(())
}

fn copy_if_changed(from: &Path, to: &Path) -> Result<bool> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let changed = match fs::read(to) {
        Ok(old) => old != new,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", to.display())),
    };
    if changed {
        let folder = to.parent().expect("an artifact is in a folder");
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        fs::write(to, &new).with_context(|| format!("cannot write {}", to.display()))?;
    }
    note(&format!(
        "  {}: {} kB{}",
        to.strip_prefix(root()).unwrap_or(to).display(),
        new.len().div_ceil(1000),
        if changed { "" } else { ", unchanged" },
    ));
    Ok(changed)
}

/// Removes the artifacts with tract in them. They come from the same source as
/// the tabular ones; left beside newer ones, the host would embed both.
fn remove_neural() -> Result<()> {
    for variant in &NEURAL {
        let artifact = target().join("artifacts").join(variant.artifact);
        let removed = if artifact.is_dir() {
            fs::remove_dir_all(&artifact)
        } else if artifact.exists() {
            fs::remove_file(&artifact)
        } else {
            continue;
        };
        removed.with_context(|| format!("cannot remove {}", artifact.display()))?;
        heading(&format!(
            "{} was built from older source and is removed; `cargo xtask build --neural` makes it again",
            variant.artifact,
        ));
    }
    Ok(())
}

/// The compiler's flags for wasm. The paths of this machine, which panic
/// messages would carry, get the same short names everywhere: the same source
/// gives the same bytes wherever it is built.
fn rust_flags() -> Result<Vec<String>> {
    let version = output(program(tools::rustc()).arg("-vV"))?;
    let commit = version
        .lines()
        .find_map(|line| line.strip_prefix("commit-hash: "))
        .unwrap_or("unknown");
    let sysroot = tools::sysroot()?;

    // Where two prefixes match a path, the later one counts.
    let mut names = vec![
        (root().to_owned(), "/modelet".to_owned()),
        (sysroot.join("lib/rustlib/src/rust"), format!("/rustc/{commit}")),
    ];
    if let Some(home) = cargo_home() {
        // A registry's folder is named after its address, and a mirror has another.
        let registries = home.join("registry/src");
        names.push((home, "/cargo".to_owned()));
        if let Ok(entries) = fs::read_dir(&registries) {
            let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            folders.sort();
            names.extend(folders.into_iter().map(|folder| (folder, "/crates".to_owned())));
        }
    }

    let mut flags = vec![
        "-Ctarget-feature=+simd128".to_owned(),
        // Components are never linked with others at run time; code that could
        // be would look up where its constants lie each time it needs one.
        "-Crelocation-model=static".to_owned(),
    ];
    flags.extend(
        names
            .iter()
            .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display())),
    );
    Ok(flags)
}

fn cargo_home() -> Option<PathBuf> {
    match env::var_os("CARGO_HOME") {
        Some(home) => Some(home.into()),
        None => env::home_dir().map(|home| home.join(".cargo")),
    }
}
