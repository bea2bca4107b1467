//! Tells the graft where the host's own code is of functions that it leaves to the host wherever no program wants them
//! (`enum duckbpf_stock` in hook-shim/include/duckbpf/abi.h).

use crate::module::Module;
use duckbpf_abi::{DUCKBPF_STOCK_COUNT, duckbpf_host};
use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

/// To be called before a slot leads to the graft. What this host does not export stays null: then the graft does all itself.
pub(crate) fn tell(host: &Module, table: &duckbpf_host) {
    for (symbol, place) in entries(table) {
        let code = symbol.to_str().ok().and_then(|symbol| host.function(symbol)).unwrap_or(std::ptr::null());
        // Another copy of this code may write the same address at the same time.
        place.store(code.cast_mut(), Ordering::Release);
    }
}

/// Symbols, and what the graft knows of them. For tests too.
pub(crate) fn entries(table: &duckbpf_host) -> impl Iterator<Item = (&'static CStr, &'static AtomicPtr<c_void>)> {
    // A graft of an earlier duckbpf, loaded by another copy of this code, may have a shorter table.
    let is_whole = table.size as usize >= size_of::<duckbpf_host>();
    let has_entries = is_whole && !table.stock_symbols.is_null() && !table.stock_code.is_null();
    let (symbols, places) = (table.stock_symbols, table.stock_code);
    (0..if has_entries { DUCKBPF_STOCK_COUNT as usize } else { 0 }).map(move |at| {
        // SAFETY: both are arrays of DUCKBPF_STOCK_COUNT in the data of the module whose table this is, which stays loaded while it is used;
        // the symbols are constants, and the places are only ever reached by atomics, here and in StockCode() (host.hpp).
        unsafe { (CStr::from_ptr(*symbols.add(at)), AtomicPtr::from_ptr(places.add(at))) }
    })
}
