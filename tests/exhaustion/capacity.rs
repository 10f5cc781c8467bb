//! At its limits, and in a crowd: what one session does or lacks is nobody else's business.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::sockets::sockets;
use crate::support::catalogue::{filled, message};
use crate::support::faults::Faults;
use crate::support::net::{self, End, Silent};
use crate::support::{Relay, STARTED, Start, eventually, process};
use rustix::io::Errno;
use rustix::process::Resource;

const POOL: usize = 500;

/// The serial number of a line that says that a session relays.
fn relaying(line: &str) -> bool {
    line.ends_with("target-to-requester channel is now active.")
}

/// Sessions that relay, one after the other.
#[track_caller]
fn open(relay: &mut Relay, listener: &TcpListener, count: usize) -> Vec<(TcpStream, TcpStream)> {
    let sessions: Vec<_> = (0..count).map(|_| relay.session(listener)).collect();
    for _ in 0..count {
        while !relaying(&relay.log.line().text) {}
    }
    sessions
}

#[test]
fn sessions_aborted_in_every_phase_leave_room_for_exactly_500() {
    const EACH: usize = 20;
    let silent = Silent::new();
    let mut relay = Start::to(silent.address()).connect_timeout(3).idle_timeout(60).start();
    let idle = sockets(&relay);

    // While they connect.
    let connecting: Vec<_> = (0..EACH).map(|_| relay.connect()).collect();
    for serial in 1..=EACH as u64 {
        relay.log.wait(26, serial);
    }
    for (number, requester) in connecting.into_iter().enumerate() {
        if number % 2 == 0 { net::reset(requester) } else { drop(requester) }
    }
    let listener = silent.wake();
    eventually("those that left while they connected are gone", || {
        while net::readable_within(&listener, Duration::ZERO) {
            drop(listener.accept());
        }
        sockets(&relay) == idle
    });
    relay.log.pending();

    // While they relay: silent, with bytes under way to a reader that has stopped, and half-closed by either.
    let mut sessions = open(&mut relay, &listener, POOL);
    let mut aborted = 0;
    for (number, (mut requester, mut target)) in sessions.drain(POOL - 5 * EACH..).enumerate() {
        match number % 5 {
            0 => {}
            1 => {
                requester.set_nonblocking(true).unwrap();
                while requester.write(&[7; 16_000]).is_ok() {}
            }
            2 => {
                target.set_nonblocking(true).unwrap();
                while target.write(&[7; 16_000]).is_ok() {}
            }
            3 => requester.shutdown(Shutdown::Write).unwrap(),
            _ => target.shutdown(Shutdown::Write).unwrap(),
        }
        let (dies, stays) = if number % 2 == 0 { (requester, target) } else { (target, requester) };
        net::reset(dies);
        // Whoever stays does not read, and goes as well in the end.
        aborted += 1;
        drop(stays);
    }
    eventually("their slots are free", || sockets(&relay) == idle + 2 * (POOL - aborted));
    relay.log.pending();

    // Exactly so many get in, and one more does not.
    sessions.extend(open(&mut relay, &listener, aborted));
    let mut one_too_many = relay.connect();
    relay.log.expect_all(&[16, 18, 21], 0);
    assert_eq!(net::read_all(&mut one_too_many), (Vec::new(), End::Reset));
    for (number, (requester, target)) in (0_u16..).zip(&mut sessions) {
        net::assert_passes(requester, target, &number.to_le_bytes());
        net::assert_passes(target, requester, &number.to_be_bytes());
    }
}

/// An even number of descriptors for sessions, which take two each, and an odd one. Which is which depends on
/// what the tests were started with, and the relay inherits.
#[test]
fn with_60_descriptors_in_all_as_many_as_fit_are_served_and_the_rest_are_served_or_told() {
    for all in [60, 61] {
        serve_with_descriptors(all);
    }
}

