//! What a guest may reach: nothing but a clock and random numbers.

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Result, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// The data of one store.
pub(crate) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    refuse: Refuse,
    table: ResourceTable,
    pub(crate) memory: Memory,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.refuse,
        }
    }
}

/// Refuses every request that a guest wants to send.
struct Refuse;

type Sent<T> = Box<dyn Future<Output = Result<T, HttpError>> + Send>;

impl WasiHttpHooks for Refuse {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Sent<()>,
    ) -> Sent<(http::Response<WasiBody>, Sent<()>)> {
        Box::new(async { Err(HttpError::HttpRequestDenied) })
    }
}

/// Accounts for the linear memory of a store.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Bytes in use.
    pub(crate) bytes: usize,
    /// Whether the guest asked for more than it may have.
    pub(crate) exhausted: bool,
    bytes_max: usize,
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let bytes = self.bytes + desired.saturating_sub(current);
        if bytes > self.bytes_max {
            self.exhausted = true;
            return Ok(false);
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(desired <= super::TABLE_ELEMENTS_MAX)
    }
}

/// A store for one instance.
pub(crate) fn store(engine: &Engine, bytes_max: usize) -> Store<State> {
    store_with(engine, WasiCtxBuilder::new().build(), bytes_max)
}

/// A store whose guest has these clocks and random numbers.
pub(crate) fn store_with(engine: &Engine, wasi: WasiCtx, bytes_max: usize) -> Store<State> {
    let state = State {
        wasi,
        http: WasiHttpCtx::new(),
        refuse: Refuse,
        table: ResourceTable::new(),
        memory: Memory {
            bytes: 0,
            exhausted: false,
            bytes_max,
        },
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    store.epoch_deadline_trap();
    store
}

/// The WASI that components import, 0.2 and 0.3, for synchronous calls.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_sync(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    Ok(linker)
}
