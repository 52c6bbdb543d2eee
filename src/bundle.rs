//! The bundle: one model as one file, which `init` loads into a component and
//! the browser fetches.
//!
//! ```text
//! offset  bytes  what
//!      0      8  magic "MODELET\0"
//!      8      4  version of the format
//!     12      4  number of sections
//!     16   24×n  table: kind (u32), 0 (u32), offset (u64), length (u64)
//!      …      …  sections, each at a multiple of 16, padded with 0
//! ```
//!
//! Numbers are little-endian. The SHA-256 of the file is the identity of the
//! model.

use sha2::{Digest, Sha256};
use std::fmt;
use std::ops::Range;

const MAGIC: &[u8; 8] = b"MODELET\0";
const VERSION: u32 = 1;
const ENTRY: usize = 24;
const SECTIONS_MAX: usize = 16;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Section {
    /// The [`Manifest`](crate::signature::Manifest), JSON.
    Manifest = 1,
    /// A program image, for the tabular engine.
    Program = 2,
    /// The ONNX graph, for the neural engine.
    Onnx = 3,
    /// Golden rows: [`Golden`](crate::golden::Golden), JSON.
    Golden = 4,
}

/// Why a file is not a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BundleError {
    /// It does not begin as a bundle does.
    NotABundle,
    /// It was written by another version of modelet.
    Version {
        /// The version found.
        got: u32,
    },
    /// The table refers outside the file.
    Table,
    /// A section that a bundle must have.
    Missing(Section),
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BundleError::NotABundle => f.write_str("not a modelet bundle: the magic number is missing"),
            BundleError::Version { got } => {
                write!(
                    f,
                    "bundle version: expected {VERSION} but got {got}; pack the model again"
                )
            }
            BundleError::Table => {
                f.write_str("bundle: the table of sections refers outside the file, which may be truncated")
            }
            BundleError::Missing(section) => write!(f, "bundle: section {section:?} is missing"),
        }
    }
}

impl std::error::Error for BundleError {}

/// Where the sections of a bundle lie.
#[derive(Clone, Debug)]
pub struct Bundle {
    sections: Vec<(u32, Range<usize>)>,
}

impl Bundle {
    /// Reads the table of sections.
    ///
    /// # Errors
    /// When the bytes are not a bundle of this version, or cut off.
    pub fn parse(bytes: &[u8]) -> Result<Bundle, BundleError> {
        if bytes.get(..8) != Some(MAGIC) {
            return Err(BundleError::NotABundle);
        }
        let u32_at = |at: usize| -> Option<u32> { Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
        let u64_at = |at: usize| -> Option<usize> {
            usize::try_from(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?)).ok()
        };
        let version = u32_at(8).ok_or(BundleError::Table)?;
        if version != VERSION {
            return Err(BundleError::Version { got: version });
        }
        let count = u32_at(12).ok_or(BundleError::Table)? as usize;
        if count > SECTIONS_MAX {
            return Err(BundleError::Table);
        }
        let mut sections = Vec::with_capacity(count);
        for i in 0..count {
            let at = 16 + i * ENTRY;
            let entry = || Some((u32_at(at)?, u64_at(at + 8)?, u64_at(at + 16)?));
            let (kind, offset, len) = entry().ok_or(BundleError::Table)?;
            let end = offset.checked_add(len).ok_or(BundleError::Table)?;
            if end > bytes.len() {
                return Err(BundleError::Table);
            }
            sections.push((kind, offset..end));
        }
        Ok(Bundle { sections })
    }

    /// Where a section lies.
    pub fn section(&self, section: Section) -> Option<Range<usize>> {
        self.sections
            .iter()
            .find(|(kind, _)| *kind == section as u32)
            .map(|(_, range)| range.clone())
    }

    /// Where a section lies that must be there.
    pub fn require(&self, section: Section) -> Result<Range<usize>, BundleError> {
        self.section(section).ok_or(BundleError::Missing(section))
    }
}

/// Writes a bundle of these sections.
pub fn write(sections: &[(Section, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(sections.len() as u32).to_le_bytes());
    let mut offset = (16 + sections.len() * ENTRY).next_multiple_of(16);
    for (section, bytes) in sections {
        out.extend_from_slice(&(*section as u32).to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&(offset as u64).to_le_bytes());
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        offset = (offset + bytes.len()).next_multiple_of(16);
    }
    for (_, bytes) in sections {
        out.resize(out.len().next_multiple_of(16), 0);
        out.extend_from_slice(bytes);
    }
    out
}

/// The identity of a bundle, or any file's: its SHA-256, hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        hex.push(DIGITS[(byte >> 4) as usize] as char);
        hex.push(DIGITS[(byte & 15) as usize] as char);
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_again_and_a_truncated_bundle_is_refused() {
        let bytes = write(&[(Section::Manifest, b"{}"), (Section::Program, &[7; 33])]);
        let bundle = Bundle::parse(&bytes).unwrap();
        assert_eq!(&bytes[bundle.require(Section::Manifest).unwrap()], b"{}");
        let program = bundle.require(Section::Program).unwrap();
        assert_eq!(program.start % 16, 0);
        assert_eq!(&bytes[program], &[7; 33]);
        assert_eq!(
            bundle.require(Section::Golden).unwrap_err(),
            BundleError::Missing(Section::Golden)
        );
        for len in 0..bytes.len() {
            assert!(Bundle::parse(&bytes[..len]).is_err(), "{len} bytes");
        }
        assert_eq!(Bundle::parse(b"not one at all").unwrap_err(), BundleError::NotABundle);
    }

    #[test]
    fn the_hash_is_sha_256() {
        // FIPS 180-4, example "abc".
        assert_eq!(
            sha256_hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
