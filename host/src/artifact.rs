//! A packed model as it lies on disk: a WebAssembly component whose custom
//! sections tell what is in it, so that it can be read without running it.

use modelet::bundle::sha256_hex;
use modelet::golden::Golden;
use modelet::signature::{FORMAT, Manifest};
use serde::Deserialize;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Name of the section with the [`Manifest`], JSON.
pub const MANIFEST_SECTION: &str = "modelet:manifest";
/// Name of the section with the [`Golden`] rows, JSON.
pub const GOLDEN_SECTION: &str = "modelet:golden";
/// Name of the section with the bundle's SHA-256, 64 hexadecimal digits.
pub const BUNDLE_SECTION: &str = "modelet:bundle";
/// Name of the last section: the SHA-256 of all that is before it, 64
/// hexadecimal digits.
pub const CHECKSUM_SECTION: &str = "modelet:sha256";

const WASM_MAGIC: &[u8; 4] = b"\0asm";
/// Version 13 of the binary format, layer 1: a component.
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
const CUSTOM: u8 = 0;

/// A packed model.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The file that it was read from, if it was one.
    pub path: Option<PathBuf>,
    /// The component.
    pub bytes: Vec<u8>,
    /// What the model takes and gives.
    pub manifest: Manifest,
    /// Records with the answers that they must get.
    pub golden: Golden,
    /// SHA-256 of the bundle: the model's identity, hexadecimal.
    pub bundle_sha256: String,
    /// SHA-256 of the component, hexadecimal.
    pub file_sha256: String,
}

/// Why a file is not a packed model.
#[derive(Debug)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The file can't be read.
    Io(std::io::Error),
    /// It is an ONNX model, which has to be packed first.
    Onnx,
    /// It is the bundle beside the component.
    Bundle,
    /// It is not WebAssembly.
    NotWasm,
    /// It is a WebAssembly module, not a component.
    CoreModule,
    /// It ends within a section.
    Truncated,
    /// It is a component, but not one that modelet packed.
    NotPacked {
        /// The section that is missing.
        section: &'static str,
    },
    /// A section can't be read.
    Section {
        /// Its name.
        section: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Its bytes are not those that were packed.
    Damaged,
    /// It does not end with its checksum.
    NoChecksum,
    /// Its manifest is in another version of the format.
    Format {
        /// The version found.
        got: u32,
    },
}

impl fmt::Display for ArtifactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArtifactError::Io(error) => error.fmt(f),
            ArtifactError::Onnx => {
                f.write_str("this is an ONNX model: pack it first, `modelet pack MODEL.onnx -o OUT.wasm`")
            }
            ArtifactError::Bundle => {
                f.write_str("this is a bundle for browsers: give the .wasm that was packed beside it")
            }
            ArtifactError::NotWasm => f.write_str("not a packed model: expected a WebAssembly component"),
            ArtifactError::CoreModule => {
                f.write_str("not a packed model: expected a WebAssembly component but got a core module")
            }
            ArtifactError::Truncated => {
                f.write_str("the component ends within a section: the file is truncated or damaged")
            }
            ArtifactError::NotPacked { section } => {
                write!(f, "not packed by modelet: the component has no section {section:?}")
            }
            ArtifactError::Section { section, reason } => write!(f, "section {section:?}: {reason}"),
            ArtifactError::Damaged => f.write_str(
                "the file is damaged, or was changed after packing: its content does not have the SHA-256 that is written in it",
            ),
            ArtifactError::NoChecksum => f.write_str(
                "the file does not end with its SHA-256: it is cut off, or an earlier modelet packed it; pack the model again",
            ),
            ArtifactError::Format { got } if *got > FORMAT => write!(
                f,
                "manifest format: expected {FORMAT} but got {got}: a newer modelet packed this model"
            ),
            ArtifactError::Format { got } => {
                write!(
                    f,
                    "manifest format: expected {FORMAT} but got {got}: pack the model again"
                )
            }
        }
    }
}

impl std::error::Error for ArtifactError {}

impl Artifact {
    /// Reads a packed model from a file.
    ///
    /// # Errors
    /// When the file can't be read or is something else.
    pub fn open(path: impl AsRef<Path>) -> Result<Artifact, ArtifactError> {
        let path = path.as_ref();
        let mut artifact = Artifact::from_bytes(std::fs::read(path).map_err(ArtifactError::Io)?)?;
        artifact.path = Some(path.to_owned());
        Ok(artifact)
    }

