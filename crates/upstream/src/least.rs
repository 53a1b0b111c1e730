//! Least levels that requests, tokens and models demand of a verdict beyond the policy. A
//! request is not sent where the verdict does not reach them; its body stops where a renewed
//! verdict no longer does.

use std::str::FromStr;

use attest::{LeastLevels, Levels};
use http::{HeaderMap, HeaderName};

/// The header that demands least levels for one request.
pub(crate) const REQUIRE: HeaderName = HeaderName::from_static("x-verified-proxy-require");

/// The least levels for one model: `MODEL:AXIS=LEVEL,…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelLeast {
    model: String,
    least: LeastLevels,
}

impl FromStr for ModelLeast {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Names of models may contain colons, levels do not.
        let (model, least) = text
            .rsplit_once(':')
            .filter(|(model, _)| !model.is_empty())
            .ok_or_else(|| {
                format!("expected MODEL:AXIS=LEVEL,... such as org/model:deployment=tagged, got {text:?}")
            })?;
        Ok(Self {
            model: model.to_owned(),
            least: least.parse()?,
        })
    }
}

/// The least levels for a model under any of its names: the requested one and the attested one.
fn of_model<'a>(models: &[ModelLeast], names: impl IntoIterator<Item = &'a str>) -> LeastLevels {
    let mut least = LeastLevels::default();
    for name in names {
        for own in models.iter().filter(|own| own.model == name) {
            least = least.and(own.least);
        }
    }
    least
}

/// The levels that a request's headers demand. An unknown level is an error: ignored, the
/// demand would not be enforced.
pub(crate) fn of_headers(headers: &HeaderMap) -> Result<LeastLevels, ()> {
    let mut least = LeastLevels::default();
    for value in headers.get_all(REQUIRE) {
        let text = value.to_str().map_err(|_| ())?;
        least = least.and(text.parse().map_err(|_| ())?);
    }
    Ok(least)
}

/// What a request demands of its backend's verdict.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// By its header and its token.
    asked: LeastLevels,
    /// The requested model, which may have least levels of its own.
    model: Option<&'a str>,
}

impl<'a> Demand<'a> {
    pub fn of(model: Option<&'a str>, asked: LeastLevels) -> Self {
        Self { asked, model }
    }

    /// The least levels of a verdict that attests the model `attested`.
    pub(crate) fn least(self, models: &[ModelLeast], attested: &str) -> LeastLevels {
        of_model(models, self.model.into_iter().chain([attested])).and(self.asked)
    }
}

impl Shortfall {
    pub(crate) fn of(levels: &Levels, least: &LeastLevels) -> Option<Self> {
        let (axis, got, least) = least.shortfall(levels)?;
        Some(Self { axis, got, least })
    }
}

/// A demanded level that a verdict does not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the backend's verdict reaches {axis}={got}, this request asks for {axis}={least}")]
pub struct Shortfall {
    axis: &'static str,
    got: &'static str,
    least: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_least_levels_hold_under_each_of_its_names() {
        let models: Vec<ModelLeast> = ["org/a:b:deployment=tagged", "alias:gpu=measured"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let least = |text: &str| text.parse::<LeastLevels>().unwrap();
        assert_eq!(of_model(&models, ["org/a:b"]), least("deployment=tagged"));
        assert_eq!(
            of_model(&models, ["alias", "org/a:b"]),
            least("deployment=tagged,gpu=measured")
        );
        assert_eq!(of_model(&models, ["org/a"]), LeastLevels::default());
        for (text, expected) in [
            ("", "expected MODEL:AXIS=LEVEL"),
            ("org/model", "expected MODEL:AXIS=LEVEL"),
            (":gpu=measured", "expected MODEL:AXIS=LEVEL"),
            ("m:gpu", "expected AXIS=LEVEL"),
            ("m:", "expected AXIS=LEVEL"),
        ] {
            let refused = text.parse::<ModelLeast>().unwrap_err();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
    }

    #[test]
    fn headers_ask_together_or_are_refused() {
        let ask = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(REQUIRE, value.parse().unwrap());
            }
            of_headers(&headers)
        };
        assert_eq!(ask(&[]), Ok(LeastLevels::default()));
        assert_eq!(
            ask(&["deployment=tagged", "gpu=measured"]),
            Ok("gpu=measured,deployment=tagged".parse().unwrap())
        );
        for value in [
            "",
            "tagged",
            "deployment=best",
            "deployment=tagged;gpu=genuine",
        ] {
            assert_eq!(ask(&["gpu=none", value]), Err(()), "{value}");
        }
    }
}
