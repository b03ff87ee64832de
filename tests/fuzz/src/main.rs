//! The fuzzer: `steeple-fuzz TARGET [OPTION…] CORPUS…`, where all after the target is libFuzzer's.

use std::error::Error;
use std::process::ExitCode;

mod coverage;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    coverage::main()
}
