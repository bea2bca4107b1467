//! One client: lines in, lines out. Nothing that it sends, and no moment at which it goes, harms anybody else.

use super::answer::{self, Stream};
use duckbpf_control::{MAX_CLIENTS, MAX_LINE, Reply, Request};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A client that does not read for so long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stream without records waits before it looks again.
const PAUSE: Duration = Duration::from_millis(20);

/// Those who are connected.
#[derive(Debug, Default)]
pub struct Clients(Mutex<Connected>);

#[derive(Debug, Default)]
struct Connected {
    streams: HashMap<u64, UnixStream>,
    newest: u64,
    closed: bool,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, Connected> {
        // No change of it can be half-done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for the client; else, where it can be told, what it is told.
    fn add(&self, stream: &UnixStream) -> Result<u64, Option<String>> {
        let mut connected = self.lock();
        if connected.closed {
            return Err(None);
        }
        if connected.streams.len() >= MAX_CLIENTS {
            return Err(Some(format!("{MAX_CLIENTS} clients are connected already")));
        }
        let stream = stream.try_clone().map_err(|error| Some(error.to_string()))?;
        connected.newest += 1;
        let number = connected.newest;
        connected.streams.insert(number, stream);
        Ok(number)
    }

    fn remove(&self, number: u64) {
        self.lock().streams.remove(&number);
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Ends every connection.
    pub fn close(&self) {
        let mut connected = self.lock();
        connected.closed = true;
        for stream in connected.streams.values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Serves a client on a thread of its own.
pub fn start(stream: UnixStream, clients: &Arc<Clients>) {
    let number = match clients.add(&stream) {
        Ok(number) => number,
        Err(reason) => {
            let _ = stream.set_nonblocking(true);
            reason.map(|reason| (&stream).write_all(&error(&reason)));
            return;
        }
    };
    let mine = clients.clone();
    let serve = move || {
        // Whatever ends a connection ends it for this client alone.
        let _ = serve(&stream);
        mine.remove(number);
    };
    if thread::Builder::new().name("duckbpf-client".into()).spawn(serve).is_err() {
        clients.remove(number);
    }
}

fn error(reason: &str) -> Vec<u8> {
    answer::line(&Reply::<()>::Error(reason.to_owned()))
}

fn serve(stream: &UnixStream) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    let mut timing = None;
    loop {
        line.clear();
        let limit = MAX_LINE as u64 + 1;
        if reader.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && line.len() > MAX_LINE {
            return { stream }.write_all(&error(&format!("a line has more than {MAX_LINE} bytes")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Request>(&line) {
            Err(reason) => { stream }.write_all(&error(&format!("no request: {reason}")))?,
            Ok(Request::Events { map, most, follow }) => match answer::stream(&map, most) {
                Err(reason) => { stream }.write_all(&error(&reason))?,
                Ok(events) if follow => follow_events(&events, &mut reader, stream)?,
                Ok(events) => hand_over(&events, stream, true).map(|_| ())?,
            },
            Ok(Request::Sampling { on }) => { stream }.write_all(&answer::sampling(&mut timing, on))?,
            Ok(request) => { stream }.write_all(&answer::answer(request))?,
        }
    }
}

/// Sends records as they come, until the client says something or goes.
fn follow_events(events: &Stream, reader: &mut BufReader<&UnixStream>, stream: &UnixStream) -> io::Result<()> {
    loop {
        let wait = if hand_over(events, stream, false)? { Duration::from_millis(1) } else { PAUSE };
        stream.set_read_timeout(Some(wait))?;
        let said = reader.fill_buf().map(|_| ());
        stream.set_read_timeout(None)?;
        match said {
            // A request, or the end: whoever reads the next line sees which.
            Ok(()) => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends the records that wait, if there are any or `always`; true: there were some. What cannot be handed over counts as lost.
fn hand_over(events: &Stream, mut stream: &UnixStream, always: bool) -> io::Result<bool> {
    let (records, line) = match events.take() {
        Ok(taken) => taken,
        Err(reason) => return stream.write_all(&error(&reason)).map(|()| false),
    };
    if records == 0 && !always {
        return Ok(false);
    }
    stream.write_all(&line).inspect_err(|_| events.lose(records))?;
    Ok(records > 0)
}
