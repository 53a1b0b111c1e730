//! Lines on their way to stderr, which one thread alone writes.
//!
//! stderr may be a pipe that is full: its reader is a parent that does not read, a paused
//! terminal or a log collector that hangs. A thread that writes then waits in write(2), perhaps
//! for ever. No thread that serves may be that thread (threats.md C11), so lines wait in a
//! bounded queue; further ones are dropped and counted, and the log says how many once it flows.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use proxy::config::Counter;
use sources::lock::lock;
use tracing_subscriber::fmt::MakeWriter;

/// Text that waits: a thousand lines. As much again may be about to be written.
const MAX_WAITING: usize = 256 << 10;
/// After which a pipe is tried again that is full and does not block, because another process
/// that has it says so (O_NONBLOCK).
const FULL_PAUSE: Duration = Duration::from_millis(50);

/// The queue. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    /// Dropped lines that the log has not spoken of.
    unsaid: u64,
    /// The thread that writes. What it logs is never dropped: it is the number of dropped lines.
    writer: Option<ThreadId>,
}

impl Queue {
    /// A queue, and the thread that writes it to `sink`. `dropped` counts all dropped lines;
    /// `say` logs how many there were since it was last called.
    pub(super) fn start(
        sink: impl Write + Send + 'static,
        dropped: Counter,
        say: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Self(Arc::new(Inner {
            state: Mutex::default(),
            changed: Condvar::new(),
            dropped,
        }));
        let written = queue.clone();
        let writer = thread::Builder::new().name("log".to_owned());
        writer.spawn(move || written.write_to(sink, say))?;
        Ok(queue)
    }

    /// Waits until all lines are written, but no longer than `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let state = lock(&self.0.state);
        let is_behind = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        // An error: a thread has panicked while it held the lock.
        let _ = self.0.changed.wait_timeout_while(state, limit, is_behind);
    }

    fn push(&self, line: &[u8]) {
        let mut state = lock(&self.0.state);
        let fits = line.len() <= MAX_WAITING.saturating_sub(state.waiting.len());
        if fits || state.writer == Some(thread::current().id()) {
            state.waiting.extend_from_slice(line);
            self.0.changed.notify_all();
        } else {
            drop(state);
            self.lost();
        }
    }

    fn lost(&self) {
        self.0.dropped.inc();
        lock(&self.0.state).unsaid += 1;
    }

    /// Writes for ever.
    fn write_to(&self, mut sink: impl Write, say: impl Fn(u64)) {
        lock(&self.0.state).writer = Some(thread::current().id());
        loop {
            let lines = self.next();
            let mut flows = false;
            for line in lines.split_inclusive(|&byte| byte == b'\n') {
                match write_whole(&mut sink, line) {
                    Ok(()) => flows = true,
                    Err(_) => self.lost(),
                }
            }
            // Where nothing can be written, saying it would be one more lost line.
            let unsaid = match flows {
                true => std::mem::take(&mut lock(&self.0.state).unsaid),
                false => 0,
            };
            if unsaid > 0 {
                say(unsaid);
            }
        }
    }

    /// Waits for lines; takes all that wait.
    fn next(&self) -> Vec<u8> {
        let mut state = lock(&self.0.state);
        state.is_writing = false;
        self.0.changed.notify_all();
        let is_idle = |state: &mut State| state.waiting.is_empty();
        let woken = self.0.changed.wait_while(state, is_idle);
        state = woken.unwrap_or_else(std::sync::PoisonError::into_inner);
        state.is_writing = true;
        std::mem::take(&mut state.waiting)
    }
}

fn write_whole(sink: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match sink.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => line = line.get(count..).unwrap_or_default(),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
                _ => return Err(error),
            },
        }
    }
    Ok(())
}

