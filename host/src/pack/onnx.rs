//! Reading ONNX files.
//!
//! The messages are the part of `onnx.proto` (ONNX IR version 13) that models
//! use; fields that are not listed are passed over.

use modelet::tensor::{Data, Dtype, Shape, Strings, Tensor};
use prost::Message;
use std::collections::BTreeMap;

/// `ModelProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(string, tag = "3")]
    pub producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<Entry>,
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<Function>,
}

/// `FunctionProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Function {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<Node>,
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSet>,
    #[prost(string, tag = "10")]
    pub domain: String,
    /// Attributes with defaults; those without are not needed here.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<Attribute>,
    #[prost(string, tag = "13")]
    pub overload: String,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// `StringStringEntryProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
    /// Read only to say that there are some.
    #[prost(bytes = "vec", repeated, tag = "15")]
    pub sparse_initializer: Vec<Vec<u8>>,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub domain: String,
    #[prost(string, tag = "8")]
    pub overload: String,
}

/// `AttributeProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, tag = "2")]
    pub f: f32,
    #[prost(int64, tag = "3")]
    pub i: i64,
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    #[prost(message, optional, tag = "6")]
    pub g: Option<Graph>,
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    /// `AttributeProto.AttributeType`.
    #[prost(int32, tag = "20")]
    pub r#type: i32,
    /// In a function: the attribute of the call that this one stands for.
    #[prost(string, tag = "21")]
    pub ref_attr_name: String,
}

/// `TensorProto`.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub string_data: Vec<Vec<u8>>,
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", optional, tag = "9")]
    pub raw_data: Option<Vec<u8>>,
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// `ValueInfoProto`.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

/// `TypeProto`.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
    #[prost(message, optional, boxed, tag = "4")]
    pub sequence_type: Option<Box<SequenceType>>,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
}

/// `TypeProto.Sequence`.
#[derive(Clone, PartialEq, Message)]
pub struct SequenceType {
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShape {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}

/// The number of float16.
pub const FLOAT16: i32 = 10;

/// The value of an IEEE 754 binary16.
fn half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10 & 31), u32::from(bits & 0x3ff));
    match exponent {
        0 => f32::from_bits(sign | (fraction as f32 / 16_777_216.0).to_bits()),
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// The element type of this ONNX number; the engine holds float16 as float32.
pub fn dtype(elem_type: i32) -> Result<Dtype, String> {
    Ok(match elem_type {
        1 | FLOAT16 => Dtype::Float32,
        11 => Dtype::Float64,
        7 => Dtype::Int64,
        6 => Dtype::Int32,
        9 => Dtype::Bool,
        8 => Dtype::String,
        2 => Dtype::Uint8,
        3 => Dtype::Int8,
        other => {
            let name = match other {
                4 => "uint16",
                5 => "int16",
                12 => "uint32",
                13 => "uint64",
                16 => "bfloat16",
                _ => return Err(format!("element type {other}")),
            };
            return Err(format!("element type {name}"));
        }
    })
}

impl ValueInfo {
    /// Whether it is a tensor of float16.
    pub fn is_float16(&self) -> bool {
        let tensor = self.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        tensor.is_some_and(|t| t.elem_type == FLOAT16)
    }
}

/// Reads an ONNX file's bytes.
///
/// # Errors
/// In words, when they are not an ONNX model or are cut off.
pub fn read(bytes: &[u8]) -> Result<Model, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    let model = Model::decode(bytes).map_err(|e| format!("not an ONNX model, or a truncated one: {e}"))?;
    match &model.graph {
        Some(graph) if !graph.output.is_empty() => Ok(model),
        _ => Err("not an ONNX model: it has no graph with outputs".into()),
    }
}

/// Reads a `TensorProto` that is a file of its own, as test data are.
///
/// # Errors
/// In words, when the bytes are none.
pub fn read_tensor(bytes: &[u8]) -> Result<TensorProto, String> {
    TensorProto::decode(bytes).map_err(|e| format!("not a tensor: {e}"))
}

impl Model {
    /// Version of every operator set; the default domain is `ai.onnx`.
    pub fn opsets(&self) -> BTreeMap<String, i64> {
        let mut opsets = BTreeMap::new();
        for set in &self.opset_import {
            let version = opsets.entry(domain(&set.domain).to_owned()).or_insert(set.version);
            *version = (*version).max(set.version);
        }
        opsets
    }
}