    /// Reads a packed model.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Artifact, ArtifactError> {
        let sections = Sections::read(&bytes)?;
        let checked = sections.check(&bytes)?;
        // What another version or another tool made is told as such.
        let manifest = sections.manifest(&bytes)?;
        if !checked {
            return Err(ArtifactError::NoChecksum);
        }
        let golden = json(GOLDEN_SECTION, sections.require(GOLDEN_SECTION, &bytes)?)?;
        let bundle_sha256 = sections.bundle_sha256(&bytes)?;
        let file_sha256 = sha256_hex(&bytes);
        Ok(Artifact {
            path: None,
            bytes,
            manifest,
            golden,
            bundle_sha256,
            file_sha256,
        })
    }
}

/// Appends custom sections to a component.
pub fn append_sections(component: &mut Vec<u8>, sections: &[(&str, &[u8])]) {
    for (name, payload) in sections {
        let mut head = Vec::with_capacity(name.len() + 5);
        leb128(&mut head, name.len());
        head.extend_from_slice(name.as_bytes());
        component.push(CUSTOM);
        leb128(component, head.len() + payload.len());
        component.extend_from_slice(&head);
        component.extend_from_slice(payload);
    }
}

/// Appends the section that ends a packed model: with it, damage is seen.
pub fn append_checksum(component: &mut Vec<u8>) {
    let checksum = sha256_hex(component);
    append_sections(component, &[(CHECKSUM_SECTION, checksum.as_bytes())]);
}

