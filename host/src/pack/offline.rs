//! Takes from a component what it would wait by: its imports of `async func`s.
//!
//! A packed component sends observations to a collector where it serves HTTP by
//! itself, and imports `send` and `wait-for` for that. This host offers neither,
//! and an engine that links an `async func` switches stacks on every call, which
//! a prediction of microseconds feels. So such an import is replaced by an
//! instance that the component makes itself, of a component put in its place:
//!
//! ```wat
//! (component
//!   (core module (func (export "f") (param i32) (result i32) unreachable))
//!   (core instance (instantiate 0))
//!   (alias core export 0 "f" (core func))
//!   (func (export "send") async (param "x" u32) (result u32) (canon lift (core func 0))))
//! ```
//!
//! What calls it traps. The types are others than those of WASI, but are lowered
//! to the same core types, which is all that is left of them in a component that
//! lowers the function and does nothing else with it.

use anyhow::{Context as _, anyhow, bail};

pub(super) const HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";
pub(super) const CORE_MODULE: u8 = 1;
const CORE_INSTANCE: u8 = 2;
const COMPONENT: u8 = 4;
const INSTANCE: u8 = 5;
const ALIAS: u8 = 6;
const TYPE: u8 = 7;
const CANON: u8 = 8;
const IMPORT: u8 = 10;
const EXPORT: u8 = 11;

/// An `async func` that components import alone from its interface.
struct Function {
    interface: &'static str,
    name: &'static str,
    /// The one parameter: its component type and its core type.
    parameter: (u8, u8),
    /// Whether there is a result that is lowered to more than nothing.
    result: bool,
}

const U32: u8 = 0x79;
const U64: u8 = 0x77;
const CORE_I32: u8 = 0x7f;
const CORE_I64: u8 = 0x7e;

const FUNCTIONS: [Function; 2] = [
    Function {
        interface: "wasi:http/client@0.3.",
        name: "send",
        // A request's handle, for a response or an error.
        parameter: (U32, CORE_I32),
        result: true,
    },
    Function {
        interface: "wasi:clocks/monotonic-clock@0.3.",
        name: "wait-for",
        // Nanoseconds.
        parameter: (U64, CORE_I64),
        result: false,
    },
];

/// The component without its imports of functions that wait.
///
/// # Errors
/// When it is not laid out as components are that `modelet pack` writes.
pub fn offline(component: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut reader = Reader(
        component
            .strip_prefix(&HEADER)
            .ok_or_else(|| anyhow!("not a WebAssembly component"))?,
    );
    let mut out = Vec::with_capacity(component.len() + 512);
    out.extend_from_slice(&HEADER);
    // Components put in before all others, whose numbers they move.
    let mut added = 0;
    let mut components = 0;
    while !reader.0.is_empty() {
        let (id, content) = reader.section()?;
        match id {
            IMPORT => match waits(content)? {
                Some(function) if components == 0 => {
                    section(&mut out, COMPONENT, &function.stub());
                    // One instance: of that component, without arguments.
                    section(&mut out, INSTANCE, &[&[1, 0][..], &leb(added), &[0]].concat());
                    added += 1;
                }
                Some(function) => bail!("{} is imported after other components", function.interface),
                None => section(&mut out, IMPORT, content),
            },
            INSTANCE => section(&mut out, INSTANCE, &moved(content, added)?),
            COMPONENT => {
                components += 1;
                section(&mut out, COMPONENT, content);
            }
            _ => section(&mut out, id, content),
        }
    }
    Ok(out)
}

/// The function that a section imports, if it is one of those that wait.
fn waits(imports: &[u8]) -> anyhow::Result<Option<&'static Function>> {
    let mut reader = Reader(imports);
    let count = reader.number()?;
    // How the name is written, which is 0 for plain ones.
    reader.byte()?;
    let name = reader.sized()?;
    let function = FUNCTIONS.iter().find(|f| name.starts_with(f.interface.as_bytes()));
    if function.is_some() && count != 1 {
        bail!("{count} imports in one section");
    }
    Ok(function)
}

/// A section of instances whose components come `by` later.
fn moved(instances: &[u8], by: u32) -> anyhow::Result<Vec<u8>> {
    let mut reader = Reader(instances);
    let count = reader.number()?;
    let mut out = leb(count);
    for _ in 0..count {
        let kind = reader.byte()?;
        out.push(kind);
        if kind == 0 {
            let number = reader.number()?.checked_add(by);
            out.extend(leb(number.context("a component's number is too large")?));
        }
        let start = reader.0;
        for _ in 0..reader.number()? {
            if kind != 0 {
                reader.byte()?;
            }
            reader.sized()?;
            // What is passed on: its sort, two bytes for a core one, and number.
            match reader.byte()? {
                0 => drop(reader.byte()?),
                4 => bail!("a component is passed on"),
                _ => {}
            }
            reader.number()?;
        }
        out.extend_from_slice(&start[..start.len() - reader.0.len()]);
    }
    Ok(out)
}

