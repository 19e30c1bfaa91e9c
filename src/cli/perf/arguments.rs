//! The grammar of `haremq perf`, and what each option means.
//!
//! In: words that clap has sorted. Out: checked traffic, churn or comparison, or the one line that says what is wrong with
//! them. Running them is not known here.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::churner::Thing;
use super::fields;
use super::meter::Progress;
use super::publisher::Stamping;
use super::run::{Churn, Course};
use super::stamp::{SEQUENCE_STAMP_BYTES, TIME_STAMP_BYTES};
use super::traffic::Traffic;
use super::uri::Uri;
use crate::cli::{Exit, Failure};
use crate::protocol::Properties;
use crate::protocol::frame::FRAME_OVERHEAD_BYTES;
use crate::protocol::shortstr::SHORT_STRING_BYTES_MAX;

/// The broker on this machine, with the login that a new one has.
const DEFAULT_URI: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

/// How long is measured, unless a time or a number of messages is given.
const DEFAULT_SECONDS: f64 = 10.0;

/// Messages a second of a latency run, unless given: what the budgets of the broker are stated for.
const DEFAULT_LATENCY_RATE: f64 = 2000.0;

/// Octets of a body, unless given.
const DEFAULT_SIZE_BYTES: usize = 16;

/// The largest body, as RabbitMQ's own limit: 512 MiB.
const SIZE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Connections, queues or clients of a kind.
const MANY_MAX: u64 = 60_000;

/// Unconfirmed messages of a publisher.
const WINDOW_MAX: u64 = 10_000_000;

/// The longest run, in seconds: a year.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// A pause between bursts of a limited rate when only the rate matters.
const THROUGHPUT_PAUSE: Duration = Duration::from_millis(1);

/// Room for the properties in a content header frame of the smallest frame_max (specification 4.2.6.1).
const PROPERTIES_BYTES_MAX: usize = 4096 - FRAME_OVERHEAD_BYTES as usize - 12;

const EXAMPLES: &str = "\
Examples:
  haremq perf throughput --size 1024 --time 10 --pid $(pidof haremq)
  haremq perf latency --rate 2000
  haremq perf churn connections --clients 4
  haremq perf compare amqp://a amqp://b throughput --size 1024 --auto-ack

docs/perf.md explains the method and each figure.";

const THROUGHPUT_EXAMPLES: &str = "\
Examples:
  As fast as it goes, small transient messages, CPU of the broker per message:
    haremq perf throughput --auto-ack --pid $(pidof haremq)
  Persistent messages, confirms in a window of 200, acknowledgements of 10:
    haremq perf throughput -s 1024 -p -c 200 -P 200 -a 10
  Ten publishers, ten consumers, ten queues, each message checked:
    haremq perf throughput -x 10 -y 10 --queues 10 -c 500 --verify
  Fan-out to ten queues:
    haremq perf throughput --exchange perf --exchange-type fanout --queues 10 -y 10
  Fill a queue with a million messages; then drain it:
    haremq perf throughput -y 0 -C 1000000 -c 2000 -p --keep
    haremq perf throughput -x 0 -C 1000000 -P 200

Exit codes: 0, 64 wrong options, 65 the broker lacks what is named or --verify failed, 69 no broker, 77 login refused.";

const LATENCY_EXAMPLES: &str = "\
Examples:
  Publish to deliver at 2000 messages a second:
    haremq perf latency
  A lone persistent publish to its confirm:
    haremq perf latency -y 0 -p -c 1 --rate 200

Each message has a time at which it is to be sent, fixed before the run; its latency counts from there, however late
it leaves. The lines \"client sends late\" show the part of it that is this program's own.";

/// The modes of `haremq perf`.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES, subcommand_required = true)]
pub enum PerfCommand {
    #[command(flatten)]
    Scenario(ScenarioCommand),
    /// Compare two brokers: the same load on each in turn, and the ratio of each figure.
    Compare(CompareArguments),
}