fn serve_with_descriptors(all: u16) {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).faults(Faults::new().descriptors(all.into())).start();
    let all = usize::from(all);
    let idle = sockets(&relay);
    let requesters: Vec<_> = (0..40_u16)
        .map(|number| {
            let mut requester = relay.connect();
            requester.write_all(&number.to_le_bytes()).unwrap();
            requester
        })
        .collect();
    let mut served = 0;
    // Each session that ends makes room for one that waits. Where one descriptor is left, it is the requester's
    // own, and message 19 is what the catalogue has for that.
    let mut dropped = 0;
    while served + dropped < requesters.len() {
        let line = relay.log.line().text;
        if relaying(&line) {
            let mut target = net::accept(&listener);
            let number = net::read_exactly(&mut target, 2);
            let number = u16::from_le_bytes([number[0], number[1]]);
            let mut requester = &requesters[usize::from(number)];
            target.write_all(&number.to_be_bytes()).unwrap();
            drop(target);
            assert_eq!(net::read_exactly(&mut requester, 2), number.to_be_bytes());
            requester.shutdown(Shutdown::Write).unwrap();
            served += 1;
        } else if line == message(19, 0) {
            // The last descriptor was the requester's own.
            dropped += 1;
        }
    }
    assert!(served >= (all - process::descriptors(relay.pid).len()) / 2, "{dropped} were let go");

    // All at once and none ends: as many as there are descriptors for.
    drop(requesters);
    eventually("all are gone", || sockets(&relay) == idle);
    process::settle(relay.pid);
    relay.log.pending();
    let room = all - process::descriptors(relay.pid).len();
    let mut sessions = open(&mut relay, &listener, room / 2);
    let mut waiting: Vec<_> = (0..5).map(|_| relay.connect()).collect();
    let short = filled(22, &[("<err num>", &Errno::MFILE.raw_os_error().to_string())]);
    // Those that wait are told one by one where one descriptor is left, or wait on where none is.
    while !waiting.is_empty() {
        let line = relay.log.line().text;
        if line == message(19, 0) {
            waiting.remove(0);
        }
        if line == short {
            break;
        }
    }
    let spent = process::processor_time(relay.pid);
    thread::sleep(Duration::from_millis(500));
    assert!(
        process::processor_time(relay.pid).saturating_sub(spent) < Duration::from_millis(30),
        "it works in vain"
    );
    assert!(relay.log.pending().iter().all(|line| line.text != short), "told twice");
    for (requester, target) in &mut sessions {
        net::assert_passes(requester, target, b"those inside");
    }

    // With descriptors, service is back, for those that still wait and for others.
    drop(sessions);
    drop(waiting);
    let turn_all_away = || {
        while net::readable_within(&listener, Duration::ZERO) {
            net::turn_away(&listener);
        }
    };
    eventually("all are gone", || {
        turn_all_away();
        sockets(&relay) == idle
    });
    process::settle(relay.pid);
    turn_all_away();
    relay.assert_relays(&listener);
}

#[test]
fn a_lack_of_descriptors_is_told_only_when_somebody_waits_for_one() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let end = process::next_descriptors(relay.pid).nth(4).unwrap();
    process::limit(relay.pid, Resource::Nofile, Some(end.into()));
    // All at once, so that the relay looks for a third when it has taken the two.
    relay.freeze();
    let inside: Vec<_> = (0..2).map(|_| relay.connect()).collect();
    relay.thaw();
    for serial in 1..=inside.len() as u64 {
        relay.log.wait(26, serial);
    }
    process::settle(relay.pid);
    relay.log.pending();
    let short = filled(22, &[("<err num>", &Errno::MFILE.raw_os_error().to_string())]);
    assert!(!relay.log.seen().contains(&short), "nobody was there");

    let _third = relay.connect();
    while relay.log.line().text != short {}
}

/// The timer alone would let one in at each of its ends, and never sooner.
#[test]
fn a_session_that_ends_lets_the_next_one_in_at_once() {
    const WAITING: u32 = 20;
    let by_timer = WAITING * Duration::from_millis(100);
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let end = process::next_descriptors(relay.pid).nth(2).unwrap();
    process::limit(relay.pid, Resource::Nofile, Some(end.into()));
    // A busy machine may be slow once, but not each time.
    let in_time = (0..5).any(|_| {
        relay.freeze();
        let waiting: Vec<_> = (0..WAITING).map(|_| relay.connect()).collect();
        relay.thaw();
        let start = Instant::now();
        for _ in &waiting {
            let mut target = net::accept(&listener);
            target.write_all(b"served").unwrap();
            net::reset(target);
        }
        let taken = start.elapsed();
        for mut requester in waiting {
            assert_eq!(net::read_all(&mut requester), (b"served".to_vec(), End::Reset));
        }
        relay.log.pending();
        taken < by_timer / 2
    });
    assert!(in_time, "each waits for the timer");
}

