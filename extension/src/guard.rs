//! Nothing that goes wrong in here may harm the database: panics become SQL errors.

use duckdb_neo::{Error, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a callback's body. A panic becomes an ordinary error; DuckDB's wrapper would make it an internal one, which
/// invalidates the database.
pub fn guard<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // Unwind safe: the bodies share only the runtime, whose methods do not leave it half-changed, and what a failed query
    // throws away.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        Err(Error::invalid_input(format!(
            "duckbpf failed because of a fault of its own: {}; please report it. Attached programs are as they were",
            message(panic.as_ref())
        )))
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_ordinary_error() {
        let error = guard::<()>(|| panic!("broken {}", 7)).expect_err("the panic is an error");
        assert!(error.message.contains("broken 7"), "{error}");
        assert_eq!(error.code, Error::invalid_input("").code);
    }

    #[test]
    fn results_pass() {
        assert_eq!(guard(|| Ok(3)).expect("no error"), 3);
        assert_eq!(guard::<()>(|| Err(Error::api_error("no"))).expect_err("the error").message, "no");
    }
}
