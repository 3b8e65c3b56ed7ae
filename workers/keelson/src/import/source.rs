//! Where the lines come from: a file, a gzipped file, or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;

use anyhow::Context;
use flate2::bufread::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// A longer line is no request: it is cut here, and what is over is passed by.
const MAX_LINE_BYTES: u64 = 64 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;

/// Opens the path, `-` being standard input. The bar shows how much of the file has been read, when somebody looks at it.
///
/// # Errors
/// When it cannot be opened.
pub fn open(path: &Path) -> anyhow::Result<(Box<dyn BufRead + Send>, ProgressBar)> {
    let (raw, length): (Box<dyn Read + Send>, Option<u64>) = if path == Path::new("-") {
        (Box::new(io::stdin()), None)
    } else {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let length = file.metadata()?.len();
        (Box::new(file), Some(length))
    };
    let bar = bar(length);
    let lines = decompressed(BufReader::with_capacity(BUFFER_BYTES, bar.wrap_read(raw)))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok((lines, bar))
}

/// The next line without its end, whatever bytes it holds; none at the end.
///
/// # Errors
/// When reading fails.
pub fn next_line(source: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if source.take(MAX_LINE_BYTES).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 == MAX_LINE_BYTES {
        source.skip_until(b'\n')?;
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(true)
}

fn decompressed(mut raw: impl BufRead + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    if raw.fill_buf()?.starts_with(&GZIP) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(raw))));
    }
    Ok(Box::new(raw))
}

fn bar(length: Option<u64>) -> ProgressBar {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let (bar, style) = match length {
        Some(length) => (
            ProgressBar::with_draw_target(Some(length), target),
            "{bar:32} {percent:>3} %  {msg}  {eta} left",
        ),
        None => (ProgressBar::with_draw_target(None, target), "{spinner} {bytes}  {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    fn lines(bytes: Vec<u8>) -> Vec<String> {
        let mut source = decompressed(Cursor::new(bytes)).unwrap();
        let (mut line, mut all) = (Vec::new(), Vec::new());
        while next_line(&mut *source, &mut line).unwrap() {
            all.push(String::from_utf8_lossy(&line).into_owned());
        }
        all
    }

    #[test]
    fn ends_of_lines_are_taken_off() {
        assert_eq!(lines(b"a\nb\r\n\nc".to_vec()), ["a", "b", "", "c"]);
        assert!(lines(Vec::new()).is_empty());
    }

    #[test]
    fn what_is_over_in_a_long_line_is_no_line_of_its_own() {
        let long = usize::try_from(MAX_LINE_BYTES).unwrap() + 5;
        let mut text = "x".repeat(long);
        text.push_str("\nnext\n");
        let lines = lines(text.into_bytes());
        assert_eq!((lines.len(), lines[0].len(), lines[1].as_str()), (2, long - 5, "next"));
    }

    #[test]
    fn gzip_is_recognised_and_its_members_are_one_file() {
        let mut bytes = Vec::new();
        for part in ["a\nb", "c\n"] {
            let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            member.write_all(part.as_bytes()).unwrap();
            bytes.extend(member.finish().unwrap());
        }
        assert_eq!(lines(bytes), ["a", "bc"]);
    }
}
