//! Goal: a stop answers what was asked, hears commands to their end, and has an end itself.
//! Method: clients that pause, speak and listen at the moments that matter, in virtual time.

use super::*;

#[test]
fn a_stop_answers_what_was_asked_and_closes_who_is_silent_within_a_command() {
    let (mut sim, address) = serving(1, Limits::default());
    let asking = client(&mut sim, address, move |connection| async move {
        connection.write(b"set a 0 0 1\r\nx\r\nget a\r\nget ".to_vec()).await.unwrap();
        read(&connection, usize::MAX).await
    });
    // A command may be on its way: nobody is closed before there is a stop.
    assert!(!sim.run_until(50_000, |_sim| false));
    assert!(asking.try_take().is_none());
    sim.enter_phase(Phase::Draining);
    assert_eq!(await_reply(&mut sim, &asking), b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn a_stop_hears_a_command_that_has_begun_to_its_end() {
    let limits = Limits::default();
    let (mut sim, address) = serving(1, limits);
    let asking = client(&mut sim, address, move |connection| async move {
        connection.write(b"set a 0 0 5\r\nhe".to_vec()).await.unwrap();
        draining().await;
        for part in ["l", "l", "o\r\n"] {
            sleep(millis(limits.last_word_ms) * 3).await;
            connection.write(part.as_bytes().to_vec()).await.unwrap();
        }
        read(&connection, usize::MAX).await
    });
    assert!(!sim.run_until(50_000, |_sim| false));
    sim.enter_phase(Phase::Draining);
    assert_eq!(await_reply(&mut sim, &asking), b"STORED\r\n");
}

#[test]
fn a_stop_waits_for_a_last_word_after_each_answer_and_not_for_ever() {
    let limits = Limits::default();
    let (mut sim, address) = serving(1, limits);
    let asking = client(&mut sim, address, move |connection| async move {
        draining().await;
        let stop_began = now();
        let mut n_answers = 0_u32;
        loop {
            sleep(millis(limits.last_word_ms) * 4 / 5).await;
            let wrote = connection.write(b"get a\r\n".to_vec()).await;
            if wrote.is_err() || read(&connection, b"END\r\n".len()).await.is_empty() {
                return (n_answers, now().since(stop_began));
            }
            n_answers += 1;
        }
    });
    assert!(!sim.run_until(50_000, |_sim| false));
    sim.enter_phase(Phase::Draining);
    let (n_answers, heard_for) = await_reply(&mut sim, &asking);
    assert_eq!(n_answers, limits.drain_ms / (limits.last_word_ms * 4 / 5));
    assert!(heard_for <= limits.drain_within(), "{heard_for:?}");
}

/// There is always something of its to be read, so no time passes in which a stop would be heard.
#[test]
fn a_stop_ends_for_a_client_that_never_pauses() {
    let limits = Limits { drain_ms: 50, ..Limits::default() };
    let (mut sim, address) = serving(1, limits);
    let asking = client(&mut sim, address, move |connection| async move {
        let says = async {
            while connection.write(b"get a\r\n".repeat(2_000)).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        let hears = async { while let Ok(Some(_)) = connection.read().await {} };
        or(says, hears).await;
        now().since(draining_since().expect("nobody else ends it"))
    });
    assert!(!sim.run_until(2_000, |_sim| false));
    sim.enter_phase(Phase::Draining);
    let heard_for = await_reply(&mut sim, &asking);
    assert!(heard_for < limits.drain_within(), "{heard_for:?}");
}

/// The time of a stop is the same for all, whatever they were doing when it began.
#[test]
fn a_stop_is_not_longer_for_who_takes_in_answers_when_it_begins() {
    const VALUE_BYTES: usize = 60_000;
    const N_GETS: usize = 30;
    let limits = Limits { drain_ms: 1_000, ..Limits::default() };
    let (mut sim, address) = serving(1, limits);
    let asking = client(&mut sim, address, move |connection| async move {
        let head = format!("set a 0 0 {VALUE_BYTES}\r\n");
        let set = [head.as_bytes(), &[b'x'; VALUE_BYTES], b"\r\n"].concat();
        connection.write(set).await.unwrap();
        connection.write(b"get a\r\n".repeat(N_GETS)).await.unwrap();
        draining().await;
        sleep(millis(limits.drain_ms) * 4 / 5).await;
        let answer_bytes = format!("VALUE a 0 {VALUE_BYTES}\r\n\r\nEND\r\n").len() + VALUE_BYTES;
        read(&connection, b"STORED\r\n".len() + N_GETS * answer_bytes).await;
        while connection.write(b"mn\r\n".to_vec()).await.is_ok()
            && !read(&connection, b"MN\r\n".len()).await.is_empty()
        {
            sleep(millis(limits.last_word_ms) / 2).await;
        }
        now().since(draining_since().expect("it has begun"))
    });
    assert!(!sim.run_until(50_000, |_sim| false));
    sim.enter_phase(Phase::Draining);
    let heard_for = await_reply(&mut sim, &asking);
    let most = millis(limits.drain_ms + limits.last_word_ms);
    assert!(heard_for < most, "{heard_for:?}");
}
