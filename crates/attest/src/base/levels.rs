//! The levels of a verdict: an axis for each question that a person asks, and a level
//! on each. A policy states the least level that it accepts; the report shows the level
//! that was reached.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! axis {
    ($(#[$doc:meta])* $name:ident { $($(#[$note:meta])* $variant:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$note])* $variant,)*
        }

        impl $name {
            /// Every level, the least first.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name, in kebab case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let words = [$($word),*];
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("expected {}", words.join(" or "))),
                }
            }
        }
    };
}

axis! {
    /// A genuine, patched machine?
    HardwareLevel {
        /// Below Intel's current level, by advisories that the policy accepts by name.
        Outdated "outdated",
        /// At a level that Intel calls current, under the edition of the collateral.
        Current "current",
    }
}

axis! {
    /// Which firmware, kernel, root file system and machine tables?
    BootLevel {
        /// Any.
        Any "any",
        /// Those of a line of the user's own policy, which says why and until when, or
        /// tables that the policy does not compare (`acpi = "report"`).
        AcceptedByYou "accepted-by-you",
        /// Those of a row that the policy names.
        Named "named",
    }
}

axis! {
    /// Whose keys?
    IdentityLevel {
        /// Anyone's.
        Any "any",
        /// Signed, for exactly this state, under a KMS root and app id of one entry.
        Expected "expected",
    }
}

axis! {
    /// What was started in the machine?
    #[derive(Default)]
    DeploymentLevel {
        /// No log states it, or the appraisal did not check it.
        #[default]
        None "none",
        /// The machine's own log states it, quoted with our nonce.
        Declared "declared",
        /// Every file that the log says was started since this boot is from a release
        /// tag, was read, and keeps the policy's rules. Nothing shows that a start is
        /// missing.
        Tagged "tagged",
    }
}

axis! {
    /// Which GPUs answered?
    #[derive(Default)]
    GpuLevel {
        /// None, or the appraisal did not check them.
        #[default]
        None "none",
        /// Each signed our nonce; mode and number are the policy's.
        Genuine "genuine",
        /// And driver and VBIOS are as a table or NVIDIA's service says.
        Measured "measured",
    }
}

/// A level on each axis of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Levels {
    /// A genuine, patched machine?
    pub hardware: HardwareLevel,
    /// Which software booted it?
    pub boot: BootLevel,
    /// Whose keys?
    pub identity: IdentityLevel,
    /// What was started in it?
    pub deployment: DeploymentLevel,
    /// Which GPUs answered?
    pub gpu: GpuLevel,
}

impl Levels {
    /// The least on every axis.
    pub const LEAST: Self = Self {
        hardware: HardwareLevel::Outdated,
        boot: BootLevel::Any,
        identity: IdentityLevel::Any,
        deployment: DeploymentLevel::None,
        gpu: GpuLevel::None,
    };

    /// The levels that a level depends on cap it: software that was not verified can
    /// state any identity, deployment and GPUs, and a machine with other keys than the
    /// expected ones can quote any log.
    #[must_use]
    pub const fn capped(self) -> Self {
        let Self { hardware, boot, .. } = self;
        let (identity, gpu) = match boot {
            BootLevel::Any => (IdentityLevel::Any, GpuLevel::None),
            BootLevel::AcceptedByYou | BootLevel::Named => (self.identity, self.gpu),
        };
        let deployment = match identity {
            IdentityLevel::Any => DeploymentLevel::None,
            IdentityLevel::Expected => self.deployment,
        };
        Self {
            hardware,
            boot,
            identity,
            deployment,
            gpu,
        }
    }

    /// Name and level of each axis, in the order in which they are shown.
    #[must_use]
    pub const fn axes(&self) -> [(&'static str, &'static str); 5] {
        [
            ("hardware", self.hardware.as_str()),
            ("boot", self.boot.as_str()),
            ("identity", self.identity.as_str()),
            ("deployment", self.deployment.as_str()),
            ("gpu", self.gpu.as_str()),
        ]
    }

    /// The first axis on which this is less than `least`: its name, the level, and
    /// the one that is asked for.
    #[must_use]
    pub fn short_of(&self, least: &Self) -> Option<(&'static str, &'static str, &'static str)> {
        let reached = [
            self.hardware >= least.hardware,
            self.boot >= least.boot,
            self.identity >= least.identity,
            self.deployment >= least.deployment,
            self.gpu >= least.gpu,
        ];
        reached
            .into_iter()
            .zip(self.axes())
            .zip(least.axes())
            .find(|((reached, _), _)| !reached)
            .map(|((_, (axis, got)), (_, asked))| (axis, got, asked))
    }
}

/// `hardware=current, boot=named, …`, as the header and logs have it.
impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (axis, level)) in self.axes().into_iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{axis}={level}")?;
        }
        Ok(())
    }
}

/// A least level on some axes, which a request, a token or a model demands:
/// `deployment=tagged, gpu=measured`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeastLevels {
    hardware: Option<HardwareLevel>,
    boot: Option<BootLevel>,
    identity: Option<IdentityLevel>,
    deployment: Option<DeploymentLevel>,
    gpu: Option<GpuLevel>,
}

impl LeastLevels {
    /// Nothing is asked for.
    pub const NONE: Self = Self {
        hardware: None,
        boot: None,
        identity: None,
        deployment: None,
        gpu: None,
    };

