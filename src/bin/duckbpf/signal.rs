//! Ctrl-C.

use std::sync::mpsc::{self, Receiver};

use anyhow::{Context, Result};

/// Tells when somebody asks to end.
pub fn on_signal() -> Result<Receiver<()>> {
    let (sender, receiver) = mpsc::channel();
    ctrlc::set_handler(move || {
        // Who does not listen any more is ending already.
        let _ = sender.send(());
    })
    .context("Ctrl-C cannot be caught")?;
    Ok(receiver)
}
