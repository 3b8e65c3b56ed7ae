//! `keelson telemetry import`: the requests that an access log tells of become telemetry.
//!
//! The log is read in runs of lines; each run is one request under a key made of its place, so that an import that broke off can be run again
//! within the receiver's duplicate window and every line counts once.

mod batch;
mod line;
mod route;
mod source;
mod upload;

use std::io::BufRead;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::mpsc;

use self::batch::{Batch, Body, LINES, Request};
use self::route::Template;
use self::upload::{Tally, upload};
use crate::client::{Client, ClientArgs};
use crate::global::Global;
use crate::output::{Exit, complain, say, say_json};

/// Malformed lines that are shown one by one; the rest is counted.
const SHOWN: usize = 20;
/// Batches that have been read and not yet sent.
const READ_AHEAD: usize = 2;

const EXAMPLES: &str = "\
Examples:
  keelson telemetry import access.log --service web
  keelson telemetry import access.log.2.gz --service web --instance web-1
  keelson telemetry import access.log --service api --route '/videos/:id' --route '/static/*'
  zcat -f access.log* | keelson telemetry import - --service web

Reads the combined format (Apache, nginx) and nginx's with $request_time as the last field. A line's path, without its query, is its route; \
where paths hold identifiers, give templates with --route. Latency is counted only where the log has it.

Import a log that is complete (rotated). If an import breaks off, run the same command again within ten minutes: what was counted already is \
not counted twice.

Exit code: 0 all lines were imported, 3 some lines were malformed and all others were imported (0 with --allow-malformed), 1 not all was \
imported.";

/// Import an access log: every request in it is counted.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Import {
    /// The log, plain or gzipped; - reads standard input.
    file: PathBuf,
    /// The service that answered these requests.
    #[arg(long, value_name = "NAME")]
    service: String,
    /// Which instance of the service it was.
    #[arg(long, value_name = "NAME", default_value = "")]
    instance: String,
    /// A route that paths belong to: `:name` stands for one segment, a last `*` for the rest. May be repeated; the first match counts.
    #[arg(long = "route", value_name = "TEMPLATE")]
    routes: Vec<Template>,
    /// Batches on their way at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    concurrency: u16,
    /// How long to go on trying while the receiver is away or overfull.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    give_up_after: Duration,
    /// Exit with 0 even if lines were malformed.
    #[arg(long)]
    allow_malformed: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// What came of an import.
#[derive(Debug, Serialize)]
struct Report {
    lines: u64,
    imported: u64,
    malformed: u64,
    /// The first of them.
    malformed_lines: Vec<MalformedLine>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct MalformedLine {
    line: u64,
    reason: String,
}

impl Import {
    /// Imports the file.
    ///
    /// # Errors
    /// When the file cannot be read or the receiver does not take all of it.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let started = Instant::now();
        let client = Client::new(&self.client, global)?;
        let (source, bar) = source::open(&self.file)?;
        let (batches, waiting) = mpsc::channel(READ_AHEAD);
        let reader = Reader::new(&self, bar.clone());
        let reading = tokio::task::spawn_blocking(move || reader.read(source, &batches));
        let sent = upload(&client, waiting, self.concurrency.into(), self.give_up_after, &bar).await;
        let read = reading.await?;
        bar.finish_and_clear();
        let report = Report::new(sent?, read?, started.elapsed());
        self.tell(&report)?;
        Ok(self.exit(&report))
    }

    fn tell(&self, report: &Report) -> anyhow::Result<()> {
        if self.json {
            return say_json(report);
        }
        say(&format!(
            "{} of {} lines were imported as requests of {} in {:.1} s",
            report.imported, report.lines, self.service, report.seconds
        ));
        for malformed in &report.malformed_lines {
            complain(&format!("line {}: {}", malformed.line, malformed.reason));
        }
        if report.malformed > SHOWN as u64 {
            complain(&format!("and {} malformed lines more", report.malformed - SHOWN as u64));
        }
        Ok(())
    }

    fn exit(&self, report: &Report) -> Exit {
        if report.malformed == 0 || self.allow_malformed { Exit::Done } else { Exit::Findings }
    }
}

impl Report {
    fn new(sent: Tally, read: Read, took: Duration) -> Self {
        Self {
            lines: read.lines,
            imported: sent.accepted,
            malformed: read.malformed,
            malformed_lines: read.shown,
            seconds: took.as_secs_f64(),
        }
    }
}

/// What reading the log found out.
#[derive(Debug, Default)]
struct Read {
    lines: u64,
    malformed: u64,
    shown: Vec<MalformedLine>,
}

struct Reader {
    service: String,
    instance: String,
    routes: Vec<Template>,
    bar: ProgressBar,
    found: Read,
}

impl Reader {
    fn new(import: &Import, bar: ProgressBar) -> Self {
        Self {
            service: import.service.clone(),
            instance: import.instance.clone(),
            routes: import.routes.clone(),
            bar,
            found: Read::default(),
        }
    }

