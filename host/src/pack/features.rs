//! The features: names, types and ranges, derived from the graph's inputs and
//! the reference data.

use super::onnx;
use super::overrides::Overrides;
use crate::data::{Cell, Column, Table, Values, typed};
use modelet::drift::Bins;
use modelet::signature::{Category, Column as Monitored, Feature, FeatureType, Input, Range};
use modelet::tensor::Dtype;
use std::collections::HashMap;

/// Columns told of that are wrong.
const WRONG_TOLD: usize = 5;

/// An input as the graph declares it.
#[derive(Clone, Debug)]
pub struct GraphInput {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its dimensions; `None` where the graph leaves them open or names them.
    pub dims: Vec<Option<u64>>,
}

/// The graph's inputs but for those that are constants.
///
/// # Errors
/// In words, for inputs that are no tensors or of other element types.
pub fn graph_inputs(model: &onnx::Model) -> Result<Vec<GraphInput>, String> {
    let graph = model.graph.as_ref().ok_or("it has no graph")?;
    let mut inputs = Vec::new();
    for input in &graph.input {
        if graph.initializer.iter().any(|i| i.name == input.name) {
            continue;
        }
        let wrong = |what: &str| format!("input {:?}: {what}", input.name);
        let tensor = input
            .r#type
            .as_ref()
            .and_then(|t| t.tensor_type.as_ref())
            .ok_or_else(|| wrong("not a tensor"))?;
        let dtype = onnx::dtype(tensor.elem_type).map_err(|t| wrong(&format!("{t} is not supported")))?;
        let dims = tensor.shape.as_ref().map_or(vec![None, None], |shape| {
            shape
                .dim
                .iter()
                .map(|d| d.dim_value.and_then(|v| u64::try_from(v).ok()).filter(|&v| v > 0))
                .collect()
        });
        inputs.push(GraphInput {
            name: input.name.clone(),
            dtype,
            dims,
        });
    }
    if inputs.is_empty() {
        return Err("the graph has no inputs".into());
    }
    Ok(inputs)
}

/// Whether the graph takes one record at a time: its batch dimension is fixed
/// at 1.
pub fn fixed_batch(inputs: &[GraphInput]) -> bool {
    inputs.iter().any(|i| i.dims.len() > 1 && i.dims[0] == Some(1))
}

/// The features and inputs.
#[derive(Debug)]
pub struct Derived {
    /// Ordered features.
    pub features: Vec<Feature>,
    /// The model's inputs.
    pub inputs: Vec<Input>,
    /// The monitored column of each feature, not counted yet.
    pub columns: Vec<Monitored>,
}

