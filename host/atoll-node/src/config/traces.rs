//! What is said about traces: by our own names, or by those that OpenTelemetry has for everybody.

use super::FileConfig;
use crate::trace::settings::{Batches, Settings};
use anyhow::{Context, bail, ensure};
use atoll_core::http::sampling::Sampler;
use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use std::cell::RefCell;
use std::time::Duration;

/// Where a collector takes traces, below its address.
const PATH: &str = "/v1/traces";

/// What is said of traces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traces {
    /// `None` where no collector is named.
    pub(crate) settings: Option<Settings>,
    /// What variables of OpenTelemetry say wrongly, for the log.
    pub(crate) remarks: Vec<String>,
}

/// The variables of OpenTelemetry.
pub(super) struct Variables<'v> {
    /// The value of a variable.
    look: &'v dyn Fn(&str) -> Option<String>,
    remarks: RefCell<Vec<String>>,
}

impl Variables<'_> {
    /// Those of this process.
    pub(super) fn of_process() -> Variables<'static> {
        Variables { look: &of_environment, remarks: RefCell::default() }
    }

    /// One that is empty counts as not set, as OpenTelemetry has it.
    fn get(&self, name: &str) -> Option<String> {
        (self.look)(name).filter(|value| !value.trim().is_empty())
    }

    /// What a variable says. A mistake is remarked upon, and counts as not set.
    fn read<T>(&self, name: &str, read: impl FnOnce(&str) -> anyhow::Result<T>) -> Option<T> {
        match read(&self.get(name)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.remark(format!("the variable {name} is left aside: {error:#}"));
                None
            }
        }
    }

    fn remark(&self, remark: String) {
        self.remarks.borrow_mut().push(remark);
    }
}

fn of_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Our own settings go before the variables of OpenTelemetry. What those say wrongly does not stop a
/// node: they are set for everything that runs in a place, and not for it alone.
pub(super) fn resolve(
    values: &FileConfig,
    node: &str,
    variables: Variables<'_>,
) -> anyhow::Result<Traces> {
    let settings = settings(values, node, &variables)?;
    Ok(Traces { settings, remarks: variables.remarks.into_inner() })
}

fn settings(
    values: &FileConfig,
    node: &str,
    variables: &Variables<'_>,
) -> anyhow::Result<Option<Settings>> {
    let is_switched_off = is_switched_off(variables);
    let endpoint = match &values.otlp_endpoint {
        Some(text) if text == "off" => return Ok(None),
        Some(text) => Some(joined(text).context("--otlp-endpoint")?),
        None if is_switched_off => None,
        None => of_variables(variables),
    };
    let Some(endpoint) = endpoint else {
        let is_said = values.otlp_headers.is_some()
            || values.trace_sampler.is_some()
            || values.trace_ratio.is_some();
        ensure!(
            !is_said || is_switched_off,
            "--otlp-headers, --trace-sampler and --trace-ratio are about a collector of traces; \
             name one with --otlp-endpoint"
        );
        return Ok(None);
    };
    let headers = match &values.otlp_headers {
        Some(text) => headers(text.reveal()).context("--otlp-headers")?,
        None => variables
            .read("OTEL_EXPORTER_OTLP_TRACES_HEADERS", headers)
            .or_else(|| variables.read("OTEL_EXPORTER_OTLP_HEADERS", headers))
            .unwrap_or_default(),
    };
    let (sampler, batches) = (sampler(values, variables)?, batches(variables));
    let resource = resource(values, node, variables);
    Ok(Some(Settings { endpoint, headers, sampler, resource, batches }))
}

/// Whether the variables of OpenTelemetry ask for no traces.
fn is_switched_off(variables: &Variables<'_>) -> bool {
    variables.get("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"))
        || variables.get("OTEL_TRACES_EXPORTER").is_some_and(|text| text == "none")
}

fn of_variables(variables: &Variables<'_>) -> Option<Uri> {
    let endpoint = variables
        .read("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", whole)
        .or_else(|| variables.read("OTEL_EXPORTER_OTLP_ENDPOINT", joined))?;
    let protocol = variables
        .get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        .or_else(|| variables.get("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if let Some(protocol) = protocol.filter(|protocol| protocol != "http/protobuf") {
        variables.remark(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL is {protocol:?}, and this node speaks http/protobuf; collectors \
             take that at port 4318 by default"
        ));
    }
    Some(endpoint)
}

