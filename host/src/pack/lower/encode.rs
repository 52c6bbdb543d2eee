//! Lowering of what turns columns into other columns: encoders, imputers and
//! the like.

use super::shape::labels_of;
use super::{Lowering, Value, Why};
use crate::pack::onnx::Node;
use modelet::ops::Op;
use modelet::ops::binarizer::Binarizer;
use modelet::ops::feature_vectorizer::FeatureVectorizer;
use modelet::ops::gather::Gather;
use modelet::ops::imputer::Imputer;
use modelet::ops::lookup::{Keys, Lookup, OneHot, float_order};
use modelet::program::Builder;
use modelet::signature;
use modelet::tensor::{Data, Dtype, Shape, Strings, Tensor, Values};
use std::cmp::Ordering;

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn encoder_node(&mut self, node: &'a Node, version: i64) -> Why<bool> {
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
            "LabelEncoder" if version < 2 => self.category_mapper(node, None, &node.texts("classes_strings")),
            "LabelEncoder" => self.label_encoder(node, version),
            "CategoryMapper" => {
                let texts = node.texts("cats_strings");
                self.category_mapper(node, Some(node.ints("cats_int64s")), &texts)
            }
            "OneHotEncoder" => self.one_hot(node),
            "Imputer" => self.imputer(node),
            "Binarizer" => {
                let input = self.input(node, 0)?;
                let op = Binarizer {
                    threshold: node.float("threshold", 0.0),
                };
                let dtype = self.dtype(input);
                self.emit(node, Op::Binarizer(op), &[input], dtype)
            }
            "FeatureVectorizer" => {
                let sizes = node.ints("inputdimensions");
                if sizes.len() != node.input.len() {
                    return Err(format!("{} sizes for {} inputs", sizes.len(), node.input.len()));
                }
                let sizes = sizes
                    .iter()
                    .map(|&size| u32::try_from(size).map_err(|_| format!("{size} columns")))
                    .collect::<Why<_>>()?;
                let inputs: Vec<&str> = node.input.iter().map(String::as_str).collect();
                let op = FeatureVectorizer { sizes };
                self.emit(node, Op::FeatureVectorizer(op), &inputs, Some(Dtype::Float32))
            }
            "DictVectorizer" => Err("its input is a map, and inputs are tensors".into()),
            _ => return Ok(false),
        }
        .map(|()| true)
    }

    /// Versions from 2 on: a list of keys and one of values, in attributes of
    /// their types or in tensors.
    fn label_encoder(&mut self, node: &'a Node, version: i64) -> Why<()> {
        let keys = list(node, "keys")?.ok_or("no keys")?;
        let values = list(node, "values")?.ok_or("no values")?;
        let count = keys.shape.len();
        if values.shape.len() != count {
            return Err(format!("{} values for {count} keys", values.shape.len()));
        }
        let default = default(node, values.data.dtype())?;
        let mut order = sorted(&keys, false)?;
        if version < 4 {
            // Until then NaN is equal to no key, not even to itself.
            order.retain(|&at| !keys.view().number(at).is_some_and(f64::is_nan));
        }
        self.lookup(node, &keys, &values, &default, &order)
    }

    /// Version 1 of LabelEncoder, whose integers are the indices of the texts,
    /// and CategoryMapper, which has a list of them; which way it goes follows
    /// from the input.
    fn category_mapper(&mut self, node: &'a Node, ints: Option<&[i64]>, texts: &[String]) -> Why<()> {
        let ints = match ints {
            Some(ints) => ints.to_vec(),
            None => (0..texts.len() as i64).collect(),
        };
        if ints.len() != texts.len() {
            return Err(format!("{} integers for {} texts", ints.len(), texts.len()));
        }
        let ints = vector(Data::Int64(ints));
        let texts = vector(Data::String(strings(texts)));
        let (keys, values) = match self.dtype(self.input(node, 0)?) {
            Some(Dtype::String) => (texts, ints),
            Some(Dtype::Int64) => (ints, texts),
            Some(other) => return Err(format!("an input of type {other}")),
            None => return Err("an input of unknown type".into()),
        };
        let default = default(node, values.data.dtype())?;
        let order = sorted(&keys, true)?;
        self.lookup(node, &keys, &values, &default, &order)
    }

    /// A lookup of the keys and values at the indices `order`.
    fn lookup(&mut self, node: &'a Node, keys: &Tensor, values: &Tensor, default: &Tensor, order: &[usize]) -> Why<()> {
        let input = self.input(node, 0)?;
        let fits = match (self.dtype(input), keys.data.dtype()) {
            (None, _) => true,
            (Some(Dtype::Float32 | Dtype::Float64), Dtype::Float32 | Dtype::Float64) => true,
            (Some(Dtype::Int64 | Dtype::Int32), Dtype::Int64 | Dtype::Int32) => true,
            (Some(x), key) => x == key,
        };
        if !fits {
            return Err(format!("keys of type {}", keys.data.dtype()));
        }
        let dtype = values.data.dtype();
        let mut table = Tensor::default();
        table.begin(dtype, Shape::vector(order.len() + 1));
        for &at in order {
            table.append(values.view(), at..at + 1);
        }
        table.append(default.view(), 0..1);
        let op = Lookup {
            keys: keys_of(&mut self.builder, keys, order)?,
        };
        // A classifier's labels stay labels under other names.
        let labels = self.value(input)?.labels.clone();
        let labels = labels.and_then(|labels| renamed(&labels, keys, &table, order));
        let (x, _) = self.source(input)?;
        let table = self.builder.constant(&table);
        let results = self.builder.push(Op::Lookup(op), vec![x, table]);
        let mut value = Value::computed(results[0], Some(dtype), &node.op_type);
        value.labels = labels;
        self.bind(node, 0, value);
        Ok(())
    }

    fn one_hot(&mut self, node: &'a Node) -> Why<()> {
        let input = self.input(node, 0)?;
        let (ints, texts) = (node.ints("cats_int64s"), node.texts("cats_strings"));
        let categories = match (ints, &texts[..]) {
            ([], []) => return Err("no categories".into()),
            (ints, []) => vector(Data::Int64(ints.to_vec())),
            ([], texts) => vector(Data::String(strings(texts))),
            _ => return Err("categories of both types".into()),
        };
        let text = matches!(categories.data, Data::String(_));
        if self.dtype(input).is_some_and(|dtype| (dtype == Dtype::String) != text) {
            return Err(format!("categories of type {}", categories.data.dtype()));
        }
        let order = sorted(&categories, true)?;
        let columns: Vec<u32> = order.iter().map(|&at| at as u32).collect();
        let op = OneHot {
            keys: keys_of(&mut self.builder, &categories, &order)?,
            columns: self.builder.array(&columns),
            width: categories.shape.len() as u32,
            zeros: node.int("zeros", 1) != 0,
        };
        self.emit_all(node, Op::OneHot(op), &[input], &[Some(Dtype::Float32)])
    }

    fn imputer(&mut self, node: &'a Node) -> Why<()> {
        let input = self.input(node, 0)?;
        let dtype = self.dtype(input);
        let op = match (node.floats("imputed_value_floats"), node.ints("imputed_value_int64s")) {
            ([], []) => return Err("no imputed values".into()),
            (floats, []) => Imputer::Float {
                missing: node.float("replaced_value_float", 0.0),
                values: self.builder.array(floats),
            },
            ([], ints) => Imputer::Int64 {
                missing: node.int("replaced_value_int64", 0),
                values: self.builder.array(ints),
            },
            _ => return Err("imputed values of both types".into()),
        };
        let float = matches!(op, Imputer::Float { .. });
        match dtype {
            Some(Dtype::Float32 | Dtype::Float64) if float => {}
            Some(Dtype::Int64 | Dtype::Int32) if !float => {}
            None => {}
            Some(other) => return Err(format!("an input of type {other} and imputed values of another")),
        }
        self.emit_all(node, Op::Imputer(op), &[input], &[dtype])
    }
}