/// Derives the features.
///
/// # Errors
/// In words: columns missing from the data, or too many, or of a type that the
/// model does not take; a number of columns that nothing tells.
pub fn derive(
    graph: &[GraphInput],
    data: Option<&Table>,
    label: Option<&str>,
    overrides: &Overrides,
    metadata: &[String],
    columns_needed: Option<u64>,
) -> Result<Derived, String> {
    let candidates: Vec<&Column> = data
        .map(|t| t.columns.iter().filter(|c| Some(c.name.as_str()) != label).collect())
        .unwrap_or_default();
    let mut inputs = Vec::new();
    let mut places = Vec::new();
    for (index, input) in graph.iter().enumerate() {
        let mut shape: Vec<Option<u64>> = input.dims.get(1..).unwrap_or(&[]).to_vec();
        if let [None] = shape[..] {
            let known = if graph.len() > 1 {
                Some(1)
            } else if !overrides.features.is_empty() {
                Some(overrides.features.len() as u64)
            } else if data.is_some() {
                Some(candidates.len() as u64)
            } else if !metadata.is_empty() {
                Some(metadata.len() as u64)
            } else {
                columns_needed
            };
            shape = vec![known];
        }
        let shape: Vec<u32> = shape
            .iter()
            .map(|d| d.and_then(|d| u32::try_from(d).ok()))
            .collect::<Option<_>>()
            .ok_or_else(|| {
                format!(
                    "input {:?}: the graph does not say how many columns it has; give --data or --signature",
                    input.name
                )
            })?;
        let input = Input {
            name: input.name.clone(),
            dtype: input.dtype,
            shape,
        };
        let width = input.width();
        if width == 0 || width > 1 << 20 {
            return Err(format!("input {:?}: {width} values of a record", input.name));
        }
        places.extend((0..width as u32).map(|column| (index as u16, column)));
        inputs.push(input);
    }
    let names = names(&inputs, places.len(), data, &candidates, label, overrides, metadata)?;
    for given in &overrides.features {
        if !names.contains(&given.name) {
            return Err(format!(
                "the signature has a feature {:?}, which the model does not",
                given.name
            ));
        }
    }
    let by_name: HashMap<&str, &Column> = candidates.iter().map(|c| (c.name.as_str(), *c)).collect();
    let mut features = Vec::with_capacity(names.len());
    let mut columns = Vec::with_capacity(names.len());
    if let Some(label) = label.filter(|label| names.iter().any(|name| name == label)) {
        return Err(format!(
            "{label:?} (--label) is a feature of the model, and can't be the label"
        ));
    }
    let lacks = |name: &&String| data.is_some() && !by_name.contains_key(name.as_str());
    let lacking: Vec<String> = names.iter().filter(lacks).map(|name| format!("{name:?}")).collect();
    if !lacking.is_empty() {
        let mut have: Vec<&str> = candidates.iter().map(|c| c.name.as_str()).collect();
        have.truncate(30);
        return Err(format!(
            "the data have no column {}; they have {}",
            lacking.join(", "),
            have.join(", ")
        ));
    }
    let mut wrong = Vec::new();
    for (name, (input, column)) in names.into_iter().zip(places) {
        let values = by_name.get(name.as_str()).map(|column| &column.values);
        let dtype = inputs[input as usize].dtype;
        match feature(name, dtype, (input, column), values, overrides) {
            Ok((feature, monitored)) => {
                features.push(feature);
                columns.push(monitored);
            }
            Err(what) => wrong.push(what),
        }
    }
    if !wrong.is_empty() {
        return Err(all_wrong(wrong));
    }
    Ok(Derived {
        features,
        inputs,
        columns,
    })
}

fn names(
    inputs: &[Input],
    count: usize,
    data: Option<&Table>,
    candidates: &[&Column],
    label: Option<&str>,
    overrides: &Overrides,
    metadata: &[String],
) -> Result<Vec<String>, String> {
    if inputs.len() > 1 {
        return Ok(inputs
            .iter()
            .flat_map(|input| {
                let width = input.width();
                (0..width).map(move |i| match width {
                    1 => input.name.clone(),
                    _ => format!("{}_{i}", input.name),
                })
            })
            .collect());
    }
    if !overrides.features.is_empty() {
        if overrides.features.len() != count {
            return Err(format!(
                "the signature has {} features, but the model takes {count} columns",
                overrides.features.len()
            ));
        }
        return Ok(overrides.features.iter().map(|f| f.name.clone()).collect());
    }
    if data.is_some() {
        if candidates.len() != count {
            let mut have: Vec<&str> = candidates.iter().map(|c| c.name.as_str()).collect();
            have.truncate(30);
            let hint = match label {
                None if candidates.len() == count + 1 => "; name the label's column by --label",
                _ => "; drop the others or name the features in a --signature",
            };
            return Err(format!(
                "the model takes {count} columns, but the data have {}{}: {}{hint}",
                candidates.len(),
                if label.is_some() { " beside the label" } else { "" },
                have.join(", ")
            ));
        }
        return Ok(candidates.iter().map(|c| c.name.clone()).collect());
    }
    if metadata.len() == count {
        return Ok(metadata.to_vec());
    }
    Ok((0..count).map(|i| format!("f{i}")).collect())
}

/// What is wrong with a feature, or the data of its column.
struct Wrong {
    what: String,
    /// Whether the data have words where the model takes numbers.
    words: bool,
}

