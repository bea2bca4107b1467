//! Reads a file once and whole, if it is a regular file of bounded size.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use super::{Fault, MAX_FILE, ObjectError};

/// The file's bytes. A fifo is not waited for, and nothing beyond [`MAX_FILE`] is read.
pub fn read(path: &Path) -> Result<Vec<u8>, ObjectError> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(io_fault)?;
    let metadata = file.metadata().map_err(io_fault)?;
    let kind = metadata.file_type();
    if !kind.is_file() {
        let name = match () {
            () if kind.is_dir() => "directory",
            () if kind.is_fifo() => "fifo",
            () if kind.is_socket() => "socket",
            () => "device",
        };
        return Err(Fault::NotAFile(name).into());
    }
    if metadata.len() > MAX_FILE {
        return Err(Fault::TooLarge(metadata.len()).into());
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    // It may grow while it is read: one byte too many shows it.
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io_fault)?;
    match bytes.len() as u64 {
        0 => Err(Fault::Empty.into()),
        len if len > MAX_FILE => Err(Fault::TooLarge(len).into()),
        _ => Ok(bytes),
    }
}

fn io_fault(error: io::Error) -> ObjectError {
    match error.kind() {
        io::ErrorKind::NotFound => Fault::Missing.into(),
        _ => Fault::Io(error).into(),
    }
}