#[test]
fn greedy_streams_leave_a_ping_its_turn() {
    const GREEDY: usize = 8;
    const PINGS: usize = 300;
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let greedy = open(&mut relay, &listener, GREEDY);
    let (mut requester, mut target) = open(&mut relay, &listener, 1).remove(0);
    let moved = AtomicUsize::new(0);
    // What the greedy ones move while a ping goes there and back: unlike time, it is the same on a busy machine.
    let mut others = thread::scope(|scope| {
        for (reader, writer) in &greedy {
            let moved = &moved;
            scope.spawn(move || {
                let mut writer = writer;
                while writer.write_all(&[7; 16_000]).is_ok() {}
            });
            scope.spawn(move || {
                let (mut reader, mut chunk) = (reader, vec![0; 65_536]);
                while let Ok(count @ 1..) = net::uninterrupted(|| reader.read(&mut chunk)) {
                    moved.fetch_add(count, Ordering::Relaxed);
                }
            });
        }
        let _cut = net::Cut(&greedy);
        let moved = || moved.load(Ordering::Relaxed);
        eventually("the greedy ones flow", || moved() > 32 << 20);
        (0..PINGS)
            .map(|_| {
                let start = moved();
                net::assert_passes(&mut requester, &mut target, b"ping");
                net::assert_passes(&mut target, &mut requester, b"pong");
                moved() - start
            })
            .collect::<Vec<_>>()
    });
    others.sort_unstable();
    let (median, p99) = (others[PINGS / 2], others[PINGS * 99 / 100]);
    // Were it to wait for the shares of all of them, the median would be 32 MiB at the least. An eighth of a
    // MiB is what an idle machine shows; a busy one runs the greedy ones while the ping's two ends wait.
    assert!(median < 16 << 20 && p99 < 64 << 20, "the median is {} KiB, p99 {}", median >> 10, p99 >> 10);
}

/// The bytes of a session with this identity: nobody else's are the same.
fn words(identity: u64, from_target: bool) -> Vec<u8> {
    let seed = identity * 2 + u64::from(from_target);
    let length = usize::try_from(seed.wrapping_mul(7919) % 30_000).unwrap() + 1;
    net::random(seed, length)
}

/// The target's end: who it is comes first. It answers with the words of that identity, or cuts, and checks
/// that what it hears is a beginning of what that requester says.
fn serve(mut stream: TcpStream) {
    let mut identity = [0; 8];
    if stream.read_exact(&mut identity).is_err() {
        // Whoever came was gone before it said a word.
        return;
    }
    let identity = u64::from_le_bytes(identity);
    let (asked, answer) = (words(identity, false), words(identity, true));
    let mut answering = stream.try_clone().unwrap();
    let cuts = identity.is_multiple_of(7);
    thread::scope(|scope| {
        scope.spawn(move || {
            // Fails where the requester cuts.
            let _ = answering.write_all(&answer);
            let _ = answering.shutdown(Shutdown::Write);
        });
        if cuts {
            let mut some = vec![0; asked.len() / 2];
            if stream.read_exact(&mut some).is_ok() {
                net::assert_same(&some, &asked[..some.len()]);
            }
            net::reset(stream);
            return;
        }
        let (heard, end) = net::read_all(&mut stream);
        net::assert_same(&heard, &asked[..heard.len()]);
        assert!(end == End::Reset || heard.len() == asked.len(), "a clean end of a stream that was cut");
    });
}

/// The requester's end.
fn ask(relay: SocketAddr, identity: u64) {
    let mut stream = net::connect(relay);
    let (asked, answer) = (words(identity, false), words(identity, true));
    let mut asking = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            // Both fail where the target cuts.
            let _ = asking.write_all(&identity.to_le_bytes()).and_then(|()| asking.write_all(&asked));
            if !identity.is_multiple_of(5) {
                let _ = asking.shutdown(Shutdown::Write);
            }
        });
        if identity.is_multiple_of(5) {
            // It leaves in the middle of the answer.
            let mut some = vec![0; answer.len() / 2];
            if stream.read_exact(&mut some).is_ok() {
                net::assert_same(&some, &answer[..some.len()]);
            }
            net::reset(stream);
            return;
        }
        let (heard, end) = net::read_all(&mut stream);
        net::assert_same(&heard, &answer[..heard.len()]);
        assert!(end == End::Reset || heard.len() == answer.len(), "a clean end of a stream that was cut");
    });
}