/// What is wrong, all in one.
fn all_wrong(mut wrong: Vec<Wrong>) -> String {
    // What the hint is for comes last.
    wrong.sort_by_key(|wrong| wrong.words);
    let hint = match wrong.iter().any(|wrong| wrong.words) {
        true => "; give an \"encoding\" in the signature if these are categories",
        false => "",
    };
    let more = match wrong.len().saturating_sub(WRONG_TOLD) {
        0 => String::new(),
        more => format!("; {more} more"),
    };
    wrong.truncate(WRONG_TOLD);
    let told: Vec<String> = wrong.into_iter().map(|wrong| wrong.what).collect();
    format!("{}{more}{hint}", told.join("; "))
}

/// Whether a category's code is the same in the model; a code is no text.
fn holds(dtype: Dtype, code: f64) -> bool {
    match dtype {
        Dtype::Float32 => (code as f32).is_finite(),
        Dtype::Float64 | Dtype::String => true,
        // 2^63 would be held for the integer below it.
        Dtype::Int64 => code < -(i64::MIN as f64) && (code as i64) as f64 == code,
        Dtype::Int32 => f64::from(code as i32) == code,
        Dtype::Uint8 => f64::from(code as u8) == code,
        Dtype::Int8 => f64::from(code as i8) == code,
        Dtype::Bool => code == 0.0 || code == 1.0,
    }
}

