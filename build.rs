//! Links the unwinder into the program: to load and relocate `libgcc_s.so.1`, which std asks for,
//! takes a tenth of the time that a short session takes.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value| std::env::var(name).is_ok_and(|is| is == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        // There is only libgcc_eh.a, and it comes with the compiler that links. As it stands before
        // libgcc_s, that is not needed any more.
        println!("cargo::rustc-link-lib=gcc_eh");
    }
}
