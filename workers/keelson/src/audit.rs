//! `keelson audit`: what was commanded and what happened, and the proof that it is what it was.
//!
//! The proof reads the bus itself and asks nobody: whoever is to be checked has no part in it.

mod entries;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use keelson_audit::Audit;
use keelson_audit::report::Report;
use keelson_audit::{check, key};
use keelson_kit::config::ConfigSource;
use serde_json::json;

use crate::bus;
use crate::global::Global;
use crate::output::{Exit, complain, say, say_json};
use crate::time::timestamp;

const EXAMPLES: &str = "\
Examples:
  keelson audit verify                                the bus of `keelson up` on this data directory, or that at NATS_URL
  keelson audit verify --key 11qYAYKx…                a public key to trust, beside those of the configuration
  keelson audit list --since 2h --subject 'keelson.cmd.>'
  keelson audit show 1234
  keelson audit export --since 2026-01-01 --until 2026-02-01 --format csv >january.csv
  keelson audit key >audit-key                        make a key; KEELSON_AUDIT_KEY_FILE=audit-key signs with it

To verify a copy of the bus's files, start nats-server on the copy and set NATS_URL. \
Exit code of verify: 0 everything is as it was sealed, 3 something is not.";

/// `keelson audit`
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// Prove that nothing was changed, removed or reordered, or name the first entry that was
    #[command(after_help = EXAMPLES)]
    Verify(Verify),
    /// List what was commanded and what happened, the oldest first
    #[command(after_help = EXAMPLES)]
    List(entries::List),
    /// Show one with its body
    #[command(after_help = EXAMPLES)]
    Show(entries::Show),
    /// Write all of it, for other programs
    #[command(after_help = EXAMPLES)]
    Export(entries::Export),
    /// Make a key that signs seals
    #[command(after_help = EXAMPLES)]
    Key(MakeKey),
}

/// `keelson audit verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// A public key to trust; may be repeated.
    #[arg(long = "key", value_name = "KEY", value_parser = |text: &str| key::public(text).map_err(|error| error.to_string()))]
    keys: Vec<key::Public>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `keelson audit key`
#[derive(Debug, Args)]
pub struct MakeKey {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When the bus cannot be read.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        match self {
            Self::Verify(verify) => verify.run(global).await,
            Self::List(list) => list.run(global).await,
            Self::Show(show) => show.run(global).await,
            Self::Export(export) => export.run(global).await,
            Self::Key(key) => key.run(),
        }
    }
}

impl Verify {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let config = global.config(Vec::new())?;
        let source = ConfigSource::new(crate::roles::ROLES, config.inputs().clone());
        let mut trusted = source.read::<Audit>()?.trusted(&source.dir())?;
        trusted.extend(self.keys);
        let now_ms = crate::time::milliseconds(Timestamp::now());
        let report = check::verify(&bus::connect(global).await?, trusted, now_ms).await?;
        if self.json {
            say_json(&report)?;
        } else {
            tell(&report);
        }
        Ok(if report.is_well() { Exit::Done } else { Exit::Findings })
    }
}

fn tell(report: &Report) {
    for finding in &report.findings {
        say(&finding.to_string());
    }
    if report.wrong > report.findings.len() as u64 {
        say(&format!("… and {} more", report.wrong - report.findings.len() as u64));
    }
    let Report { entries, first, last, sealed_through, seals, .. } = report;
    say(&format!("{entries} entries, {first} to {last}; {seals} seals, through {sealed_through}"));
    if let Some(since_ms) = report.unsealed_since_ms {
        say(&format!(
            "{} entries are not sealed yet, the oldest of {}",
            report.unsealed,
            timestamp(since_ms)
        ));
    }
    for (signer, seals) in &report.signers {
        match signer.as_str() {
            "" => say(&format!(
                "{seals} seals are unsigned: without audit.key, whoever may write the bus can seal anew"
            )),
            signer => say(&format!("{seals} seals are signed by {signer}")),
        }
    }
    if !report.is_trusted && report.signers.keys().any(|signer| !signer.is_empty()) {
        say("no key is trusted here: say by --key which one is yours");
    }
    if let Some(head) = &report.head {
        say(&format!("the last seal is {head}"));
    }
    say(if report.is_well() {
        "everything is as it was sealed"
    } else {
        "not everything is as it was sealed"
    });
}

impl MakeKey {
    fn run(self) -> anyhow::Result<Exit> {
        let made = key::generate();
        let (private, public) = (key::text(&made.to_bytes()), key::text(made.verifying_key().as_bytes()));
        if self.json {
            say_json(&json!({"key": private, "public": public}))?;
            return Ok(Exit::Done);
        }
        complain(&format!("keep this away from the bus; the public key is {public}"));
        say(&private);
        Ok(Exit::Done)
    }
}
