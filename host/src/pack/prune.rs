//! Takes from a packed component what its model never reaches.
//!
//! A generic component can run every model; a packed one runs a single model
//! and never loads another. What only `init` needs, or an operator that the
//! model does not have, is dead in it, and would still be stored, sent and
//! compiled. The bodies of functions that nothing reaches any more are replaced
//! by `unreachable`; functions keep their numbers, so nothing else changes.
//!
//! A function is reached from the exports, the table (whose functions are called
//! by number, which nothing here follows) and the functions that are reached.
//! Each operator's `run` is exported as `modelet:op#Variant`, which is how it is
//! known here; those exports are taken out.

use super::offline::{CORE_MODULE, leb, section};
use anyhow::{Context as _, bail};
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use wasmparser::{ElementItems, Export, ExternalKind, FunctionBody, Operator, OperatorsReader, Parser, Payload};

/// Operators, by the name of the variant.
type Operators = BTreeSet<&'static str>;

/// How the exports of operators begin.
const OPERATOR: &str = "modelet:op#";
/// The export that loads a model.
const INIT: &str = "init";
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
    let mut modules = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        if let Payload::ModuleSection { unchecked_range, .. } = payload? {
            modules.push(unchecked_range);
        }
    }
    let range = modules
        .into_iter()
        .max_by_key(|range| range.len())
        .context("the component has no core module")?;
    let module = Module::read(component, range.clone())?.pruned(operators)?;

    // The section's head is its number and its length.
    let head = 1 + leb(range.len() as u32).len();
    let start = range.start.checked_sub(head).context("no section's head")?;
    if component[start] != CORE_MODULE {
        bail!("the core module's section has a longer head than it needs");
    }
    let mut out = component[..start].to_vec();
    section(&mut out, CORE_MODULE, &module);
    out.extend_from_slice(&component[range.end..]);
    Ok(out)
}

/// A core module, as far as it matters here.
struct Module<'a> {
    bytes: &'a [u8],
    range: Range<usize>,
    /// Functions that are imported, which are numbered first.
    imported: usize,
    exports: Vec<Export<'a>>,
    /// Functions of the table, and those that are named elsewhere.
    held: Vec<u32>,
    bodies: Vec<FunctionBody<'a>>,
}

impl<'a> Module<'a> {
    fn read(bytes: &'a [u8], range: Range<usize>) -> anyhow::Result<Module<'a>> {
        let mut module = Module {
            bytes,
            imported: 0,
            exports: Vec::new(),
            held: Vec::new(),
            bodies: Vec::new(),
            range: range.clone(),
        };
        for payload in parse(bytes, range) {
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

    /// The function of an export, if it is one of those that no longer count.
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

        let mut out = self.bytes[self.range.clone()][..MODULE_HEADER].to_vec();
        for payload in parse(self.bytes, self.range.clone()) {
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

fn parse(bytes: &[u8], range: Range<usize>) -> impl Iterator<Item = wasmparser::Result<Payload<'_>>> {
    Parser::new(range.start as u64).parse_all(&bytes[range])
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
