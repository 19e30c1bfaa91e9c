//! The handshake: from the protocol header to connection.open-ok.
//!
//! Header and methods of channel 0 come in, as the state of the connection allows; the questions who the client is, and
//! whether it may use its virtual host, go to the executor. What a login needs to be right is not known here. Rules and
//! texts are those of `rabbit_reader.erl`.

use bytes::Bytes;

use super::Session;
use super::channel::MethodId;
use super::connection::{Capabilities, Phase, expect_done, unexpected_reply};
use super::ended::EndReason;
use super::heartbeat::Heartbeat;
use super::names::plain;
use super::settings::SessionSettings;
use crate::model::{Command, Execution, Executor, Now, Refusal, Reply};
use crate::protocol::{
    FRAME_MIN_SIZE, FieldTable, HeaderOutcome, Method, ProtocolHeader, ReplyCode, Value,
    connection, frame, header::PROTOCOL_HEADER_BYTES,
};

/// The only locale (specification, connection.start).
const LOCALES: &[u8] = b"en_US";

/// Fewest channels that a client may negotiate (`rabbit_reader.erl`, `CHANNEL_MIN`).
const CHANNEL_MIN: u32 = 1;

impl Capabilities {
    /// A value that is not a table counts as an empty one (`rabbit_reader.erl`).
    fn of(client_properties: &FieldTable) -> Self {
        let Some(Value::Table(table)) = client_properties.get("capabilities") else {
            return Self::default();
        };
        let has = |name| table.get(name).and_then(Value::as_bool) == Some(true);
        Self {
            consumer_cancel_notify: has("consumer_cancel_notify"),
            connection_blocked: has("connection.blocked"),
            authentication_failure_close: has("authentication_failure_close"),
        }
    }
}

impl Session {
    /// The first octets: gives how many were taken, or `None` if there are too few.
    pub(super) fn handle_protocol_header(&mut self, input: &[u8]) -> Option<usize> {
        match ProtocolHeader::parse(input) {
            HeaderOutcome::Incomplete => None,
            HeaderOutcome::Accepted(_) => {
                let server_properties = self.settings.server_properties.to_encoded();
                let start = Method::ConnectionStart(connection::Start {
                    version_major: 0,
                    version_minor: 9,
                    server_properties: server_properties.as_table(),
                    mechanisms: self.settings.mechanisms.as_bytes(),
                    locales: LOCALES,
                });
                self.output.reply(|out| frame::write_method(out, 0, &start));
                self.phase = Phase::AwaitStartOk;
                Some(PROTOCOL_HEADER_BYTES)
            }
            HeaderOutcome::Refused(refusal) => {
                self.output.buffer().extend_from_slice(&refusal.answer());
                self.end(EndReason::ProtocolHeader(refusal));
                Some(input.len())
            }
        }
    }

    pub(super) fn start_ok(
        &mut self,
        now: Now,
        start_ok: &connection::StartOk<'_>,
        executor: &mut impl Executor,
    ) -> Result<(), Refusal> {
        let mechanism = start_ok.mechanism.to_str_lossy();
        let client_properties = start_ok.client_properties.decode();
        self.peer.capabilities = Capabilities::of(&client_properties);
        self.peer.client_properties = Some(start_ok.client_properties.as_bytes().into());
        let connection_name = client_properties.get("connection_name");
        self.peer.connection_name = connection_name.and_then(Value::as_str).map(Box::from);
        self.peer.mechanism = Some(mechanism.as_ref().into());
        let mut offered = self.settings.mechanisms.split_ascii_whitespace();
        if !offered.any(|offer| offer == mechanism) {
            return Err(Refusal::new(
                ReplyCode::CommandInvalid,
                format!("unknown authentication mechanism '{mechanism}'"),
            ));
        }
        self.phase = Phase::Authenticating;
        let command = Command::Authenticate {
            mechanism: mechanism.into_owned(),
            response: Bytes::copy_from_slice(start_ok.response),
            client_properties,
        };
        if let Execution::Done(reply) = executor.execute(0, command) {
            self.authenticated(now, reply);
        }
        Ok(())
    }

