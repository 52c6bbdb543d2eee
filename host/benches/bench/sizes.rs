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

/// Bytes of a file, and what gzip and brotli make of them.
struct Size {
    raw: usize,
    gzip: usize,
    /// Of files that are shipped so.
    brotli: Option<usize>,
}

impl Size {
    fn of(bytes: &[u8]) -> Result<Size> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes)?;
        Ok(Size {
            raw: bytes.len(),
            gzip: encoder.finish()?.len(),
            brotli: None,
        })
    }

    fn read(path: &Path) -> Result<Size> {
        let size = Size::of(&fs::read(path).with_context(|| path.display().to_string())?)?;
        let brotli = fs::metadata(path.with_added_extension("br"));
        Ok(Size {
            brotli: brotli.ok().map(|file| file.len() as usize),
            ..size
        })
    }

    fn row(&self, name: &str) -> Vec<String> {
        let mb = |bytes: usize| format!("{:.3}", bytes as f64 / 1e6);
        vec![
            name.into(),
            mb(self.raw),
            mb(self.gzip),
            self.brotli.map(mb).unwrap_or_default(),
        ]
    }
}

pub fn measure(_: Effort) -> Result<Section> {
    let artifacts = root().join("target/artifacts");
    let component = Size::read(&credit())?;
    let browser = Size::read(&artifacts.join("browser/modelet_bg.wasm"))?;
    let script = Size::read(&artifacts.join("browser/modelet.js"))?;
    let bundle = fs::read(credit().with_extension("bundle"))?;
    let program = &bundle[Bundle::parse(&bundle)?.require(Part::Program)?];

    let mut rows = vec![
        Size::read(&artifacts.join("tabular.wasm"))?.row("tabular component, generic"),
        Size::read(&artifacts.join("tabular-0.2.wasm"))?.row("tabular component, generic, WASI 0.2"),
        browser.row("tabular browser module"),
        script.row("its script"),
        Size::of(program)?.row("credit: program"),
        Size::of(&bundle)?.row("credit: bundle"),
        component.row("credit: component"),
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
    let download = |size: &Size| size.brotli.context("the browser module is not compressed");
    Ok(Section {
        title: "Sizes",
        text: "Megabytes (10^6 bytes), as they are, after `gzip -9`, and as the host sends them to browsers, by brotli. \
               A generic component can run every model; a packed one keeps the code that its model needs. Neural ones are listed if they were built; \
               `cargo xtask test` builds them a little larger than they are shipped."
            .into(),
        header: vec!["file", "MB", "gzip MB", "brotli MB"],
        rows,
        targets: vec![
            target(
                "packed tabular component (credit) without its bundle",
                component.raw.saturating_sub(bundle.len()),
                0.6,
            ),
            target("tabular browser download", download(&browser)? + download(&script)?, 0.3),
        ],
    })
}
