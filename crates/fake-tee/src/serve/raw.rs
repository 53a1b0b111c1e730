//! Answers that no HTTP library would give: bytes, pauses, and an end.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::sleep;

use super::faults::Act;

#[derive(Debug)]
pub(super) enum Step {
    Send(Bytes),
    /// So many times, with a pause after each.
    Repeat(Bytes, u64, Duration),
    /// Reads what the client still sends, until it ends its side.
    Drain,
}

#[derive(Debug)]
pub(super) struct Raw {
    pub(super) steps: Vec<Step>,
    pub(super) end: Act,
    /// Whether TLS's close_notify goes first.
    pub(super) polite: bool,
}

impl Raw {
    /// Some bytes, then a proper end.
    pub(super) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::steps(vec![Step::Send(bytes.into())])
    }

    pub(super) fn steps(steps: Vec<Step>) -> Self {
        Self {
            steps,
            end: Act::Close,
            polite: true,
        }
    }

    /// Some bytes, then an end without close_notify.
    pub(super) fn cut(bytes: impl Into<Bytes>, end: Act) -> Self {
        Self {
            steps: vec![Step::Send(bytes.into())],
            end,
            polite: false,
        }
    }
}

/// What to do with the socket after it.
pub(super) async fn play(mut stream: impl AsyncRead + AsyncWrite + Unpin, raw: Raw) -> Act {
    for step in raw.steps {
        // A client that goes away is none of our concern.
        let played = match step {
            Step::Send(bytes) => stream.write_all(&bytes).await,
            Step::Repeat(bytes, times, pause) => repeat(&mut stream, &bytes, times, pause).await,
            Step::Drain => {
                let mut unread = [0; 16 << 10];
                while stream.read(&mut unread).await.is_ok_and(|count| count > 0) {}
                Ok(())
            }
        };
        if played.is_err() || stream.flush().await.is_err() {
            return Act::Close;
        }
    }
    if raw.polite {
        let _ = stream.shutdown().await;
    }
    raw.end
}

async fn repeat(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    times: u64,
    pause: Duration,
) -> std::io::Result<()> {
    for _ in 0..times {
        stream.write_all(bytes).await?;
        if !pause.is_zero() {
            stream.flush().await?;
            sleep(pause).await;
        }
    }
    Ok(())
}
