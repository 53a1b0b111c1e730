//! The TLS backend: balancer, instances, and what happens to a connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::body::Reply;
use super::faults::{self, Act, Fault, Meter, Metered, Point, Socket};
use super::instance::{Instance, fate};
use super::link::Link;
use super::raw;
use super::received::{Kept, Record, Recorded};
use super::upload::Upload;
use super::{ACCEPT_PAUSE, HEADER_TIMEOUT, MAX_CONNECTIONS, State, TLS_TIMEOUT, engine};

/// Read at a time: stays in the processor's cache, which bench/run needs.
const MAX_BUFFER: usize = 64 << 10;

pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    while let Ok(slot) = slots.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: not a reason to spin.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(instance) = state.balancer.choose(&state.instances) else {
            let _ = stream.set_zero_linger();
            continue;
        };
        instance.accepted.fetch_add(1, Relaxed);
        if !instance.up.load(Relaxed) {
            // What a balancer makes of a refused connection.
            let _ = stream.set_zero_linger();
            continue;
        }
        let fault = fate(&state.faults, instance);
        let (state, instance) = (state.clone(), instance.clone());
        connections.spawn(async move {
            connection(stream, fault, state, instance).await;
            drop(slot);
        });
    }
}

async fn connection(stream: TcpStream, fault: Fault, state: Arc<State>, instance: Arc<Instance>) {
    let _ = stream.set_nodelay(true);
    let mut ends = instance.ends.subscribe();
    let stream = Arc::new(stream);
    let reached = Arc::new(Notify::new());
    let (tcp, plain, act) = match fault {
        Fault::None => (None, None, Act::Close),
        Fault::Tcp(point, act) => (Some(point), None, act),
        Fault::Plain(point, act) => (None, Some(point), act),
    };
    let tcp = Meter::new(tcp, reached.clone());
    let plain = Meter::new(plain, reached.clone());
    if matches!(fault, Fault::Tcp(Point::Sent(0) | Point::Received(0), _)) {
        reached.notify_one();
    }
    let mut closing = Closing(None);
    let socket = Metered {
        stream: Socket(stream.clone()),
        meter: tcp.clone(),
    };
    let act = tokio::select! {
        act = served(socket, tcp, plain, &state, &instance, &mut closing) => act,
        () = reached.notified() => act,
        _ = ends.changed() => return,
    };
    tokio::select! {
        () = faults::end(stream, act) => {}
        _ = ends.changed() => {}
    }
}

/// Notes the end of a connection, however it comes.
struct Closing(Option<Arc<Kept>>);

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(record) = &self.0 {
            record.close();
        }
    }
}

/// Serves until either side has had enough; what to do with the socket then.
async fn served(
    socket: Metered<Socket>,
    tcp: Arc<Meter>,
    plain: Arc<Meter>,
    state: &Arc<State>,
    instance: &Arc<Instance>,
    closing: &mut Closing,
) -> Act {
    let identity = instance.identity();
    let accepting = TlsAcceptor::from(identity.config.clone()).accept(socket);
    let Ok(Ok(stream)) = timeout(TLS_TIMEOUT, accepting).await else {
        return Act::Close;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let record = (state.options.record != Record::Off).then(|| {
        let spki = identity.spki_sha256;
        state.records.open(instance.index, spki, tcp, plain.clone())
    });
    closing.0.clone_from(&record);
    let recorded = TokioIo::new(Recorded {
        record: record
            .clone()
            .filter(|_| state.options.record == Record::Full),
        stream: Metered {
            stream,
            meter: plain,
        },
    });
    let (raw, mut raws) = mpsc::unbounded_channel();
    let link = Arc::new(Link {
        state: state.clone(),
        instance: instance.clone(),
        record,
        raw: (!is_http2).then_some(raw),
    });
    let service = service_fn(move |request| {
        let link = link.clone();
        async move { Ok::<_, Infallible>(answer(&link, request).await) }
    });
    // A client that goes away is none of our concern.
    if is_http2 {
        let _ = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(recorded, service)
            .await;
        return Act::Close;
    }
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(recorded, service);
    tokio::select! {
        _ = &mut connection => Act::Close,
        Some(raw) = raws.recv() => {
            raw::play(connection.into_parts().io.into_inner(), raw).await
        }
    }
}

async fn answer(link: &Link, request: Request<Incoming>) -> Reply {
    link.instance.requests.fetch_add(1, Relaxed);
    let note = link.record.as_ref().and_then(|record| {
        let line = line(&request, request.version());
        Some((record.clone(), record.head(line)?))
    });
    engine::answer(link, request.map(|body| Upload::new(body, note))).await
}

fn line(request: &Request<Incoming>, version: Version) -> String {
    format!("{} {} {version:?}", request.method(), request.uri())
}
