//! Lowering of operators on text.

mod regex;

use super::encode::{keys_of, sorted, strings, vector};
use super::{Lowering, Why};
use crate::pack::onnx::{self, Node};
use modelet::ops::Op;
use modelet::ops::cast::Cast;
use modelet::ops::regex::RegexFullMatch;
use modelet::ops::text::{Case, StringNormalizer, StringSplit, TextPair};
use modelet::ops::tf_idf::{Grams, TfIdf};
use modelet::ops::tokenizer::{Tokenizer, Tokens};
use modelet::signature::Labels;
use modelet::tensor::{Data, Dtype, Tensor};

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn text_node(&mut self, node: &'a Node, _version: i64) -> Why<bool> {
        match (onnx::domain(&node.domain), node.op_type.as_str()) {
            ("ai.onnx", "Cast") => {
                let to = onnx::dtype(node.int("to", 1) as i32);
                let input = self.input(node, 0)?;
                let from = self.dtype(input);
                if to != Ok(Dtype::String) && from != Some(Dtype::String) {
                    return Ok(false);
                }
                let to = to.map_err(|t| format!("to {t}"))?;
                if from == Some(to) {
                    return self.alias(node, input).map(|()| true);
                }
                self.cast_text(node, input, to)
            }
            ("ai.onnx", "CastLike") => {
                let (input, like) = (self.input(node, 0)?, self.input(node, 1)?);
                match (self.dtype(input), self.dtype(like)) {
                    (Some(from), Some(to)) if from != to && (from == Dtype::String || to == Dtype::String) => {
                        self.cast_text(node, input, to)
                    }
                    _ => return Ok(false),
                }
            }
            ("ai.onnx", "Equal") => {
                let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
                if ![a, b].iter().any(|name| self.dtype(name) == Some(Dtype::String)) {
                    return Ok(false);
                }
                self.emit(node, Op::TextPair(TextPair::Equal), &[a, b], Some(Dtype::Bool))
            }
            ("ai.onnx", "StringConcat") => {
                let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
                self.emit(node, Op::TextPair(TextPair::Concat), &[a, b], Some(Dtype::String))
            }
            ("ai.onnx", "StringSplit") => {
                let input = self.input(node, 0)?;
                let op = StringSplit {
                    delimiter: node.text("delimiter", ""),
                    // A negative number is no limit.
                    cuts_max: u64::try_from(node.int("maxsplit", -1)).unwrap_or(u64::MAX),
                };
                let dtypes = [Some(Dtype::String), Some(Dtype::Int64)];
                self.emit_all(node, Op::StringSplit(op), &[input], &dtypes)
            }
            ("ai.onnx", "RegexFullMatch") => {
                let input = self.input(node, 0)?;
                let pattern = node.text("pattern", "");
                let op = RegexFullMatch {
                    regex: regex::compile(&pattern).map_err(|why| format!("pattern {pattern:?}: {why}"))?,
                };
                self.emit(node, Op::RegexFullMatch(op), &[input], Some(Dtype::Bool))
            }
            ("ai.onnx", "StringNormalizer") => self.string_normalizer(node),
            ("ai.onnx", "TfIdfVectorizer") => self.tf_idf(node),
            ("com.microsoft", "Tokenizer") => self.tokenizer(node),
            _ => return Ok(false),
        }
        .map(|()| true)
    }

    fn cast_text(&mut self, node: &'a Node, input: &str, to: Dtype) -> Why<()> {
        self.emit(node, Op::Cast(Cast { to }), &[input], Some(to))?;
        if let Some(value) = node.output.first().and_then(|name| self.values.get_mut(name.as_str())) {
            value.labels = value.labels.take().and_then(|labels| cast_labels(labels, to));
        }
        Ok(())
    }

    fn string_normalizer(&mut self, node: &'a Node) -> Why<()> {
        let input = self.input(node, 0)?;
        let locale = node.text("locale", "en_US");
        let ascii = matches!(locale.as_str(), "C" | "POSIX");
        if ["tr", "az"].iter().any(|language| locale.starts_with(language)) {
            return Err(format!("the cases of locale {locale:?}"));
        }
        let [lower, upper] = match ascii {
            true => [Case::LowerAscii, Case::UpperAscii],
            false => [Case::Lower, Case::Upper],
        };
        let case = match node.text("case_change_action", "NONE").as_str() {
            "NONE" => Case::Keep,
            "LOWER" => lower,
            "UPPER" => upper,
            other => return Err(format!("case_change_action {other:?}")),
        };
        let compare = match (node.int("is_case_sensitive", 0), case) {
            (0, Case::Keep) => lower,
            (0, case) => case,
            _ => Case::Keep,
        };
        let mut words = node.texts("stopwords");
        for word in &mut words {
            let given = std::mem::take(word);
            compare.apply(&given, word);
        }
        words.sort_unstable();
        words.dedup();
        let op = StringNormalizer {
            case,
            compare,
            stop_words: self.builder.strings(&words),
        };
        self.emit_all(node, Op::StringNormalizer(op), &[input], &[Some(Dtype::String)])
    }

    fn tokenizer(&mut self, node: &'a Node) -> Why<()> {
        let input = self.input(node, 0)?;
        let characters_min = node.int("mincharnum", 1);
        let characters_min = u32::try_from(characters_min)
            .ok()
            .filter(|&count| count > 0)
            .ok_or_else(|| format!("mincharnum {characters_min}"))?;
        let compile = |pattern: &str| regex::compile(pattern).map_err(|why| format!("expression {pattern:?}: {why}"));
        let separators = node.texts("separators");
        let tokens = match (node.get("separators"), node.text("tokenexp", "").as_str()) {
            (Some(_), _) => match &separators[..] {
                [] => return Err("no separators".into()),
                [separator] if separator.is_empty() => Tokens::Characters,
                separators => Tokens::Between(separators.iter().map(|s| compile(s)).collect::<Why<_>>()?),
            },
            (None, "") => return Err("neither separators nor tokenexp".into()),
            (None, ".") => Tokens::Characters,
            (None, pattern) => Tokens::Matches(compile(pattern)?),
        };
        if matches!(tokens, Tokens::Characters) && characters_min > 1 {
            return Err(format!("mincharnum {characters_min} of single characters"));
        }
        let op = Tokenizer {
            tokens,
            mark: node.int("mark", 0) != 0,
            pad: node.text("pad_value", ""),
            characters_min,
        };
        self.emit(node, Op::Tokenizer(op), &[input], Some(Dtype::String))
    }

    fn tf_idf(&mut self, node: &'a Node) -> Why<()> {
        let input = self.input(node, 0)?;
        let texts = node.texts("pool_strings");
        let pool = match texts.is_empty() {
            false => vector(Data::String(strings(&texts))),
            true => vector(Data::Int64(node.ints("pool_int64s").to_vec())),
        };
        let total = pool.shape.len();
        let text = matches!(pool.data, Data::String(_));
        match self.dtype(input) {
            None => {}
            Some(Dtype::String) if text => {}
            Some(Dtype::Int64 | Dtype::Int32) if !text => {}
            Some(other) => return Err(format!("an input of type {other} and a pool of another")),
        }
        let length = |name: &str| -> Why<usize> {
            let length = node.int(name, 0);
            usize::try_from(length)
                .ok()
                .filter(|&length| length > 0)
                .ok_or_else(|| format!("{name} {length}"))
        };
        let (shortest, longest) = (length("min_gram_length")?, length("max_gram_length")?);
        let skips = node.int("max_skip_count", 0);
        let columns = node
            .ints("ngram_indexes")
            .iter()
            .map(|&column| {
                u32::try_from(column)
                    .ok()
                    .filter(|&column| column < 1 << 28)
                    .ok_or_else(|| format!("ngram_indexes has {column}"))
            })
            .collect::<Why<Vec<u32>>>()?;
        let width = columns.iter().max().ok_or("no ngram_indexes")? + 1;

        let mode = node.text("mode", "");
        let weights = match mode.as_str() {
            "TF" => &[],
            "IDF" | "TFIDF" => node.floats("weights"),
            _ => return Err(format!("mode {mode:?}")),
        };
        if !weights.is_empty() && weights.len() != columns.len() {
            return Err(format!("{} weights for {} n-grams", weights.len(), columns.len()));
        }

        let order = sorted(&pool, false)?;
        let items = ranks(&pool, &order);
        let counts = node.ints("ngram_counts");
        let mut grams = Vec::new();
        let mut first = 0;
        for (index, &start) in counts.iter().enumerate() {
            let n = index + 1;
            let end = counts.get(n).copied().unwrap_or(total as i64);
            let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            let items = range
                .and_then(|(start, end)| items.get(start..end))
                .filter(|items| items.len().is_multiple_of(n))
                .ok_or_else(|| format!("{n}-grams from {start} to {end} of {total} items"))?;
            let count = items.len() / n;
            let columns = columns
                .get(first..first + count)
                .ok_or_else(|| format!("{} ngram_indexes for more n-grams", columns.len()))?;
            let weights = weights.get(first..first + count).unwrap_or(&[]);
            first += count;
            if count == 0 || !(shortest..=longest).contains(&n) {
                continue;
            }
            let mut sorted: Vec<(&[u32], usize)> = items.chunks_exact(n).zip(0..).collect();
            sorted.sort_unstable();
            if sorted.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return Err(format!("one of the {n}-grams is there twice"));
            }
            let ranks: Vec<u32> = sorted.iter().flat_map(|(gram, _)| gram.iter().copied()).collect();
            let columns: Vec<u32> = sorted.iter().map(|&(_, at)| columns[at]).collect();
            let weights: Vec<f32> = sorted.iter().filter_map(|&(_, at)| weights.get(at).copied()).collect();
            grams.push(Grams {
                length: n as u32,
                ranks: self.builder.array(&ranks),
                columns: self.builder.array(&columns),
                weights: self.builder.array(&weights),
            });
        }

        let op = TfIdf {
            items: keys_of(&mut self.builder, &pool, &order)?,
            grams,
            width,
            skips: u64::try_from(skips).map_err(|_| format!("max_skip_count {skips}"))?,
            binary: mode == "IDF",
        };
        self.emit_all(node, Op::TfIdf(op), &[input], &[Some(Dtype::Float32)])
    }
}

/// What a cast makes of class labels.
fn cast_labels(labels: Labels, to: Dtype) -> Option<Labels> {
    match (labels, to) {
        (Labels::Int64(v), Dtype::String) => Some(Labels::String(v.iter().map(i64::to_string).collect())),
        (Labels::String(v), Dtype::Int64) => v
            .iter()
            .map(|v| v.parse().ok())
            .collect::<Option<_>>()
            .map(Labels::Int64),
        _ => None,
    }
}

/// The rank of every item among the different ones, of which `order` has the
/// indices in ascending order.
fn ranks(pool: &Tensor, order: &[usize]) -> Vec<u32> {
    match &pool.data {
        Data::String(v) => {
            let v = v.view();
            let rank = |text: &str| order.partition_point(|&at| v.get(at) < text) as u32;
            v.iter().map(rank).collect()
        }
        Data::Int64(v) => v
            .iter()
            .map(|&item| order.partition_point(|&at| v[at] < item) as u32)
            .collect(),
        _ => Vec::new(),
    }
}
