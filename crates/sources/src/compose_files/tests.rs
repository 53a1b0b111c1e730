//! Sources, addresses, and room in memory.

use attest::CommitId;

use super::*;

fn file(path: &str) -> ComposeFile {
    ComposeFile {
        file: path.to_owned(),
        tag: "v0.0.1".to_owned(),
        commit: CommitId::from_bytes([0x42; 20]),
        sha256: digest_of(path.as_bytes()),
    }
}

#[test]
fn sources_are_urls_or_off() {
    assert_eq!("off".parse(), Ok(ComposeSource::Off));
    for text in ["https://files.example/a/b", "http://127.0.0.1:1/compose/"] {
        let base = text.parse().unwrap();
        assert_eq!(text.parse(), Ok(ComposeSource::Repository(base)));
    }
    for text in [
        "",
        "OFF",
        "http://files.example/",
        "https://files.example/?commit=",
        "https://files.example/#",
    ] {
        assert!(text.parse::<ComposeSource>().is_err(), "{text}");
    }
}

#[test]
fn places_are_below_the_base() {
    let base: FetchUrl = "https://files.example/owner/repository/".parse().unwrap();
    let url = |path: &str| url_of(&base, &file(path)).map(|url| url.to_string());
    let below = format!(
        "https://files.example/owner/repository/{}/",
        "42".repeat(20)
    );
    for path in ["a.yaml", "prod/a.yaml", "prod/..a/b+c_d-1.yaml"] {
        assert_eq!(url(path), Some(format!("{below}{path}")));
    }
    for path in [
        "",
        "/a.yaml",
        "a//b.yaml",
        "a/",
        ".",
        "../a.yaml",
        "a/../../../b.yaml",
        "a/./b.yaml",
        "%2e%2e/a.yaml",
        "a.yaml?x=1",
        "a.yaml#x",
        "a\\b.yaml",
        "a b.yaml",
        "a\r\nHost: evil.example",
        "\u{fc}.yaml",
    ] {
        assert_eq!(url(path), None, "{path:?}");
    }
}

#[test]
fn room_is_made_but_not_at_the_log_s_own_cost() {
    let mut stored = Stored::default();
    let add = |stored: &mut Stored, number: usize| {
        let text = format!("services: {{a: {{image: x{number}}}}}");
        let digest = Arc::make_mut(&mut stored.files).insert("a.yaml", text.as_bytes());
        stored.sizes.insert(digest, text.len());
        ComposeFile {
            sha256: digest,
            ..file("a.yaml")
        }
    };
    let first = add(&mut stored, 0);
    for number in 1..MAX_FILES {
        add(&mut stored, number);
    }
    assert!(stored.make_room(&[&first]));
    assert_eq!(stored.files.len(), MAX_FILES);
    add(&mut stored, MAX_FILES);
    // A log that would not fit alone evicts nothing.
    let too_many = missing_files(MAX_FILES + 1);
    assert!(!stored.make_room(&too_many.iter().collect::<Vec<_>>()));
    assert_eq!(stored.files.len(), MAX_FILES + 1);
    let snapshot = Arc::clone(&stored.files);
    assert!(stored.make_room(&[&first]));
    assert_eq!(stored.files.len(), 1);
    assert!(stored.files.contains(&first.sha256));
    // A verdict in progress keeps the files that it is judged by.
    assert_eq!(snapshot.len(), MAX_FILES + 1);
    *stored.sizes.get_mut(&first.sha256).unwrap() = MAX_BYTES + 1;
    assert!(!stored.make_room(&[&first]), "a log that names too much");
    assert!(stored.make_room(&[]));
    assert!(stored.files.is_empty() && stored.sizes.is_empty());
}

/// A repository that has every file at one commit, whose content is its own path. It takes
/// `pause` to answer 404 to other requests. Also the paths that were requested.
async fn repository(pause: Duration) -> (ComposeFiles, Arc<Mutex<Vec<String>>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                let read = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let path = request.split(' ').nth(1).unwrap().to_owned();
                lock(&seen).push(path.clone());
                let there = format!("/{}/", "42".repeat(20));
                let (status, text) = match path.strip_prefix(&there) {
                    Some(file) => ("200 OK", file),
                    None => {
                        tokio::time::sleep(pause).await;
                        ("404 Not Found", "")
                    }
                };
                let length = text.len();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{text}");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    let webpki = crate::tls::webpki(&[]).unwrap();
    let clock = Clock::system();
    let network = crate::net::Network::new(Default::default(), webpki.clone()).unwrap();
    let fetcher = Fetcher::new(webpki, network, clock.clone()).unwrap();
    let files = ComposeFiles::new(source.parse().unwrap(), Arc::new(fetcher), clock, None);
    (files, asked)
}

