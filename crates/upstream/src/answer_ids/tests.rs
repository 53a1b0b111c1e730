use super::*;

fn instance(key: u8) -> Instance {
    Instance {
        domain: "a.example.com".parse().unwrap(),
        spki: Spki::of_der(&[key]),
    }
}

fn id_scan(answer_ids: &AnswerIds, content_type: &str) -> Option<IdScan> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
    answer_ids.id_scan(
        &Method::POST,
        "/v1/chat/completions",
        StatusCode::OK,
        &headers,
        instance(1),
    )
}

/// True if `id` is known after this answer, in one piece and byte by byte.
fn learns(content_type: &str, answer: &str, id: &str) -> bool {
    let known = |step: usize| {
        let served = AnswerIds::default();
        let mut id_scan = id_scan(&served, content_type).unwrap();
        for piece in answer.as_bytes().chunks(step) {
            id_scan.feed(piece);
        }
        served.instance(id)
    };
    assert_eq!(known(1), known(answer.len()), "{answer}");
    assert_eq!(known(1), known(7), "{answer}");
    known(1).is_some()
}

const JSON: &str = "application/json; charset=utf-8";
const EVENTS: &str = "text/event-stream";

#[test]
fn ids_are_read_from_json_and_events() {
    for (content_type, answer) in [
        (JSON, r#"{"id":"x-1","object":"chat.completion"}"#),
        (JSON, r#" {"object":{"id":"no"},"id":"x\u002d1" garbage"#),
        (
            EVENTS,
            "data: {\"id\":\"x-1\",\"choices\":[]}\n\ndata: [DONE]\n\n",
        ),
        (
            EVENTS,
            ": comment\r\nevent: x\r\ndata:{\"a\":1}\r\n\r\ndata: {\"id\":\"x-1\"}\r\n",
        ),
    ] {
        assert!(learns(content_type, answer, "x-1"), "{answer}");
    }
    let far = format!("{{\"x\":\"{}\",\"id\":\"x-1\"}}", "x".repeat(MAX_SCANNED));
    let long = "x".repeat(MAX_ID_BYTES + 1);
    for (content_type, answer, id) in [
        (JSON, r#"{"x":{"id":"x-1"}}"#, "x-1"),
        (JSON, r#"["id","x-1"]"#, "x-1"),
        (JSON, r#"{"id":7}"#, "7"),
        (JSON, &far, "x-1"),
        (JSON, &format!("{{\"id\":\"{long}\"}}"), &long),
        (EVENTS, "datax: {\"id\":\"x-1\"}\n\n", "x-1"),
        (EVENTS, "data: [DONE]\n\ndata: {\"id\":\"x-1\"}\n\n", "x-1"),
    ] {
        assert!(!learns(content_type, answer, id), "{answer}");
    }
    assert!(learns(
        JSON,
        &format!("{{\"id\":\"{}\"}}", &long[1..]),
        &long[1..]
    ));
}

#[test]
fn the_first_id_counts_and_is_unescaped_in_paths() {
    let served = AnswerIds::default();
    let mut id_scan = id_scan(&served, JSON).unwrap();
    id_scan.feed(br#"{"id":"a/b","#);
    id_scan.feed(br#""id":"c"}"#);
    assert_eq!(served.instance("a%2Fb"), Some(instance(1)));
    assert_eq!(served.instance("c"), None);
    assert_eq!(served.instance("a%ff"), None);
}

#[test]
fn other_answers_are_left_alone() {
    let served = AnswerIds::default();
    let mut headers = HeaderMap::new();
    let of = |method: Method, path: &str, status, headers: &HeaderMap| {
        served
            .id_scan(&method, path, status, headers, instance(1))
            .is_some()
    };
    assert!(!of(Method::POST, "/v1/x", StatusCode::OK, &headers));
    headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    assert!(of(Method::POST, "/v1/x", StatusCode::OK, &headers));
    assert!(!of(Method::GET, "/v1/x", StatusCode::OK, &headers));
    assert!(!of(Method::POST, "/x", StatusCode::OK, &headers));
    assert!(!of(
        Method::POST,
        "/v1/x",
        StatusCode::BAD_REQUEST,
        &headers
    ));
    headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
    assert!(!of(Method::POST, "/v1/x", StatusCode::OK, &headers));
    headers.insert(header::CONTENT_ENCODING, "identity".parse().unwrap());
    assert!(of(Method::POST, "/v1/x", StatusCode::OK, &headers));
    assert!(id_scan(&served, "audio/wav").is_none());
}

#[tokio::test(start_paused = true)]
async fn ids_are_forgotten_after_a_while() {
    let served = AnswerIds::default();
    served.remember("old", instance(1));
    served.remember("again", instance(1));
    tokio::time::advance(TTL / 2).await;
    served.remember("again", instance(2));
    assert_eq!(served.instance("old"), Some(instance(1)));
    tokio::time::advance(TTL / 2).await;
    assert_eq!(served.instance("old"), None);
    assert_eq!(served.instance("again"), Some(instance(2)));
    tokio::time::advance(TTL / 2).await;
    assert_eq!(served.instance("again"), None);
    assert_eq!(
        format!("{served:?}"),
        "AnswerIds(Mutex { data: 0 ids, poisoned: false, .. })"
    );
}

#[test]
fn the_oldest_go_first() {
    let served = AnswerIds::default();
    for number in 0..MAX_IDS + 10 {
        served.remember(&number.to_string(), instance(1));
    }
    // One repeated id takes no more room than many ids.
    assert_eq!(served.instance("9"), None);
    assert!(served.instance("10").is_some());
    for _ in 0..2 * MAX_IDS {
        served.remember("same", instance(1));
    }
    let ids = lock(&served.0);
    assert_eq!((ids.known.len(), ids.oldest.len()), (1, MAX_IDS));
}

#[test]
fn a_signature_has_one_id() {
    assert_eq!(signature_id("/v1/signature/x-1"), Some("x-1"));
    for path in [
        "/v1/signature/",
        "/v1/signature",
        "/v1/signature/a/b",
        "/v2/signature/a",
    ] {
        assert_eq!(signature_id(path), None, "{path}");
    }
}