fn feature(
    name: String,
    dtype: Dtype,
    (input, column): (u16, u32),
    values: Option<&Values>,
    overrides: &Overrides,
) -> Result<(Feature, Monitored), Wrong> {
    let given = overrides.feature(&name);
    let encoding = given.map(|g| g.encoding.clone()).unwrap_or_default();
    let booleans = || encoding.is_empty() && values.is_some_and(Values::are_booleans);
    let derived = match dtype {
        Dtype::String => FeatureType::Category,
        Dtype::Float32 | Dtype::Float64 if !encoding.is_empty() => FeatureType::Category,
        Dtype::Bool => FeatureType::Boolean,
        _ if booleans() => FeatureType::Boolean,
        Dtype::Int64 | Dtype::Int32 | Dtype::Uint8 | Dtype::Int8 => FeatureType::Integer,
        Dtype::Float32 | Dtype::Float64 => FeatureType::Number,
    };
    let kind = given.and_then(|g| g.kind).unwrap_or(derived);
    let wrong = |what: String| Wrong {
        what: format!("feature {name:?}: {what}"),
        words: false,
    };
    if dtype == Dtype::String && kind != FeatureType::Category {
        return Err(wrong(format!(
            "the model takes text, so its type is category, not {}",
            kind.name()
        )));
    }
    let mut categories = given.map(|g| g.categories.clone()).unwrap_or_default();
    let listed = categories.iter().filter_map(|category| match category {
        Category::Code(code) => Some(*code),
        Category::Name(_) => None,
    });
    if let Some(code) = encoding
        .values()
        .copied()
        .chain(listed)
        .find(|code| !holds(dtype, *code))
    {
        return Err(wrong(format!("the model's {dtype} can't hold the code {code:?}")));
    }
    if kind == FeatureType::Category && dtype != Dtype::String {
        let no_code = |category: &&Category| matches!(category, Category::Name(name) if !encoding.contains_key(name));
        if let Some(name) = categories.iter().find(no_code) {
            return Err(wrong(format!(
                "the model takes numbers, but category {name} has no code; give it one in \"encoding\""
            )));
        }
    }
    let cell_of = |row: usize| values.map_or(Cell::Missing, |v| typed(v.get(row), kind, dtype, &encoding));
    let missing = (0..values.map_or(0, Values::len)).any(|row| matches!(cell_of(row), Cell::Missing));
    let float = matches!(dtype, Dtype::Float32 | Dtype::Float64);
    let nullable = given.and_then(|g| g.nullable).unwrap_or(missing);
    if nullable && !float && dtype != Dtype::String {
        return Err(wrong(format!(
            "values are missing, which the model's {dtype} can't say"
        )));
    }

    let mut seen = None;
    let mut example = given.and_then(|g| g.example.clone());
    let monitored = if kind == FeatureType::Category {
        let mut counts: Vec<(Category, u64)> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        for row in 0..values.map_or(0, Values::len) {
            let category = match cell_of(row) {
                Cell::Missing => continue,
                Cell::Other(kind) => return Err(wrong(format!("the data have {kind}"))),
                cell if dtype == Dtype::String => Category::Name(cell.to_string()),
                Cell::Text(text) | Cell::Csv(text) if encoding.contains_key(text) => Category::Name(text.into()),
                Cell::Text(text) | Cell::Csv(text) if encoding.is_empty() => {
                    return Err(Wrong {
                        words: true,
                        ..wrong(format!(
                            "the data have {text:?} in row {}, for which there is no code",
                            row + 1
                        ))
                    });
                }
                Cell::Text(text) | Cell::Csv(text) => {
                    return Err(wrong(format!(
                        "the data have {text:?} in row {}, which is not in its \"encoding\"",
                        row + 1
                    )));
                }
                Cell::Integer(code) => Category::Code(code as f64),
                Cell::Number(code) => Category::Code(code),
                Cell::Boolean(code) => Category::Code(f64::from(u8::from(code))),
            };
            match index.entry(category.to_string()) {
                std::collections::hash_map::Entry::Occupied(at) => counts[*at.get()].1 += 1,
                std::collections::hash_map::Entry::Vacant(at) => {
                    at.insert(counts.len());
                    counts.push((category, 1));
                }
            }
        }
        counts.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| order(a, b)));
        if example.is_none() {
            example = counts.first().map(|(category, _)| category.clone());
        }
        let mut frequent: Vec<Category> = counts.iter().map(|(category, _)| category.clone()).collect();
        if frequent.is_empty() {
            frequent = match encoding.is_empty() {
                true => categories.clone(),
                false => encoding.keys().map(|name| Category::Name(name.clone())).collect(),
            };
        }
        if encoding.is_empty() {
            for category in &frequent {
                if !categories.contains(category) {
                    categories.push(category.clone());
                }
            }
            categories.sort_by(order);
        }
        if example.is_none() {
            example = frequent.first().cloned();
        }
        Monitored::new(&name, Bins::from_categories(frequent))
    } else {
        let mut numbers = Vec::new();
        for row in 0..values.map_or(0, Values::len) {
            numbers.push(match cell_of(row) {
                Cell::Missing => f64::NAN,
                Cell::Number(value) => value,
                Cell::Integer(value) => value as f64,
                Cell::Boolean(value) => f64::from(u8::from(value)),
                Cell::Other(kind) => return Err(wrong(format!("the data have {kind}"))),
                Cell::Text(text) | Cell::Csv(text) => {
                    return Err(Wrong {
                        words: true,
                        ..wrong(format!(
                            "the model takes numbers, but the data have {text:?} in row {}",
                            row + 1
                        ))
                    });
                }
            });
        }
        // What the model gets, and what the monitor will see.
        let cast: Vec<f64> = match dtype {
            Dtype::Float32 => numbers.iter().map(|&v| f64::from(v as f32)).collect(),
            _ => numbers.clone(),
        };
        let finite = || cast.iter().copied().filter(|v| v.is_finite());
        let (min, max) = (finite().reduce(f64::min), finite().reduce(f64::max));
        if min.is_some() {
            seen = Some(Range { min, max });
            if example.is_none() {
                // As the data have it, without the digits of the cast.
                let mut sorted: Vec<f64> = numbers.iter().copied().filter(|v| v.is_finite()).collect();
                sorted.sort_by(f64::total_cmp);
                example = Some(Category::Code(sorted[sorted.len() / 2]));
            }
        }
        Monitored::of_numbers(&name, &cast)
    };
    let feature = Feature {
        kind,
        nullable,
        seen,
        allowed: given.and_then(|g| g.allowed),
        categories,
        closed: given.and_then(|g| g.closed).unwrap_or(false),
        encoding,
        example,
        input,
        column,
        name,
    };
    Ok((feature, monitored))
}

fn order(a: &Category, b: &Category) -> std::cmp::Ordering {
    match (a, b) {
        (Category::Code(a), Category::Code(b)) => a.total_cmp(b),
        (Category::Name(a), Category::Name(b)) => a.cmp(b),
        (Category::Code(_), Category::Name(_)) => std::cmp::Ordering::Less,
        (Category::Name(_), Category::Code(_)) => std::cmp::Ordering::Greater,
    }
}
