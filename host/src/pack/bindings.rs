//! The host's side of `wit/world.wit`; nothing else generates bindings.

wasmtime::component::bindgen!({ path: "../wit", world: "model" });
