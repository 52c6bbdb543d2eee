//! Every component imports what each home offers, and exports what it asks for.

use crate::support::root;
use std::collections::BTreeMap;
use wasmparser::{ComponentExternalKind, Parser, Payload};

/// Imports and exports of a component, by name.
fn world(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.expect("a valid component") {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                imports.extend(section.into_iter().map(|i| i.expect("an import").name.name.to_owned()));
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.expect("an export");
                    if !matches!(export.kind, ComponentExternalKind::Type) {
                        exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    (imports, exports)
}

/// An interface's name, and its version up to the part that may differ: the
/// patch of a release, nothing of a candidate.
fn series(interface: &str) -> (String, String) {
    let (name, version) = interface.split_once('@').unwrap_or((interface, ""));
    let series = match version.split_once('-') {
        Some(_) => version.to_owned(),
        None => version
            .rsplit_once('.')
            .map_or(version, |(series, _)| series)
            .to_owned(),
    };
    (name.to_owned(), series)
}

/// What a runtime offers, from `tests/worlds`.
fn offered(file: &str) -> BTreeMap<&'static str, Vec<(String, String)>> {
    let text = std::fs::read_to_string(root().join("tests/worlds").join(file)).expect("the list is there");
    let mut offered: BTreeMap<&'static str, Vec<_>> = BTreeMap::new();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (kind, interface) = line.split_once(' ').expect("a kind and a name");
        let kind = if kind == "import" { "import" } else { "export" };
        offered.entry(kind).or_default().push(series(interface));
    }
    offered
}

fn fits(component: &str, runtime: &str, handler: &str) {
    let path = root().join("target/artifacts").join(component);
    let bytes =
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; run `cargo xtask test build`", path.display()));
    let (imports, exports) = world(&bytes);
    let offered = offered(runtime);
    assert!(!imports.is_empty());
    for import in &imports {
        assert!(
            import.starts_with("wasi:"),
            "{component} imports {import}, which is not WASI"
        );
        assert!(
            offered["import"].contains(&series(import)),
            "{component} imports {import}, which {runtime} does not offer"
        );
    }
    let handlers: Vec<&String> = exports.iter().filter(|e| e.starts_with("wasi:http/")).collect();
    assert_eq!(handlers.len(), 1, "{component} exports {exports:?}");
    assert_eq!(series(handlers[0]).0, handler);
    assert!(
        offered["export"].contains(&series(handlers[0])),
        "{runtime} does not take {}",
        handlers[0]
    );
    for ours in ["modelet:inference/predictor@0.1.0", "init", "predict-text"] {
        assert!(
            exports.iter().any(|e| e == ours),
            "{component} lacks {ours}: {exports:?}"
        );
    }
}

#[test]
fn the_components_fit_what_spin_offers() {
    fits("tabular.wasm", "spin-4.1.txt", "wasi:http/handler");
    fits("neural.wasm", "spin-4.1.txt", "wasi:http/handler");
    fits("tabular-0.2.wasm", "spin-3.6.txt", "wasi:http/incoming-handler");
    // The portable one also runs where 0.3 is spoken.
    fits("tabular-0.2.wasm", "spin-4.1.txt", "wasi:http/incoming-handler");
}

#[test]
fn a_packed_component_has_the_same_world_as_the_generic_one() {
    let generic = std::fs::read(root().join("target/artifacts/tabular.wasm")).expect("it is built");
    let packed = std::fs::read(&crate::support::credit().output).expect("it is packed");
    assert_eq!(world(&packed), world(&generic));
}