/// What puts load on one broker.
#[derive(Debug, Subcommand)]
pub enum ScenarioCommand {
    /// Measure how many messages go through, and what each costs.
    #[command(after_help = THROUGHPUT_EXAMPLES)]
    Throughput(#[command(flatten)] Box<TrafficArguments>),
    /// Measure how long messages take at a fixed rate.
    #[command(after_help = LATENCY_EXAMPLES)]
    Latency(#[command(flatten)] Box<TrafficArguments>),
    /// Open and close things: connections, channels, queues, bindings or consumers.
    Churn(ChurnArguments),
}

/// What all modes have.
#[derive(Debug, Args)]
pub struct CommonArguments {
    /// The broker: amqp://user:password@host:port/vhost.
    #[arg(long, value_name = "URI", env = "AMQP_URI", default_value = DEFAULT_URI, hide_env_values = true)]
    uri: String,
    /// Measure for so many seconds [default: 10, unless a number is given].
    #[arg(long, short = 'z', value_name = "SECONDS")]
    time: Option<f64>,
    /// Load before measuring begins, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    warmup: f64,
    /// Threads of this program; 0 is half of the machine's cores.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    threads: u16,
    /// The broker's process id on this machine: adds its CPU time and memory.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Print one JSON object; progress goes to standard error.
    #[arg(long, short)]
    json: bool,
    /// Print no progress.
    #[arg(long, short)]
    quiet: bool,
}

/// Options of throughput and latency.
#[derive(Debug, Args)]
pub struct TrafficArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Publishing connections.
    #[arg(long, short = 'x', visible_alias = "producers", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=MANY_MAX))]
    publishers: u64,
    /// Consuming connections.
    #[arg(long, short = 'y', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=MANY_MAX))]
    consumers: u64,
    /// Queues; publishers and consumers share them out.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MANY_MAX))]
    queues: u64,
    /// The queue's name, or what the names of several begin with.
    #[arg(long, short = 'u', value_name = "NAME", default_value = "haremq-perf")]
    queue: String,
    /// Octets of a body [default: 16; 24 for latency].
    #[arg(long, short, value_name = "BYTES")]
    size: Option<usize>,
    /// Messages a second of all publishers together [default: no limit; 2000 for latency].
    #[arg(long, short, value_name = "MSGS_PER_S")]
    rate: Option<f64>,
    /// Publish so many messages ahead of the consumers at most, so that the queue stays short [default: no limit].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    lead: Option<u64>,
    /// Messages of all publishers together, or of all consumers if there is no publisher.
    #[arg(long, short = 'C', visible_alias = "pmessages", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Ask for confirms, with so many unconfirmed messages of a publisher at most; 0 is without.
    #[arg(long, short, visible_alias = "confirm", value_name = "WINDOW", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=WINDOW_MAX))]
    confirms: u64,
    /// Unacknowledged messages of a consumer at most; 0 is no limit.
    #[arg(
        long,
        short = 'P',
        visible_alias = "qos",
        value_name = "N",
        default_value_t = 0
    )]
    prefetch: u16,
    /// Acknowledge so many messages at once.
    #[arg(long, short = 'a', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    multi_ack: u32,
    /// Consume without acknowledgements.
    #[arg(long, visible_alias = "autoack")]
    auto_ack: bool,
    /// Publish persistent messages.
    #[arg(long, short)]
    persistent: bool,
    /// Have messages that reach no queue come back, and count them.
    #[arg(long)]
    mandatory: bool,
    /// Publish to this exchange, to which all queues are bound, instead of the default one.
    #[arg(long, short, value_name = "NAME", default_value = "")]
    exchange: String,
    /// Declare the exchange with this type; without it the exchange must be there.
    #[arg(long, value_name = "TYPE")]
    exchange_type: Option<String>,
    /// The routing key, for publishing and binding; needs --exchange.
    #[arg(long, short = 'k', value_name = "KEY")]
    routing_key: Option<String>,
    /// Arguments of the queues: JSON, or x-max-length=10,x-queue-type=quorum.
    #[arg(long, value_name = "ARGS")]
    queue_args: Option<String>,
    /// Arguments of the consumers, in the same form.
    #[arg(long, value_name = "ARGS")]
    consumer_args: Option<String>,
    /// Properties of the messages: JSON, such as {"priority": 3, "headers": {"a": 1}}.
    #[arg(long, value_name = "JSON")]
    properties: Option<String>,
    /// Use queues, exchange and bindings that are there; declare and delete nothing.
    #[arg(long, conflicts_with = "exchange_type")]
    predeclared: bool,
    /// Leave the queues, and what is in them, behind.
    #[arg(long)]
    keep: bool,
    /// Check that each message comes, once, whole and in order; exit code 65 if not.
    #[arg(long, short = 'V')]
    verify: bool,
    /// The end, when nothing has come for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    drain: f64,
}

