//! Pages that are part of the binary.

/// The documentation of a model's API, made in the browser from
/// `openapi.json`. It loads nothing from elsewhere.
pub(super) const DOCS: &[u8] = include_bytes!("../../assets/docs.html");

/// The page at a path, with its content type.
pub fn page(_path: &str) -> Option<(&'static str, &'static [u8])> {
    None
}
