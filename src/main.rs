//! The `kiln` binary: everything is in [`kiln::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    kiln::cli::main()
}