fn leb128(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a number of at most 32 bits and moves `at` behind it.
fn read_leb128(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

/// Where modelet's sections lie.
#[derive(Default)]
struct Sections {
    found: Vec<(&'static str, Range<usize>)>,
    /// Where the last section begins.
    last: usize,
}

impl Sections {
    fn read(bytes: &[u8]) -> Result<Sections, ArtifactError> {
        match bytes.get(..8) {
            Some(head) if head.starts_with(WASM_MAGIC) && head[4..] == COMPONENT => {}
            Some(head) if head.starts_with(WASM_MAGIC) => return Err(ArtifactError::CoreModule),
            Some(b"MODELET\0") => return Err(ArtifactError::Bundle),
            // An ONNX file is a protobuf message that mostly starts with its
            // first field, the version of the format.
            Some([0x08, 1..=31, ..]) => return Err(ArtifactError::Onnx),
            _ => return Err(ArtifactError::NotWasm),
        }
        let mut sections = Sections::default();
        let mut at = 8;
        while at < bytes.len() {
            sections.last = at;
            let id = bytes[at];
            at += 1;
            let len = read_leb128(bytes, &mut at).ok_or(ArtifactError::Truncated)?;
            let end = at
                .checked_add(len)
                .filter(|&end| end <= bytes.len())
                .ok_or(ArtifactError::Truncated)?;
            if id == CUSTOM {
                sections.custom(&bytes[..end], at);
            }
            at = end;
        }
        Ok(sections)
    }

    /// Notes the custom section that begins at `at` and ends with `bytes`, if
    /// it is one of ours.
    fn custom(&mut self, bytes: &[u8], mut at: usize) {
        let Some(len) = read_leb128(bytes, &mut at) else {
            return;
        };
        let Some(name) = at.checked_add(len).and_then(|end| bytes.get(at..end)) else {
            return;
        };
        let ours = [MANIFEST_SECTION, GOLDEN_SECTION, BUNDLE_SECTION, CHECKSUM_SECTION];
        if let Some(section) = ours.into_iter().find(|ours| ours.as_bytes() == name) {
            self.found.push((section, at + len..bytes.len()));
        }
    }

    fn require<'a>(&self, section: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], ArtifactError> {
        self.found
            .iter()
            .find(|(name, _)| *name == section)
            .map(|(_, range)| &bytes[range.clone()])
            .ok_or(ArtifactError::NotPacked { section })
    }

    /// Holds the bytes against the checksum at their end; false if there is none.
    fn check(&self, bytes: &[u8]) -> Result<bool, ArtifactError> {
        let Ok(written) = self.require(CHECKSUM_SECTION, bytes) else {
            return Ok(false);
        };
        match written == sha256_hex(&bytes[..self.last]).as_bytes() {
            true => Ok(true),
            false => Err(ArtifactError::Damaged),
        }
    }

    fn manifest(&self, bytes: &[u8]) -> Result<Manifest, ArtifactError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let payload = self.require(MANIFEST_SECTION, bytes)?;
        let head: Head = json(MANIFEST_SECTION, payload)?;
        if head.format != FORMAT {
            return Err(ArtifactError::Format { got: head.format });
        }
        json(MANIFEST_SECTION, payload)
    }

    fn bundle_sha256(&self, bytes: &[u8]) -> Result<String, ArtifactError> {
        std::str::from_utf8(self.require(BUNDLE_SECTION, bytes)?)
            .ok()
            .filter(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
            .map(str::to_owned)
            .ok_or_else(|| ArtifactError::Section {
                section: BUNDLE_SECTION,
                reason: "expected 64 hexadecimal digits".into(),
            })
    }
}

fn json<'de, T: Deserialize<'de>>(section: &'static str, payload: &'de [u8]) -> Result<T, ArtifactError> {
    serde_json::from_slice(payload).map_err(|error| ArtifactError::Section {
        section,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    const MANIFEST: &str = r#"{"format":1,"name":"m","version":"1","engine":"tabular","task":"regression",
        "features":[],"inputs":[],"output":{"width":1,"kind":"value"},"batch":true,
        "reference":{"rows":0,"columns":[]},
        "provenance":{"modelet":"0","onnx_sha256":"","onnx_bytes":0,"opsets":{},"operators":{}}}"#;

    fn packed(manifest: &str, hash: &str) -> Vec<u8> {
        let mut bytes = EMPTY.to_vec();
        // A foreign section longer than one byte of LEB128 can say.
        append_sections(&mut bytes, &[("other", &[7; 300])]);
        let golden = br#"{"rows":[{"request":"{}","answer":"1"}]}"#;
        append_sections(
            &mut bytes,
            &[
                (MANIFEST_SECTION, manifest.as_bytes()),
                (GOLDEN_SECTION, golden),
                (BUNDLE_SECTION, hash.as_bytes()),
            ],
        );
        append_checksum(&mut bytes);
        bytes
    }

    #[test]
    fn any_bit_that_is_not_as_it_was_packed_is_seen() {
        let bytes = packed(MANIFEST, &"0f".repeat(32));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Artifact::from_bytes(damaged).is_err(), "byte {at}");
        }
        let mut longer = bytes;
        append_sections(&mut longer, &[("other", b"x")]);
        assert!(matches!(Artifact::from_bytes(longer), Err(ArtifactError::Damaged)));
    }

    #[test]
    fn sections_are_found_again() {
        let hash = "0f".repeat(32);
        let bytes = packed(MANIFEST, &hash);
        let artifact = Artifact::from_bytes(bytes.clone()).unwrap();
        assert_eq!(artifact.manifest.name, "m");
        assert_eq!(artifact.golden.rows.len(), 1);
        assert_eq!(artifact.bundle_sha256, hash);
        assert_eq!(artifact.file_sha256, sha256_hex(&bytes));
        for len in 0..bytes.len() {
            assert!(Artifact::from_bytes(bytes[..len].to_vec()).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn what_is_no_packed_model_is_told_by_name() {
        struct Case {
            bytes: Vec<u8>,
            error: &'static str,
        }
        let cases = [
            Case {
                bytes: b"hello, world".to_vec(),
                error: "not a packed model: expected a WebAssembly component",
            },
            Case {
                bytes: vec![],
                error: "not a packed model: expected a WebAssembly component",
            },
            Case {
                bytes: b"\0asm\x01\0\0\0".to_vec(),
                error: "not a packed model: expected a WebAssembly component but got a core module",
            },
            Case {
                bytes: b"MODELET\0\x01\0\0\0".to_vec(),
                error: "this is a bundle for browsers: give the .wasm that was packed beside it",
            },
            Case {
                bytes: b"\x08\x08\x12\x08skl2onnx".to_vec(),
                error: "this is an ONNX model: pack it first, `modelet pack MODEL.onnx -o OUT.wasm`",
            },
            Case {
                bytes: EMPTY.to_vec(),
                error: "not packed by modelet: the component has no section \"modelet:manifest\"",
            },
            Case {
                bytes: [EMPTY, &[1, 9, 0]].concat(),
                error: "the component ends within a section: the file is truncated or damaged",
            },
            Case {
                bytes: packed(&MANIFEST.replace("\"format\":1", "\"format\":2"), ""),
                error: "manifest format: expected 1 but got 2: a newer modelet packed this model",
            },
            Case {
                bytes: packed(&MANIFEST.replace("\"format\":1", "\"format\":0"), ""),
                error: "manifest format: expected 1 but got 0: pack the model again",
            },
            Case {
                bytes: packed(MANIFEST, "xyz"),
                error: "section \"modelet:bundle\": expected 64 hexadecimal digits",
            },
        ];
        for Case { bytes, error } in cases {
            assert_eq!(Artifact::from_bytes(bytes).unwrap_err().to_string(), error);
        }
    }
}
