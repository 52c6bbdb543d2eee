//! The typed export `predictor` of a packed component, called where it lies: in
//! the component's core module.
//!
//! A component is a core module and adapters around it, through which WASI
//! comes in and typed values go out. A prediction needs none of WASI but a
//! clock, and what an engine keeps of a component's tasks and resources costs
//! more than many a prediction. So the host runs the core module alone and
//! follows the [canonical ABI] for the types of `predictor` itself: arguments
//! are written where the guest's `cabi_realloc` says, a result lies where the
//! function says, and `cabi_post_…` frees it. Whatever else the module imports
//! traps when it is called.
//!
//! Nothing that the guest says of its memory is believed before it is checked.
//!
//! [canonical ABI]: https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md

use super::memory::Account;
use anyhow::Context as _;
use modelet::api::{BatchOptions, Format, OnError};
use modelet::validate::{FaultCode, FaultCount};
use std::ops::Range;
use std::time::Instant as Time;
use wasmparser::{Parser, Payload};
use wasmtime::{Instance, InstancePre, Linker, Memory, Module, Result, Store, TypedFunc, bail};

const PREDICT: &str = "modelet:inference/predictor@0.1.0#predict";
const PREDICT_BATCH: &str = "modelet:inference/predictor@0.1.0#predict-batch";
const INFO: &str = "modelet:inference/predictor@0.1.0#info";
const CLOCK: &str = "wasi:clocks/monotonic-clock@0.";

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The response's body, JSON.
    pub body: Vec<u8>,
    /// The id that the request's own body brought.
    pub id: Option<String>,
    /// From the first byte parsed to the last prediction made, in nanoseconds.
    pub inference_ns: u64,
    /// Where the rows fell.
    pub observation: Observation,
}

/// A refusal of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// An HTTP status from 400 to 499; 503 from a component without a model.
    pub status: u16,
    /// The last part of the problem's `type`, such as `invalid-features`.
    pub kind: String,
    /// The response's body, `application/problem+json`.
    pub body: Vec<u8>,
    /// The id that the request's own body brought.
    pub id: Option<String>,
    /// What was rejected.
    pub observation: Observation,
}

/// Where the rows of a request fell: see `wit/world.wit`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Monitored columns.
    pub columns: u32,
    /// One entry a row: 0 for an answered row, 1 for a rejected one.
    pub status: Vec<u8>,
    /// `rows × columns` bin numbers.
    pub bins: Vec<u8>,
    /// One entry a row: the index of its class, or 0.
    pub labels: Vec<u32>,
    /// One entry a row: its score; NaN for a rejected row.
    pub scores: Vec<f64>,
    /// How often each fault occurred.
    pub faults: Vec<FaultCount>,
}

/// The part of a component that has the typed export.
///
/// # Errors
/// When the bytes are no component, or one without it.
pub(super) fn core_module(component: &[u8]) -> anyhow::Result<&[u8]> {
    let mut module: Option<Range<usize>> = None;
    for payload in Parser::new(0).parse_all(component) {
        match payload.context("the component is damaged")? {
            Payload::ModuleSection { unchecked_range, .. } => module = Some(unchecked_range),
            Payload::ExportSection(exports) => {
                let Some(range) = &module else { continue };
                for export in exports {
                    if export?.name == PREDICT {
                        return component.get(range.clone()).context("the component is truncated");
                    }
                }
            }
            _ => {}
        }
    }
    anyhow::bail!("no module in it exports {PREDICT}: it was not packed by modelet, or by another version")
}

/// A compiled module, ready for instances.
pub(super) struct Predictor {
    pre: InstancePre<Account>,
}

impl Predictor {
    /// Prepares a module.
    ///
    /// # Errors
    /// When the module asks for what is not a function.
    pub(super) fn new(module: &Module) -> Result<Predictor> {
        let mut linker = Linker::new(module.engine());
        let start = Time::now();
        for import in module.imports() {
            if import.name() == "now" && import.module().starts_with(CLOCK) {
                linker.func_wrap(import.module(), "now", move || start.elapsed().as_nanos() as u64)?;
            }
        }
        linker.define_unknown_imports_as_traps(module)?;
        Ok(Predictor {
            pre: linker.instantiate_pre(module)?,
        })
    }

