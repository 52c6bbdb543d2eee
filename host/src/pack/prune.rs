//! Takes from a packed component what its model never reaches.
//!
//! A generic component can run every model; a packed one runs a single model
//! and never loads another. What only `init` needs, or an operator that the
//! model does not have, is dead in it, and would still be stored, sent and
//! compiled. The bodies of functions that nothing reaches any more are replaced
//! by `unreachable`; functions keep their numbers, so nothing else changes. Names
//! for debuggers go too.
//!
//! A function is reached from the exports, the table (whose functions are called
//! by number, which nothing here follows) and the functions that are reached.
//! Each operator's `run` is exported as `modelet:op#Variant`, which is how it is
//! known here; those exports are taken out.

use super::offline::{CORE_MODULE, HEADER, Reader, leb, section};
use anyhow::{Context as _, bail};
use std::collections::{BTreeSet, HashSet};
use wasmparser::{ElementItems, Export, ExternalKind, FunctionBody, Operator, OperatorsReader, Parser, Payload};

/// Operators, by the name of the variant.
type Operators = BTreeSet<&'static str>;

/// How the exports of operators begin.
const OPERATOR: &str = "modelet:op#";
/// The export that loads a model.
const INIT: &str = "init";
const CUSTOM: u8 = 0;
/// How a custom section begins that has names for debuggers.
const NAMES: &[u8] = b"\x0ecomponent-name";
const EXPORTS: u8 = 7;
const CODE: u8 = 10;
const MODULE_HEADER: usize = 8;
/// A body without locals: `unreachable`, `end`.
const TRAP: [u8; 4] = [3, 0x00, 0x00, 0x0b];

/// The component without what a model of these operators never runs.
///
/// # Errors
/// When it is not laid out as the generic components are.
pub(super) fn prune(component: &[u8], operators: &Operators) -> anyhow::Result<Vec<u8>> {
    let mut reader = Reader(component.strip_prefix(&HEADER).context("not a WebAssembly component")?);
    let mut sections = Vec::new();
    while !reader.0.is_empty() {
        sections.push(reader.section()?);
    }
    let modules = sections.iter().enumerate().filter(|(_, (id, _))| *id == CORE_MODULE);
    let (main, _) = modules
        .max_by_key(|(_, (_, content))| content.len())
        .context("the component has no core module")?;
    let mut out = HEADER.to_vec();
    for (at, (id, content)) in sections.into_iter().enumerate() {
        match id {
            _ if at == main => section(&mut out, id, &Module::read(content)?.pruned(operators)?),
            CUSTOM if content.starts_with(NAMES) => {}
            _ => section(&mut out, id, content),
        }
    }
    Ok(out)
}

/// A core module, as far as it matters here.
struct Module<'a> {
    bytes: &'a [u8],
    /// Functions that are imported, which are numbered first.
    imported: usize,
    exports: Vec<Export<'a>>,
    /// Functions of the table, and those that are named elsewhere.
    held: Vec<u32>,
    bodies: Vec<FunctionBody<'a>>,
}