/// An address of a collector, with the path of traces behind it.
fn joined(text: &str) -> anyhow::Result<Uri> {
    whole(&format!("{}{PATH}", text.trim().trim_end_matches('/')))
}

fn whole(text: &str) -> anyhow::Result<Uri> {
    let wanted = "write http://HOST:4318 or https://HOST";
    let uri: Uri = text.trim().parse().ok().context(wanted)?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let is_plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    ensure!(is_http && is_plain, "{wanted}");
    Ok(uri)
}

/// `NAME=VALUE,NAME=VALUE`, values percent-encoded (W3C Baggage).
fn pairs(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let read = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').context("write NAME=VALUE,NAME=VALUE")?;
        let value = percent_decode_str(value.trim()).decode_utf8().context("values are UTF-8")?;
        ensure!(!name.trim().is_empty(), "a name is empty; write NAME=VALUE,NAME=VALUE");
        Ok((name.trim().to_owned(), value.into_owned()))
    });
    read.collect()
}

fn headers(text: &str) -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
    let headers = pairs(text)?.into_iter().map(|(name, value)| {
        let name =
            HeaderName::try_from(&name).context("a name of a header has a wrong character")?;
        // Not quoted: it may be a secret.
        let mut value = HeaderValue::try_from(value).context("a value is not fit for a header")?;
        value.set_sensitive(true);
        Ok((name, value))
    });
    headers.collect()
}

fn sampler(values: &FileConfig, variables: &Variables<'_>) -> anyhow::Result<Sampler> {
    let own_ratio = values.trace_ratio.map(|ratio| ratio.to_string());
    let own_ratio = own_ratio.as_deref();
    if let Some(name) = &values.trace_sampler {
        return Sampler::named(name, own_ratio).context("--trace-sampler");
    }
    if own_ratio.is_some() {
        return Sampler::named("parentbased_traceidratio", own_ratio).context("--trace-ratio");
    }
    let ratio = variables.get("OTEL_TRACES_SAMPLER_ARG");
    let read = |name: &str| Ok(Sampler::named(name, ratio.as_deref())?);
    Ok(variables.read("OTEL_TRACES_SAMPLER", read).unwrap_or_default())
}