    /// Makes an instance in a store.
    ///
    /// # Errors
    /// When there is no room for it, or an export of the world is missing.
    pub(super) fn instantiate(&self, store: &mut Store<Account>) -> Result<Exports> {
        let instance = self.pre.instantiate(&mut *store)?;
        let Some(memory) = instance.get_memory(&mut *store, "memory") else {
            bail!("the module exports no memory");
        };
        Ok(Exports {
            memory,
            realloc: instance.get_typed_func(&mut *store, "cabi_realloc")?,
            predict: instance.get_typed_func(&mut *store, PREDICT)?,
            predict_end: end(&instance, store, PREDICT)?,
            instance,
        })
    }
}

/// What frees a result of `function`.
fn end(instance: &Instance, store: &mut Store<Account>, function: &str) -> Result<TypedFunc<u32, ()>> {
    instance.get_typed_func(store, &format!("cabi_post_{function}"))
}

/// The exports of an instance. They are used with the store that it is in.
pub(super) struct Exports {
    instance: Instance,
    memory: Memory,
    realloc: TypedFunc<(u32, u32, u32, u32), u32>,
    predict: TypedFunc<(u32, u32, u32, u32, u32), u32>,
    predict_end: TypedFunc<u32, ()>,
}

/// `format`, `on-error`, `full`, `rows-max`, as arguments.
type Options = (u32, u32, u32, u32);

impl Exports {
    /// Calls `predict`.
    ///
    /// # Errors
    /// When the guest traps, or its answer is none.
    pub(super) fn predict(
        &self,
        store: &mut Store<Account>,
        body: &[u8],
        id: Option<&str>,
    ) -> Result<std::result::Result<Reply, Problem>> {
        let (body, len) = self.argument(store, body)?;
        let (some, id, id_len) = self.optional(store, id)?;
        let at = self.predict.call(&mut *store, (body, len, some, id, id_len))?;
        let answer = Guest(self.memory.data(&*store)).answer(at)?;
        self.predict_end.call(store, at)?;
        Ok(answer)
    }

    /// Calls `predict-batch`.
    ///
    /// # Errors
    /// As for [`Exports::predict`].
    pub(super) fn predict_batch(
        &self,
        store: &mut Store<Account>,
        body: &[u8],
        options: BatchOptions,
        id: Option<&str>,
    ) -> Result<std::result::Result<Reply, Problem>> {
        type Arguments = (u32, u32, u32, u32, u32, u32, u32, u32, u32);
        let function = self
            .instance
            .get_typed_func::<Arguments, u32>(&mut *store, PREDICT_BATCH)?;
        let end = end(&self.instance, store, PREDICT_BATCH)?;
        let (format, on_error, full, rows_max) = Self::options(options);
        let (body, len) = self.argument(store, body)?;
        let (some, id, id_len) = self.optional(store, id)?;
        let arguments = (body, len, format, on_error, full, rows_max, some, id, id_len);
        let at = function.call(&mut *store, arguments)?;
        let answer = Guest(self.memory.data(&*store)).answer(at)?;
        end.call(store, at)?;
        Ok(answer)
    }

    /// Calls `info`.
    ///
    /// # Errors
    /// As for [`Exports::predict`].
    pub(super) fn info(&self, store: &mut Store<Account>) -> Result<String> {
        let function = self.instance.get_typed_func::<(), u32>(&mut *store, INFO)?;
        let end = end(&self.instance, store, INFO)?;
        let at = function.call(&mut *store, ())?;
        let info = Guest(self.memory.data(&*store)).string(at)?;
        end.call(store, at)?;
        Ok(info)
    }

    fn options(options: BatchOptions) -> Options {
        // The cases of an enum are numbered in their order.
        let format = match options.format {
            Format::Json => 0,
            Format::Ndjson => 1,
            Format::Csv => 2,
        };
        let on_error = match options.on_error {
            OnError::Report => 0,
            OnError::Fail => 1,
        };
        (format, on_error, options.full.into(), options.rows_max)
    }

    /// Brings bytes into the guest's memory: where they are, and how many.
    fn argument(&self, store: &mut Store<Account>, bytes: &[u8]) -> Result<(u32, u32)> {
        let Ok(len) = u32::try_from(bytes.len()) else {
            bail!("{} bytes do not fit into a guest's memory", bytes.len());
        };
        let at = self.realloc.call(&mut *store, (0, 0, 1, len))?;
        self.memory.write(store, at as usize, bytes)?;
        Ok((at, len))
    }

    fn optional(&self, store: &mut Store<Account>, text: Option<&str>) -> Result<(u32, u32, u32)> {
        let Some(text) = text else {
            return Ok((0, 0, 0));
        };
        let (at, len) = self.argument(store, text.as_bytes())?;
        Ok((1, at, len))
    }
}

