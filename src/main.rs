//! The `kiln` binary: everything is in [`kiln::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    // From 1.29 on ONNX Runtime for Linux opens a database in the user's cache as it starts, where it gathers what it would send, before
    // a program can tell it not to. It looks at this name first, and other processes of kiln inherit it.
    // SAFETY: this is the program's first statement, and no other thread runs that could read the environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    kiln::cli::main()
}
