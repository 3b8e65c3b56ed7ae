//! `keelson token`: bearer tokens, of which the configuration keeps the hash alone.

use std::io::{self, IsTerminal, Read};

use anyhow::bail;
use clap::{Args, Subcommand};
use jiff::{Timestamp, ToSpan};
use keelson_kit::config::{Scope, Token, TokenHash};
use serde_json::json;

use crate::output::{Exit, complain, say, say_json};

/// What a token of ours begins with, so that one that leaked can be told for what it is.
const PREFIX: &str = "kl_";

const EXAMPLES: &str = "\
Examples:
  keelson token create ops --scope admin
  keelson token create web-1 --scope telemetry --expires-days 365
  keelson token hash <token.txt

The token is shown once. Put the [[auth.tokens]] section into keelson.toml and give the token to its bearer.";

/// `keelson token`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a token, and the section of keelson.toml that admits it
    #[command(after_help = EXAMPLES)]
    Create(Create),
    /// Read a token from standard input and print its hash, as `sha256` in keelson.toml
    Hash,
}

/// `keelson token create`
#[derive(Debug, Args)]
pub struct Create {
    /// Who it is for; shown as `requestedBy` and in logs.
    id: String,
    /// What its bearer may do; may be repeated.
    #[arg(long = "scope", value_name = "SCOPE", value_parser = parse_scope, default_value = "read", help = "What its bearer may do: admin (everything), read (every GET), telemetry (sending it); may be repeated")]
    scopes: Vec<Scope>,
    /// After how many days it is refused; never when left out.
    #[arg(long, value_name = "DAYS")]
    expires_days: Option<u16>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When no token can be read.
    pub fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Create(create) => create.run(),
            Self::Hash => hash(),
        }
    }
}

impl Create {
    fn run(self) -> anyhow::Result<Exit> {
        let secret = generate();
        let token = Token {
            id: self.id,
            sha256: TokenHash::of(&secret),
            scopes: self.scopes,
            expires: self.expires_days.map(in_days).transpose()?,
        };
        if self.json {
            say_json(&json!({"token": secret, "entry": token}))?;
            return Ok(Exit::Done);
        }
        complain("the token is shown this once; keelson.toml keeps the section below it");
        say(&secret);
        say("");
        say(&section(&token)?);
        Ok(Exit::Done)
    }
}

/// A token that nobody guesses: 256 random bits.
pub fn generate() -> String {
    let digits: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{digits}")
}

/// The section of keelson.toml that admits it.
fn section(token: &Token) -> anyhow::Result<String> {
    Ok(format!("[[auth.tokens]]\n{}", toml::to_string(token)?.trim_end()))
}

fn in_days(days: u16) -> anyhow::Result<Timestamp> {
    let hours = i64::from(days) * 24;
    Ok(Timestamp::from_second(Timestamp::now().checked_add(hours.hours())?.as_second())?)
}

fn parse_scope(name: &str) -> Result<Scope, String> {
    match name {
        "admin" => Ok(Scope::Admin),
        "read" => Ok(Scope::Read),
        "telemetry" => Ok(Scope::Telemetry),
        _ => Err("there are admin, read and telemetry".into()),
    }
}

fn hash() -> anyhow::Result<Exit> {
    if io::stdin().is_terminal() {
        complain("type the token, then Enter and Ctrl-D");
    }
    let mut token = String::new();
    io::stdin().read_to_string(&mut token)?;
    if token.trim().is_empty() {
        bail!("standard input is empty: give the token there, `keelson token hash <token.txt`");
    }
    say(&TokenHash::of(token.trim()).to_string());
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_admits_the_token_it_was_made_for() {
        let secret = generate();
        let token = Token {
            id: "ops \"quoted\"".into(),
            sha256: TokenHash::of(&secret),
            scopes: vec![Scope::Read, Scope::Telemetry],
            expires: Some(in_days(1).unwrap()),
        };
        let table: toml::Table = section(&token).unwrap().parse().unwrap();
        let read: Token = table["auth"]["tokens"][0].clone().try_into().unwrap();
        assert_eq!(read, token);
    }

    #[test]
    fn tokens_are_long_and_never_the_same() {
        let (one, other) = (generate(), generate());
        assert_eq!(one.len(), PREFIX.len() + 64);
        assert_ne!(one, other);
    }

    #[test]
    fn the_hash_is_sha_256() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenHash::of("abc").to_string(), known);
    }
}