/// The memory of a guest after a call.
///
/// Where the members of a record lie follows from their sizes and alignments:
/// a list and a string are two words of 4 bytes, its address and its length; an
/// `option` and a `result` are a byte that says which it is, then what it holds.
struct Guest<'a>(&'a [u8]);

impl<'a> Guest<'a> {
    /// `result<reply, problem>`
    fn answer(&self, at: u32) -> Result<std::result::Result<Reply, Problem>> {
        // What it holds is aligned to 8 bytes, because of a reply's time.
        let held = member(at, 8)?;
        match self.case(at)? {
            false => Ok(Ok(Reply {
                body: self.list::<1>(held)?.as_flattened().to_vec(),
                id: self.option(member(held, 8)?, 4, Self::string)?,
                inference_ns: u64::from_le_bytes(self.array(member(held, 24)?)?),
                observation: self.observation(member(held, 32)?)?,
            })),
            true => Ok(Err(Problem {
                status: u16::from_le_bytes(self.array(held)?),
                kind: self.string(member(held, 4)?)?,
                body: self.list::<1>(member(held, 12)?)?.as_flattened().to_vec(),
                id: self.option(member(held, 20)?, 4, Self::string)?,
                observation: self.observation(member(held, 32)?)?,
            })),
        }
    }

    fn observation(&self, at: u32) -> Result<Observation> {
        let faults = self.list::<16>(member(at, 36)?)?;
        Ok(Observation {
            columns: self.word(at)?,
            status: self.list::<1>(member(at, 4)?)?.as_flattened().to_vec(),
            bins: self.list::<1>(member(at, 12)?)?.as_flattened().to_vec(),
            labels: self
                .list(member(at, 20)?)?
                .iter()
                .map(|&v| u32::from_le_bytes(v))
                .collect(),
            scores: self
                .list(member(at, 28)?)?
                .iter()
                .map(|&v| f64::from_le_bytes(v))
                .collect(),
            faults: faults.iter().map(|fault| Guest(fault).fault()).collect::<Result<_>>()?,
        })
    }

    /// `fault-count`
    fn fault(&self) -> Result<FaultCount> {
        let [code] = self.array(8)?;
        let Some(&code) = FaultCode::ALL.get(usize::from(code)) else {
            bail!("the guest's fault code {code} is none");
        };
        Ok(FaultCount {
            feature: self.option(0, 4, Self::word)?,
            code,
            count: self.word(12)?,
        })
    }

    fn option<T>(&self, at: u32, held: u32, read: impl FnOnce(&Self, u32) -> Result<T>) -> Result<Option<T>> {
        match self.case(at)? {
            false => Ok(None),
            true => read(self, member(at, held)?).map(Some),
        }
    }

    /// Which of two cases it is.
    fn case(&self, at: u32) -> Result<bool> {
        match self.array(at)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => bail!("the guest's answer has case {other} of two"),
        }
    }

    fn string(&self, at: u32) -> Result<String> {
        let bytes = self.list::<1>(at)?.as_flattened();
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => bail!("the guest's text is not UTF-8: {error}"),
        }
    }

    /// A list of elements of `N` bytes.
    fn list<const N: usize>(&self, at: u32) -> Result<&'a [[u8; N]]> {
        let (first, len) = (self.word(at)? as usize, self.word(member(at, 4)?)? as usize);
        // Neither can overflow where addresses have 64 bits.
        let bytes = len.checked_mul(N).and_then(|size| first.checked_add(size));
        let Some(bytes) = bytes.and_then(|end| self.0.get(first..end)) else {
            bail!("the guest's list of {len} at {first} lies outside its memory");
        };
        Ok(bytes.as_chunks().0)
    }

    fn word(&self, at: u32) -> Result<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn array<const N: usize>(&self, at: u32) -> Result<[u8; N]> {
        match self.0.get(at as usize..).and_then(|bytes| bytes.first_chunk()) {
            Some(&array) => Ok(array),
            None => bail!("the guest's answer at {at} lies outside its memory"),
        }
    }
}

