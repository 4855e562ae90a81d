//! What can be wrong with resources.

/// Resources that are not valid. The text names the resource and what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// The text form cannot be read.
    #[error(
        "cannot read the resources {text:?}: {problem}. Write them as cpus:4;mem:1024;ports:[31000-32000]"
    )]
    Text {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An amount, range or set is not valid.
    #[error("the resource {name:?} is not valid: {problem}")]
    Value {
        /// Name of the resource.
        name: String,
        /// What is wrong and what is expected.
        problem: String,
    },
    /// A role name breaks the rules.
    #[error("the role {role:?} is not valid: {problem}")]
    Role {
        /// What was given.
        role: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// An attribute cannot be read.
    #[error("cannot read the attribute {text:?}: {problem}. Write attributes as rack:r1;zone:a")]
    Attribute {
        /// What was given.
        text: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Something was to be taken out of resources that do not hold it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{missing} is not contained in {available}")]
pub struct NotContained {
    /// What was wanted.
    pub missing: String,
    /// What there is.
    pub available: String,
}