/// Options of churn.
#[derive(Debug, Args)]
pub struct ChurnArguments {
    /// What comes and goes.
    thing: Thing,
    #[command(flatten)]
    common: CommonArguments,
    /// Clients that do it at the same time, each with its own connection.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MANY_MAX))]
    clients: u64,
    /// How many times, all clients together.
    #[arg(long, short = 'C', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Durable queues; without it they are exclusive to their connection.
    #[arg(long)]
    durable: bool,
    /// What the names of the clients' queues begin with.
    #[arg(
        long,
        short = 'u',
        value_name = "NAME",
        default_value = "haremq-perf-churn"
    )]
    queue: String,
}

/// Options of compare.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  haremq perf compare amqp://127.0.0.1:5672 amqp://127.0.0.1:5673 --pid-a 100 --pid-b 200 \\
      throughput --size 1024 --auto-ack --time 5 --warmup 1

A ratio is A's figure divided by B's. The order of the two changes each round.")]
pub struct CompareArguments {
    /// The first broker, A.
    uri_a: String,
    /// The second broker, B.
    uri_b: String,
    /// The first broker's process id on this machine.
    #[arg(long, value_name = "PID")]
    pid_a: Option<u32>,
    /// The second broker's process id on this machine.
    #[arg(long, value_name = "PID")]
    pid_b: Option<u32>,
    /// How many times each broker is measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Print one JSON object; progress goes to standard error.
    #[arg(long, short)]
    json: bool,
    /// Print no progress.
    #[arg(long, short)]
    quiet: bool,
    /// throughput, latency or churn, with its options but --uri, --pid and --json.
    #[arg(
        value_name = "SCENARIO",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    scenario: Vec<String>,
}

/// The scenario of a comparison is a command line of its own.
#[derive(Debug, Parser)]
#[command(
    name = "haremq perf compare",
    no_binary_name = true,
    disable_help_subcommand = true
)]
struct ScenarioLine {
    #[command(subcommand)]
    scenario: ScenarioCommand,
}

/// Load on one broker.
#[derive(Clone, Debug)]
pub enum Load {
    /// Messages.
    Traffic(Box<Traffic>),
    /// Things that come and go.
    Churn(Churn),
}

impl Load {
    fn set_uri(&mut self, uri: Uri) {
        match self {
            Self::Traffic(traffic) => traffic.uri = uri,
            Self::Churn(churn) => churn.uri = uri,
        }
    }
}

/// What `haremq perf` is to do, checked.
#[derive(Debug)]
pub enum Perf {
    /// Load on one broker.
    One {
        /// Load and course.
        one: Box<(Load, Course)>,
        /// Whether the report is for programs.
        is_json: bool,
    },
    /// The same load on two.
    Two {
        /// Load and course of the first.
        a: Box<(Load, Course)>,
        /// Load and course of the second.
        b: Box<(Load, Course)>,
        /// How many times.
        rounds: u16,
        /// Where progress goes.
        progress: Progress,
        /// Whether the report is for programs.
        is_json: bool,
    },
}

impl PerfCommand {
    /// Checks the options against each other.
    ///
    /// # Errors
    /// [`Exit::Usage`] with the option that is wrong, in words.
    pub fn checked(self) -> Result<Perf, Failure> {
        match self {
            Self::Scenario(scenario) => {
                let (load, course, is_json) = scenario.checked()?;
                let one = Box::new((load, course));
                Ok(Perf::One { one, is_json })
            }
            Self::Compare(arguments) => arguments.checked(),
        }
    }
}

