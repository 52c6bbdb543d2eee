//! Lowering of what turns columns into other columns: encoders, imputers and
//! the like.

use super::shape::labels_of;
use super::{Lowering, Why};
use crate::pack::onnx::Node;
use modelet::ops::Op;
use modelet::ops::gather::Gather;

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn encoder_node(&mut self, node: &'a Node, _version: i64) -> Why<bool> {
        match node.op_type.as_str() {
            "ArrayFeatureExtractor" => {
                let (x, y) = (self.input(node, 0)?, self.input(node, 1)?);
                let dtype = self.dtype(x);
                // Classes picked by a computed index are labels.
                let labels = self.constant(x).and_then(labels_of);
                self.emit(node, Op::Gather(Gather::Columns), &[x, y], dtype)?;
                if let (Some(labels), Some(value)) = (labels, self.values.get_mut(node.output[0].as_str())) {
                    value.labels = Some(labels);
                }
                Ok(())
            }
            _ => return Ok(false),
        }
        .map(|()| true)
    }
}
