//! What the tests share: paths, packed models, servers, a plain HTTP client.

pub mod http;
pub mod receivers;
pub mod redis;
pub mod rows;
pub mod server;

use modelet::api::Service;
use modelet::model::Model;
use modelet_host::artifact::Artifact;
use modelet_host::output::Silent;
use modelet_host::pack::{PackOptions, PackReport, WasiVersion, pack};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A program built beside the tests.
pub fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("the test's own path");
    let path = tests
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in deps/")
        .join(name);
    assert!(
        path.exists(),
        "{} is not built; run `cargo xtask test build`",
        path.display()
    );
    path
}

/// The models of `tests/fixtures`, by name.
pub fn fixtures() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(root().join("tests/fixtures"))
        .expect("the fixtures are there")
        .filter_map(|entry| {
            let entry = entry.expect("the fixtures can be listed");
            entry
                .path()
                .join("model.onnx")
                .exists()
                .then(|| entry.file_name().to_string_lossy().into_owned())
        })
        .collect();
    names.sort();
    assert!(names.len() > 20, "fixtures are missing: {names:?}");
    names
}

/// Where packed models go; the browser's runner takes them from there.
pub fn parity_dir() -> PathBuf {
    let dir = root().join("target/parity");
    std::fs::create_dir_all(&dir).expect("target/ can be written");
    dir
}

/// A file with this text, in the parity directory.
pub fn written(name: &str, text: &str) -> PathBuf {
    let path = parity_dir().join(name);
    std::fs::write(&path, text).expect("target/ can be written");
    path
}

/// Options to pack a model into the parity directory.
pub fn options(model: &Path, name: &str, wasi: WasiVersion) -> PackOptions {
    let suffix = match wasi {
        WasiVersion::V0_3 => "",
        WasiVersion::V0_2 => "-0.2",
    };
    PackOptions {
        model: model.to_owned(),
        data: None,
        label: None,
        holdout: None,
        baseline: Default::default(),
        expected: None,
        tolerance: 1e-5,
        unknown: None,
        wasi,
        name: Some(name.to_owned()),
        model_version: None,
        signature: None,
        force: true,
        output: parity_dir().join(format!("{name}{suffix}.wasm")),
    }
}

/// Packs a fixture with its rows as the reference.
pub fn pack_fixture(name: &str, wasi: WasiVersion) -> PackReport {
    let folder = root().join("tests/fixtures").join(name);
    let options = PackOptions {
        data: Some(folder.join("inputs.csv")),
        ..options(&folder.join("model.onnx"), name, wasi)
    };
    pack(&options, &Silent).unwrap_or_else(|e| panic!("{name}: {e:#}"))
}

/// The options that the README packs the example with.
pub fn credit_options(wasi: WasiVersion) -> PackOptions {
    let folder = root().join("examples/credit");
    PackOptions {
        data: Some(folder.join("reference.csv")),
        label: Some("defaulted".into()),
        holdout: Some(folder.join("holdout.csv")),
        expected: Some(folder.join("expected.csv")),
        signature: Some(folder.join("signature.json")),
        ..options(&folder.join("credit.onnx"), "credit", wasi)
    }
}

/// The credit model, packed once for all tests.
pub fn credit() -> &'static PackReport {
    static CREDIT: OnceLock<PackReport> = OnceLock::new();
    CREDIT.get_or_init(|| pack(&credit_options(WasiVersion::V0_3), &Silent).unwrap_or_else(|e| panic!("credit: {e:#}")))
}

/// The credit model, natively.
pub fn credit_service() -> Service {
    native(credit())
}

/// A packed model, natively.
pub fn native(report: &PackReport) -> Service {
    let bundle = std::fs::read(&report.bundle).expect("the bundle was written");
    Service::new(Model::load(bundle).expect("a packed bundle can be loaded"))
}

/// A packed model's file.
pub fn artifact(report: &PackReport) -> Artifact {
    Artifact::open(&report.output).expect("a packed component can be opened")
}

/// An example request of the credit model.
pub fn credit_request() -> String {
    std::fs::read_to_string(root().join("examples/credit/request.json")).expect("the example is there")
}