    /// On each axis the higher of the two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            hardware: self.hardware.max(other.hardware),
            boot: self.boot.max(other.boot),
            identity: self.identity.max(other.identity),
            deployment: self.deployment.max(other.deployment),
            gpu: self.gpu.max(other.gpu),
        }
    }

    /// The first axis on which `levels` is less: its name, the level, and the one that
    /// is asked for.
    #[must_use]
    pub fn shortfall(&self, levels: &Levels) -> Option<(&'static str, &'static str, &'static str)> {
        levels.short_of(&Levels {
            hardware: self.hardware.unwrap_or(Levels::LEAST.hardware),
            boot: self.boot.unwrap_or(Levels::LEAST.boot),
            identity: self.identity.unwrap_or(Levels::LEAST.identity),
            deployment: self.deployment.unwrap_or(Levels::LEAST.deployment),
            gpu: self.gpu.unwrap_or(Levels::LEAST.gpu),
        })
    }
}

/// Every part has to be understood, and each axis may be named once: a part that was
/// ignored would be a demand that is never checked.
impl std::str::FromStr for LeastLevels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        fn put<T: std::str::FromStr<Err = String>>(
            axis: &str,
            level: &str,
            slot: &mut Option<T>,
        ) -> Result<(), String> {
            let level = level.parse().map_err(|error| format!("{axis}: {error}"))?;
            match slot.replace(level) {
                None => Ok(()),
                Some(_) => Err(format!("{axis} is set twice")),
            }
        }
        let mut least = Self::default();
        for part in text.split(',') {
            let expected = || {
                "expected AXIS=LEVEL,... such as deployment=tagged, with the axes hardware, boot, identity, deployment and gpu".to_owned()
            };
            let (axis, level) = part.split_once('=').ok_or_else(expected)?;
            let (axis, level) = (axis.trim(), level.trim());
            match axis {
                "hardware" => put(axis, level, &mut least.hardware)?,
                "boot" => put(axis, level, &mut least.boot)?,
                "identity" => put(axis, level, &mut least.identity)?,
                "deployment" => put(axis, level, &mut least.deployment)?,
                "gpu" => put(axis, level, &mut least.gpu)?,
                _ => return Err(expected()),
            }
        }
        Ok(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Levels> {
        let axes = HardwareLevel::ALL.iter().flat_map(|&hardware| {
            BootLevel::ALL.iter().flat_map(move |&boot| {
                IdentityLevel::ALL
                    .iter()
                    .map(move |&identity| (hardware, boot, identity))
            })
        });
        axes.flat_map(|(hardware, boot, identity)| {
            DeploymentLevel::ALL.iter().flat_map(move |&deployment| {
                GpuLevel::ALL.iter().map(move |&gpu| Levels {
                    hardware,
                    boot,
                    identity,
                    deployment,
                    gpu,
                })
            })
        })
    }

    #[test]
    fn no_level_is_worth_more_than_what_it_rests_on() {
        assert_eq!(all().count(), 2 * 3 * 2 * 3 * 3);
        for levels in all() {
            let capped = levels.capped();
            assert_eq!(capped.capped(), capped);
            assert_eq!(capped.short_of(&capped), None);
            assert_eq!(levels.short_of(&capped), None, "a cap lifts nothing");
            assert_eq!(
                (capped.hardware, capped.boot),
                (levels.hardware, levels.boot)
            );
            let unknown_software = levels.boot == BootLevel::Any;
            let unknown_keys = unknown_software || levels.identity == IdentityLevel::Any;
            assert_eq!(
                capped.identity,
                if unknown_software {
                    IdentityLevel::Any
                } else {
                    levels.identity
                }
            );
            assert_eq!(
                capped.deployment,
                if unknown_keys {
                    DeploymentLevel::None
                } else {
                    levels.deployment
                }
            );
            assert_eq!(
                capped.gpu,
                if unknown_software {
                    GpuLevel::None
                } else {
                    levels.gpu
                }
            );
        }
    }

    #[test]
    fn a_least_level_is_read_whole_or_not_at_all() {
        let least = |text: &str| text.parse::<LeastLevels>();
        let whole =
            "hardware=current, boot=named,identity=expected ,deployment = tagged, gpu=measured";
        let high = least(whole).unwrap();
        for levels in all() {
            let is_highest = levels.to_string().replace(' ', "") == whole.replace(' ', "");
            assert_eq!(high.shortfall(&levels).is_none(), is_highest, "{levels}");
            assert_eq!(LeastLevels::default().shortfall(&levels), None);
        }
        assert_eq!(
            least("gpu=genuine")
                .unwrap()
                .and(least("gpu=measured,boot=any").unwrap()),
            least("boot=any,gpu=measured").unwrap()
        );
        for (text, why) in [
            ("", "expected AXIS=LEVEL"),
            ("tagged", "expected AXIS=LEVEL"),
            ("deployment=tagged,", "expected AXIS=LEVEL"),
            ("answer=signed", "expected AXIS=LEVEL"),
            ("Deployment=tagged", "expected AXIS=LEVEL"),
            (
                "deployment=Tagged",
                "deployment: expected none or declared or tagged",
            ),
            ("gpu=genuine, gpu=genuine", "gpu is set twice"),
        ] {
            let error = least(text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_axis_that_falls_short_is_named() {
        let mut asked = Levels::LEAST;
        assert_eq!(Levels::LEAST.short_of(&asked), None);
        asked.gpu = GpuLevel::Genuine;
        asked.boot = BootLevel::Named;
        assert_eq!(
            Levels::LEAST.short_of(&asked),
            Some(("boot", "any", "named"))
        );
        assert_eq!(asked.short_of(&Levels::LEAST), None);
        assert_eq!(
            asked.to_string(),
            "hardware=outdated, boot=named, identity=any, deployment=none, gpu=genuine"
        );
    }
}
