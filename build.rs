//! Links the unwinder into the program: to load and relocate `libgcc_s.so.1`, which std asks for,
//! takes a tenth of the time that a short session takes.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value| std::env::var(name).is_ok_and(|is| is == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && has_unwinder() {
        // As it stands before libgcc_s, that is not needed any more.
        println!("cargo::rustc-link-lib=gcc_eh");
    }
}

/// Whether the compiler that links has it as a static library: gcc has, clang may not. When it is
/// not asked, as it is another one for another target, the library is taken to be missing.
fn has_unwinder() -> bool {
    let is_native = std::env::var("HOST").ok() == std::env::var("TARGET").ok();
    let answer = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output();
    is_native
        && answer.is_ok_and(|answer| {
            // What is not found is answered by its bare name.
            let path = String::from_utf8_lossy(&answer.stdout);
            let path = Path::new(path.trim());
            path.is_absolute() && path.exists()
        })
}
