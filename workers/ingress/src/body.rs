//! Request bodies: read and decompressed up to a bound, from a budget that all requests share.
//!
//! What is read counts against the budget as it comes, compressed or not, so neither many large bodies nor a bomb can take more memory
//! than the budget has: a bomb is inflated to the limit of one body and then refused.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use axum::http::{HeaderMap, Request};
use futures::TryStreamExt;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::io::StreamReader;

use crate::problem::{Kind, Problem};

/// How much is asked of the budget at a time.
const STEP_BYTES: usize = 64 * 1024;
/// How long what is too large is read on.
const READ_ON: Duration = Duration::from_secs(2);
/// A zstd frame may ask for a window of 2^23 bytes, the limit of a body; the format would allow terabytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The memory that bodies in flight may take together.
#[derive(Debug, Clone)]
pub struct Budget {
    steps: Arc<Semaphore>,
    max_body_bytes: usize,
}

/// A body in memory, and its share of the budget until it is dropped.
#[derive(Debug)]
pub struct Held {
    /// The body, decompressed.
    pub bytes: Vec<u8>,
    share: Option<OwnedSemaphorePermit>,
}

/// A body above this is worked on beside the runtime, so that parsing it holds up no other request.
const LARGE_BYTES: usize = 256 * 1024;

impl Held {
    /// Does work that takes time in proportion to the body, and gives the body back with what came of it.
    ///
    /// # Errors
    /// 500 when the work panics.
    pub async fn digest<T: Send + 'static>(
        self,
        work: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<(Self, T), Problem> {
        let is_small = self.bytes.len() <= LARGE_BYTES;
        let digest = move || {
            let done = work(&self.bytes);
            (self, done)
        };
        if is_small {
            return Ok(digest());
        }
        let panicked = |_| Problem::new(Kind::Internal, "Keelson failed at this body");
        tokio::task::spawn_blocking(digest).await.map_err(panicked)
    }
}

impl Budget {
    /// A budget of `total_bytes` for bodies of at most `max_body_bytes` each.
    #[must_use]
    pub fn new(total_bytes: usize, max_body_bytes: usize) -> Self {
        Self { steps: Arc::new(Semaphore::new(total_bytes.div_ceil(STEP_BYTES))), max_body_bytes }
    }

    /// Reads the body of a request, decompressed as its `Content-Encoding` says.
    ///
    /// # Errors
    /// 413 past the limit, 415 for an encoding that is not known, 400 when it does not decompress or breaks off, 429 when the budget is spent.
    pub async fn read(&self, request: Request<Body>) -> Result<Held, Problem> {
        let (head, body) = request.into_parts();
        let mut stream = StreamReader::new(body.into_data_stream().map_err(io::Error::other as fn(_) -> _));
        if let Err(problem) = self.check_declared(&head.headers) {
            // A client that waits to be told to continue has sent nothing yet.
            if !head.headers.contains_key(EXPECT) {
                self.read_on(&mut stream).await;
            }
            return Err(problem);
        }
        let coding = Coding::of(&head.headers)?;
        match coding {
            Coding::Identity => self.collect(stream).await,
            Coding::Gzip => self.collect(gzip(stream)).await,
            Coding::Zstd => self.collect(zstd(stream)).await,
        }
    }

    /// A body that says it is too large need not be sent.
    fn check_declared(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let declared =
            headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| length > self.max_body_bytes) {
            return Err(self.too_large());
        }
        Ok(())
    }

    async fn collect(&self, body: impl AsyncRead) -> Result<Held, Problem> {
        let mut body = std::pin::pin!(body);
        let mut held = Held { bytes: Vec::new(), share: None };
        loop {
            if held.bytes.len() == held.bytes.capacity() {
                self.grow(&mut held)?;
            }
            if body.read_buf(&mut held.bytes).await.map_err(broken)? == 0 {
                return Ok(held);
            }
            if held.bytes.len() > self.max_body_bytes {
                drop(held);
                self.read_on(&mut body).await;
                return Err(self.too_large());
            }
        }
    }

    /// Reads on and throws away, within bounds: a client that is still sending sees the answer only if the connection stays open until it has sent.
    async fn read_on(&self, body: &mut (impl AsyncRead + Unpin)) {
        let mut rest = body.take(2 * self.max_body_bytes as u64);
        let mut nowhere = tokio::io::sink();
        // Whatever comes of it, the answer is the same.
        let _ = tokio::time::timeout(READ_ON, tokio::io::copy(&mut rest, &mut nowhere)).await;
    }

    /// Doubles the room of a body, but not beyond the step that shows it to be too large.
    fn grow(&self, held: &mut Held) -> Result<(), Problem> {
        let have = held.bytes.len();
        let more = have.clamp(STEP_BYTES, (self.max_body_bytes + 1).saturating_sub(have).max(STEP_BYTES));
        let steps = more.div_ceil(STEP_BYTES);
        let share = self.steps.clone().try_acquire_many_owned(steps as u32).map_err(|_| spent())?;
        match &mut held.share {
            Some(mine) => mine.merge(share),
            None => held.share = Some(share),
        }
        held.bytes.reserve_exact(steps * STEP_BYTES);
        Ok(())
    }

    fn too_large(&self) -> Problem {
        let most = self.max_body_bytes;
        let detail = format!("a body may have {most} bytes, also after decompression: send it in parts");
        Problem::new(Kind::TooLarge, detail)
    }
}

