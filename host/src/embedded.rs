//! The generic components and the browser modules that this binary carries, so
//! that its users need no compiler.
//!
//! `cargo xtask build` makes them and the build script embeds what it finds; a
//! binary built before that has none.

use modelet::signature::EngineKind;

mod artifacts {
    include!(concat!(env!("OUT_DIR"), "/artifacts.rs"));
}

/// The tabular engine's component for WASI 0.3.
pub static TABULAR_0_3: Option<&[u8]> = artifacts::TABULAR_0_3;

/// The tabular engine's component for WASI 0.2.
pub static TABULAR_0_2: Option<&[u8]> = artifacts::TABULAR_0_2;

/// The neural engine's component for WASI 0.3.
pub static NEURAL_0_3: Option<&[u8]> = artifacts::NEURAL_0_3;

/// The tabular engine for browsers.
pub static BROWSER: Option<BrowserModule> = BrowserModule::new(
    (artifacts::BROWSER_SCRIPT, artifacts::BROWSER_SCRIPT_BROTLI),
    (artifacts::BROWSER_WASM, artifacts::BROWSER_WASM_BROTLI),
);

/// The neural engine for browsers.
pub static BROWSER_NEURAL: Option<BrowserModule> = BrowserModule::new(
    (
        artifacts::BROWSER_NEURAL_SCRIPT,
        artifacts::BROWSER_NEURAL_SCRIPT_BROTLI,
    ),
    (artifacts::BROWSER_NEURAL_WASM, artifacts::BROWSER_NEURAL_WASM_BROTLI),
);

/// A file to be sent to browsers.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// The file.
    pub bytes: &'static [u8],
    /// The same, compressed by brotli.
    pub brotli: Option<&'static [u8]>,
}

/// A module for browsers: an ES module that loads the WebAssembly module that
/// lies beside it as `modelet_bg.wasm`.
#[derive(Clone, Copy, Debug)]
pub struct BrowserModule {
    /// `modelet.js`.
    pub script: Asset,
    /// `modelet_bg.wasm`.
    pub wasm: Asset,
}

/// A file's bytes, and the same compressed.
type Pair = (Option<&'static [u8]>, Option<&'static [u8]>);

impl BrowserModule {
    const fn new(script: Pair, wasm: Pair) -> Option<BrowserModule> {
        match (script, wasm) {
            ((Some(script), script_brotli), (Some(wasm), wasm_brotli)) => Some(BrowserModule {
                script: Asset {
                    bytes: script,
                    brotli: script_brotli,
                },
                wasm: Asset {
                    bytes: wasm,
                    brotli: wasm_brotli,
                },
            }),
            _ => None,
        }
    }
}

/// The version of WASI that a component is built for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wasi {
    /// The portable one, for runtimes that do not speak 0.3 yet.
    V0_2,
    /// The main one.
    #[default]
    V0_3,
}

/// The generic component of an engine.
///
/// # Errors
/// When this binary was built without it, or when there is no such component:
/// the neural engine's is built for WASI 0.3 alone. The text says what to do.
pub fn component(engine: EngineKind, wasi: Wasi) -> Result<&'static [u8], String> {
    let (component, name, command) = match (engine, wasi) {
        (EngineKind::Tabular, Wasi::V0_3) => (TABULAR_0_3, "tabular", "cargo xtask build"),
        (EngineKind::Tabular, Wasi::V0_2) => (TABULAR_0_2, "tabular WASI 0.2", "cargo xtask build"),
        (EngineKind::Neural, Wasi::V0_3) => (NEURAL_0_3, "neural", "cargo xtask build --neural"),
        (EngineKind::Neural, Wasi::V0_2) => {
            return Err("the neural engine has no component for WASI 0.2; pack it for 0.3".into());
        }
    };
    component.ok_or_else(|| {
        format!("this binary was built without the {name} component; run `{command}` and build it again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_there_or_the_error_names_the_command_that_makes_it() {
        for (engine, wasi, embedded, command) in [
            (EngineKind::Tabular, Wasi::V0_3, TABULAR_0_3, "`cargo xtask build`"),
            (EngineKind::Tabular, Wasi::V0_2, TABULAR_0_2, "`cargo xtask build`"),
            (
                EngineKind::Neural,
                Wasi::V0_3,
                NEURAL_0_3,
                "`cargo xtask build --neural`",
            ),
        ] {
            match (component(engine, wasi), embedded) {
                (Ok(found), Some(embedded)) => {
                    assert_eq!(found.as_ptr(), embedded.as_ptr());
                    assert!(found.starts_with(b"\0asm"));
                }
                (Err(error), None) => assert!(error.contains(command), "{error}"),
                (found, _) => panic!("{engine:?} {wasi:?}: {:?}", found.map(<[u8]>::len)),
            }
        }
        assert!(component(EngineKind::Neural, Wasi::V0_2).is_err());
    }
}
