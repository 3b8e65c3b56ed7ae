//! The `keelson` executable; everything is in the library, so that a test can wrap the same main.

fn main() -> std::process::ExitCode {
    keelson::main()
}
