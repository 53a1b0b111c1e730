use super::*;

fn pot(limit: usize, share: usize) -> Arc<Pot> {
    Pot::new(What::Backend, limit, share, Counts::default())
}

fn local() -> Client {
    Client::new(Some("127.0.0.1".parse().unwrap()))
}

fn remote(address: &str) -> Client {
    let client = Client::new(Some(address.parse().unwrap()));
    client.begin();
    client
}

fn served() -> Client {
    let client = local();
    client.begin();
    client
}

async fn seconds(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_client_idle_longest_makes_room() {
    let pot = pot(3, 3);
    let (mut clients, mut held) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let client = local();
        held.push(pot.take(&client, 1).unwrap());
        clients.push(client);
        seconds(1).await;
    }
    let [first, second, third] = clients.try_into().unwrap();
    // A request on the first makes the second the one idle longest.
    first.begin();
    first.end();
    let fourth = local();
    held.push(pot.take(&fourth, 1).unwrap());
    let closing = [&first, &second, &third, &fourth].map(Client::is_closing);
    assert_eq!(closing, [false, true, false, false]);
    assert_eq!(pot.held(), 3);
    drop(held);
    assert_eq!(pot.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn served_clients_stay_and_slow_ones_go_after_a_while() {
    let pot = pot(2, 2);
    let (patient, slow) = (served(), served());
    let _held = [&patient, &slow].map(|client| pot.take(client, 1).unwrap());
    seconds(1_000).await;
    assert!(matches!(
        pot.take(&served(), 1),
        Err(Full::All { limit: 2 })
    ));
    slow.stalls();
    seconds(4).await;
    // What moves again is not slow, if the bytes are worth the wait.
    slow.moves(8 << 10);
    slow.stalls();
    seconds(4).await;
    assert!(pot.take(&served(), 1).is_err());
    // A byte now and then pays for nothing.
    slow.moves(1);
    slow.stalls();
    assert!(pot.take(&served(), 1).is_err());
    seconds(2).await;
    assert!(pot.take(&served(), 1).is_ok());
    assert!(slow.is_closing() && !patient.is_closing());
    // The closed client takes nothing more.
    assert!(pot.take(&slow, 1).is_err());
}

#[tokio::test(start_paused = true)]
async fn one_client_takes_its_share_and_no_more() {
    let pot = pot(8, 4);
    let mut held = Vec::new();
    let mine: Vec<_> = (0..4).map(|_| remote("192.0.2.1")).collect();
    for client in &mine {
        held.push(pot.take(client, 1).unwrap());
    }
    let fifth = remote("::ffff:192.0.2.1");
    assert_eq!(pot.take(&fifth, 1).unwrap_err(), Full::Share { limit: 4 });
    // So is another address of an IPv6 network.
    let (six, other) = (remote("2001:db8::1"), remote("2001:db8::ffff:2"));
    assert_eq!(six.owner, other.owner);
    assert_ne!(six.owner, remote("2001:db8:0:1::1").owner);
    // Another address, another token and programs of this machine are others.
    held.push(pot.take(&remote("192.0.2.2"), 1).unwrap());
    held.push(pot.take(&fifth.with_token(Some(1)), 1).unwrap());
    held.push(pot.take(&served(), 1).unwrap());
    // At its share a client makes room for itself, not others for it.
    let idle = remote("192.0.2.9");
    held.push(pot.take(&idle, 1).unwrap());
    idle.end();
    mine[2].stalls();
    seconds(60).await;
    held.push(pot.take(&fifth, 1).unwrap());
    assert!(mine[2].is_closing() && !idle.is_closing());
    drop(held);
    assert_eq!(pot.held(), 0);
    assert!(lock(&pot.held).by_owner.is_empty());
}

#[tokio::test(start_paused = true)]
async fn units_are_given_back_once() {
    let pot = pot(10, 10);
    let slow = served();
    let held = [3, 4].map(|units| pot.take(&slow, units).unwrap());
    slow.stalls();
    seconds(5).await;
    let other = pot.take(&served(), 10).unwrap();
    assert_eq!(pot.held(), 10);
    drop(held);
    assert_eq!(pot.held(), 10);
    drop(other);
    assert_eq!(pot.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_makes_room_is_woken() {
    let pot = pot(1, 1);
    let client = local();
    let _held = pot.take(&client, 1).unwrap();
    let closed = std::future::poll_fn(|cx| {
        client.wake_on_closing(cx.waker());
        match client.is_closing() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    });
    let other = async {
        tokio::task::yield_now().await;
        let _ = pot.take(&local(), 1).unwrap();
    };
    let both = futures_util::future::join(closed, other);
    assert!(tokio::time::timeout(SLOW, both).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_unread_end_of_an_answer_is_no_idle_connection() {
    let pot = pot(2, 2);
    let (reading, idle) = (served(), served());
    let _held = [&reading, &idle].map(|client| pot.take(client, 1).unwrap());
    reading.end();
    reading.stalls();
    seconds(3).await;
    idle.end();
    let _third = pot.take(&served(), 1).unwrap();
    assert!(idle.is_closing() && !reading.is_closing());
    // Read to its end, it is idle from then on.
    reading.moves(100);
    assert!(!reading.is_served());
}