fn spent() -> Problem {
    let detail =
        "the bodies of the requests in flight take all the memory they may: send this one again later";
    Problem::new(Kind::Overloaded, detail)
}

fn broken(error: io::Error) -> Problem {
    Problem::new(Kind::Malformed, format!("the body broke off or does not decompress: {error}"))
}

/// A gzip file may have several members, one after the other.
fn gzip<R: AsyncBufRead>(body: R) -> GzipDecoder<R> {
    let mut decoder = GzipDecoder::new(body);
    decoder.multiple_members(true);
    decoder
}

fn zstd<R: AsyncBufRead>(body: R) -> ZstdDecoder<R> {
    ZstdDecoder::with_params(body, &[DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX)])
}

/// The codings of a body that are understood (RFC 9110, section 8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Coding {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(value) = headers.get(CONTENT_ENCODING) else {
            return Ok(Self::Identity);
        };
        match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            other => {
                let detail =
                    format!("Content-Encoding {other:?} is not known here: use gzip, zstd or identity");
                Err(Problem::new(Kind::UnsupportedMediaType, detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
    use axum::body::Bytes;
    use tokio::io::AsyncWriteExt;

    use super::*;

    const MAX: usize = 8 * 1024 * 1024;

    fn request(coding: &str, body: impl Into<Body>) -> Request<Body> {
        let request = Request::builder().header(CONTENT_ENCODING, coding).body(body.into());
        request.expect("a request")
    }

    async fn read(coding: &str, body: impl Into<Body>) -> Result<Vec<u8>, u16> {
        let held = Budget::new(4 * MAX, MAX).read(request(coding, body)).await;
        held.map(|held| held.bytes).map_err(|problem| problem.status().as_u16())
    }

    async fn gzipped(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzipEncoder::new(Vec::new());
        encoder.write_all(plain).await.expect("compresses");
        encoder.shutdown().await.expect("ends");
        encoder.into_inner()
    }

    async fn zstandard(plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZstdEncoder::new(Vec::new());
        encoder.write_all(plain).await.expect("compresses");
        encoder.shutdown().await.expect("ends");
        encoder.into_inner()
    }

    #[tokio::test]
    async fn a_body_comes_back_as_it_was() {
        for size in [0, 1, STEP_BYTES, STEP_BYTES + 1, 1_000_000, MAX] {
            let plain: Vec<u8> = (0..size).map(|i| (i * i % 251) as u8).collect();
            assert_eq!(read("identity", plain.clone()).await.as_ref(), Ok(&plain));
            assert_eq!(read("gzip", gzipped(&plain).await).await.as_ref(), Ok(&plain));
            assert_eq!(read("zstd", zstandard(&plain).await).await.as_ref(), Ok(&plain));
        }
    }

    #[tokio::test]
    async fn a_gzip_of_two_members_is_read_to_its_end() {
        let two = [gzipped(b"one ").await, gzipped(b"two").await].concat();
        assert_eq!(read("gzip", two).await, Ok(b"one two".to_vec()));
    }

    #[tokio::test]
    async fn too_much_is_refused_however_it_is_wrapped() {
        let bomb = vec![0; 4 * MAX];
        assert_eq!(read("identity", vec![0; MAX + 1]).await, Err(413));
        assert_eq!(read("gzip", gzipped(&bomb).await).await, Err(413));
        assert_eq!(read("zstd", zstandard(&bomb).await).await, Err(413));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_says_it_is_too_large_is_not_read() {
        let mut request =
            request("identity", Body::from_stream(futures::stream::pending::<io::Result<Bytes>>()));
        request.headers_mut().insert(CONTENT_LENGTH, (MAX + 1).into());
        let refused = Budget::new(MAX, MAX).read(request).await;
        assert_eq!(refused.map_err(|problem| problem.status().as_u16()).err(), Some(413));
    }

    #[tokio::test]
    async fn a_zstd_window_of_gigabytes_is_refused() {
        // Frame header: magic, no single segment, window descriptor 0xa8 (2^31 bytes), then an empty last block.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
        assert_eq!(read("zstd", frame.to_vec()).await, Err(400));
    }

    #[tokio::test]
    async fn what_does_not_decompress_or_is_not_known_is_told_apart() {
        assert_eq!(read("gzip", b"plain".to_vec()).await, Err(400));
        assert_eq!(read("zstd", b"plain".to_vec()).await, Err(400));
        let whole = gzipped(b"a body").await;
        assert_eq!(read("gzip", whole[..whole.len() - 3].to_vec()).await, Err(400));
        assert_eq!(read("br", Vec::new()).await, Err(415));
        assert_eq!(read("gzip, gzip", Vec::new()).await, Err(415));
    }

    #[tokio::test]
    async fn bodies_share_one_budget_and_give_it_back() {
        let budget = Budget::new(4 * STEP_BYTES, MAX);
        let held = budget.read(request("identity", vec![0; 2 * STEP_BYTES])).await.expect("fits");
        let refused = budget.read(request("identity", vec![0; 4 * STEP_BYTES])).await;
        assert_eq!(refused.map_err(|problem| problem.status().as_u16()).err(), Some(429));
        drop(held);
        assert!(budget.read(request("identity", vec![0; 2 * STEP_BYTES])).await.is_ok());
    }
}
