//! The neural engine: tract on the ONNX graph.
//!
//! Records run one by one, so that an answer can't depend on its neighbours.

mod kernels;
#[cfg(target_arch = "wasm32")]
mod math;

use crate::signature::Manifest;
use crate::tensor::{Data, RANK_MAX, Shape, Strings, Tensor};
use std::sync::Arc;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::bail;

/// An optimised graph, ready to run.
pub(super) struct Graph {
    plan: Arc<TypedRunnableModel>,
    /// For each input of the plan, the input of the manifest that feeds it.
    inputs: Vec<usize>,
}

impl Graph {
    /// Reads and optimises the graph for the inputs of the manifest.
    ///
    /// # Errors
    /// With tract's words when it does not run the graph.
    pub(super) fn load(onnx: &[u8], manifest: &Manifest) -> Result<Graph, String> {
        let load = || -> TractResult<Graph> {
            // Exporters' shapes of intermediate values are for any number of
            // records, and may be wrong.
            let mut reader = tract_onnx::onnx().with_ignore_value_info(true);
            kernels::register(&mut reader);
            let mut model = reader.model_for_read(&mut std::io::Cursor::new(onnx))?;
            let outlets = model.input_outlets()?.to_vec();
            let mut inputs = Vec::with_capacity(outlets.len());
            for (index, outlet) in outlets.iter().enumerate() {
                let name = model.node(outlet.node).name.clone();
                let Some(position) = manifest.inputs.iter().position(|i| i.name == name) else {
                    bail!("the signature has no input {name:?}");
                };
                let input = &manifest.inputs[position];
                let mut dims = vec![1usize];
                dims.extend(input.shape.iter().map(|&d| d as usize));
                let fact = InferenceFact::dt_shape(datum_type(input.dtype), dims);
                model.set_input_fact(index, fact)?;
                inputs.push(position);
            }
            let plan = model.into_optimized()?.into_runnable()?;
            Ok(Graph { plan, inputs })
        };
        load().map_err(|e| format!("{e:#}"))
    }

    /// Runs one record.
    pub(super) fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        let run = || -> TractResult<Vec<Tensor>> {
            let mut values = tvec!();
            for &index in &self.inputs {
                values.push(to_tract(&inputs[index])?.into());
            }
            let outputs = self.plan.run(values)?;
            outputs.iter().map(|value| from_tract(value)).collect()
        };
        run().map_err(|e| format!("{e:#}"))
    }
}

fn datum_type(dtype: crate::tensor::Dtype) -> DatumType {
    use crate::tensor::Dtype;
    match dtype {
        Dtype::Float32 => DatumType::F32,
        Dtype::Float64 => DatumType::F64,
        Dtype::Int64 => DatumType::I64,
        Dtype::Int32 => DatumType::I32,
        Dtype::Bool => DatumType::Bool,
        Dtype::String => DatumType::String,
        Dtype::Uint8 => DatumType::U8,
        Dtype::Int8 => DatumType::I8,
    }
}

type TractTensor = tract_onnx::prelude::Tensor;

fn to_tract(tensor: &Tensor) -> TractResult<TractTensor> {
    let shape = tensor.shape.dims();
    match &tensor.data {
        Data::Float32(v) => TractTensor::from_shape(shape, v),
        Data::Float64(v) => TractTensor::from_shape(shape, v),
        Data::Int64(v) => TractTensor::from_shape(shape, v),
        Data::Int32(v) => TractTensor::from_shape(shape, v),
        Data::Uint8(v) => TractTensor::from_shape(shape, v),
        Data::Int8(v) => TractTensor::from_shape(shape, v),
        Data::Bool(v) => {
            let v: Vec<bool> = v.iter().map(|&b| b != 0).collect();
            TractTensor::from_shape(shape, &v)
        }
        Data::String(v) => {
            let v: Vec<String> = v.view().iter().map(str::to_owned).collect();
            Ok(tract_ndarray::ArrayD::from_shape_vec(shape, v)?.into())
        }
    }
}

fn from_tract(tensor: &TractTensor) -> TractResult<Tensor> {
    // What tract takes for dimensions are integers to everyone else.
    if tensor.datum_type() == DatumType::TDim {
        let integers = tensor.cast_to::<i64>()?;
        return from_tract(&integers);
    }
    let dims = tensor.shape();
    let Some(shape) = Shape::new(dims) else {
        bail!("an output has the shape {dims:?}; at most {RANK_MAX} dimensions are supported");
    };
    macro_rules! numbers {
        ($t:ty) => {
            tensor.to_plain_array_view::<$t>()?.iter().copied().collect()
        };
    }
    let data = match tensor.datum_type() {
        DatumType::F32 => Data::Float32(numbers!(f32)),
        DatumType::F64 => Data::Float64(numbers!(f64)),
        DatumType::I64 => Data::Int64(numbers!(i64)),
        DatumType::I32 => Data::Int32(numbers!(i32)),
        DatumType::String => {
            let mut strings = Strings::default();
            let view = tensor.to_plain_array_view::<String>()?;
            view.iter().for_each(|s| strings.push(s));
            Data::String(strings)
        }
        DatumType::U8 => Data::Uint8(numbers!(u8)),
        DatumType::I8 => Data::Int8(numbers!(i8)),
        DatumType::Bool => Data::Bool(
            tensor
                .to_plain_array_view::<bool>()?
                .iter()
                .map(|&b| u8::from(b))
                .collect(),
        ),
        other => bail!("an output of type {other:?} is not supported"),
    };
    Ok(Tensor { shape, data })
}
