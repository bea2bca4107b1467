//! What is to be cleared away when the process ends as it should.

use crate::{socket, startup};
use std::sync::Once;

/// Asks for it; once is enough.
pub fn clean_up_at_exit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the function may run at exit: it touches files alone, and waits for no lock. Where the system has no room to remember
        // it, files are left behind, which the next process knows to tell.
        unsafe { libc::atexit(clean_up) };
    });
}

extern "C" fn clean_up() {
    socket::close_at_exit();
    startup::clean_exit();
}
