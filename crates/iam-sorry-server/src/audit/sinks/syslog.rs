//! The syslog sink: RFC 5424 messages whose text is the record's line, over UDP, TCP or the local socket.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use iam_sorry_core::timestamp::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};

use super::batch::{Batch, Line, SinkError};
use super::settings::SyslogSettings;

/// Severity "informational" (RFC 5424, table 2).
const SEVERITY: u8 = 6;
/// TCP says that bytes left, not that they arrived: after a lost connection this many records are sent again.
const UNCERTAIN: u64 = 2_000;

pub(super) struct SyslogTarget {
    destination: Destination,
    priority: u16,
    host: String,
    connection: Option<Connection>,
}

enum Destination {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    Socket(PathBuf),
}

enum Connection {
    Udp(UdpSocket),
    /// With the records sent over it.
    Tcp(TcpStream, u64),
    Socket(UnixDatagram),
}

impl SyslogTarget {
    pub(super) fn new(settings: &SyslogSettings) -> Self {
        let destination = match (settings.udp, settings.tcp, &settings.socket) {
            (Some(address), ..) => Destination::Udp(address),
            (_, Some(address), _) => Destination::Tcp(address),
            (.., socket) => Destination::Socket(socket.clone().unwrap_or_else(|| "/dev/log".into())),
        };
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let host: String = host.chars().filter(char::is_ascii_graphic).take(255).collect();
        let host = if host.is_empty() { "-".to_owned() } else { host };
        Self {
            destination,
            priority: u16::from(settings.facility) * 8 + u16::from(SEVERITY),
            host,
            connection: None,
        }
    }

    /// How many records may have to be sent again after a lost connection.
    pub(super) fn uncertain(&self) -> u64 {
        match self.destination {
            Destination::Tcp(_) => UNCERTAIN,
            Destination::Udp(_) | Destination::Socket(_) => 0,
        }
    }

    pub(super) async fn deliver(&mut self, batch: Batch) -> Result<(), SinkError> {
        let messages: Vec<String> = batch.lines.iter().map(|line| self.message(line)).collect();
        if self.connection.is_none() {
            self.connection = Some(self.connect().await?);
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let sent_before = match connection {
            Connection::Tcp(_, sent) => *sent,
            Connection::Udp(_) | Connection::Socket(_) => 0,
        };
        match connection.send(&messages).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.connection = None;
                match sent_before {
                    0 => Err(error.into()),
                    sent => Err(SinkError::Lost { back: sent.min(UNCERTAIN) }),
                }
            }
        }
    }

    async fn connect(&self) -> io::Result<Connection> {
        Ok(match &self.destination {
            Destination::Udp(address) => {
                let any: SocketAddr = match address {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(address).await?;
                Connection::Udp(socket)
            }
            Destination::Tcp(address) => Connection::Tcp(TcpStream::connect(address).await?, 0),
            Destination::Socket(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Connection::Socket(socket)
            }
        })
    }

    /// `<PRI>1 TIMESTAMP HOST APP PROCID MSGID SD MSG` (RFC 5424, section 6).
    fn message(&self, line: &Line) -> String {
        let (time_ms, kind) = match line {
            Line::Record(record) => (record.event().map_or(0, |event| event.time_ms), "record"),
            Line::Checkpoint(checkpoint) => (checkpoint.time_ms, "checkpoint"),
        };
        let time = Timestamp::from_unix(time_ms.div_euclid(1_000)).unwrap_or(Timestamp::EPOCH).to_string();
        let time = time.trim_end_matches('Z');
        let mut text = String::new();
        // Writing into a String can't fail.
        let _ = write!(
            text,
            "<{}>1 {time}.{:03}Z {} iam-sorryd {} {kind} - {}",
            self.priority,
            time_ms.rem_euclid(1_000),
            self.host,
            std::process::id(),
            line.text()
        );
        text
    }
}

impl Connection {
    async fn send(&mut self, messages: &[String]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => {
                for message in messages {
                    socket.send(message.as_bytes()).await?;
                }
            }
            Self::Socket(socket) => {
                for message in messages {
                    socket.send(message.as_bytes()).await?;
                }
            }
            Self::Tcp(stream, sent) => {
                // A server that closed its side is gone, though the first write to it would still succeed.
                match stream.try_read(&mut [0; 64]) {
                    Ok(0) => return Err(io::ErrorKind::ConnectionReset.into()),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
                let mut bytes = Vec::new();
                for message in messages {
                    bytes.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
                }
                stream.write_all(&bytes).await?;
                *sent += messages.len() as u64;
            }
        }
        Ok(())
    }
}