/// A domain's full name.
pub fn domain(name: &str) -> &str {
    if name.is_empty() { "ai.onnx" } else { name }
}

impl Node {
    /// Domain and operator, as listings have them.
    pub fn operator(&self) -> String {
        match domain(&self.domain) {
            "ai.onnx" => self.op_type.clone(),
            other => format!("{other}.{}", self.op_type),
        }
    }

    /// The attribute of this name.
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.attribute.iter().find(|a| a.name == name)
    }

    /// An integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.get(name).map_or(default, |a| a.i)
    }

    /// A float attribute, or its default.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.get(name).map_or(default, |a| a.f)
    }

    /// A text attribute, or its default.
    pub fn text(&self, name: &str, default: &str) -> String {
        self.get(name)
            .map_or(default.into(), |a| String::from_utf8_lossy(&a.s).into_owned())
    }

    /// A list of integers; empty if it is not given.
    pub fn ints(&self, name: &str) -> &[i64] {
        self.get(name).map_or(&[], |a| &a.ints)
    }

    /// A list of floats; empty if it is not given.
    pub fn floats(&self, name: &str) -> &[f32] {
        self.get(name).map_or(&[], |a| &a.floats)
    }

    /// A list of texts; empty if it is not given.
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.get(name).map_or(Vec::new(), |a| {
            a.strings
                .iter()
                .map(|s| String::from_utf8_lossy(s).into_owned())
                .collect()
        })
    }
}

impl TensorProto {
    /// The tensor.
    ///
    /// # Errors
    /// In words, for types that the engine does not have, data kept in other
    /// files, and data that do not fit the shape.
    pub fn tensor(&self) -> Result<Tensor, String> {
        if self.data_location != 0 {
            return Err("its data lie in another file; save the model as a single file".into());
        }
        let dims: Vec<usize> = self
            .dims
            .iter()
            .map(|&d| usize::try_from(d).map_err(|_| format!("dimension {d}")))
            .collect::<Result<_, _>>()?;
        let shape = Shape::new(&dims).ok_or_else(|| format!("shape {dims:?}"))?;
        let raw = self.raw_data.as_deref();
        macro_rules! numbers {
            ($t:ty, $field:expr) => {
                match raw {
                    Some(raw) => raw
                        .chunks_exact(size_of::<$t>())
                        .map(|b| <$t>::from_le_bytes(b.try_into().expect("a chunk has the size of the type")))
                        .collect::<Vec<$t>>(),
                    None => $field,
                }
            };
        }
        let data = match dtype(self.data_type)? {
            Dtype::Float32 if self.data_type == FLOAT16 => {
                let bits = numbers!(u16, self.int32_data.iter().map(|&v| v as u16).collect());
                Data::Float32(bits.into_iter().map(half).collect())
            }
            Dtype::Float32 => Data::Float32(numbers!(f32, self.float_data.clone())),
            Dtype::Float64 => Data::Float64(numbers!(f64, self.double_data.clone())),
            Dtype::Int64 => Data::Int64(numbers!(i64, self.int64_data.clone())),
            Dtype::Int32 => Data::Int32(numbers!(i32, self.int32_data.clone())),
            Dtype::Bool => Data::Bool(match raw {
                Some(raw) => raw.iter().map(|&b| u8::from(b != 0)).collect(),
                None => self.int32_data.iter().map(|&b| u8::from(b != 0)).collect(),
            }),
            Dtype::Uint8 => Data::Uint8(match raw {
                Some(raw) => raw.to_vec(),
                None => self.int32_data.iter().map(|&v| v as u8).collect(),
            }),
            Dtype::Int8 => Data::Int8(match raw {
                Some(raw) => raw.iter().map(|&v| v as i8).collect(),
                None => self.int32_data.iter().map(|&v| v as i8).collect(),
            }),
            Dtype::String => {
                let mut strings = Strings::default();
                for text in &self.string_data {
                    strings.push(&String::from_utf8_lossy(text));
                }
                Data::String(strings)
            }
        };
        if data.len() != shape.len() {
            return Err(format!("{} elements for the shape {dims:?}", data.len()));
        }
        Ok(Tensor { shape, data })
    }
}
