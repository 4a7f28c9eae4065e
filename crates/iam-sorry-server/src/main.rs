//! The program `iam-sorryd`. Everything is in the library; here is only the door.

fn main() -> std::process::ExitCode {
    iam_sorry_server::commands::main()
}
