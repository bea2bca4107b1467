//! A live database, over the socket that `SET hook_socket = '/path'` opens in it.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use duckbpf_control::{Reply, Request};
use serde::{Serialize, de::DeserializeOwned};

/// An answer that takes longer will not come: `run` ends after ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the database listens.
#[derive(clap::Args, Clone, Debug)]
pub struct Address {
    /// The socket that SET hook_socket = '/path' opened in the database
    #[arg(long, env = "DUCKBPF_SOCKET", value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
}

/// Which database is asked, and how its answers are printed.
#[derive(clap::Args)]
pub struct Client {
    #[command(flatten)]
    address: Address,
    /// JSON instead of tables
    #[arg(long, global = true)]
    json: bool,
}

impl Client {
    #[cfg(test)]
    pub fn nowhere() -> Client {
        Client { address: Address::none(), json: false }
    }

    pub fn names_a_database(&self) -> bool {
        self.address.socket.is_some()
    }

    pub fn connect(&self) -> Result<Socket> {
        self.address.connect()
    }

    /// Prints an answer: as JSON where that is wanted, else its text, if there is any.
    pub fn print(&self, answer: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        let text = if self.json { serde_json::to_string(answer)? } else { text() };
        let line = if text.is_empty() { String::new() } else { format!("{}\n", text.trim_end()) };
        io::stdout().write_all(line.as_bytes()).context("standard output")
    }
}

/// A connection to a database.
pub struct Socket {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Address {
    #[cfg(test)]
    pub fn none() -> Address {
        Address { socket: None }
    }

    pub fn connect(&self) -> Result<Socket> {
        let Some(path) = self.socket.clone() else {
            bail!(
                "which database? In it, SET hook_socket = '/path/to/socket'; then give that path here by --socket or DUCKBPF_SOCKET"
            );
        };
        let advice = || {
            format!(
                "cannot reach a database at {}; is it running, and did it SET hook_socket = '{}'?",
                path.display(),
                path.display()
            )
        };
        let stream = UnixStream::connect(&path).with_context(advice)?;
        stream.set_read_timeout(Some(PATIENCE)).with_context(advice)?;
        stream.set_write_timeout(Some(PATIENCE)).with_context(advice)?;
        Ok(Socket { path, stream: BufReader::new(stream) })
    }
}

impl Socket {
    /// Asks, and waits for the answer.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T> {
        let context = || format!("the database at {} went away", self.path.display());
        let mut line = serde_json::to_string(request).context("a request that is no JSON")?;
        line.push('\n');
        self.stream.get_ref().write_all(line.as_bytes()).with_context(context)?;
        line.clear();
        if self.stream.read_line(&mut line).with_context(context)? == 0 {
            bail!("{}", context());
        }
        let reply = serde_json::from_str(&line);
        match reply
            .with_context(|| format!("{}: an answer of another protocol: {}", self.path.display(), line.trim()))?
        {
            Reply::Ok(answer) => Ok(answer),
            // SQL's option is one of the command line here.
            Reply::Error(message) => bail!("{}", message.replace("replace := true", "--replace")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// A server that answers every line with the same.
    fn serving(answer: &'static str) -> (tempfile::TempDir, Address) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok()) {
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
        });
        (folder, Address { socket: Some(path) })
    }

    #[test]
    fn answers_and_errors_come_back() {
        let (_folder, address) = serving("{\"ok\":null}\n");
        address.connect().unwrap().ask::<()>(&Request::Sampling { on: true }).unwrap();
        let (_folder, address) = serving("{\"error\":\"no such map\"}\n");
        let error = address.connect().unwrap().ask::<()>(&Request::Maps).unwrap_err();
        assert_eq!(error.to_string(), "no such map");
        let (_folder, address) = serving("what?\n");
        let error = address.connect().unwrap().ask::<()>(&Request::Maps).unwrap_err();
        assert!(error.to_string().contains("another protocol: what?"), "{error}");
    }

    #[test]
    fn nobody_there_is_said_with_what_to_do() {
        let nowhere = Address { socket: Some("/nonexistent/socket".into()) };
        assert!(nowhere.connect().err().unwrap().to_string().contains("SET hook_socket"));
        let unnamed = Address::none();
        assert!(unnamed.connect().err().unwrap().to_string().contains("DUCKBPF_SOCKET"));
    }
}