    /// Reads to the end, or until nobody takes batches any more.
    fn read(
        mut self,
        mut source: Box<dyn BufRead + Send>,
        batches: &mpsc::Sender<Batch>,
    ) -> std::io::Result<Read> {
        loop {
            let (batch, more) = self.next_batch(&mut *source)?;
            let stopped = !batch.body.http.is_empty() && batches.blocking_send(batch).is_err();
            if stopped || !more {
                return Ok(self.found);
            }
        }
    }

    /// The next run of lines, and whether there may be more.
    fn next_batch(&mut self, source: &mut dyn BufRead) -> std::io::Result<(Batch, bool)> {
        let first_line = self.found.lines + 1;
        let mut requests = Vec::with_capacity(LINES);
        let mut bytes = Vec::new();
        let mut more = true;
        while more && self.found.lines < first_line + LINES as u64 - 1 {
            more = source::next_line(source, &mut bytes)?;
            if more {
                requests.extend(self.request(&bytes));
            }
        }
        let body = Body { service: self.service.clone(), instance: self.instance.clone(), http: requests };
        Ok((Batch { first_line, last_line: self.found.lines, body }, more))
    }

    /// What the line says. An empty line says nothing and is nothing to complain of.
    fn request(&mut self, bytes: &[u8]) -> Option<Request> {
        self.found.lines += 1;
        let text = String::from_utf8_lossy(bytes);
        if text.trim().is_empty() {
            return None;
        }
        match line::parse(&text) {
            Ok(line) => {
                let route = route::route(&self.routes, &line.path).to_owned();
                Some(Request::new(line, &route))
            }
            Err(malformed) => {
                self.malformed(&malformed);
                None
            }
        }
    }

    fn malformed(&mut self, malformed: &line::Malformed) {
        self.found.malformed += 1;
        if self.found.shown.len() < SHOWN {
            self.found.shown.push(MalformedLine { line: self.found.lines, reason: malformed.to_string() });
        }
        self.bar.set_message(format!("{} malformed", self.found.malformed));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn reader() -> Reader {
        Reader {
            service: "web".into(),
            instance: String::new(),
            routes: vec!["/v/:id".parse().unwrap()],
            bar: ProgressBar::hidden(),
            found: Read::default(),
        }
    }

    fn log(lines: usize) -> Vec<u8> {
        (0..lines)
            .map(|n| format!("h - - [17/May/2015:10:05:03 +0000] \"GET /v/{n} HTTP/1.1\" 200 1\n"))
            .collect::<String>()
            .into_bytes()
    }

    fn read(text: Vec<u8>) -> (Vec<Batch>, Read) {
        let (sender, mut receiver) = mpsc::channel(100);
        let found = reader().read(Box::new(Cursor::new(text)), &sender).unwrap();
        drop(sender);
        let mut batches = Vec::new();
        while let Ok(batch) = receiver.try_recv() {
            batches.push(batch);
        }
        (batches, found)
    }

    #[test]
    fn every_line_is_in_one_batch_and_the_keys_tell_the_places_apart() {
        let (batches, found) = read(log(2 * LINES + 1));
        let keys: Vec<String> = batches.iter().map(Batch::idempotency_key).collect();
        assert_eq!(keys, ["import-1-5000", "import-5001-10000", "import-10001-10001"]);
        let requests: usize = batches.iter().map(|batch| batch.body.http.len()).sum();
        assert_eq!((requests, found.lines, found.malformed), (2 * LINES + 1, 10_001, 0));
    }

    #[test]
    fn a_log_that_fills_its_last_batch_leaves_no_empty_one() {
        let (batches, found) = read(log(LINES));
        assert_eq!((batches.len(), found.lines), (1, LINES as u64));
        assert!(read(Vec::new()).0.is_empty());
    }

    #[test]
    fn malformed_lines_are_counted_and_the_first_are_named_by_number() {
        let mut text = log(2);
        text.extend(b"\n  \nnonsense \xff\xfe\n".repeat(30));
        text.extend(log(1));
        let (batches, found) = read(text);
        assert_eq!(batches[0].body.http.len(), 3);
        assert_eq!((found.lines, found.malformed, found.shown.len()), (93, 30, SHOWN));
        assert_eq!((found.shown[0].line, found.shown[1].line), (5, 8));
    }

    #[test]
    fn a_route_is_the_template_and_a_duration_that_is_not_known_is_left_out() {
        let (batches, _) = read(log(1));
        let body = serde_json::to_value(&batches[0].body).unwrap();
        let request = serde_json::json!({"ts": 1_431_857_103_000_i64, "method": "GET", "route": "/v/:id", "status": 200});
        assert_eq!(body, serde_json::json!({"service": "web", "http": [request]}));
    }
}
