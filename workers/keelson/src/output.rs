//! What a person or a script reads: lines and JSON on standard output, complaints on standard error, and the exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

/// How a command ended. `keelson --help` lists these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Not done, or not wholly.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// Done, and there is something to look at: a difference, a malformed line, a check that failed.
    Findings,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::FAILURE,
            Exit::Usage => Self::from(2),
            Exit::Findings => Self::from(3),
        }
    }
}

/// Writes a line to standard output. A reader that has gone (`keelson … | head`) is no error of ours.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Says something as JSON where a script asks for it, else as `tell` puts it for people.
///
/// # Errors
/// When it has no JSON.
pub fn show<T: Serialize>(json: bool, value: &T, tell: impl FnOnce(&T)) -> anyhow::Result<Exit> {
    if json {
        say_json(value)?;
    } else {
        tell(value);
    }
    Ok(Exit::Done)
}

/// Writes a line to standard error.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "keelson: {line}");
}

/// Writes a line to standard error as it stands, such as `file:line: …`, by which editors and terminals find the place.
pub fn point_out(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes a value as JSON, for scripts.
///
/// # Errors
/// When the value has no JSON form.
pub fn say_json(value: &impl Serialize) -> anyhow::Result<()> {
    say(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Writes a plain table: columns, no lines, no colours; what does not fit a terminal is wrapped.
pub fn say_table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.map(str::to_uppercase));
    for row in rows {
        table.add_row(row);
    }
    table.column_iter_mut().for_each(|column| _ = column.set_padding((0, 2)));
    say(&table.trim_fmt());
}