pub(super) fn strings(texts: &[String]) -> Strings {
    let mut strings = Strings::default();
    texts.iter().for_each(|text| strings.push(text));
    strings
}

pub(super) fn vector(data: Data) -> Tensor {
    Tensor {
        shape: Shape::vector(data.len()),
        data,
    }
}

/// The list in `NAME_strings`, `NAME_int64s`, `NAME_floats` or `NAME_tensor`.
fn list(node: &Node, name: &str) -> Why<Option<Tensor>> {
    if let Some(attribute) = node.get(&format!("{name}_tensor")) {
        let tensor = attribute.t.as_ref().ok_or_else(|| format!("{name}_tensor is empty"))?;
        let tensor = tensor.tensor().map_err(|why| format!("{name}_tensor: {why}"))?;
        return Ok(Some(vector(tensor.data)));
    }
    // Exporters may give the lists of the other types too, with nothing in them.
    let strings = strings(&node.texts(&format!("{name}_strings")));
    let ints = node.ints(&format!("{name}_int64s"));
    let floats = node.floats(&format!("{name}_floats"));
    let data = match (strings.len(), ints, floats) {
        (0, [], []) => return Ok(None),
        (_, [], []) => Data::String(strings),
        (0, ints, []) => Data::Int64(ints.to_vec()),
        (0, [], floats) => Data::Float32(floats.to_vec()),
        _ => return Err(format!("{name} of several types")),
    };
    Ok(Some(vector(data)))
}