    pub(super) fn authenticated(&mut self, now: Now, reply: Result<Reply, Refusal>) {
        match reply {
            Ok(Reply::Authenticated { user }) => {
                self.peer.user = Some(user);
                let tune = Method::ConnectionTune(connection::Tune {
                    channel_max: self.settings.channel_max,
                    frame_max: self.settings.frame_max,
                    heartbeat: self.settings.heartbeat_s,
                });
                self.send(tune);
                self.phase = Phase::AwaitTuneOk;
            }
            Ok(other) => self.fall_silent(now, EndReason::LoginRefused(unexpected_reply(&other))),
            Err(refusal) => self.login_refused(now, refusal),
        }
    }

    /// A refused login is told in words that do not help to guess, and only to clients that can hear it; others see the
    /// socket close after a while (`rabbit_reader.erl`, `auth_fail`).
    fn login_refused(&mut self, now: Now, refusal: Refusal) {
        let is_login = !matches!(
            refusal.code,
            ReplyCode::SyntaxError | ReplyCode::CommandInvalid
        );
        if is_login && self.peer.capabilities.authentication_failure_close {
            let mechanism = self.peer.mechanism.as_deref().unwrap_or_default();
            let told = Refusal::access_refused(format!(
                "Login was refused using authentication mechanism {mechanism}. \
                 For details see the broker logfile."
            ));
            self.send_close(&MethodId::default().exception(told));
            self.deadline = Some(now.monotonic + self.settings.close_timeout);
            self.phase = Phase::Closing {
                reason: EndReason::LoginRefused(refusal),
                is_deaf: false,
            };
            return;
        }
        self.fall_silent(now, EndReason::LoginRefused(refusal));
    }

    pub(super) fn tune_ok(
        &mut self,
        now: Now,
        tune_ok: connection::TuneOk,
        executor: &mut impl Executor,
    ) {
        if let Err(refusal) = check_tune_ok(&tune_ok, &self.settings) {
            // The method at fault is ours, as RabbitMQ has it (`fail_negotiation`).
            let at = MethodId {
                class_id: connection::CLASS_ID,
                method_id: connection::Tune::METHOD_ID,
            };
            self.raise(now, at.exception(refusal), executor);
            return;
        }
        self.frame_max = tune_ok.frame_max;
        self.channel_max = tune_ok.channel_max;
        self.heartbeat_s = tune_ok.heartbeat;
        self.heartbeat = Heartbeat::new(tune_ok.heartbeat, now.monotonic, self.received_total);
        self.phase = Phase::AwaitOpen;
    }

    pub(super) fn open(
        &mut self,
        open: &connection::Open<'_>,
        executor: &mut impl Executor,
    ) -> Result<(), Refusal> {
        let vhost = plain(open.virtual_host);
        self.peer.vhost = Some(vhost.as_str().into());
        self.phase = Phase::Opening;
        match executor.execute(0, Command::OpenVhost { vhost }) {
            Execution::Done(reply) => self.opened(reply),
            Execution::Later => Ok(()),
        }
    }

    pub(super) fn opened(&mut self, reply: Result<Reply, Refusal>) -> Result<(), Refusal> {
        expect_done(reply)?;
        self.send(Method::ConnectionOpenOk(connection::OpenOk));
        self.deadline = None;
        self.phase = Phase::Running {
            is_updating_secret: false,
        };
        Ok(())
    }
}

/// `validate_negotiated_integer_value` of `rabbit_reader.erl`: 0 means no limit, on either side.
fn check_tune_ok(tune_ok: &connection::TuneOk, settings: &SessionSettings) -> Result<(), Refusal> {
    let check = |field: &str, min: u32, offered: u32, chosen: u32, detail: &str| {
        let (direction, bound, limit) = if chosen != 0 && chosen < min {
            ("lower", "minimum", min)
        } else if offered != 0 && (chosen == 0 || chosen > offered) {
            ("higher", "maximum", offered)
        } else {
            return Ok(());
        };
        Err(Refusal::not_allowed(format!(
            "negotiated {field} = {chosen}{detail} is {direction} than the {bound} allowed value ({limit})"
        )))
    };
    check(
        "frame_max",
        FRAME_MIN_SIZE,
        settings.frame_max,
        tune_ok.frame_max,
        "",
    )?;
    let no_limit = if tune_ok.channel_max == 0 {
        " (no limit)"
    } else {
        ""
    };
    check(
        "channel_max",
        CHANNEL_MIN,
        u32::from(settings.channel_max),
        u32::from(tune_ok.channel_max),
        no_limit,
    )
}
