//! Warnings: the rules of `docker build --check`, by their public names.

use std::fmt;

use kiln_graph::Location;
use serde::Serialize;

macro_rules! rules {
    ($($name:ident: $description:literal,)*) => {
        /// A rule of `docker build --check`
        /// (<https://docs.docker.com/reference/build-checks/>).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[expect(missing_docs, reason = "each says what it is in `description`")]
        pub enum Rule {
            $($name,)*
        }

        impl Rule {
            /// Its public name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What it wants.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self {
                    $(Self::$name => $description,)*
                }
            }
        }
    };
}

rules! {
    StageNameCasing: "Stage names should be lowercase",
    FromAsCasing: "The 'as' keyword should match the case of the 'from' keyword",
    NoEmptyContinuation: "Empty continuation lines will become errors in a future release",
    ConsistentInstructionCasing: "All commands within the Dockerfile should use the same casing (either upper or lower)",
    DuplicateStageName: "Stage names should be unique",
    ReservedStageName: "Reserved words should not be used as stage names",
    JSONArgsRecommended: "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    MaintainerDeprecated: "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    UndefinedArgInFrom: "FROM command must use declared ARGs",
    WorkdirRelativePath: "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    UndefinedVar: "Variables should be defined before their use",
    MultipleInstructionsDisallowed: "Multiple instructions of the same type should not be used in the same stage",
    LegacyKeyValueFormat: "Legacy key/value format with whitespace separator should not be used",
    InvalidBaseImagePlatform: "Base image platform does not match expected target platform",
    RedundantTargetPlatform: "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    SecretsUsedInArgOrEnv: "Sensitive data should not be used in the ARG or ENV commands",
    InvalidDefaultArgInFrom: "Default value for global ARG results in an empty or invalid base image name",
    FromPlatformFlagConstDisallowed: "FROM --platform flag should not use a constant value",
    CopyIgnoredFile: "Attempting to Copy file that is excluded by .dockerignore",
    InvalidDefinitionDescription: "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    ExposeProtoCasing: "Protocol in EXPOSE instruction should be lowercase",
    ExposeInvalidFormat: "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
}

impl Rule {
    /// Whether it is checked only when the `check` directive asks for it.
    #[must_use]
    pub fn is_experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }

    /// Its page; empty where there is none.
    #[must_use]
    pub fn url(self) -> String {
        if self == Self::InvalidBaseImagePlatform {
            return String::new();
        }
        let mut page = String::new();
        let name = self.name().replace("JSON", "Json");
        for letter in name.chars() {
            if letter.is_ascii_uppercase() && !page.is_empty() {
                page.push('-');
            }
            page.push(letter.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{page}/")
    }
}

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The rule that was broken.
    pub rule: Rule,
    /// How.
    pub message: String,
    /// Where.
    pub location: Location,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} (line {})",
            self.rule.name(),
            self.message,
            self.location.line
        )
    }
}