/// Where a member of what lies at `at` is.
fn member(at: u32, offset: u32) -> Result<u32> {
    match at.checked_add(offset) {
        Some(at) => Ok(at),
        None => bail!("the guest's answer at {at} lies outside its memory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::repeat_n;

    /// A guest's memory that is written from its start.
    #[derive(Default)]
    struct Memory(Vec<u8>);

    impl Memory {
        /// Bytes of their own; where they are and how many elements.
        fn list(&mut self, bytes: &[u8], element: usize) -> [u8; 8] {
            let at = self.0.len() as u32;
            self.0.extend_from_slice(bytes);
            let len = (bytes.len() / element) as u32;
            bytemuck::cast([at.to_le(), len.to_le()])
        }

        fn observation(&mut self) -> Vec<u8> {
            let fault = |feature: Option<u32>, code: u8, count: u32| {
                let (some, feature) = (u32::from(feature.is_some()), feature.unwrap_or(0));
                bytemuck::cast::<[u32; 4], [u8; 16]>([some, feature, code.into(), count])
            };
            let scores: [[u8; 8]; 2] = [0.25f64, -1.0].map(f64::to_le_bytes);
            let lists = [
                self.list(&[0, 1], 1),
                self.list(&[3, 4, 255, 255], 1),
                self.list(&[7, 0, 0, 0, 0, 0, 0, 0], 4),
                self.list(scores.as_flattened(), 8),
                self.list(&[fault(None, 8, 2), fault(Some(5), 0, 1)].concat(), 16),
            ];
            [&2u32.to_le_bytes()[..], lists.as_flattened()].concat()
        }

        /// A record; where it is.
        fn end(mut self, record: &[u8]) -> (Vec<u8>, u32) {
            self.0
                .extend(repeat_n(0, self.0.len().next_multiple_of(8) - self.0.len()));
            let at = self.0.len() as u32;
            self.0.extend_from_slice(record);
            (self.0, at)
        }
    }

    fn observation() -> Observation {
        let fault = |feature, code, count| FaultCount { feature, code, count };
        Observation {
            columns: 2,
            status: vec![0, 1],
            bins: vec![3, 4, 255, 255],
            labels: vec![7, 0],
            scores: vec![0.25, -1.0],
            faults: vec![fault(None, FaultCode::Syntax, 2), fault(Some(5), FaultCode::Missing, 1)],
        }
    }

    fn reply() -> (Vec<u8>, u32) {
        let mut memory = Memory::default();
        let (body, observation) = (memory.list(b"{}", 1), memory.observation());
        let record = [&[0; 8][..], &body, &[0; 16], &77u64.to_le_bytes(), &observation];
        memory.end(&record.concat())
    }

    #[test]
    fn replies_and_problems_are_read_as_the_canonical_abi_lays_them_out() {
        let (memory, at) = reply();
        let expected = Reply {
            body: b"{}".to_vec(),
            id: None,
            inference_ns: 77,
            observation: observation(),
        };
        assert_eq!(Guest(&memory).answer(at).unwrap(), Ok(expected));

        let mut memory = Memory::default();
        let lists = [memory.list(b"invalid-features", 1), memory.list(b"{\"x\":1}", 1)];
        let id = memory.list("ä".as_bytes(), 1);
        let observed = memory.observation();
        let record = [
            &[1, 0, 0, 0, 0, 0, 0, 0, 0xa6, 1, 0, 0],
            lists.as_flattened(),
            &[1, 0, 0, 0],
            &id,
            &observed,
        ];
        let (memory, at) = memory.end(&record.concat());
        let expected = Problem {
            status: 422,
            kind: "invalid-features".into(),
            body: b"{\"x\":1}".to_vec(),
            id: Some("ä".into()),
            observation: observation(),
        };
        assert_eq!(Guest(&memory).answer(at).unwrap(), Err(expected));
    }

    #[test]
    fn what_lies_outside_the_memory_is_an_error() {
        let (memory, at) = reply();
        let error = |memory: &[u8], at: u32| Guest(memory).answer(at).unwrap_err().to_string();
        assert_eq!(
            error(&memory, u32::MAX - 3),
            "the guest's answer at 4294967292 lies outside its memory"
        );
        let mut damaged = memory.clone();
        damaged[at as usize] = 2;
        assert_eq!(error(&damaged, at), "the guest's answer has case 2 of two");
        let mut damaged = memory.clone();
        damaged[at as usize + 12..][..4].fill(0xff);
        assert!(error(&damaged, at).contains("list of 4294967295"));
        for i in 0..memory.len() {
            let _ = Guest(&memory[..i]).answer(at);
            for byte in [1, 0x7f, 0xff] {
                let mut damaged = memory.clone();
                damaged[i] = byte;
                let _ = Guest(&damaged).answer(at);
            }
        }
    }

    #[test]
    fn a_component_without_the_export_is_told() {
        let error = |bytes: &[u8]| core_module(bytes).unwrap_err().to_string();
        assert!(error(b"\0asm\x0d\0\x01\0").contains("no module in it exports modelet:inference"));
        assert_eq!(error(b"\0asm\x0d\0\x01\0\x01\x99"), "the component is damaged");
    }
}
