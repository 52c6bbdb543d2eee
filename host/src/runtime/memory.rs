//! What the stores of guests account for.

use wasmtime::{Engine, ResourceLimiter, Result, Store};

/// The linear memory of a store.
#[derive(Debug)]
pub(super) struct Account {
    /// Bytes in use.
    pub(super) bytes: usize,
    /// Whether the guest asked for more than it may have.
    pub(super) exhausted: bool,
    bytes_max: usize,
}

impl ResourceLimiter for Account {
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

/// A store for one instance, which may have so many bytes of memory.
pub(super) fn store(engine: &Engine, bytes_max: usize) -> Store<Account> {
    let account = Account {
        bytes: 0,
        exhausted: false,
        bytes_max,
    };
    let mut store = Store::new(engine, account);
    store.limiter(|account| account);
    store.epoch_deadline_trap();
    store
}
