//! The first page and the browser library, as part of the binary.
//!
//! The page is at `/`, everything that it loads below `/www/`: the files of the
//! folder `www/`, and the browser modules that the binary was built with. All
//! addresses in them are relative, so that they also work under
//! `/models/<name>/` and behind a proxy that adds a prefix.

use crate::embedded::{Asset, BROWSER, BROWSER_NEURAL};
use std::sync::{LazyLock, OnceLock};

/// A file that is served.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The header `content-type`.
    pub content_type: &'static str,
    /// The body.
    pub bytes: &'static [u8],
    /// The same, compressed by brotli, where that is worth it.
    pub brotli: Option<&'static [u8]>,
    /// Of the bytes as they are.
    hash: &'static OnceLock<String>,
}

impl Page {
    /// The header `etag` of the file as it is, or in an encoding: it changes with
    /// the bytes. The addresses stay the same from version to version, so
    /// `cache-control: no-cache` goes with it.
    pub fn etag(&self, encoding: Option<&str>) -> String {
        let hash = self
            .hash
            .get_or_init(|| modelet::bundle::sha256_hex(self.bytes)[..32].to_owned());
        match encoding {
            Some(encoding) => format!("\"{encoding}-{hash}\""),
            None => format!("\"{hash}\""),
        }
    }
}

/// The page at a path, which begins with a slash.
pub fn page(path: &str) -> Option<Page> {
    let name = match path {
        "/" => "",
        path => path.strip_prefix("/www/").filter(|name| !name.is_empty())?,
    };
    let file = FILES.iter().find(|file| file.name == name)?;
    let Asset { bytes, brotli } = (file.asset)()?;
    Some(Page {
        content_type: file.content_type,
        bytes,
        brotli,
        hash: &file.hash,
    })
}

struct File {
    /// Path below `/www/`; empty for the page itself.
    name: &'static str,
    content_type: &'static str,
    /// `None` if the binary was built without it.
    asset: fn() -> Option<Asset>,
    hash: OnceLock<String>,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const WASM: &str = "application/wasm";

const fn file(name: &'static str, content_type: &'static str, asset: fn() -> Option<Asset>) -> File {
    File {
        name,
        content_type,
        asset,
        hash: OnceLock::new(),
    }
}

macro_rules! www {
    ($name:literal, $content_type:expr) => {
        file($name, $content_type, || {
            plain(include_bytes!(concat!("../../www/", $name)))
        })
    };
}

static FILES: [File; 15] = [
    file("", HTML, || plain(INDEX.as_bytes())),
    www!("index.html", HTML),
    www!("style.css", CSS),
    www!("icon.svg", SVG),
    www!("main.js", SCRIPT),
    www!("answer.js", SCRIPT),
    www!("api.js", SCRIPT),
    www!("form.js", SCRIPT),
    www!("format.js", SCRIPT),
    www!("modelet-client.js", SCRIPT),
    www!("worker.js", SCRIPT),
    file("modelet.js", SCRIPT, || BROWSER.map(|module| module.script)),
    file("modelet_bg.wasm", WASM, || BROWSER.map(|module| module.wasm)),
    file("neural/modelet.js", SCRIPT, || {
        BROWSER_NEURAL.map(|module| module.script)
    }),
    file("neural/modelet_bg.wasm", WASM, || {
        BROWSER_NEURAL.map(|module| module.wasm)
    }),
];

/// The page as it is one folder above the files that it loads.
static INDEX: LazyLock<String> = LazyLock::new(|| {
    const HEAD: &str = "<head>";
    include_str!("../../www/index.html").replacen(HEAD, "<head>\n    <base href=\"www/\">", 1)
});

/// A file that is small as it is.
fn plain(bytes: &'static [u8]) -> Option<Asset> {
    Some(Asset { bytes, brotli: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../www");
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let aside = [".test.js", ".d.ts", ".json", ".md"]
                .iter()
                .any(|end| name.ends_with(end));
            if aside || entry.path().is_dir() {
                continue;
            }
            let page = page(&format!("/www/{name}")).unwrap_or_else(|| panic!("{name} is not served"));
            assert_eq!(page.bytes, std::fs::read(entry.path()).unwrap(), "{name}");
        }
    }

    #[test]
    fn the_page_loads_its_files_from_the_folder_below() {
        let index = page("/").unwrap();
        assert_eq!(index.content_type, HTML);
        let index = std::str::from_utf8(index.bytes).unwrap();
        assert!(index.contains("<base href=\"www/\">"));
        let loaded = index
            .split(['"', '\''])
            .filter(|part| part.ends_with(".js") || part.ends_with(".css") || part.ends_with(".svg"));
        let mut count = 0;
        for name in loaded {
            assert!(page(&format!("/www/{name}")).is_some(), "{name}");
            count += 1;
        }
        assert!(count >= 3, "{count} files");
    }

    #[test]
    fn browser_modules_are_served_if_they_were_built() {
        for (module, folder) in [(BROWSER, ""), (BROWSER_NEURAL, "neural/")] {
            let script = page(&format!("/www/{folder}modelet.js"));
            let wasm = page(&format!("/www/{folder}modelet_bg.wasm"));
            assert_eq!(script.is_some(), module.is_some());
            assert_eq!(wasm.is_some(), module.is_some());
            if let Some(wasm) = wasm {
                assert_eq!(wasm.content_type, "application/wasm");
                assert!(wasm.bytes.starts_with(b"\0asm"));
                assert!(wasm.brotli.is_some_and(|small| small.len() < wasm.bytes.len() / 2));
            }
        }
    }

    #[test]
    fn nothing_else_is_served() {
        for path in [
            "",
            "/www",
            "/www/",
            "/www/package.json",
            "/www/form.test.js",
            "/www/../Cargo.toml",
            "/main.js",
            "//",
        ] {
            assert!(page(path).is_none(), "{path}");
        }
    }

    #[test]
    fn etags_differ_as_the_bytes_do() {
        let (one, other) = (page("/").unwrap(), page("/www/main.js").unwrap());
        assert_eq!(one.etag(None), page("/").unwrap().etag(None));
        assert_ne!(one.etag(None), other.etag(None));
        assert_ne!(one.etag(None), one.etag(Some("br")));
        assert!(one.etag(Some("br")).starts_with('"') && one.etag(Some("br")).ends_with('"'));
    }
}
