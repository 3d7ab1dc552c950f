//! One number that is exported. Its name, help and labels are constants, so that nothing a peer says can become one.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// How large it is, and whether it only ever grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// How often something happened since the start. The name ends in `_total`.
    Counter(u64),
    /// Seconds, or another measure, that added up since the start. The name ends in `_total`.
    FractionalCounter(f64),
    /// How many there are now.
    Gauge(u64),
    /// How much it is now.
    FractionalGauge(f64),
}

impl Value {
    fn encode(self, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Value::Counter(value) => metric.encode_counter::<NoLabelSet, u64, f64>(&value, None),
            Value::FractionalCounter(value) => metric.encode_counter::<NoLabelSet, f64, f64>(&value, None),
            Value::Gauge(value) => metric.encode_gauge(&value),
            Value::FractionalGauge(value) => metric.encode_gauge(&value),
        }
    }
}

/// A number with its name, as Prometheus shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The whole name, such as `offset_bytes_sent_total`.
    pub name: &'static str,
    /// One sentence without a full stop. Samples of one name stand behind each other and have the same.
    pub help: &'static str,
    /// What tells samples of one name apart: pairs of key and value.
    pub labels: &'static [(&'static str, &'static str)],
    /// One label more, for values that come from a list.
    pub label: Option<(&'static str, &'static str)>,
    /// The number.
    pub value: Value,
}

impl Sample {
    /// Something that is counted since the start.
    pub const fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Sample { name, help, labels: &[], label: None, value: Value::Counter(value) }
    }

    /// How many there are now.
    pub const fn gauge(name: &'static str, help: &'static str, value: usize) -> Self {
        Sample { name, help, labels: &[], label: None, value: Value::Gauge(value as u64) }
    }

    /// The same with any value.
    pub const fn new(name: &'static str, help: &'static str, value: Value) -> Self {
        Sample { name, help, labels: &[], label: None, value }
    }

    /// The same with a label.
    #[must_use]
    pub const fn with(self, key: &'static str, value: &'static str) -> Self {
        Sample { label: Some((key, value)), ..self }
    }
}

/// The labels of one sample.
#[derive(Debug)]
struct Labels(&'static [(&'static str, &'static str)], Option<(&'static str, &'static str)>);

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let all: Vec<_> = self.0.iter().copied().chain(self.1).collect();
        all.encode(encoder)
    }
}

/// Writes samples; those of one name must stand behind each other.
pub(super) fn encode(samples: &[Sample], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    for family in samples.chunk_by(|a, b| a.name == b.name) {
        let Some(first) = family.first() else { continue };
        let kind = match first.value {
            Value::Counter(_) | Value::FractionalCounter(_) => MetricType::Counter,
            Value::Gauge(_) | Value::FractionalGauge(_) => MetricType::Gauge,
        };
        // The encoder appends `_total` to counters.
        let name = first.name.strip_suffix("_total").unwrap_or(first.name);
        let mut metric = encoder.encode_descriptor(name, first.help, None, kind)?;
        for sample in family {
            let labels = Labels(sample.labels, sample.label);
            if sample.labels.is_empty() && sample.label.is_none() {
                sample.value.encode(&mut metric)?;
            } else {
                sample.value.encode(&mut metric.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}