/// The same file at a commit that has none.
fn elsewhere(file: &ComposeFile) -> ComposeFile {
    ComposeFile {
        commit: CommitId::from_bytes([0x43; 20]),
        ..file.clone()
    }
}

fn missing_files(count: usize) -> Vec<ComposeFile> {
    let files = (0..count).map(|number| elsewhere(&file(&format!("{number}.yaml"))));
    files.collect()
}

async fn asked_for(asked: &Mutex<Vec<String>>, count: usize) {
    while lock(asked).len() < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A log that names a wrong commit for another log's file does not make the other miss it,
/// although it was first; not even if both are of the same backend.
#[tokio::test]
async fn a_wrong_place_hides_no_right_one() {
    let one: Domain = "a.example".parse().unwrap();
    for other in ["a.example", "b.example"] {
        let (files, asked) = repository(Duration::from_millis(500)).await;
        let (right, other) = ([file("a.yaml")], other.parse().unwrap());
        let wrong = [elsewhere(&right[0])];
        let second = async {
            asked_for(&asked, 1).await;
            files.get(&other, &right, &[]).await
        };
        let (_, came) = tokio::join!(files.get(&one, &wrong, &[]), second);
        assert!(came, "{other}");
    }
}

/// A log may name any number of missing files: other backends still get permits.
#[tokio::test]
async fn a_long_log_holds_up_no_other_backend() {
    let (files, asked) = repository(Duration::from_secs(2)).await;
    let one = "a.example".parse().unwrap();
    let greedy = missing_files(2 * MAX_IN_FLIGHT);
    let [first, rest] = [&greedy[..MAX_PER_VERDICT], &greedy[MAX_PER_VERDICT..]];
    let other = async {
        asked_for(&asked, MAX_CONCURRENT).await;
        // The same file is in both logs, and waits for a permit in the first.
        let wanted = [file("b.yaml"), greedy[MAX_PER_VERDICT - 1].clone()];
        let began = Instant::now();
        let came = files.get(&"b.example".parse().unwrap(), &wanted, &[]).await;
        assert!(came && began.elapsed() < DEADLINE);
    };
    tokio::join!(
        files.get(&one, first, &[]),
        files.get(&one, rest, &[]),
        other
    );
    let under_way = |fetches: &Fetches| fetches.in_flight.len();
    assert!(under_way(&lock(&files.0.fetches)[&one]) <= MAX_IN_FLIGHT);
}

/// A failure for one backend is remembered for that backend only.
#[tokio::test]
async fn failures_of_one_backend_are_no_other_s() {
    let (files, asked) = repository(Duration::ZERO).await;
    let one = "a.example".parse().unwrap();
    let greedy = missing_files(MAX_FAILURES + MAX_PER_VERDICT);
    for wanted in greedy.chunks(MAX_PER_VERDICT) {
        assert!(!files.get(&one, wanted, &[]).await);
    }
    let count = lock(&asked).len();
    assert_eq!(count, MAX_FAILURES);
    let wanted = [file("b.yaml")];
    assert!(!files.get(&one, &wanted, &[]).await);
    assert!(files.get(&"b.example".parse().unwrap(), &wanted, &[]).await);
    assert_eq!(lock(&asked).len(), count + 1);
}

/// The bound holds for any number of backends that name missing files.
#[tokio::test]
async fn what_is_under_way_is_bounded() {
    let (files, _) = repository(Duration::from_secs(60)).await;
    let ComposeSource::Repository(base) = files.source().clone() else {
        unreachable!()
    };
    let greedy = missing_files(MAX_IN_FLIGHT);
    for number in 0..MAX_BACKENDS + 10 {
        let backend = format!("b{number}.example").parse().unwrap();
        for wanted in greedy.chunks(MAX_PER_VERDICT) {
            files.0.begin(&base, &backend, wanted);
        }
    }
    let all = lock(&files.0.fetches);
    let under_way = all.values().map(|fetches| fetches.in_flight.len());
    assert_eq!(under_way.sum::<usize>(), MAX_ALL_IN_FLIGHT);
    assert!(all.len() <= MAX_BACKENDS, "{}", all.len());
}
