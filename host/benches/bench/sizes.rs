//! How large the files are that are shipped.

use crate::report::{Limit, Section, Target};
use crate::{Effort, MODELET, credit, root};
use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use modelet::bundle::{Bundle, Section as Part};
use std::fs;
use std::io::Write;
use std::path::Path;

/// Bytes of a file, and what gzip makes of them.
struct Size {
    raw: usize,
    gzip: usize,
}

impl Size {
    fn of(bytes: &[u8]) -> Result<Size> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes)?;
        Ok(Size {
            raw: bytes.len(),
            gzip: encoder.finish()?.len(),
        })
    }

    fn read(path: &Path) -> Result<Size> {
        Size::of(&fs::read(path).with_context(|| path.display().to_string())?)
    }

    fn row(&self, name: &str) -> Vec<String> {
        let mb = |bytes: usize| format!("{:.3}", bytes as f64 / 1e6);
        vec![name.into(), mb(self.raw), mb(self.gzip)]
    }
}

pub fn measure(_: Effort) -> Result<Section> {
    let artifacts = root().join("target/artifacts");
    let tabular = Size::read(&artifacts.join("tabular.wasm"))?;
    let browser = Size::read(&artifacts.join("browser/modelet_bg.wasm"))?;
    let script = Size::read(&artifacts.join("browser/modelet.js"))?;
    let bundle = fs::read(credit().with_extension("bundle"))?;
    let program = &bundle[Bundle::parse(&bundle)?.require(Part::Program)?];

    let mut rows = vec![
        tabular.row("tabular component"),
        Size::read(&artifacts.join("tabular-0.2.wasm"))?.row("tabular component, WASI 0.2"),
        browser.row("tabular browser module"),
        script.row("its script"),
        Size::of(program)?.row("credit: program"),
        Size::of(&bundle)?.row("credit: bundle"),
        Size::read(&credit())?.row("credit: component"),
    ];
    for (name, file) in [
        ("neural component", "neural.wasm"),
        ("neural browser module", "browser-neural/modelet_bg.wasm"),
    ] {
        let path = artifacts.join(file);
        if path.exists() {
            rows.push(Size::read(&path)?.row(name));
        }
    }
    rows.push(Size::read(Path::new(MODELET))?.row("`modelet`, with what it embeds"));
    let target = |what, size: usize, mb| Target {
        what,
        unit: " MB",
        measured: size as f64 / 1e6,
        limit: Limit::AtMost(mb),
    };
    Ok(Section {
        title: "Sizes",
        text: "Megabytes (10^6 bytes), as they are and after `gzip -9`. Neural ones are listed if they were built; \
               `cargo xtask test` builds them a little larger than they are shipped."
            .into(),
        header: vec!["file", "MB", "gzip MB"],
        rows,
        targets: vec![
            target("tabular component", tabular.raw, 0.6),
            target("tabular browser download, gzip", browser.gzip + script.gzip, 0.3),
        ],
    })
}