/// What the node says of itself. What is said of it goes before what it knows.
fn resource(values: &FileConfig, node: &str, variables: &Variables<'_>) -> Vec<(String, String)> {
    let name = values.service_name.clone().or_else(|| variables.get("OTEL_SERVICE_NAME"));
    let mut resource: Vec<(String, String)> =
        name.map(|name| ("service.name".to_owned(), name)).into_iter().collect();
    let said = variables.read("OTEL_RESOURCE_ATTRIBUTES", pairs).unwrap_or_default();
    let known = [
        ("service.name", "atoll"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", node),
    ];
    let known = known.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in said.into_iter().chain(known) {
        if !resource.iter().any(|(other, _)| *other == name) {
            resource.push((name, value));
        }
    }
    resource
}

fn batches(variables: &Variables<'_>) -> Batches {
    let count = |text: &str| match text.trim().parse::<u32>() {
        Ok(count) if count > 0 => Ok(count),
        _ => bail!("{text:?} is no count; write 1 or more"),
    };
    let number = |name: &str| variables.read(name, count);
    let ms = |name: &str| number(name).map(|ms| Duration::from_millis(ms.into()));
    let default = Batches::default();
    let waiting_max = number("OTEL_BSP_MAX_QUEUE_SIZE").map_or(default.waiting_max, |n| n as usize);
    let spans_max =
        number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").map_or(default.spans_max, |n| n as usize);
    Batches {
        // A span is about a kilobyte.
        waiting_max: waiting_max.min(1 << 20),
        spans_max: spans_max.min(waiting_max).min(1 << 14),
        delay: ms("OTEL_BSP_SCHEDULE_DELAY").unwrap_or(default.delay),
        answer_wait: ms("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
            .or_else(|| ms("OTEL_EXPORTER_OTLP_TIMEOUT"))
            .unwrap_or(default.answer_wait),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::*;

    fn with(
        change: impl FnOnce(&mut FileConfig),
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Option<Settings>> {
        traces(change, variables).map(|traces| traces.settings)
    }

    fn traces(
        change: impl FnOnce(&mut FileConfig),
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Traces> {
        let mut values = FileConfig::default();
        change(&mut values);
        let look = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        resolve(&values, "faro", Variables { look: &look, remarks: RefCell::default() })
    }

    #[track_caller]
    fn found(variables: &[(&str, &str)]) -> Settings {
        with(|_| (), variables).expect("it starts").expect("a collector")
    }

    #[test]
    fn without_a_collector_there_are_no_traces() {
        assert!(with(|_| (), &[]).expect("it starts").is_none());
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert!(with(|_| (), &[endpoint, off]).expect("it starts").is_none());
        }
        let off = |v: &mut FileConfig| v.otlp_endpoint = Some("off".into());
        assert!(with(off, &[endpoint]).expect("it starts").is_none());
        let error = with(|v| v.trace_ratio = Some(0.1), &[]).expect_err("about nothing");
        assert!(error.to_string().contains("name one with --otlp-endpoint"), "{error}");
    }

    #[test]
    fn the_path_of_traces_is_added_unless_the_variable_is_for_traces_alone() {
        let check = |variables: &[(&str, &str)], want: &str| {
            assert_eq!(found(variables).endpoint, want);
        };
        check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")], "http://c:4318/v1/traces");
        check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c/otlp/")], "https://c/otlp/v1/traces");
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://d:1/x");
        check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), of_traces], "http://d:1/x");
        let own = with(
            |v| v.otlp_endpoint = Some("http://own:4318".into()),
            &[of_traces, ("OTEL_SDK_DISABLED", "true")],
        );
        let own = own.expect("it starts").expect("a collector");
        assert_eq!(own.endpoint, "http://own:4318/v1/traces");
    }

    #[test]
    fn the_variables_of_opentelemetry_are_honoured_and_ours_go_before_them() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x-tenant=t"),
            ("OTEL_SERVICE_NAME", "edge"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=test"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ];
        let told = found(&variables);
        let pairs: Vec<_> = told.headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        assert_eq!(pairs, [("api-key", &b"a b"[..]), ("x-tenant", b"t")]);
        assert!(!format!("{told:?}").contains("a b"), "a key never shows");
        let resource: Vec<String> = told.resource.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let version = format!("service.version={}", env!("CARGO_PKG_VERSION"));
        let want = ["service.name=edge", "deployment.environment.name=test", &version];
        assert_eq!(resource[..3], want);
        assert_eq!(resource[3], "service.instance.id=faro");
        assert_eq!(Some(told.sampler), Sampler::named("traceidratio", Some("0.5")).ok());
        let Batches { delay, answer_wait, .. } = told.batches;
        assert_eq!((delay.as_millis(), answer_wait.as_millis()), (100, 2_000));

        let ours = |v: &mut FileConfig| {
            v.otlp_headers = Some(Secret("a=b".into()));
            v.service_name = Some("ours".into());
            v.trace_ratio = Some(0.1);
        };
        let told = with(ours, &variables).expect("it starts").expect("a collector");
        assert_eq!((told.headers.len(), told.resource[0].1.as_str()), (1, "ours"));
        assert_eq!(
            Some(told.sampler),
            Sampler::named("parentbased_traceidratio", Some("0.1")).ok()
        );
    }

    #[test]
    fn a_mistake_of_ours_stops_the_node_and_one_in_a_variable_does_not() {
        let refused = |change: fn(&mut FileConfig), want: &str| {
            let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")];
            let error = format!("{:#}", with(change, &endpoint).expect_err("should be refused"));
            assert!(error.contains(want), "{error:?} should contain {want:?}");
        };
        refused(|v| v.otlp_endpoint = Some("c:4318".into()), "--otlp-endpoint: write http://");
        refused(|v| v.otlp_endpoint = Some("http://u:p@c".into()), "write http://HOST:4318");
        refused(|v| v.otlp_headers = Some(Secret("key".into())), "write NAME=VALUE");
        refused(|v| v.trace_sampler = Some("some".into()), "write parentbased_always_on");
        refused(|v| v.trace_ratio = Some(2.0), "from 0 to 1");
        let wrong = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "no pair"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "99999"),
        ];
        let Traces { settings, remarks } = traces(|_| (), &wrong).expect("it starts");
        assert_eq!(remarks.len(), 4, "{remarks:?}");
        assert!(remarks[0].contains("port 4318"), "{remarks:?}");
        let told = settings.expect("a collector");
        assert!(told.headers.is_empty() && told.sampler == Sampler::default());
        assert_eq!((told.batches.waiting_max, told.batches.spans_max), (2_048, 2_048));
        assert!(with(|_| (), &[("OTEL_EXPORTER_OTLP_ENDPOINT", "c")]).expect("starts").is_none());
    }
}
