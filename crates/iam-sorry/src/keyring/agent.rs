//! A client of the SSH agent: one socket, two requests, a deadline for each.
//!
//! Not a crate, since those for it depend on `rsa` (RUSTSEC-2023-0071). No threads: poll(2) keeps the deadlines.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use iam_sorry_core::ssh::agent::{self, AgentMessageError, Identities};
use iam_sorry_core::ssh::{PublicKey, Signature};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use zeroize::Zeroizing;

/// Time limits for an agent.
#[derive(Debug, Clone, Copy)]
pub struct AgentTimeouts {
    /// To accept a connection.
    pub connect: Duration,
    /// To list or sign, until the user is informed of the wait.
    pub notice: Duration,
    /// To list or sign in all. A confirmation dialog (`ssh-add -c`) blocks the whole agent, so this includes a person's
    /// time.
    pub answer: Duration,
}

impl Default for AgentTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            notice: Duration::from_secs(2),
            answer: Duration::from_secs(90),
        }
    }
}

/// Why the agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nothing listens on the socket.
    #[error("the SSH agent at {path} can't be reached ({source})", path = .path.display())]
    Unreachable {
        /// SSH_AUTH_SOCK.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No answer in time.
    #[error("the SSH agent did not answer within {} seconds", .0.as_secs())]
    Timeout(Duration),
    /// The agent closed the connection.
    #[error("the SSH agent closed the connection")]
    Closed,
    /// Reading or writing failed.
    #[error("the connection to the SSH agent broke ({0})")]
    Io(#[source] io::Error),
    /// The agent refused, or its answer is malformed.
    #[error(transparent)]
    Answer(#[from] AgentMessageError),
}

/// A connection to an agent.
#[derive(Debug)]
pub struct AgentConnection {
    stream: UnixStream,
    times: AgentTimeouts,
}

impl AgentConnection {
    /// Connects within [`AgentTimeouts::connect`].
    pub fn open(path: &Path, times: AgentTimeouts) -> Result<Self, AgentError> {
        let unreachable = |source: io::Error| AgentError::Unreachable { path: path.to_owned(), source };
        let stream = connect(path, Instant::now() + times.connect).map_err(unreachable)?;
        Ok(Self { stream, times })
    }

    /// The keys that the agent holds. `waiting` is called once if the answer takes longer than
    /// [`AgentTimeouts::notice`].
    pub fn identities(&mut self, waiting: &mut dyn FnMut()) -> Result<Identities, AgentError> {
        let answer = self.ask(&agent::request_identities(), waiting)?;
        Ok(agent::decode_identities(&answer)?)
    }

    /// A signature, not verified yet. `waiting` is called as for [`AgentConnection::identities`].
    pub fn sign(
        &mut self,
        key: &PublicKey,
        data: &[u8],
        waiting: &mut dyn FnMut(),
    ) -> Result<Signature, AgentError> {
        let answer = self.ask(&agent::sign_request(key, data), waiting)?;
        Ok(agent::decode_signature(&answer)?)
    }

    fn ask(&mut self, request: &[u8], waiting: &mut dyn FnMut()) -> Result<Zeroizing<Vec<u8>>, AgentError> {
        let start = Instant::now();
        let mut clock = Clock {
            notice: Some(start + self.times.notice),
            end: start + self.times.answer,
            limit: self.times.answer,
            waiting,
        };
        let mut sent = 0;
        while sent < request.len() {
            match self.stream.write(&request[sent..]) {
                Ok(0) => return Err(AgentError::Closed),
                Ok(count) => sent += count,
                Err(e) => clock.wait_or_fail(&self.stream, PollFlags::OUT, e)?,
            }
        }
        let mut prefix = [0; 4];
        self.fill(&mut prefix, &mut clock)?;
        // Responses contain signatures, which are key material here.
        let mut body = Zeroizing::new(vec![0; agent::frame_length(prefix)?]);
        self.fill(&mut body, &mut clock)?;
        Ok(body)
    }

    fn fill(&mut self, mut buffer: &mut [u8], clock: &mut Clock<'_>) -> Result<(), AgentError> {
        while !buffer.is_empty() {
            match self.stream.read(buffer) {
                Ok(0) => return Err(AgentError::Closed),
                Ok(count) => buffer = &mut buffer[count..],
                Err(e) => clock.wait_or_fail(&self.stream, PollFlags::IN, e)?,
            }
        }
        Ok(())
    }
}

struct Clock<'a> {
    notice: Option<Instant>,
    end: Instant,
    limit: Duration,
    waiting: &'a mut dyn FnMut(),
}

impl Clock<'_> {
    /// After a failed call on the non-blocking socket: waits until it can be repeated, unless the error is final.
    fn wait_or_fail(
        &mut self,
        stream: &UnixStream,
        flags: PollFlags,
        error: io::Error,
    ) -> Result<(), AgentError> {
        match error.kind() {
            io::ErrorKind::Interrupted => return Ok(()),
            io::ErrorKind::WouldBlock => {}
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => return Err(AgentError::Closed),
            _ => return Err(AgentError::Io(error)),
        }
        loop {
            let now = Instant::now();
            if now >= self.end {
                return Err(AgentError::Timeout(self.limit));
            }
            if self.notice.is_some_and(|at| now >= at) {
                self.notice = None;
                (self.waiting)();
            }
            let until = self.notice.unwrap_or(self.end).min(self.end);
            let timeout = Timespec::try_from(until.saturating_duration_since(now)).ok();
            match poll(&mut [PollFd::new(stream, flags)], timeout.as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(e) => return Err(AgentError::Io(e.into())),
            }
        }
    }
}

/// The standard library's connect would block while the agent's queue is full.
fn connect(path: &Path, end: Instant) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(UnixStream::from(socket)),
            // A Unix socket with a full queue gives EAGAIN, and there is nothing to poll for (connect(2)).
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(e) => return Err(e.into()),
        }
    }
}
