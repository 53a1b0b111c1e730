//! Server-Sent Events (HTML §9.2) that say that verdicts changed, not how: the client
//! then reads `/_proxy/verdicts`, so no change is lost between two events.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::watch;
use upstream::admission::{Client, Counts, Full, Hold, Pot, What};

/// More than a person's open windows; each holds a connection.
const MAX_LISTENERS: usize = 32;
/// The longest silence: after it the client knows that the proxy is gone, and the proxy
/// that the client is. The specification advises 15 s.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The body of `/_proxy/events`.
pub(crate) type Events = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// Permits for clients that listen.
#[derive(Debug)]
pub(crate) struct Listeners(Arc<Pot>);

struct Listener {
    changes: watch::Receiver<u64>,
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: Hold,
}

impl Listeners {
    pub(crate) fn new(counts: Counts) -> Self {
        let share = MAX_LISTENERS / 2;
        Self(Pot::new(What::Listeners, MAX_LISTENERS, share, counts))
    }

    /// How many clients listen, and how many may.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.0.held(), self.0.limit())
    }

    /// Fails if too many clients listen already.
    pub(crate) fn open(
        &self,
        client: &Client,
        mut changes: watch::Receiver<u64>,
        stopping: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Events, Full> {
        let place = self.0.take(client, 1)?;
        // The first event is sent at once: what the client read before may be old.
        changes.mark_changed();
        let listener = Listener {
            changes,
            stopping: Box::pin(stopping),
            _place: place,
        };
        Ok(StreamBody::new(stream::unfold(listener, next).boxed()))
    }
}

async fn next(mut listener: Listener) -> Option<(Result<Frame<Bytes>, Infallible>, Listener)> {
    let event = tokio::select! {
        // This stream never ends by itself and must not delay the end of the proxy.
        biased;
        () = &mut listener.stopping => return None,
        changed = listener.changes.changed() => {
            changed.ok()?;
            let change = *listener.changes.borrow_and_update();
            Bytes::from(format!("event: verdicts\ndata: {change}\n\n"))
        }
        () = tokio::time::sleep(HEARTBEAT) => Bytes::from_static(b": still here\n\n"),
    };
    Some((Ok(Frame::data(event)), listener))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use tokio::time::Instant;

    async fn text(events: &mut Events) -> String {
        let data = events.frame().await.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(data.to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_by_a_comment() {
        let changes = watch::Sender::new(7);
        let client = Client::new(None);
        let listeners = Listeners::new(Counts::default());
        let mut events = listeners
            .open(&client, changes.subscribe(), std::future::pending())
            .unwrap();
        assert_eq!(text(&mut events).await, "event: verdicts\ndata: 7\n\n");
        for _ in 0..2 {
            let began = Instant::now();
            assert_eq!(text(&mut events).await, ": still here\n\n");
            assert_eq!(began.elapsed(), HEARTBEAT);
        }
        // Changes between two reads are one event.
        changes.send_replace(8);
        changes.send_replace(9);
        assert_eq!(text(&mut events).await, "event: verdicts\ndata: 9\n\n");
        assert_eq!(text(&mut events).await, ": still here\n\n");
    }
}
