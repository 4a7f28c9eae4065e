//! The least possible: reads a credentials file whole, finds one profile, prints it as JSON. No quoting, no locks, no
//! checks: what it takes is what the operating system and the language take from everybody.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(profile)) = (arguments.next(), arguments.next()) else { return ExitCode::from(2) };
    let Ok(text) = std::fs::read_to_string(file) else { return ExitCode::FAILURE };
    let Some((_, section)) = text.split_once(&format!("[{profile}]\n")) else { return ExitCode::from(3) };
    let value = |key| {
        let lines = section.lines().take_while(|line| !line.starts_with('['));
        lines.filter_map(|line| line.split_once(" = ")).find(|(name, _)| *name == key).map_or("", |(_, value)| value)
    };
    let json = format!(
        "{{\"Version\":1,\"AccessKeyId\":\"{}\",\"SecretAccessKey\":\"{}\",\"SessionToken\":\"{}\"}}\n",
        value("aws_access_key_id"),
        value("aws_secret_access_key"),
        value("aws_session_token"),
    );
    if std::io::stdout().write_all(json.as_bytes()).is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