impl ScenarioCommand {
    fn checked(self) -> Result<(Load, Course, bool), Failure> {
        match self {
            Self::Throughput(arguments) => arguments.checked(false),
            Self::Latency(arguments) => arguments.checked(true),
            Self::Churn(arguments) => arguments.checked(),
        }
    }
}

impl CommonArguments {
    fn course(&self, counted: bool, drain: f64) -> Result<Course, Failure> {
        let time = match (self.time, counted) {
            (None, true) => None,
            (time, _) => Some(seconds("--time", time.unwrap_or(DEFAULT_SECONDS), false)?),
        };
        Ok(Course {
            time,
            warmup: seconds("--warmup", self.warmup, true)?,
            drain: seconds("--drain", drain, true)?,
            threads: usize::from(self.threads),
            pid: self.pid,
            progress: progress(self.quiet, self.json),
        })
    }

    fn uri(&self) -> Result<Uri, Failure> {
        uri("--uri", &self.uri)
    }
}

impl TrafficArguments {
    fn checked(self, is_latency: bool) -> Result<(Load, Course, bool), Failure> {
        let stamping = match (is_latency, self.verify) {
            (true, _) => Stamping::Time,
            (false, true) => Stamping::Sequence,
            (false, false) => Stamping::None,
        };
        let (stamp_bytes, why) = match stamping {
            Stamping::Time => (TIME_STAMP_BYTES, "that a message can carry its time"),
            Stamping::Sequence => (SEQUENCE_STAMP_BYTES, "for --verify"),
            Stamping::None => (0, ""),
        };
        let body_bytes = self.size.unwrap_or(DEFAULT_SIZE_BYTES.max(stamp_bytes));
        if body_bytes < stamp_bytes {
            return wrong(format!("--size must be at least {stamp_bytes} {why}"));
        }
        if body_bytes > SIZE_BYTES_MAX {
            return wrong(format!("--size must be at most {SIZE_BYTES_MAX}"));
        }
        if self.publishers == 0 && self.consumers == 0 {
            return wrong("--publishers and --consumers are both 0");
        }
        if is_latency && self.publishers == 0 {
            return wrong("latency needs a publisher");
        }
        if is_latency && self.consumers == 0 && self.confirms == 0 {
            return wrong("latency without consumers measures confirms: give --confirms");
        }
        if self.lead.is_some() && (self.publishers == 0 || self.consumers == 0) {
            return wrong("--lead needs a publisher and a consumer");
        }
        if self.verify && (self.publishers == 0 || self.consumers == 0) {
            return wrong("--verify needs a publisher and a consumer");
        }
        if !self.auto_ack && self.prefetch > 0 && self.multi_ack > u32::from(self.prefetch) {
            return wrong("--multi-ack must not be more than --prefetch, or nothing would move");
        }
        let rate = match self.rate {
            None => is_latency.then_some(DEFAULT_LATENCY_RATE),
            Some(rate) if rate.is_finite() && (0.001..=1e9).contains(&rate) => Some(rate),
            Some(_) => return wrong("--rate must be from 0.001 to 1000000000"),
        };
        for (name, text) in [
            ("--queue", &self.queue),
            ("--exchange", &self.exchange),
            (
                "--routing-key",
                &self.routing_key.clone().unwrap_or_default(),
            ),
        ] {
            // A number is appended to the names of several queues.
            if text.len() + 8 > SHORT_STRING_BYTES_MAX {
                return wrong(format!("{name} is too long"));
            }
        }
        if self.exchange.is_empty() && (self.routing_key.is_some() || self.exchange_type.is_some())
        {
            return wrong("--routing-key and --exchange-type need --exchange");
        }
        if self.queue.is_empty() {
            return wrong("--queue must not be empty");
        }
        let course = self.common.course(self.messages.is_some(), self.drain)?;
        let traffic = Traffic {
            uri: self.common.uri()?,
            publishers: self.publishers as usize,
            consumers: self.consumers as usize,
            queues: self.queues as usize,
            queue: self.queue.clone(),
            exchange: self.exchange.clone(),
            exchange_type: self.exchange_type.clone(),
            routing_key: self.routing_key.clone().unwrap_or_default(),
            lead: self.lead,
            body_bytes,
            rate,
            pause_min: if is_latency {
                Duration::ZERO
            } else {
                THROUGHPUT_PAUSE
            },
            window: self.confirms as usize,
            prefetch: self.prefetch,
            multi_ack: if self.auto_ack { 0 } else { self.multi_ack },
            properties: self.encoded_properties()?,
            mandatory: self.mandatory,
            queue_arguments: table("--queue-args", self.queue_args.as_deref())?,
            consumer_arguments: table("--consumer-args", self.consumer_args.as_deref())?,
            predeclared: self.predeclared,
            keep: self.keep,
            stamping,
            verifies: self.verify,
            messages: self.messages,
        };
        Ok((Load::Traffic(Box::new(traffic)), course, self.common.json))
    }

