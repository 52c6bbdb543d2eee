//! Operators of the tabular engine inside tract's graph.
//!
//! What tract does not have, or not as exactly, is lowered by `modelet pack`
//! into a program of its own, which takes the node's place: an operator
//! [`OPERATOR`] whose attribute [`ATTRIBUTE`] is the image. It runs on the same
//! kernels as a tabular model.

use super::{datum_type, from_tract, to_tract};
use crate::engine::Workspace;
use crate::program::graph::{ATTRIBUTE, OPERATOR};
use crate::program::{Image, Program};
use crate::tensor::{Dtype, Shape, Tensor};
use std::sync::Arc;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

/// A program of the tabular engine as one node.
#[derive(Clone, Debug)]
struct Kernels {
    program: Arc<Program>,
}

impl PartialEq for Kernels {
    fn eq(&self, other: &Kernels) -> bool {
        Arc::ptr_eq(&self.program, &other.program)
    }
}

impl Eq for Kernels {}

/// Makes the operator known to tract.
pub(super) fn register(onnx: &mut tract_onnx::Onnx) {
    onnx.op_register.insert(OPERATOR, parse);
}

fn parse(
    _: &tract_onnx::model::ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let Some(image) = node.attribute.iter().find(|a| a.name == ATTRIBUTE) else {
        bail!("{OPERATOR} without a program");
    };
    let program = Program::load(Image::from(image.s.clone())).map_err(|e| format_err!("{e}"))?;
    if program.input_count() != node.input.len() || program.output_count() != node.output.len() {
        bail!("the program has other inputs or outputs than its node");
    }
    Ok((
        expand(Kernels {
            program: Arc::new(program),
        }),
        vec![],
    ))
}

impl Kernels {
    fn run(&self, inputs: &[Tensor]) -> TractResult<Vec<Tensor>> {
        let mut workspace = Workspace::default();
        workspace.run(&self.program, inputs).map_err(|e| format_err!("{e}"))?;
        (0..self.program.output_count())
            .map(|index| {
                let output = workspace.output(&self.program, inputs, index);
                output.map(|view| view.to_tensor()).context("an output is missing")
            })
            .collect()
    }

    /// Types and shapes of the results for operands of these: those of a run on
    /// zeros, since here shapes depend on nothing but shapes.
    fn results(&self, operands: &[(DatumType, Vec<usize>)]) -> TractResult<Vec<(DatumType, Vec<usize>)>> {
        let zeros = operands
            .iter()
            .map(|(dtype, dims)| zeros(*dtype, dims))
            .collect::<TractResult<Vec<_>>>()?;
        let outputs = self.run(&zeros)?;
        Ok(outputs
            .iter()
            .map(|t| (datum_type(t.data.dtype()), t.shape.dims().to_vec()))
            .collect())
    }
}

fn zeros(dtype: DatumType, dims: &[usize]) -> TractResult<Tensor> {
    let shape = Shape::new(dims).with_context(|| format!("shape {dims:?}"))?;
    let known = Dtype::ALL.into_iter().find(|&d| datum_type(d) == dtype);
    Ok(Tensor::zeros(
        known.with_context(|| format!("an operand of type {dtype:?}"))?,
        shape,
    ))
}

impl Expansion for Kernels {
    fn name(&self) -> StaticName {
        OPERATOR.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.program.output_count())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.program.input_count())?;
        check_output_arity(outputs, self.program.output_count())?;
        solver.given_all(inputs.iter().map(|i| &i.datum_type), move |solver, dtypes| {
            solver.given_all(inputs.iter().map(|i| &i.shape), move |solver, shapes| {
                let operands = dtypes
                    .iter()
                    .zip(&shapes)
                    .map(|(&dtype, shape)| {
                        let dims = shape.iter().map(TDim::to_usize).collect::<Result<Vec<_>, _>>()?;
                        Ok((dtype, dims))
                    })
                    .collect::<TractResult<Vec<_>>>()?;
                for ((dtype, dims), output) in self.results(&operands)?.into_iter().zip(outputs) {
                    let dims: TVec<TDim> = dims.iter().map(|&d| d.to_dim()).collect();
                    solver.equals(&output.datum_type, dtype)?;
                    solver.equals(&output.shape, dims)?;
                }
                Ok(())
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for Kernels {
    fn name(&self) -> StaticName {
        OPERATOR.into()
    }

    op_as_typed_op!();
}

impl EvalOp for Kernels {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let inputs = inputs
            .iter()
            .map(|value| from_tract(value))
            .collect::<TractResult<Vec<_>>>()?;
        let outputs = self.run(&inputs)?;
        outputs.iter().map(|t| Ok(to_tract(t)?.into_tvalue())).collect()
    }
}

impl TypedOp for Kernels {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let operands = inputs
            .iter()
            .map(|fact| {
                let dims = fact
                    .shape
                    .as_concrete()
                    .context("the shape of an operand is not known")?;
                Ok((fact.datum_type, dims.to_vec()))
            })
            .collect::<TractResult<Vec<_>>>()?;
        let results = self.results(&operands)?;
        Ok(results.into_iter().map(|(dtype, dims)| dtype.fact(dims)).collect())
    }
}
