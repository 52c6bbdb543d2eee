//! What a component may reach while it is packed: nothing but a clock and
//! random numbers.

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Result, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// The data of one store.
pub(crate) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    refuse: Refuse,
    table: ResourceTable,
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

/// A store whose guest has these clocks and random numbers.
pub(crate) fn store(engine: &Engine, wasi: WasiCtx) -> Store<State> {
    let state = State {
        wasi,
        http: WasiHttpCtx::new(),
        refuse: Refuse,
        table: ResourceTable::new(),
    };
    Store::new(engine, state)
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