/// The value of what is no key.
fn default(node: &Node, dtype: Dtype) -> Why<Tensor> {
    if let Some(tensor) = node.get("default_tensor").and_then(|a| a.t.as_ref())
        && tensor.data_type != 0
    {
        let tensor = tensor.tensor().map_err(|why| format!("default_tensor: {why}"))?;
        return match tensor.data.dtype() == dtype && tensor.shape.len() == 1 {
            true => Ok(tensor),
            false => Err(format!(
                "default_tensor is {} of shape {:?}",
                tensor.data.dtype(),
                tensor.shape
            )),
        };
    }
    let int = node.int("default_int64", -1);
    let float = node.float("default_float", -0.0);
    Ok(vector(match dtype {
        Dtype::String => Data::String(strings(&[node.text("default_string", "_Unused")])),
        Dtype::Int64 => Data::Int64(vec![int]),
        Dtype::Int32 => Data::Int32(vec![i32::try_from(int).map_err(|_| format!("default_int64 {int}"))?]),
        Dtype::Float32 => Data::Float32(vec![float]),
        Dtype::Float64 => Data::Float64(vec![f64::from(float)]),
        other => return Err(format!("values of type {other}")),
    }))
}

fn compare(keys: &Tensor, a: usize, b: usize) -> Ordering {
    match &keys.data {
        Data::String(v) => v.view().get(a).cmp(v.view().get(b)),
        Data::Int64(v) => v[a].cmp(&v[b]),
        _ => {
            let number = |at| keys.view().number(at).unwrap_or(f64::NAN);
            float_order(number(a), number(b))
        }
    }
}

/// The indices of the keys in ascending order; of equal ones the last or else
/// the first alone.
pub(super) fn sorted(keys: &Tensor, last: bool) -> Why<Vec<usize>> {
    if matches!(keys.data.dtype(), Dtype::Bool | Dtype::Uint8 | Dtype::Int8) {
        return Err(format!("keys of type {}", keys.data.dtype()));
    }
    let mut order: Vec<usize> = (0..keys.shape.len()).collect();
    order.sort_by(|&a, &b| {
        let ties = if last { b.cmp(&a) } else { a.cmp(&b) };
        compare(keys, a, b).then(ties)
    });
    order.dedup_by(|&mut later, &mut first| compare(keys, later, first) == Ordering::Equal);
    Ok(order)
}

/// The keys at these indices, which are in ascending order.
pub(super) fn keys_of(builder: &mut Builder, keys: &Tensor, order: &[usize]) -> Why<Keys> {
    let view = keys.view();
    Ok(match view.values {
        Values::String(v) => {
            let texts: Vec<&str> = order.iter().map(|&at| v.get(at)).collect();
            Keys::String(builder.strings(&texts))
        }
        Values::Int64(v) => {
            let ints: Vec<i64> = order.iter().map(|&at| v[at]).collect();
            Keys::Int64(builder.array(&ints))
        }
        Values::Int32(v) => {
            let ints: Vec<i64> = order.iter().map(|&at| i64::from(v[at])).collect();
            Keys::Int64(builder.array(&ints))
        }
        Values::Float32(_) | Values::Float64(_) => {
            let floats: Vec<f64> = order.iter().filter_map(|&at| view.number(at)).collect();
            Keys::Float(builder.array(&floats))
        }
        _ => return Err(format!("keys of type {}", keys.data.dtype())),
    })
}

/// What a lookup makes of class labels: `table` has the values of the keys at
/// `order`, and then the default.
fn renamed(labels: &signature::Labels, keys: &Tensor, table: &Tensor, order: &[usize]) -> Option<signature::Labels> {
    let rank = |label: &dyn Fn(usize) -> bool| order.iter().position(|&at| label(at)).unwrap_or(order.len());
    let ranks: Vec<usize> = match (labels, keys.view().values) {
        (signature::Labels::Int64(labels), Values::Int64(keys)) => {
            labels.iter().map(|label| rank(&|at| keys[at] == *label)).collect()
        }
        (signature::Labels::String(labels), Values::String(keys)) => {
            labels.iter().map(|label| rank(&|at| keys.get(at) == label)).collect()
        }
        _ => return None,
    };
    let mut renamed = Tensor::default();
    renamed.begin(table.data.dtype(), Shape::vector(ranks.len()));
    for rank in ranks {
        renamed.append(table.view(), rank..rank + 1);
    }
    labels_of(&renamed)
}
