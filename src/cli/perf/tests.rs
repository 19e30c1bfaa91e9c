//! Tests of the options and of the report's form, which programs rely on.

#![allow(clippy::unwrap_used)]

use clap::Parser;

use super::arguments::{Load, Perf, PerfCommand};
use super::publisher::Stamping;
use super::traffic::Traffic;
use crate::cli::{Exit, Failure};

#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(subcommand)]
    perf: PerfCommand,
}

fn checked(line: &str) -> Result<Perf, Failure> {
    Line::try_parse_from(line.split_whitespace())
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .perf
        .checked()
}

fn traffic(line: &str) -> Traffic {
    match checked(line).unwrap() {
        Perf::One { one, .. } => match one.0 {
            Load::Traffic(traffic) => *traffic,
            Load::Churn(churn) => panic!("{line}: {churn:?}"),
        },
        Perf::Two { .. } => panic!("{line}"),
    }
}

fn refused(line: &str) -> String {
    let failure = checked(line).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage, "{line}");
    assert!(!failure.message.contains('\n'), "{failure}");
    failure.message
}

#[test]
fn options_of_throughput_and_their_other_names() {
    for line in [
        "throughput --publishers 2 --consumers 3 --queues 4 --size 64 --confirms 5 --prefetch 6 --multi-ack 2 --persistent --time 1",
        "throughput -x 2 -y 3 --queues 4 -s 64 -c 5 -P 6 -a 2 -p -z 1",
        "throughput --producers 2 -y 3 --queues 4 -s 64 --confirm 5 --qos 6 -a 2 -p -z 1",
    ] {
        let traffic = traffic(line);
        assert_eq!(
            (traffic.publishers, traffic.consumers, traffic.queues),
            (2, 3, 4)
        );
        assert_eq!((traffic.body_bytes, traffic.window), (64, 5));
        assert_eq!((traffic.prefetch, traffic.multi_ack), (6, 2));
        assert_eq!(traffic.properties, [0x10, 0, 2]);
        assert_eq!(traffic.stamping, Stamping::None);
    }
}

#[test]
fn a_lead_is_over_consumers() {
    assert_eq!(traffic("throughput").lead, None);
    assert_eq!(traffic("throughput --lead 10").lead, Some(10));
    assert!(refused("throughput --lead 10 -y 0").contains("--lead"));
    assert!(refused("throughput --lead 10 -x 0").contains("--lead"));
}

#[test]
fn defaults_suit_the_mode() {
    let throughput = traffic("throughput");
    assert_eq!((throughput.body_bytes, throughput.rate), (16, None));
    let latency = traffic("latency");
    assert_eq!((latency.body_bytes, latency.rate), (24, Some(2000.0)));
    assert_eq!(latency.stamping, Stamping::Time);
    assert_eq!(traffic("throughput --auto-ack").multi_ack, 0);
    let verified = traffic("throughput --verify");
    assert_eq!(verified.stamping, Stamping::Sequence);
    let course = |line| match checked(line).unwrap() {
        Perf::One { one, .. } => one.1,
        other => panic!("{other:?}"),
    };
    assert_eq!(course("throughput").time.unwrap().as_secs(), 10);
    assert_eq!(course("throughput --messages 5").time, None);
    assert!(course("throughput --messages 5 --time 1").time.is_some());
    assert_eq!(course("churn queues --count 5").time, None);
}

#[test]
fn what_cannot_work_is_refused_in_one_line() {
    for (line, words) in [
        (
            "throughput --uri http://x",
            "--uri: it does not begin with amqp://",
        ),
        ("throughput --verify --size 8", "--size must be at least 16"),
        ("latency --size 23", "--size must be at least 24"),
        ("latency --rate 0", "--rate"),
        ("latency -y 0", "--confirms"),
        ("throughput -x 0 -y 0", "both 0"),
        ("throughput --verify -y 0", "--verify"),
        ("throughput --prefetch 1 --multi-ack 2", "--multi-ack"),
        ("throughput --routing-key a", "need --exchange"),
        ("throughput --time 0", "--time"),
        ("throughput --time nan", "--time"),
        ("throughput --queue-args {", "--queue-args"),
        ("throughput --properties []", "--properties"),
        ("compare amqp://a amqp://b fly", "the scenario of compare"),
        ("compare amqp://a x throughput", "URI_B"),
        ("compare amqp://a amqp://b latency --rate 0", "--rate"),
    ] {
        let message = refused(line);
        assert!(message.contains(words), "{line}: {message}");
    }
}

#[test]
fn a_comparison_is_one_scenario_for_two_brokers() {
    let line = "compare amqp://a:1 amqp://b:2 --pid-a 7 --rounds 3 throughput -x 2 --json";
    match checked(line).unwrap() {
        Perf::Two {
            a,
            b,
            rounds,
            is_json,
            ..
        } => {
            assert_eq!((rounds, is_json), (3, false));
            assert_eq!((a.1.pid, b.1.pid), (Some(7), None));
            for (load, host) in [(&a.0, "a"), (&b.0, "b")] {
                match load {
                    Load::Traffic(traffic) => {
                        assert_eq!((&*traffic.uri.host, traffic.publishers), (host, 2));
                    }
                    Load::Churn(churn) => panic!("{churn:?}"),
                }
            }
        }
        other => panic!("{other:?}"),
    }
}
