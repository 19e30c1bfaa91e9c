//! A work queue: a producer, two workers that share the tasks, and a worker that dies over its own.
//!
//! Run it beside a broker (`AMQP_URI` names another one than the default):
//!
//! ```text
//! cargo run --release                  # in one terminal
//! cargo run --example work_queue       # in another
//! ```
//!
//! The worker that dies is a process of its own, this program with the argument `doomed`: it takes tasks, acknowledges
//! none and exits without a word to the broker, as after a crash. What it held is delivered to others.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    process::{self, Command, ExitStatus},
    time::Duration,
};

use futures_lite::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use tokio::sync::mpsc;

const AMQP_URI_DEFAULT: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";
const RUN_TIME_MAX: Duration = Duration::from_secs(30);

const QUEUE: &str = "example.work_queue";
const TASKS: usize = 20;
const TASK_TIME: Duration = Duration::from_millis(10);

/// Tasks the doomed worker takes before it dies, all that its prefetch allows.
const DOOMED_TASKS: usize = 5;

/// The exit code by which the doomed worker shows that it died as planned.
const DOOMED_EXIT_CODE: i32 = 42;

/// Delivery mode 2 asks the broker to keep the message on disk, in a durable queue.
const PERSISTENT: u8 = 2;

/// What a worker tells about a task it has done.
struct Done {
    worker: &'static str,
    task: String,
    redelivered: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        Some("doomed") => tokio::time::timeout(RUN_TIME_MAX, doomed_worker()).await?,
        _ => tokio::time::timeout(RUN_TIME_MAX, run()).await?,
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    // An earlier run that failed may have left tasks. To delete what is not there is no error.
    channel
        .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
        .await?;
    channel
        .queue_declare(
            QUEUE.into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        )
        .await?;

    produce(&connection).await?;
    println!("producer: {TASKS} tasks are in the queue");

    let died = start_doomed_worker().await?;
    assert_eq!(died.code(), Some(DOOMED_EXIT_CODE), "{died}");

    let done = share_the_tasks(&channel).await?;
    check(&done);
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn connect() -> lapin::Result<Connection> {
    let uri = env::var("AMQP_URI").unwrap_or_else(|_| AMQP_URI_DEFAULT.into());
    Connection::connect(&uri, ConnectionProperties::default()).await
}

/// Puts the tasks into the queue, and returns when the broker has confirmed them all.
async fn produce(connection: &Connection) -> Result<(), Box<dyn Error>> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let mut outstanding = Vec::new();
    for number in 0..TASKS {
        let confirm = channel
            .basic_publish(
                "".into(),
                QUEUE.into(),
                BasicPublishOptions::default(),
                format!("task {number:02}").as_bytes(),
                BasicProperties::default().with_delivery_mode(PERSISTENT),
            )
            .await?;
        outstanding.push(confirm);
    }
    for confirm in outstanding {
        assert!(confirm.await?.is_ack(), "each task must be confirmed");
    }
    channel.close(200, "done".into()).await?;
    Ok(())
}

/// Runs this program again as the doomed worker, until it is dead.
async fn start_doomed_worker() -> Result<ExitStatus, Box<dyn Error>> {
    let program = env::current_exe()?;
    let life = move || Command::new(program).arg("doomed").status();
    Ok(tokio::task::spawn_blocking(life).await??)
}

/// Takes as many tasks as it may hold, and dies.
async fn doomed_worker() -> Result<(), Box<dyn Error>> {
    let (_connection, mut deliveries) = subscribe(DOOMED_TASKS as u16).await?;
    for _ in 0..DOOMED_TASKS {
        let delivery = deliveries.next().await.ok_or("the consumer ended")??;
        assert!(!delivery.redelivered, "nobody held the task before");
        println!("doomed worker: took {}", text(&delivery.data));
    }
    println!("doomed worker: dies with {DOOMED_TASKS} tasks in hand");
    process::exit(DOOMED_EXIT_CODE);
}

/// Lets two workers do all the tasks, deletes the queue, and returns what was done in the order in which it was done.
async fn share_the_tasks(channel: &Channel) -> Result<Vec<Done>, Box<dyn Error>> {
    let (reports, mut reported) = mpsc::channel(TASKS);
    // With a prefetch of one a worker gets its next task when it has done the one in hand, so the faster one does more.
    let first = subscribe(1).await?;
    let second = subscribe(1).await?;
    for (name, (connection, deliveries)) in [("worker 1", first), ("worker 2", second)] {
        let reports = reports.clone();
        tokio::spawn(async move {
            let outcome = work(name, connection, deliveries, reports).await;
            outcome.unwrap_or_else(|error| eprintln!("{name}: {error}"));
        });
    }
    drop(reports);

    let mut done = Vec::new();
    while done.len() < TASKS {
        done.push(reported.recv().await.ok_or("both workers have ended")?);
    }
    let left = channel
        .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
        .await?;
    assert_eq!(left, 0, "no task is left in the queue");
    // The broker cancels the consumers of a queue that is deleted, which ends the workers.
    while let Some(report) = reported.recv().await {
        done.push(report);
    }
    Ok(done)
}

/// Connects and subscribes to the queue; at most `prefetch` tasks are in hand at once.
async fn subscribe(prefetch: u16) -> lapin::Result<(Connection, Consumer)> {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await?;
    let deliveries = channel
        .basic_consume(
            QUEUE.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok((connection, deliveries))
}

/// Does one task after the other. Only a task that is done is acknowledged.
async fn work(
    name: &'static str,
    connection: Connection,
    mut deliveries: Consumer,
    reports: mpsc::Sender<Done>,
) -> Result<(), Box<dyn Error>> {
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        tokio::time::sleep(TASK_TIME).await;
        delivery.ack(BasicAckOptions::default()).await?;
        let report = Done {
            worker: name,
            task: text(&delivery.data),
            redelivered: delivery.redelivered,
        };
        if reports.send(report).await.is_err() {
            break;
        }
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// Each task is done once; those the dead worker held are marked; both workers had their share.
fn check(done: &[Done]) {
    let mut share = BTreeMap::new();
    for Done {
        worker,
        task,
        redelivered,
    } in done
    {
        let mark = if *redelivered {
            ", delivered again"
        } else {
            ""
        };
        println!("{worker}: did {task}{mark}");
        *share.entry(*worker).or_insert(0) += 1;
    }
    println!("shares: {share:?}");
    assert_eq!(share.len(), 2, "both workers take part");

    assert_eq!(done.len(), TASKS, "no task is done twice");
    let tasks: BTreeSet<_> = done.iter().map(|report| &report.task).collect();
    assert_eq!(tasks.len(), TASKS, "each task is done");
    let again: BTreeSet<_> = done
        .iter()
        .filter(|report| report.redelivered)
        .map(|report| report.task.clone())
        .collect();
    let held: BTreeSet<_> = (0..DOOMED_TASKS)
        .map(|number| format!("task {number:02}"))
        .collect();
    assert_eq!(again, held, "what the dead worker held is delivered again");
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}
