//! One run of the executable: started, read, ended; and what its end means.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::output::{self, Complaints, Line, Status, Stored};
use super::{Password, Restic, ResticError};

/// Lines of its output are cut here; a status names the files it reads.
const MAX_LINE_BYTES: usize = 1024 * 1024;
/// Exit codes, as far as all versions have them or only newer ones.
const INCOMPLETE: i32 = 3;
const NO_REPOSITORY: i32 = 10;
const LOCKED: i32 = 11;
const WRONG_PASSWORD: i32 = 12;

impl Restic {
    /// Runs a command whose output is short.
    pub(super) async fn text(&self, arguments: &[&str]) -> Result<String, ResticError> {
        let bytes = self.bytes(arguments, MAX_LINE_BYTES).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Runs a command and gives its output, up to a bound.
    pub(super) async fn bytes(&self, arguments: &[&str], most: usize) -> Result<Vec<u8>, ResticError> {
        let command = arguments.first().copied().unwrap_or_default();
        let mut child = self.start(Path::new("."), arguments)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (bytes, complaints) = tokio::join!(read(out, most), complaints(err));
        self.ended(command, child.wait().await, &complaints)?;
        let bytes = bytes.map_err(|error| self.failed(command, &error.to_string()))?;
        if bytes.len() > most {
            return Err(self.failed(command, &format!("it said more than {most} bytes")));
        }
        Ok(bytes)
    }

    /// Runs a command and hands over its output line by line, however much that is.
    pub(super) async fn lines(
        &self,
        arguments: &[&str],
        mut take: impl FnMut(&str),
    ) -> Result<(), ResticError> {
        let command = arguments.first().copied().unwrap_or_default();
        let mut child = self.start(Path::new("."), arguments)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let reading = async {
            let mut lines = Lines::new(out);
            while let Some(line) = lines.next().await {
                take(&line);
            }
        };
        let ((), complaints) = tokio::join!(reading, complaints(err));
        self.ended(command, child.wait().await, &complaints)
    }

    /// Runs `restic backup`; what it could not read it says.
    pub(super) async fn backup(
        &self,
        root: &Path,
        arguments: &[&str],
        mut seen: impl FnMut(Status),
    ) -> Result<Stored, ResticError> {
        let mut child = self.start(root, arguments)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let summary = async {
            let mut summary = None;
            let mut lines = Lines::new(out);
            while let Some(line) = lines.next().await {
                match output::line(&line) {
                    Some(Line::Status(status)) => seen(status),
                    Some(Line::Summary(stored)) => summary = Some(stored),
                    _ => {}
                }
            }
            summary
        };
        let (summary, complaints) = tokio::join!(summary, complaints(err));
        let incomplete = match (self.ended("backup", child.wait().await, &complaints), &summary) {
            (Err(ResticError::Incomplete(said)), Some(_)) => Some(said),
            (ended, _) => ended.map(|()| None)?,
        };
        let summary = summary.ok_or_else(|| self.failed("backup", "it did not say what it stored"))?;
        Ok(Stored { incomplete, ..summary })
    }

    fn start(&self, root: &Path, arguments: &[&str]) -> Result<Child, ResticError> {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.env("RESTIC_REPOSITORY", &self.repository).env("RESTIC_PROGRESS_FPS", "2");
        match &self.password {
            Password::Text(password) => command.env("RESTIC_PASSWORD", password.expose()),
            Password::File(file) => command.env("RESTIC_PASSWORD_FILE", file),
        };
        match &self.cache {
            Some(cache) => command.arg("--cache-dir").arg(cache),
            None => command.arg("--no-cache"),
        };
        command.args(arguments).current_dir(root).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|error| ResticError::Missing(format!("{}: {error}", self.program.display())))
    }

    fn ended(
        &self,
        command: &str,
        status: std::io::Result<ExitStatus>,
        complaints: &Complaints,
    ) -> Result<(), ResticError> {
        let status = status.map_err(|error| self.failed(command, &error.to_string()))?;
        let said = complaints.words();
        match status.code() {
            Some(0) => Ok(()),
            Some(INCOMPLETE) if command == "backup" => Err(ResticError::Incomplete(said)),
            code => Err(self.meaning(command, code, said)),
        }
    }

    /// Old versions tell all errors by 1 and the words.
    fn meaning(&self, command: &str, code: Option<i32>, said: String) -> ResticError {
        let says = |words: &str| said.contains(words);
        match code {
            Some(NO_REPOSITORY) => ResticError::NoRepository(self.place()),
            Some(WRONG_PASSWORD) => ResticError::WrongPassword,
            Some(LOCKED) => ResticError::Locked(said),
            Some(1) if says("wrong password or no key found") => ResticError::WrongPassword,
            Some(1) if says("Is there a repository at the following location?") => {
                ResticError::NoRepository(self.place())
            }
            Some(1) if says("repository is already locked") => ResticError::Locked(said),
            Some(code) if said.is_empty() => self.failed(command, &format!("it ended with {code}")),
            None => self.failed(command, &format!("it was killed {said}")),
            Some(_) => self.failed(command, &said),
        }
    }
}

async fn read(from: Option<impl AsyncRead + Unpin>, most: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // One more than is wanted shows that there is more. Whoever writes on gets a closed pipe.
        from.take(most as u64 + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

async fn complaints(from: Option<impl AsyncRead + Unpin>) -> Complaints {
    let mut complaints = Complaints::default();
    let mut lines = Lines::new(from);
    while let Some(line) = lines.next().await {
        complaints.take(&line);
    }
    complaints
}

/// Lines of bounded length.
struct Lines<R>(Option<BufReader<R>>);

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(from: Option<R>) -> Self {
        Self(from.map(BufReader::new))
    }

    async fn next(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = self.0.as_mut()?.take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line).await;
        read.is_ok_and(|bytes| bytes > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}