impl Function {
    fn stub(&self) -> Vec<u8> {
        let core_result: &[u8] = if self.result { &[1, CORE_I32] } else { &[0] };
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        section(
            &mut module,
            1,
            &[&[1, 0x60, 1, self.parameter.1][..], core_result].concat(),
        );
        section(&mut module, 3, &[1, 0]);
        section(&mut module, 7, b"\x01\x01f\0\0");
        // One body of three bytes: no locals, unreachable, end.
        section(&mut module, 10, &[1, 3, 0, 0x00, 0x0b]);

        let result: &[u8] = if self.result { &[0, U32] } else { &[1, 0] };
        let name = [&leb(self.name.len() as u32), self.name.as_bytes()].concat();
        let mut stub = HEADER.to_vec();
        section(&mut stub, CORE_MODULE, &module);
        section(&mut stub, CORE_INSTANCE, &[1, 0, 0, 0]);
        section(&mut stub, ALIAS, b"\x01\0\0\x01\0\x01f");
        section(
            &mut stub,
            TYPE,
            &[&[1, 0x43, 1, 1, b'x', self.parameter.0][..], result].concat(),
        );
        section(&mut stub, CANON, &[1, 0, 0, 0, 0, 0]);
        section(&mut stub, EXPORT, &[&[1, 0][..], &name, &[1, 0, 0]].concat());
        stub
    }
}

pub(super) fn section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    out.extend(leb(content.len() as u32));
    out.extend_from_slice(content);
}

pub(super) fn leb(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// What is left to read.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// A section: its kind and its content.
    pub(super) fn section(&mut self) -> anyhow::Result<(u8, &'a [u8])> {
        Ok((self.byte()?, self.sized()?))
    }

    fn byte(&mut self) -> anyhow::Result<u8> {
        let (&byte, rest) = self.0.split_first().context("the component is truncated")?;
        self.0 = rest;
        Ok(byte)
    }

    fn number(&mut self) -> anyhow::Result<u32> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(u32::try_from(value)?);
            }
        }
        bail!("a number in the component is too long")
    }

    /// A length and so many bytes.
    fn sized(&mut self) -> anyhow::Result<&'a [u8]> {
        let length = self.number()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length).context("the component is truncated")?;
        self.0 = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::component::{Component, Linker};
    use wasmtime::{Config, Engine, Store};

    fn engine() -> Engine {
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        Engine::new(&config).unwrap()
    }

    /// A component that imports `functions`, names each, and makes an instance of a
    /// component of its own.
    fn component(functions: &[Function]) -> Vec<u8> {
        let mut out = HEADER.to_vec();
        for (i, function) in functions.iter().enumerate() {
            let i = i as u8;
            let result: &[u8] = if function.result { &[0, U32] } else { &[1, 0] };
            let declarations: [&[u8]; 4] = [
                &[1, 0x42, 2, 1, 0x43, 1, 1, b'x', function.parameter.0],
                result,
                &[4, 0, function.name.len() as u8],
                function.name.as_bytes(),
            ];
            section(&mut out, TYPE, &[&declarations.concat()[..], &[1, 0]].concat());
            let interface = format!("{}0", function.interface);
            section(
                &mut out,
                IMPORT,
                &[&[1, 0, interface.len() as u8][..], interface.as_bytes(), &[5, i]].concat(),
            );
            let name = [&[function.name.len() as u8], function.name.as_bytes()].concat();
            section(&mut out, ALIAS, &[&[1, 1, 0, i][..], &name].concat());
        }
        // A component with one function, an instance of it, and its function.
        let inner = Function {
            interface: "",
            name: "own",
            parameter: (U32, CORE_I32),
            result: true,
        };
        section(&mut out, COMPONENT, &inner.stub());
        section(&mut out, INSTANCE, &[1, 0, 0, 0]);
        section(
            &mut out,
            ALIAS,
            &[&[1, 1, 0, functions.len() as u8, 3][..], b"own"].concat(),
        );
        let own = functions.len() as u8;
        section(&mut out, EXPORT, &[&[1, 0, 3][..], b"own", &[1, own, 0]].concat());
        out
    }

    #[test]
    fn a_component_without_its_imports_is_instantiated_without_waiting() {
        let engine = engine();
        for functions in [&FUNCTIONS[..], &FUNCTIONS[..1], &[]] {
            let component = component(functions);
            let before = Component::new(&engine, &component).unwrap();
            assert_eq!(before.component_type().imports(&engine).len(), functions.len());
            let offline = offline(&component).unwrap();
            let after = Component::new(&engine, &offline).unwrap();
            assert_eq!(after.component_type().imports(&engine).len(), 0);
            let mut store = Store::new(&engine, ());
            let instance = Linker::new(&engine).instantiate(&mut store, &after).unwrap();
            assert!(instance.get_func(&mut store, "own").is_some());
            assert_eq!(functions.is_empty(), offline == component);
        }
    }

    #[test]
    fn damaged_components_end_in_an_error() {
        let whole = component(&FUNCTIONS);
        for end in 0..whole.len() {
            // Where it does not end between sections.
            if let Ok(shorter) = offline(&whole[..end]) {
                assert!(offline(&whole).unwrap().starts_with(&shorter));
            }
        }
        for at in HEADER.len()..whole.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                let _ = offline(&damaged);
            }
        }
        assert!(offline(b"\0asm\x01\0\0\0").is_err());
        assert!(offline(b"").is_err());
    }
}
