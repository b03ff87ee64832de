//! Runs a target under libFuzzer, which varies what reached something new.

use std::error::Error;
use std::ffi::{CString, c_char, c_int};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{self, ExitCode};
use std::sync::OnceLock;
use std::{env, fs, panic, ptr, slice};

// For the library that is linked with it.
use libfuzzer_sys as _;
use steeple_fuzz::target::{ALL, Target};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

#[expect(unsafe_code, reason = "libFuzzer is C++")]
// SAFETY: this is its declaration in FuzzerInterface.h.
unsafe extern "C" {
    fn LLVMFuzzerRunDriver(
        argc: *mut c_int,
        argv: *mut *mut *mut c_char,
        run: extern "C" fn(*const u8, usize) -> c_int,
    ) -> c_int;
}

/// The program: `list`, `seed TARGET DIRECTORY`, or a target and what libFuzzer takes.
pub(crate) fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &*arguments {
        [_, "list"] => {
            ALL.iter().try_for_each(|target| writeln!(io::stdout(), "{}", target.name))?;
            Ok(ExitCode::SUCCESS)
        }
        [_, "seed", target, directory] => {
            seed(named(target)?, directory.as_ref())?;
            Ok(ExitCode::SUCCESS)
        }
        [program, target, options @ ..] => fuzz(named(target)?, program, options),
        [] | [_] => Err("what is wanted is `list`, `seed TARGET DIRECTORY` or a target".into()),
    }
}

fn named(name: &str) -> Result<&'static Target, Box<dyn Error>> {
    Target::named(name).ok_or_else(|| format!("no target is called {name}").into())
}

/// Writes the seeds of a target into `DIRECTORY/NAME`, and its words to `DIRECTORY/NAME.dict`.
fn seed(target: &Target, directory: &Path) -> Result<(), Box<dyn Error>> {
    let corpus = directory.join(target.name);
    fs::create_dir_all(&corpus)?;
    for (index, seed) in (target.seeds)().iter().enumerate() {
        fs::write(corpus.join(format!("seed-{index}")), seed)?;
    }
    let escaped =
        |word: &str| word.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let line = |word: &&str| format!("\"{}\"\n", escaped(word));
    let dictionary: String = target.words.iter().map(line).collect();
    fs::write(directory.join(format!("{}.dict", target.name)), dictionary)?;
    Ok(())
}

/// Hands the process over to libFuzzer.
fn fuzz(
    target: &'static Target,
    program: &str,
    options: &[&str],
) -> Result<ExitCode, Box<dyn Error>> {
    TARGET.get_or_init(|| target);
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        report(info);
        // libFuzzer keeps the input of a run that ends so.
        process::abort();
    }));
    let length = format!("-max_len={}", target.max_length);
    let arguments = [program, &length].into_iter().chain(options.iter().copied());
    let arguments = arguments.map(CString::new).collect::<Result<Vec<_>, _>>()?;
    let mut count = c_int::try_from(arguments.len())?;
    let pointers = arguments.iter().map(|argument| argument.as_ptr().cast_mut());
    let mut pointers: Vec<*mut c_char> = pointers.chain([ptr::null_mut()]).collect();
    let mut pointer = pointers.as_mut_ptr();
    #[expect(unsafe_code, reason = "libFuzzer is C++")]
    // SAFETY: the arguments are those of a C program, end with a null pointer, and outlive the call.
    let status = unsafe { LLVMFuzzerRunDriver(&raw mut count, &raw mut pointer, run) };
    Ok(if status == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

extern "C" fn run(input: *const u8, length: usize) -> c_int {
    let input = if length == 0 {
        &[]
    } else {
        #[expect(unsafe_code, reason = "libFuzzer is C++")]
        // SAFETY: libFuzzer gives so many bytes, which it does not touch while this runs.
        unsafe {
            slice::from_raw_parts(input, length)
        }
    };
    if let Some(target) = TARGET.get() {
        (target.check)(input);
    }
    0
}
