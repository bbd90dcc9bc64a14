//! Clients that take their time: connections without a word, heads and bodies that come a byte now and then,
//! answers that nobody reads, and providers that do not read either. Each is ended when its time is over and not
//! before, takes little memory meanwhile, and a neighbour is served beside all of them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::siege::{Siege, read_body};

const MIB: u64 = 1 << 20;

/// Longer than any of the limits here and the slowness of a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn connect(siege: &Siege) -> TcpStream {
    let stream = TcpStream::connect(siege.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What came until the other side closed.
fn rest(mut stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("it is not closed: {error}"),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends a byte over each connection every now and then, as long as it lasts.
struct Trickle {
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Trickle {
    fn start(streams: &[TcpStream], byte: u8) -> Trickle {
        let mut streams: Vec<_> =
            streams.iter().map(|stream| stream.try_clone().unwrap()).collect();
        let is_over = Arc::<AtomicBool>::default();
        let over = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                // Who has been closed is found out here or by its reader.
                for stream in &mut streams {
                    let _ = stream.write_all(&[byte]);
                }
                thread::park_timeout(Duration::from_millis(50));
            }
        });
        Trickle { is_over, thread }
    }

    fn end(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

#[test]
fn thousands_of_idle_connections_are_borne_and_closed_in_time() {
    const MANY: u32 = 2_000;
    let keep_alive = Duration::from_secs(8);
    let siege = Siege::start("timeouts.keep_alive = \"8s\"\n");
    siege.bear(u64::from(MANY) * 20 * 1024, || {
        let since = Instant::now();
        let streams: Vec<_> = (0..MANY).map(|_| connect(&siege)).collect();
        let last = Instant::now();
        for stream in &streams {
            assert_eq!(rest(stream), "");
            assert!(since.elapsed() >= keep_alive, "{:?}", since.elapsed());
        }
        println!("closed after {:?}", last.elapsed());
    });
    // Their places are free.
    siege.settle();
}

#[test]
fn heads_that_come_a_byte_now_and_then_are_cut_off_in_time() {
    let siege = Siege::start("timeouts.request_head = \"3s\"\n");
    siege.bear(20 * MIB, || {
        let since = Instant::now();
        let mut streams: Vec<_> = (0..200).map(|_| connect(&siege)).collect();
        for (at, stream) in streams.iter_mut().enumerate() {
            let begin: &[u8] = match at % 4 {
                0 => b"G",
                1 => b"GET /v1/models HTTP/1.1\r\nHost: c\r\nX-Slow: ",
                2 => b"PRI * HTTP/2.0\r\n\r\nS",
                _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x40\x00\x01\x04\x00\x00\x00\x01",
            };
            stream.write_all(begin).unwrap();
        }
        let trickle = Trickle::start(&streams, b'a');
        for stream in &streams {
            let said = rest(stream);
            assert!(!said.contains("200 OK"), "{said:?}");
            assert!(since.elapsed() >= Duration::from_secs(3), "{said:?}");
        }
        println!("cut off after {:?}", since.elapsed());
        trickle.end();
    });
    assert!(siege.reckon("/v1/models").is_empty());
}

/// A body may take as long as it likes, as long as it goes on.
#[test]
fn bodies_that_come_a_byte_now_and_then_are_waited_for_and_cut_off_in_silence() {
    let siege = Siege::with("timeouts.idle = \"4s\"\n", |asked| {
        read_body(asked)?;
        Ok(false)
    });
    siege.bear(24 * MIB, || {
        let mut streams: Vec<_> = (0..100).map(|_| connect(&siege)).collect();
        for (at, stream) in streams.iter_mut().enumerate() {
            write!(
                stream,
                "POST /slow/{at} HTTP/1.1\r\nHost: c\r\nContent-Length: 1000000\r\n\r\n"
            )
            .unwrap();
        }
        let trickle = Trickle::start(&streams, b' ');
        super::trial::wait_until("all have reached the provider", || {
            siege.origin.targets().iter().filter(|target| target.starts_with("/slow")).count()
                == streams.len()
        });
        // Longer than any silence may be.
        let since = Instant::now();
        super::trial::wait_until("time goes by", || since.elapsed() > Duration::from_secs(6));
        assert!(siege.rows("/slow").is_empty(), "one was cut off while it went on");
        trickle.end();
        for stream in &streams {
            let said = rest(stream);
            assert!(said.starts_with("HTTP/1.1 400 "), "{said:?}");
        }
    });
    let rows = siege.reckon("/slow");
    assert_eq!(rows.len(), 100);
    assert!(rows.iter().all(|row| row["outcome"] == "client_closed"), "{}", rows[0]);
}

#[test]
fn answers_that_nobody_reads_hold_the_provider_back_and_end() {
    const CLIENTS: u64 = 20;
    let siege = Siege::start("timeouts.idle = \"3s\"\n");
    siege.bear(24 * MIB, || {
        let mut streams: Vec<_> = (0..CLIENTS).map(|_| connect(&siege)).collect();
        for (at, stream) in streams.iter_mut().enumerate() {
            write!(stream, "GET /big/200000000/{at} HTTP/1.1\r\nHost: c\r\n\r\n").unwrap();
        }
        let sent = siege.origin.sent_at_last();
        println!("{} KiB a client were taken", sent / CLIENTS / 1024);
        // The kernel's buffers on both sides, up to 6 MB each way.
        assert!(sent < CLIENTS * 32 * MIB, "{sent}");
        siege.running.wait_idle();
        super::trial::wait_until("the provider is let go", || siege.origin.connections() <= 2);
    });
    let rows = siege.reckon("/big");
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().all(|row| row["outcome"] == "client_closed"), "{}", rows[0]);
}

#[test]
fn requests_that_the_provider_does_not_read_hold_the_client_back_and_end() {
    let siege = Siege::start("timeouts.idle = \"3s\"\ntimeouts.response_head = \"3s\"\n");
    siege.bear(24 * MIB, || {
        let clients: Vec<_> = (0..10)
            .map(|at| {
                let mut stream = connect(&siege);
                thread::spawn(move || {
                    let length = 200_000_000;
                    write!(
                        stream,
                        "POST /hang/{at} HTTP/1.1\r\nHost: c\r\nContent-Length: {length}\r\n\r\n"
                    )
                    .unwrap();
                    let mut reader = stream.try_clone().unwrap();
                    let sent = Arc::<AtomicU64>::default();
                    let taken = Arc::clone(&sent);
                    let reading = thread::spawn(move || {
                        let mut said = [0; 12];
                        let _ = reader.read_exact(&mut said);
                        (taken.load(Ordering::SeqCst), String::from_utf8_lossy(&said).into_owned())
                    });
                    // What comes after the answer is taken and thrown away.
                    let zeros = vec![0; 1 << 16];
                    while sent.load(Ordering::SeqCst) < length
                        && let Ok(count) = stream.write(&zeros)
                    {
                        sent.fetch_add(count as u64, Ordering::SeqCst);
                    }
                    reading.join().unwrap()
                })
            })
            .collect();
        for client in clients {
            let (sent, said) = client.join().unwrap();
            assert!(
                said.starts_with("HTTP/1.1 504") || said.starts_with("HTTP/1.1 502"),
                "{said:?}"
            );
            println!("{} KiB were taken", sent / 1024);
            assert!(sent < 32 * MIB, "{sent}");
        }
        siege.running.wait_idle();
    });
    let rows = siege.reckon("/hang");
    assert_eq!(rows.len(), 10);
    for row in rows {
        assert_eq!(row["outcome"], json!("upstream_failed"), "{row}");
    }
}