    fn encoded_properties(&self) -> Result<Vec<u8>, Failure> {
        let mut properties = match &self.properties {
            None => Properties::default(),
            Some(text) => match fields::properties(text) {
                Ok(properties) => properties,
                Err(what) => return wrong(format!("--properties: {what}")),
            },
        };
        if self.persistent {
            properties.delivery_mode = Some(2);
        }
        let encoded = properties.to_encoded();
        if encoded.len() > PROPERTIES_BYTES_MAX {
            return wrong("--properties are too large for a frame");
        }
        Ok(encoded)
    }
}

impl ChurnArguments {
    fn checked(self) -> Result<(Load, Course, bool), Failure> {
        if self.queue.len() + 8 > SHORT_STRING_BYTES_MAX {
            return wrong("--queue is too long");
        }
        let course = self.common.course(self.count.is_some(), 0.0)?;
        let churn = Churn {
            uri: self.common.uri()?,
            thing: self.thing,
            clients: self.clients as usize,
            times: self.count,
            queue: self.queue,
            durable: self.durable,
        };
        Ok((Load::Churn(churn), course, self.common.json))
    }
}

impl CompareArguments {
    fn checked(self) -> Result<Perf, Failure> {
        let line = ScenarioLine::try_parse_from(&self.scenario).map_err(|error| {
            let text = error.render().to_string();
            let first = text.split("\n\n").next().unwrap_or_default();
            let words: Vec<_> = first.split_whitespace().collect();
            let words = words.join(" ");
            let words = words.strip_prefix("error: ").unwrap_or(&words);
            usage(format!("the scenario of compare: {words}"))
        })?;
        let (load, course, _) = line.scenario.checked()?;
        let of = |name: &str, text: &str, pid| {
            let (mut load, mut course) = (load.clone(), course.clone());
            load.set_uri(uri(name, text)?);
            course.pid = pid;
            course.progress = Progress::None;
            Ok::<_, Failure>(Box::new((load, course)))
        };
        Ok(Perf::Two {
            a: of("URI_A", &self.uri_a, self.pid_a)?,
            b: of("URI_B", &self.uri_b, self.pid_b)?,
            rounds: self.rounds,
            progress: progress(self.quiet, self.json),
            is_json: self.json,
        })
    }
}

fn progress(quiet: bool, is_json: bool) -> Progress {
    match (quiet, is_json) {
        (true, _) => Progress::None,
        (false, true) => Progress::Error,
        (false, false) => Progress::Output,
    }
}

fn seconds(name: &str, value: f64, may_be_zero: bool) -> Result<Duration, Failure> {
    let is_enough = value > 0.0 || (may_be_zero && value == 0.0);
    if is_enough && value <= SECONDS_MAX {
        return Ok(Duration::from_secs_f64(value));
    }
    wrong(format!("{name} is not a number of seconds that can be"))
}

fn uri(name: &str, text: &str) -> Result<Uri, Failure> {
    text.parse()
        .map_err(|error| usage(format!("{name}: {error}")))
}

fn table(name: &str, text: Option<&str>) -> Result<crate::protocol::FieldTable, Failure> {
    fields::table(text.unwrap_or_default()).map_err(|what| usage(format!("{name}: {what}")))
}

fn wrong<T>(what: impl Into<String>) -> Result<T, Failure> {
    Err(usage(what.into()))
}

fn usage(what: String) -> Failure {
    Failure::new(Exit::Usage, format!("{what}; see haremq perf --help"))
}
