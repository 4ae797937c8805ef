//! Flags of `kiln build`'s neighbours (`docker build`, `docker buildx build`, `buildah build`,
//! kaniko's executor) that kiln doesn't have under the same name: what each is answered.

use Answer::{NoEffect, Says};

/// A flag of another tool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Foreign {
    /// Its names.
    pub(crate) names: &'static [&'static str],
    /// Who has it.
    pub(crate) tool: &'static str,
    pub(crate) answer: Answer,
}

/// What a flag is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// It is accepted and changes nothing, for this reason, which `-D` shows.
    NoEffect(Takes, &'static str),
    /// It is refused with this sentence.
    Says(&'static str),
}

/// Whether a flag takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Only behind `=`.
    Optional,
    /// Always.
    Value,
}

const fn flag(names: &'static [&'static str], tool: &'static str, answer: Answer) -> Foreign {
    Foreign {
        names,
        tool,
        answer,
    }
}

const BUILDX: &str = "docker buildx build";
const DOCKER: &str = "docker build";
const BUILDAH: &str = "buildah";
const KANIKO: &str = "kaniko";

const CERTIFICATES: &str = "give --tls-verify=false, or set it for the registry in kiln.conf ([registries.\"HOST\"] http = true, or ca = FILE)";

/// All of them. Of two with the same name, the first counts.
pub(crate) const FLAGS: &[Foreign] = &[
    // docker buildx build
    flag(
        &["--print"],
        BUILDX,
        Says("it is called --call now: --call=outline, --call=targets or --call=check"),
    ),
    flag(
        &["--ref-file"],
        BUILDX,
        Says("--metadata-file has the result's digests; 'kiln history' lists builds"),
    ),
    // docker build
    flag(
        &["--rm"],
        DOCKER,
        NoEffect(Takes::Optional, "steps leave no containers behind"),
    ),
    flag(
        &["--force-rm"],
        DOCKER,
        NoEffect(Takes::Optional, "steps leave no containers behind"),
    ),
    flag(
        &["--compress"],
        DOCKER,
        NoEffect(Takes::Optional, "the context is not sent anywhere"),
    ),
    flag(
        &["--stream"],
        DOCKER,
        NoEffect(Takes::Optional, "the context is not sent anywhere"),
    ),
    flag(
        &["--disable-content-trust"],
        DOCKER,
        NoEffect(Takes::Optional, "base images are pinned by 'kiln lock'"),
    ),
    flag(
        &["--security-opt"],
        DOCKER,
        Says(
            "every step has kiln's own seccomp filter; 'RUN --security=insecure' with '--allow security.insecure' lifts it for one step",
        ),
    ),
    // buildah, podman
    flag(
        &["--all-platforms"],
        BUILDAH,
        Says(
            "name the platforms: --platform linux/amd64,linux/arm64; 'kiln image inspect IMAGE' lists those of a base image",
        ),
    ),
    flag(
        &["-v", "--volume"],
        BUILDAH,
        Says(
            "a directory of the host would make the build depend on this machine: use '--build-context NAME=DIRECTORY' with 'RUN --mount=type=bind,from=NAME', or a cache volume, 'RUN --mount=type=cache,target=DIRECTORY'",
        ),
    ),
    flag(
        &["--stdin"],
        BUILDAH,
        Says(
            "steps read nothing from standard input: give files with a build context, or values with --build-arg and --secret",
        ),
    ),
    flag(
        &["--identity-label"],
        BUILDAH,
        NoEffect(Takes::Optional, "kiln adds no label of its own"),
    ),
    flag(
        &["--retry"],
        BUILDAH,
        NoEffect(
            Takes::Value,
            "transfers that may succeed are tried again by themselves",
        ),
    ),
    flag(
        &["--retry-delay"],
        BUILDAH,
        NoEffect(
            Takes::Value,
            "transfers that may succeed are tried again by themselves, later each time",
        ),
    ),
    flag(
        &["--skip-unused-stages"],
        BUILDAH,
        NoEffect(
            Takes::Optional,
            "only the stages that the target needs are built",
        ),
    ),
    flag(
        &["--no-hosts"],
        BUILDAH,
        NoEffect(
            Takes::Optional,
            "/etc/hosts of steps is kiln's own, and never in the image",
        ),
    ),
    flag(
        &["--no-hostname"],
        BUILDAH,
        NoEffect(
            Takes::Optional,
            "/etc/hostname of steps is kiln's own, and never in the image",
        ),
    ),
    flag(
        &["--omit-history"],
        BUILDAH,
        Says("the history is always there; '--timestamp 0' takes its times"),
    ),
    flag(
        &["--cap-add", "--cap-drop"],
        BUILDAH,
        Says(
            "steps have the default capabilities of containers; 'RUN --security=insecure' with '--allow security.insecure' gives one step all",
        ),
    ),
    flag(
        &["--device"],
        BUILDAH,
        Says("steps see no devices of the host"),
    ),
    flag(
        &["--cpp-flag"],
        BUILDAH,
        Says("run the preprocessor first: cpp -P FILE | kiln build -f - CONTEXT"),
    ),
    flag(
        &["--decryption-key"],
        BUILDAH,
        Says("kiln reads no encrypted images"),
    ),
    flag(
        &["--dns", "--dns-search", "--dns-option"],
        BUILDAH,
        Says("steps use the host's name servers; '--network none' takes the network away"),
    ),
    flag(
        &["--http-proxy"],
        BUILDAH,
        NoEffect(
            Takes::Optional,
            "the proxy variables of this environment reach steps, and no key or image",
        ),
    ),
    flag(
        &["--ignorefile"],
        BUILDAH,
        Says("put the patterns into .dockerignore, or beside the build file in FILE.dockerignore"),
    ),
    flag(
        &["--logfile"],
        BUILDAH,
        Says("redirect standard error: kiln build … 2> FILE; 'kiln logs' prints what steps wrote"),
    ),
    flag(
        &["--os", "--arch", "--variant"],
        BUILDAH,
        Says("write --platform OS/ARCH[/VARIANT]"),
    ),
    flag(
        &["--runtime", "--runtime-flag"],
        BUILDAH,
        Says("steps run in kiln's own sandbox, without an OCI runtime"),
    ),
    flag(
        &["--sign-by"],
        BUILDAH,
        Says("kiln signs with keys, not with GPG: --sign key=FILE"),
    ),
    flag(
        &["--signature-policy"],
        BUILDAH,
        Says("base images are held to digests by 'kiln lock' and --locked"),
    ),
    flag(
        &["--storage-driver", "--root", "--runroot"],
        BUILDAH,
        Says("the store is at $KILN_ROOT"),
    ),
    flag(
        &["--cgroupns", "--ipc", "--pid", "--uts"],
        BUILDAH,
        Says(
            "steps have namespaces of their own where the machine gives them: 'kiln doctor' says which",
        ),
    ),
    flag(
        &["--hooks-dir"],
        BUILDAH,
        Says("kiln runs steps itself, without hooks"),
    ),
    flag(
        &["--logsplit"],
        BUILDAH,
        Says("'kiln logs' prints what the steps of a build wrote"),
    ),
    flag(
        &["--os-feature", "--os-version"],
        BUILDAH,
        Says("give --platform 'OS(VERSION)/ARCH'"),
    ),
    flag(
        &[
            "--userns",
            "--userns-uid-map",
            "--userns-gid-map",
            "--userns-uid-map-user",
            "--userns-gid-map-group",
        ],
        BUILDAH,
        Says("kiln chooses the user namespace by itself: 'kiln doctor' says which"),
    ),
    flag(
        &["--disable-compression"],
        BUILDAH,
        Says("write -o type=registry,compression=uncompressed"),
    ),
    flag(
        &["--inherit-labels", "--inherit-annotations"],
        BUILDAH,
        NoEffect(Takes::Optional, "labels of the base image are inherited"),
    ),
    // kaniko
    flag(
        &["--context"],
        KANIKO,
        Says("the context is the argument: kiln build DIRECTORY"),
    ),
    flag(
        &["--context-sub-path"],
        KANIKO,
        Says("name the directory: kiln build DIRECTORY, or URL#REF:DIRECTORY for a repository"),
    ),
    flag(&["--dockerfile"], KANIKO, Says("use -f FILE")),
    flag(&["-d", "--destination"], KANIKO, Says("use -t NAME --push")),
    flag(
        &["--no-push"],
        KANIKO,
        Says("nothing is pushed without --push"),
    ),
    flag(
        &["--cache"],
        KANIKO,
        Says("steps are always cached; --no-cache runs them again"),
    ),
    flag(
        &["--cache-repo"],
        KANIKO,
        Says(
            "use --cache-from type=registry,ref=NAME and --cache-to type=registry,ref=NAME,mode=max",
        ),
    ),
    flag(
        &["--cache-dir"],
        KANIKO,
        Says("use --cache-from type=local,src=DIRECTORY; base images stay in kiln's store"),
    ),
    flag(
        &["--cache-ttl"],
        KANIKO,
        Says(
            "'kiln prune --older-than 14d' removes old results; [gc] in kiln.conf does so after each build",
        ),
    ),
    flag(
        &[
            "--cache-copy-layers",
            "--cache-run-layers",
            "--compressed-caching",
        ],
        KANIKO,
        Says("every step is cached"),
    ),
    flag(
        &["--digest-file"],
        KANIKO,
        Says("use --metadata-file FILE, which has the digest as containerimage.digest"),
    ),
    flag(
        &[
            "--image-name-with-digest-file",
            "--image-name-tag-with-digest-file",
        ],
        KANIKO,
        Says("use --metadata-file FILE, which has image.name and containerimage.digest"),
    ),
    flag(
        &["--oci-layout-path"],
        KANIKO,
        Says("use -o type=oci,dest=DIRECTORY,tar=false"),
    ),
    flag(
        &["--tar-path", "--tarPath"],
        KANIKO,
        Says("use -o type=docker,dest=FILE"),
    ),
    flag(
        &["--snapshot-mode", "--snapshotMode"],
        KANIKO,
        Says(
            "changes are found by what the kernel recorded, whole and without scanning: there is nothing to choose",
        ),
    ),
    flag(
        &["--use-new-run"],
        KANIKO,
        Says("changes are found by what the kernel recorded: there is nothing to choose"),
    ),
    flag(&["--single-snapshot"], KANIKO, Says("use --layers squash")),
    flag(
        &["--reproducible"],
        KANIKO,
        Says("use --timestamp 0 (or SOURCE_DATE_EPOCH); layers are reproducible by themselves"),
    ),
    flag(
        &[
            "--insecure",
            "--insecure-pull",
            "--insecure-registry",
            "--skip-tls-verify",
            "--skip-tls-verify-pull",
            "--skip-tls-verify-registry",
        ],
        KANIKO,
        Says(CERTIFICATES),
    ),
    flag(
        &["--registry-certificate", "--registry-client-cert"],
        KANIKO,
        Says(CERTIFICATES),
    ),
    flag(
        &["--registry-mirror", "--registry-map"],
        KANIKO,
        Says("set it in kiln.conf: [registries.\"docker.io\"] mirrors = [\"HOST/PATH\"]"),
    ),
    flag(
        &["--custom-platform", "--customPlatform"],
        KANIKO,
        Says("use --platform OS/ARCH"),
    ),
    flag(
        &["--cleanup"],
        KANIKO,
        Says("steps run in their own root filesystems: there is nothing to clean up"),
    ),
    flag(
        &["--verbosity", "--log-format", "--log-timestamp"],
        KANIKO,
        Says("use --progress plain or rawjson, and -D for more"),
    ),
    flag(
        &[
            "--push-retry",
            "--image-fs-extract-retry",
            "--image-download-retry",
        ],
        KANIKO,
        Says("transfers that may succeed are tried again by themselves"),
    ),
    flag(
        &["--ignore-path", "--ignore-var-run"],
        KANIKO,
        Says("steps have their own root filesystem, so nothing of this one gets in"),
    ),
    flag(
        &["--force"],
        KANIKO,
        Says("kiln builds outside of containers as well: there is nothing to force"),
    ),
    flag(
        &["--git"],
        KANIKO,
        Says("name the repository: kiln build URL#REF"),
    ),
    flag(
        &["--skip-push-permission-check"],
        KANIKO,
        Says("without --push nothing is checked"),
    ),
    flag(
        &["--kaniko-dir"],
        KANIKO,
        Says("the store is at $KILN_ROOT"),
    ),
    flag(
        &["--compression", "--compression-level"],
        KANIKO,
        Says("write -o type=registry,compression=zstd,compression-level=3"),
    ),
];

/// The flag of another tool with this name, as it was typed: `--name`, `--name=value` or `-n`.
pub(crate) fn find(typed: &str) -> Option<&'static Foreign> {
    let name = typed.split_once('=').map_or(typed, |(name, _)| name);
    FLAGS.iter().find(|flag| flag.names.contains(&name))
}

/// What a flag that kiln refuses is answered.
pub(crate) fn sentence(typed: &str) -> Option<String> {
    let flag = find(typed)?;
    let name = typed.split_once('=').map_or(typed, |(name, _)| name);
    match flag.answer {
        Says(text) => Some(format!("{name} is a flag of {}: {text}", flag.tool)),
        NoEffect(_, text) => Some(format!("{name} changes nothing here: {text}")),
    }
}
