//! The executable as it is shipped, but linked with the kit's fault points. Its name and this file are all that differs.

fn main() -> std::process::ExitCode {
    keelson::main()
}