/// Sessions come and go, some well and some not, a few dozen at a time; no byte ever reaches another's.
fn churn(time: Duration, buf: usize) {
    const AT_A_TIME: usize = 16;
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).buf(buf).start();
    relay.assert_relays(&listener);
    process::settle(relay.pid);
    let idle = sockets(&relay);
    let address = relay.address();
    let next = AtomicU64::new(1);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::scope(|targets| {
                while !over.load(Ordering::Relaxed) {
                    if net::readable_within(&listener, Duration::from_millis(20)) {
                        let stream = net::accept(&listener);
                        targets.spawn(move || serve(stream));
                    }
                }
            });
        });
        let requesters: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                scope.spawn(|| {
                    let start = Instant::now();
                    while start.elapsed() < time {
                        ask(address, next.fetch_add(1, Ordering::Relaxed));
                    }
                })
            })
            .collect();
        let results: Vec<_> = requesters.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok));
    });
    let count = next.load(Ordering::Relaxed) - 1;
    assert!(count >= 20, "only {count} sessions");
    eventually("all closed", || sockets(&relay) == idle);
    process::settle(relay.pid);
    relay.assert_alive();
    let told = relay.log.pending();
    let ended = |line: &str| line.contains(" terminated due to ");
    let ended = told.iter().filter(|line| ended(&line.text)).count();
    assert_eq!(ended as u64, count + 1, "each session ends once");
}

#[test]
fn in_a_churn_of_sessions_no_byte_reaches_a_wrong_one() {
    thread::scope(|scope| {
        scope.spawn(|| churn(Duration::from_secs(3), 100));
        scope.spawn(|| churn(Duration::from_secs(3), 4000));
    });
}

#[test]
#[ignore = "a minute and more"]
fn in_a_long_churn_of_sessions_no_byte_reaches_a_wrong_one() {
    churn(Duration::from_secs(40), 1460);
    churn(Duration::from_secs(40), 4000);
}

#[test]
fn memory_for_500_sessions_buffers_is_all_that_500_sessions_take() {
    const BUF: usize = 4000;
    // What the allocator adds to each buffer, and how it rounds what it asks the kernel for.
    const ALLOCATOR: usize = POOL * 2 * 16 + (256 << 10);
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).buf(BUF).start();
    process::settle(relay.pid);
    let open_before = sockets(&relay);
    let idle = usize::try_from(process::address_space(relay.pid)).unwrap();
    let most = idle + POOL * 2 * BUF + ALLOCATOR;
    process::limit(relay.pid, Resource::As, Some(most as u64));
    let mut sessions = open(&mut relay, &listener, POOL);
    for (number, (requester, target)) in (0_u64..).zip(&mut sessions) {
        let bytes = net::random(number, 20_000);
        net::assert_passes(requester, target, &bytes);
        net::assert_passes(target, requester, &bytes);
    }
    relay.log.pending();
    drop(relay.connect());
    relay.log.expect_all(&[16, 18, 21], 0);
    // What they give back serves the next 500.
    drop(sessions);
    eventually("all are gone", || sockets(&relay) == open_before);
    relay.log.pending();
    let mut sessions = open(&mut relay, &listener, POOL);
    let (requester, target) = sessions.last_mut().unwrap();
    net::assert_passes(requester, target, b"the last of them");
}

#[test]
fn five_hundred_silent_requesters_cost_no_processor_time_and_time_out_together() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(2).start();
    let sessions = open(&mut relay, &listener, POOL);
    let before = process::processor_time(relay.pid);
    let idle = |line: &str| line.ends_with("exceeded the idle timeout and has been terminated.");
    // On a busy machine the first is idle before the last has come.
    let early = relay.log.seen().iter().filter(|line| idle(line)).count();
    for _ in early..POOL {
        while !idle(&relay.log.line().text) {}
    }
    let spent = process::processor_time(relay.pid).saturating_sub(before);
    assert!(spent < Duration::from_millis(500), "waiting and ending took {spent:?}");
    for (requester, target) in sessions {
        assert_eq!(net::read_all(&mut &requester), (Vec::new(), End::Clean));
        assert_eq!(net::read_all(&mut &target), (Vec::new(), End::Clean));
    }
    relay.assert_relays(&listener);
    relay.log.expect_all(&STARTED, POOL as u64 + 1);
}
