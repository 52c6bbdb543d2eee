//! Embeds the generic components and the browser modules that
//! `cargo xtask build` has put into the workspace's `target/artifacts`.
//!
//! What is not there is left out, so that a clean clone compiles; the binary
//! then says which command to run when it needs the missing one.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The name of the constant, and the file below the artifacts' folder.
const FILES: [(&str, &str); 11] = [
    ("TABULAR_0_3", "tabular.wasm"),
    ("TABULAR_0_2", "tabular-0.2.wasm"),
    ("NEURAL_0_3", "neural.wasm"),
    ("BROWSER_SCRIPT", "browser/modelet.js"),
    ("BROWSER_SCRIPT_BROTLI", "browser/modelet.js.br"),
    ("BROWSER_WASM", "browser/modelet_bg.wasm"),
    ("BROWSER_WASM_BROTLI", "browser/modelet_bg.wasm.br"),
    ("BROWSER_NEURAL_SCRIPT", "browser-neural/modelet.js"),
    ("BROWSER_NEURAL_SCRIPT_BROTLI", "browser-neural/modelet.js.br"),
    ("BROWSER_NEURAL_WASM", "browser-neural/modelet_bg.wasm"),
    ("BROWSER_NEURAL_WASM_BROTLI", "browser-neural/modelet_bg.wasm.br"),
];

/// The folder with the artifacts, if it is not the workspace's.
const FOLDER_VARIABLE: &str = "MODELET_ARTIFACTS";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={FOLDER_VARIABLE}");
    let artifacts = artifacts();
    // Cargo looks at everything below the folder, so a file that appears or
    // goes away counts as a change too.
    println!("cargo:rerun-if-changed={}", artifacts.display());

    let mut source = String::new();
    for (name, file) in FILES {
        let path = artifacts.join(file);
        let value = if path.is_file() {
            let path = path
                .to_str()
                .ok_or_else(|| io::Error::other(format!("{} is not a UTF-8 path", path.display())))?;
            format!("Some(include_bytes!({path:?}))")
        } else {
            String::from("None")
        };
        source.push_str(&format!("pub const {name}: Option<&[u8]> = {value};\n"));
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("artifacts.rs"), source)
}

fn artifacts() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let workspace = Path::new(&package)
        .parent()
        .expect("the package is a folder of the workspace");
    match env::var_os(FOLDER_VARIABLE) {
        Some(folder) => workspace.join(folder),
        None => {
            let target = workspace.join("target");
            let folder = target.join("artifacts");
            // Cargo runs a build script each time when a path that it looks at
            // does not exist.
            if target.is_dir() && !folder.exists() {
                let _ = fs::create_dir(&folder);
            }
            folder
        }
    }
}