/// One call is one line: tracing-subscriber writes each event as a whole.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read};
    use std::sync::mpsc;
    use std::time::Instant;

    const LINE: &str = "a line that says that a backend was not verified";
    const SECOND: Duration = Duration::from_secs(1);

    /// A queue that says on itself what it dropped.
    fn queue(sink: impl Write + Send + 'static) -> (Queue, Counter) {
        let dropped = Counter::default();
        let (give, take) = mpsc::channel::<Queue>();
        let say = move |count| {
            thread_local!(static OWN: std::cell::OnceCell<Queue> = const { std::cell::OnceCell::new() });
            OWN.with(|own| {
                let own = own.get_or_init(|| take.recv().unwrap());
                own.push(format!("{count} dropped\n").as_bytes());
            });
        };
        let queue = Queue::start(sink, dropped.clone(), say).unwrap();
        give.send(queue.clone()).unwrap();
        (queue, dropped)
    }

    fn push(queue: &Queue, count: usize) {
        for number in 0..count {
            queue.push(format!("{number} {LINE}\n").as_bytes());
        }
    }

    /// Lines pushed while the reader is paused arrive once, in order, or are counted.
    fn resumes(sink: impl Write + Send + 'static, source: impl Read) {
        const PUSHED: usize = 50_000;
        let (queue, dropped) = queue(sink);
        let began = Instant::now();
        push(&queue, PUSHED);
        assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
        assert!(dropped.get() > 0);
        let mut lines = BufReader::new(source).lines().map(Result::unwrap);
        let mut arrived = 0;
        let said = loop {
            let line = lines.next().unwrap();
            match line.strip_suffix(" dropped") {
                Some(count) => break count.parse().unwrap(),
                None => assert!(line.ends_with(LINE), "{line}"),
            }
            let number: usize = line.split(' ').next().unwrap().parse().unwrap();
            assert!(number >= arrived, "{number} {arrived}");
            arrived += 1;
        };
        assert_eq!(
            (dropped.get(), arrived as u64),
            (said, PUSHED as u64 - said)
        );
        // It flows, and says no more.
        push(&queue, 2);
        let rest: Vec<_> = lines.take(2).collect();
        assert_eq!(rest, [format!("0 {LINE}"), format!("1 {LINE}")]);
        queue.flush(SECOND);
        assert_eq!(lock(&queue.0.state).unsaid, 0);
    }

    #[test]
    fn a_paused_reader_is_told_what_it_missed() {
        let (reader, writer) = io::pipe().unwrap();
        resumes(writer, reader);
    }

    #[cfg(unix)]
    #[test]
    fn so_is_one_whose_pipe_does_not_block() {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        resumes(writer, reader);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_nothing_spins() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let (queue, dropped) = queue(writer);
        push(&queue, 3);
        queue.flush(SECOND);
        assert_eq!(dropped.get(), 3);
        thread::sleep(Duration::from_millis(100));
        assert_eq!(dropped.get(), 3);
    }

    /// Fails for a while, as a disk that is full.
    struct Failing(u32, mpsc::Sender<String>);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 > 0 {
                self.0 -= 1;
                return Err(ErrorKind::StorageFull.into());
            }
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.1.send(text).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_disk_that_has_room_again_is_told_too() {
        let (write, written) = mpsc::channel();
        let (queue, dropped) = queue(Failing(7, write));
        push(&queue, 8);
        assert_eq!(written.recv().unwrap(), format!("7 {LINE}\n"));
        assert_eq!(written.recv().unwrap(), "7 dropped\n");
        assert_eq!(dropped.get(), 7);
    }

    #[test]
    fn a_flush_ends_in_time_and_not_before_all_is_written() {
        let (mut reader, writer) = io::pipe().unwrap();
        let (queue, _) = queue(writer);
        push(&queue, 10);
        queue.flush(60 * SECOND);
        let mut written = [0; 4_096];
        let count = reader.read(&mut written).unwrap();
        let lines = written[..count].iter().filter(|&&byte| byte == b'\n');
        assert_eq!(lines.count(), 10);
        push(&queue, 20_000);
        let began = Instant::now();
        queue.flush(SECOND / 4);
        let took = began.elapsed();
        assert!((SECOND / 4..5 * SECOND).contains(&took), "{took:?}");
    }
}