impl<'a> Module<'a> {
    fn read(bytes: &'a [u8]) -> anyhow::Result<Module<'a>> {
        let mut module = Module {
            bytes,
            imported: 0,
            exports: Vec::new(),
            held: Vec::new(),
            bodies: Vec::new(),
        };
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        module.imported += usize::from(matches!(import?.ty, wasmparser::TypeRef::Func(_)));
                    }
                }
                Payload::ExportSection(exports) => {
                    module.exports = exports.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::StartSection { func, .. } => module.held.push(func),
                Payload::GlobalSection(globals) => {
                    for global in globals {
                        let operators = global?.init_expr.get_operators_reader();
                        named(operators, &mut module.held)?;
                    }
                }
                Payload::ElementSection(elements) => {
                    for element in elements {
                        match element?.items {
                            ElementItems::Functions(functions) => {
                                for function in functions {
                                    module.held.push(function?);
                                }
                            }
                            ElementItems::Expressions(_, expressions) => {
                                for expression in expressions {
                                    named(expression?.get_operators_reader(), &mut module.held)?;
                                }
                            }
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => module.bodies.push(body),
                _ => {}
            }
        }
        Ok(module)
    }

    /// Whether an export is one of those that no longer count.
    fn cut(export: &Export<'_>, operators: &Operators) -> bool {
        let unused = |name: &str| !operators.contains(name);
        export.name == INIT || export.name.strip_prefix(OPERATOR).is_some_and(unused)
    }

    /// Which bodies are reached.
    fn reached(&self, operators: &Operators) -> anyhow::Result<Vec<bool>> {
        let functions = self.exports.iter().filter(|export| export.kind == ExternalKind::Func);
        let (cut, kept): (Vec<&Export<'_>>, Vec<_>) = functions.partition(|export| Self::cut(export, operators));
        let mut reached = vec![false; self.bodies.len()];
        let mut waiting: Vec<u32> = kept.iter().map(|export| export.index).collect();
        let cut: HashSet<u32> = cut
            .iter()
            .map(|export| export.index)
            // Equal functions are one.
            .filter(|index| !waiting.contains(index))
            .collect();
        waiting.extend(&self.held);
        while let Some(function) = waiting.pop() {
            let Some(body) = (function as usize).checked_sub(self.imported) else {
                continue;
            };
            let reached = reached.get_mut(body).context("a function without a body")?;
            if !cut.contains(&function) && !std::mem::replace(reached, true) {
                named(self.bodies[body].get_operators_reader()?, &mut waiting)?;
            }
        }
        Ok(reached)
    }

    fn pruned(&self, operators: &Operators) -> anyhow::Result<Vec<u8>> {
        if !self.exports.iter().any(|export| export.name.starts_with(OPERATOR)) {
            bail!("the largest core module exports no operators");
        }
        let reached = self.reached(operators)?;
        let mut code = leb(self.bodies.len() as u32);
        for (body, reached) in self.bodies.iter().zip(reached) {
            let bytes = &self.bytes[body.range()];
            match reached {
                true => {
                    code.extend(leb(bytes.len() as u32));
                    code.extend_from_slice(bytes);
                }
                false => code.extend(TRAP),
            }
        }
        let kept: Vec<_> = self
            .exports
            .iter()
            .filter(|export| !export.name.starts_with(OPERATOR))
            .collect();
        let mut exports = leb(kept.len() as u32);
        for export in kept {
            exports.extend(leb(export.name.len() as u32));
            exports.extend_from_slice(export.name.as_bytes());
            exports.push(match export.kind {
                ExternalKind::Func => 0,
                ExternalKind::Table => 1,
                ExternalKind::Memory => 2,
                ExternalKind::Global => 3,
                other => bail!("an export of kind {other:?}"),
            });
            exports.extend(leb(export.index));
        }

        let mut out = self.bytes[..MODULE_HEADER].to_vec();
        for payload in Parser::new(0).parse_all(self.bytes) {
            let Some((id, range)) = payload?.as_section() else {
                continue;
            };
            let content = match id {
                EXPORTS => &exports,
                CODE => &code,
                _ => &self.bytes[range],
            };
            section(&mut out, id, content);
        }
        Ok(out)
    }
}

/// Adds the functions that these operators name.
fn named(operators: OperatorsReader<'_>, functions: &mut Vec<u32>) -> anyhow::Result<()> {
    for operator in operators {
        if let Operator::Call { function_index }
        | Operator::ReturnCall { function_index }
        | Operator::RefFunc { function_index } = operator?
        {
            functions.push(function_index);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bodies that call these functions each, and end.
    fn bodies(calls: &[&[u8]]) -> Vec<u8> {
        let mut code = leb(calls.len() as u32);
        for calls in calls {
            let body: Vec<u8> = [0]
                .into_iter()
                .chain(calls.iter().flat_map(|&f| [0x10, f]))
                .chain([0x0b])
                .collect();
            code.extend(leb(body.len() as u32));
            code.extend(body);
        }
        code
    }

    /// A component around a module with these exports of functions.
    ///
    /// | function | what | calls |
    /// | ---: | --- | --- |
    /// | 0 | imported | |
    /// | 1 | `predict` | 2, 3 |
    /// | 2 | an operator | 4 |
    /// | 3 | an operator | 0 |
    /// | 4 | what the first operator needs | |
    /// | 5 | `init` | 6 |
    /// | 6 | what that needs | |
    /// | 7 | in the table | 8 |
    /// | 8 | what that needs | |
    fn component(exports: &[(&str, u8)]) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        section(&mut module, 1, &[1, 0x60, 0, 0]);
        section(&mut module, 2, b"\x01\x01a\x01b\0\0");
        section(&mut module, 3, &[8, 0, 0, 0, 0, 0, 0, 0, 0]);
        section(&mut module, 4, &[1, 0x70, 0, 1]);
        let mut list = vec![exports.len() as u8];
        for (name, function) in exports {
            list.extend([&[name.len() as u8], name.as_bytes(), &[0, *function]].concat());
        }
        section(&mut module, EXPORTS, &list);
        section(&mut module, 9, &[1, 0, 0x41, 0, 0x0b, 1, 7]);
        let calls: [&[u8]; 8] = [&[2, 3], &[4], &[0], &[], &[6], &[], &[8], &[]];
        section(&mut module, CODE, &bodies(&calls));
        let mut component = HEADER.to_vec();
        section(&mut component, CORE_MODULE, &module);
        section(&mut component, CUSTOM, b"\x0ecomponent-namerest");
        section(&mut component, CUSTOM, b"\x04rest");
        component
    }

    const FIRST: (&str, u8) = ("modelet:op#First", 2);
    const SECOND: (&str, u8) = ("modelet:op#Second", 3);

    /// The functions that still have bodies, and the exports.
    fn left(component: &[u8], operators: &[&'static str]) -> (Vec<usize>, Vec<String>) {
        let pruned = prune(component, &operators.iter().copied().collect()).unwrap();
        wasmparser::Validator::new().validate_all(&pruned).unwrap();
        assert!(pruned.ends_with(b"\x04rest") && !pruned.windows(4).any(|text| text == b"name"));
        let bytes = &pruned[HEADER.len() + 2..pruned.len() - 7];
        let module = Module::read(bytes).unwrap();
        let alive = |(_, body): &(usize, &FunctionBody<'_>)| bytes[body.range()] != TRAP[1..];
        (
            module
                .bodies
                .iter()
                .enumerate()
                .filter(alive)
                .map(|(i, _)| i + 1)
                .collect(),
            module.exports.iter().map(|export| export.name.to_owned()).collect(),
        )
    }

    #[test]
    fn what_init_and_unused_operators_need_is_taken_out() {
        let component = component(&[("predict", 1), FIRST, SECOND, ("init", 5)]);
        let exports = vec!["predict".to_owned(), "init".into()];
        assert_eq!(left(&component, &["First"]), (vec![1, 2, 4, 7, 8], exports.clone()));
        assert_eq!(left(&component, &["Second"]), (vec![1, 3, 7, 8], exports.clone()));
        assert_eq!(
            left(&component, &["First", "Second"]),
            (vec![1, 2, 3, 4, 7, 8], exports)
        );
    }

    #[test]
    fn a_function_that_two_operators_share_stays_if_one_is_used() {
        let shared = component(&[("predict", 1), FIRST, ("modelet:op#Second", 2)]);
        assert_eq!(left(&shared, &["Second"]).0, [1, 2, 3, 4, 7, 8]);
        assert_eq!(left(&shared, &[]).0, [1, 3, 7, 8]);
    }

    #[test]
    fn damaged_components_end_in_an_error() {
        let whole = component(&[("predict", 1), FIRST, ("init", 5)]);
        let rest = 2 * 2 + b"\x0ecomponent-namerest\x04rest".len();
        for at in 0..whole.len() {
            let pruned = prune(&whole[..at], &Operators::new());
            assert!(at >= whole.len() - rest || pruned.is_err(), "{at} bytes");
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                let _ = prune(&damaged, &Operators::new());
            }
        }
        assert!(prune(&component(&[("predict", 1)]), &Operators::new()).is_err());
        assert!(prune(&HEADER, &Operators::new()).is_err());
    }
}
