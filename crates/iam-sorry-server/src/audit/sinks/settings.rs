//! `[[audit.sink]]`: where audit records go besides the database. Only the configuration file says so: no request can
//! add one, turn one off, or point one elsewhere (CVE-2025-6000).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use http::Uri;
use serde::Deserialize;

use crate::secret_ref::SecretRef;

/// One sink: a name, and exactly one of `file`, `syslog` and `http`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSettings {
    /// Its progress is kept under this name; letters, digits, `-` and `_`, at most 40.
    pub name: String,
    /// Whether actions stop while it is too far behind; reading goes on. See [`SinkSettings::is_required`].
    #[serde(default)]
    pub required: Option<bool>,
    /// Too far is more records than this (default 100,000) ...
    #[serde(default = "records")]
    pub most_records_behind: u64,
    /// ... or behind for more seconds than this (default 60).
    #[serde(default = "seconds")]
    pub most_seconds_behind: u64,
    /// A file on this machine.
    #[serde(default)]
    pub file: Option<FileSettings>,
    /// A syslog server, RFC 5424.
    #[serde(default)]
    pub syslog: Option<SyslogSettings>,
    /// A server that takes JSON lines.
    #[serde(default)]
    pub http: Option<HttpSinkSettings>,
}

/// `file = { path = "/var/log/iam-sorryd/audit.jsonl" }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    /// Absolute. Rotate it by renaming (not by `copytruncate`): a file that was cut is taken for what it looks like.
    pub path: PathBuf,
    /// Whether the file's group may read it.
    #[serde(default)]
    pub group_readable: bool,
}

/// `syslog = { udp = "192.0.2.1:514" }`, `{ tcp = ... }` or `{ socket = "/dev/log" }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogSettings {
    /// UDP (RFC 5426). What is lost on the way is lost: never the only sink.
    #[serde(default)]
    pub udp: Option<SocketAddr>,
    /// TCP with octet counting (RFC 6587, section 3.4.1).
    #[serde(default)]
    pub tcp: Option<SocketAddr>,
    /// The socket of the local syslog.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// 0 to 23; 13 is "log audit" (RFC 5424, table 1).
    #[serde(default = "facility")]
    pub facility: u8,
}

/// `http = { url = "https://collector.example/audit", token = { file = "/etc/iam-sorryd/collector-token" } }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSinkSettings {
    /// https, or http to this machine. Redirects are not followed.
    pub url: String,
    /// Sent as `Authorization: Bearer`.
    #[serde(default)]
    pub token: Option<SecretRef>,
    /// PEM: who may vouch for the server; the system's authorities where it is not set.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

impl SinkSettings {
    /// Whether actions stop while it is too far behind: they do unless the configuration says otherwise, except with UDP,
    /// which never says whether anything arrived.
    pub fn is_required(&self) -> bool {
        self.required.unwrap_or(self.syslog.as_ref().is_none_or(|syslog| syslog.udp.is_none()))
    }

    /// What one field can't see by itself.
    ///
    /// # Errors
    /// A text that names the sink and the way out.
    pub fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(1..=40).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(format!(
                "An audit sink can't be called {name:?}.\nUse 1 to 40 letters, digits, - and _."
            ));
        }
        let kinds = [self.file.is_some(), self.syslog.is_some(), self.http.is_some()];
        if kinds.into_iter().filter(|given| *given).count() != 1 {
            return Err(format!("The audit sink {name} needs exactly one of file, syslog and http."));
        }
        if self.file.as_ref().is_some_and(|file| !file.path.is_absolute() || file.path.file_name().is_none())
        {
            return Err(format!("The audit sink {name} needs the absolute path of a file."));
        }
        if let Some(syslog) = &self.syslog {
            let methods = [syslog.udp.is_some(), syslog.tcp.is_some(), syslog.socket.is_some()];
            if methods.into_iter().filter(|given| *given).count() != 1 {
                return Err(format!("The audit sink {name} needs exactly one of udp, tcp and socket."));
            }
            if syslog.facility > 23 {
                return Err(format!("The audit sink {name}: a syslog facility is 0 to 23."));
            }
            if self.required == Some(true) && syslog.udp.is_some() {
                return Err(format!(
                    "The audit sink {name} can't be required: UDP never says whether anything arrived.\nUse tcp."
                ));
            }
        }
        if let Some(http) = &self.http {
            Target::parse(&http.url).map_err(|why| format!("The audit sink {name}: {why}"))?;
        }
        Ok(())
    }
}

/// Where an HTTP sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub https: bool,
    pub uri: Uri,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("{url:?} is no address of a server: https://HOST[:PORT]/PATH");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err("a password doesn't belong into the URL.\nUse token = { file = ... }.".to_owned());
        }
        if !https && !is_loopback(authority.host()) {
            return Err(format!(
                "{url:?} is plain http: a collector on another machine is reached over https only."
            ));
        }
        Ok(Self { https, uri })
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn records() -> u64 {
    100_000
}

fn seconds() -> u64 {
    60
}

fn facility() -> u8 {
    13
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<SinkSettings, String> {
        let settings: SinkSettings = toml::from_str(text).map_err(|error| error.to_string())?;
        settings.check()?;
        Ok(settings)
    }

    proptest::proptest! {
        #[test]
        fn nothing_goes_in_the_clear_to_another_machine(host in "[a-z0-9.:@\\[\\]-]{1,30}", port in 0u32..70_000) {
            for url in [format!("http://{host}/x"), format!("http://{host}:{port}/x")] {
                if let Ok(target) = Target::parse(&url) {
                    let host = target.uri.host().unwrap().trim_matches(['[', ']']);
                    let own = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
                    proptest::prop_assert!(own && !target.https, "{url}");
                }
            }
        }
    }

    #[test]
    fn each_sink_is_one_thing() {
        let sink = of("name = \"local\"\nrequired = true\nfile = { path = \"/var/log/a.jsonl\" }").unwrap();
        assert_eq!((sink.most_records_behind, sink.most_seconds_behind), (100_000, 60));
        of("name = \"s\"\nsyslog = { socket = \"/dev/log\" }").unwrap();
        of("name = \"h\"\nhttp = { url = \"http://127.0.0.1:1/x\" }").unwrap();
        for wrong in [
            "name = \"x\"",
            "name = \"x y\"\nfile = { path = \"/a\" }",
            "name = \"x\"\nfile = { path = \"a\" }",
            "name = \"x\"\nfile = { path = \"/a\", mode = \"0777\" }", // CVE-2025-6000: no executable file
            "name = \"x\"\nfile = { path = \"/a\" }\nsyslog = { socket = \"/dev/log\" }",
            "name = \"x\"\nsyslog = { }",
            "name = \"x\"\nsyslog = { socket = \"/dev/log\", facility = 24 }",
            "name = \"x\"\nrequired = true\nsyslog = { udp = \"127.0.0.1:514\" }",
            "name = \"x\"\nhttp = { url = \"http://collector.example/x\" }",
            "name = \"x\"\nhttp = { url = \"https://me:hunter2@collector.example/x\" }",
            "name = \"x\"\nhttp = { url = \"file:///etc/passwd\" }",
            "name = \"x\"\nhttp = { url = \"https://c.example/\", token = \"hunter2\" }",
        ] {
            let error = of(wrong).expect_err(wrong);
            assert!(!error.contains("me:hunter2"), "{error}");
        }
    }
}
