//! The control socket: `SET hook_socket = '/path'`. What it speaks is in crate `duckbpf-control` and in docs/src/socket.md.
//!
//! One thread waits for clients, one serves each. All take what they do from the runtime, as SQL does; nobody's query waits for
//! them. The file is made with mode 0600 and goes with the socket, or with the process.

mod answer;
mod client;
mod view;

use client::Clients;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Clients that wait to be accepted.
const BACKLOG: i32 = 128;

/// Bytes of a socket's path: `sun_path` of sockaddr_un, without the zero behind it.
const MAX_PATH: usize = 107;

/// Why there is no socket.
#[derive(Debug)]
pub enum Refusal {
    /// Something is there that is not ours to take away.
    Taken(&'static str),
    /// Of so many bytes.
    TooLong(usize),
    Io(&'static str, io::Error),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Taken(what) => write!(f, "there is {what} at this path already; it was left as it is"),
            Refusal::TooLong(bytes) => write!(f, "a socket's path has at most {MAX_PATH} bytes, not {bytes}"),
            Refusal::Io(step, error) => write!(f, "{step} failed: {error}"),
        }
    }
}

/// The open socket.
struct Server {
    path: PathBuf,
    /// Device and inode of the file, for somebody may have put another one there.
    file: (u64, u64),
    listener: Socket,
    clients: Arc<Clients>,
    /// A fork has no threads of it, and does not own the file.
    owner: u32,
}

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

fn server() -> MutexGuard<'static, Option<Server>> {
    // It is replaced whole.
    SERVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the socket there, and closes the one that was open; nothing changes when that fails. None: closes it.
pub fn open(path: Option<&Path>) -> Result<(), Refusal> {
    let mut server = server();
    if let (Some(open), Some(path)) = (&*server, path)
        && open.path == path
        && identity(path).is_some_and(|file| file == open.file)
    {
        return Ok(());
    }
    *server = path.map(Server::start).transpose()?;
    Ok(())
}

/// Called when the process ends.
pub fn close_at_exit() {
    // Whoever holds the lock now is at work on it; the process does not wait for that.
    if let Ok(mut server) = SERVER.try_lock() {
        *server = None;
    }
}

impl Server {
    fn start(path: &Path) -> Result<Server, Refusal> {
        let bytes = path.as_os_str().len();
        if bytes > MAX_PATH {
            return Err(Refusal::TooLong(bytes));
        }
        clear(path)?;
        let failed = |step: &'static str| move |error: io::Error| Refusal::Io(step, error);
        let listener = bind(path).map_err(failed("bind"))?;
        let file = identity(path).unwrap_or_default();
        let clients = Arc::new(Clients::default());
        let server =
            Server { path: path.to_owned(), file, listener, clients: clients.clone(), owner: std::process::id() };
        server.listener.listen(BACKLOG).map_err(failed("listen"))?;
        let listener = server.listener.try_clone().map_err(failed("dup"))?;
        let serve = move || accept(&listener, &clients);
        thread::Builder::new().name("duckbpf-socket".into()).spawn(serve).map_err(failed("a thread"))?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        if identity(&self.path).is_some_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
        // Wakes the thread that accepts; it sees that there will be nobody any more.
        let _ = self.listener.shutdown(std::net::Shutdown::Both);
        self.clients.close();
    }
}

/// A socket with a name, which nobody else may ever have connected to: a socket's file gets the mode that its descriptor has, less
/// the umask.
fn bind(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let descriptor: OwnedFd = socket.try_clone()?.into();
    File::from(descriptor).set_permissions(Permissions::from_mode(0o600))?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Takes away a socket of this user that nobody listens on; refuses whatever else is there.
fn clear(path: &Path) -> Result<(), Refusal> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(Refusal::Taken("something that is no socket"));
    }
    // SAFETY: takes nothing and cannot fail.
    if metadata.uid() != unsafe { libc::geteuid() } {
        return Err(Refusal::Taken("a socket of another user"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| Refusal::Io("removing the stale socket", error))
        }
        _ => Err(Refusal::Taken("a socket in use")),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.symlink_metadata().ok().map(|file| (file.dev(), file.ino()))
}

/// Serves until the listener is shut down.
fn accept(listener: &Socket, clients: &Arc<Clients>) {
    loop {
        match listener.accept() {
            Ok((socket, _)) => client::start(OwnedFd::from(socket).into(), clients),
            Err(_) if clients.is_closed() => return,
            // Clients that gave up meanwhile, or no descriptor is free: what is there to do is to go on, but not at full speed.
            Err(_) => thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_what_is_stale_is_cleared() {
        let folder = std::env::temp_dir().join(format!("duckbpf-socket-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("socket");
        assert!(clear(&path).is_ok(), "nothing is there");
        std::fs::write(&path, "precious").expect("a file");
        assert!(matches!(clear(&path), Err(Refusal::Taken(_))));
        assert_eq!(std::fs::read(&path).expect("it is still there"), b"precious");
        std::fs::remove_file(&path).expect("removed");
        let listener = UnixListener::bind(&path).expect("a socket");
        assert!(matches!(clear(&path), Err(Refusal::Taken(_))), "somebody listens");
        drop(listener);
        assert!(clear(&path).is_ok() && !path.exists(), "nobody does any more");
        let socket = bind(&path).expect("bound");
        assert_eq!(path.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
        drop(socket);
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
