//! Lowering of operators on text.

use super::{Lowering, Why};
use crate::pack::onnx::Node;

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn text_node(&mut self, node: &'a Node, _version: i64) -> Why<bool> {
        let _ = node;
        Ok(false)
    }
}
