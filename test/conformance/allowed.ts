/**
 * Failures that are allowed though a dockerd passes, each with the section of docs/differences.md that says
 * why. A test that fails with that dockerd too needs no entry. An entry with a test that passes fails the run.
 */

/** The missing feature that explains a failure, or `difference`: of those at most {@link differenceLimit}. */
export type Topic = "IPv6" | "plugins" | "swarm" | "build" | "difference";

/** A test that may fail, with its subtests. */
export interface Allowance {
  readonly suite: string;
  readonly test: string;
  readonly topic: Topic;
  /** The heading in docs/differences.md, as in its links. */
  readonly anchor: string;
}

/** The most allowances of the topic `difference` that there may be. */
export const differenceLimit = 10;

const anchors: Readonly<Record<Exclude<Topic, "difference">, string>> = {
  IPv6: "there-is-no-ipv6",
  plugins: "there-are-no-plugins",
  swarm: "there-is-no-swarm",
  build: "what-is-not-built-is-refused-by-name",
};

/**
 * Answers of sockerless that say themselves what is missing: a test with one in its output is allowed to fail. Such a
 * list cannot grow old: once the feature is built, the answer is gone.
 */
export const ownAnswers: readonly {
  readonly topic: Topic;
  readonly anchor: string;
  readonly text: RegExp;
}[] = [
  {
    topic: "build",
    anchor: anchors.build,
    text: /docker build( with BuildKit)? is not implemented by backend|is not implemented by the builder/,
  },
  {
    topic: "IPv6",
    anchor: anchors.IPv6,
    text: /does not support [^"]*(IPv6 networks|networks without IPv4)/,
  },
];

export const allowed: readonly Allowance[] = [
  ...of("IPv6", "docker-py", "Networks/test_ipv6"),
  ...difference("containers-outlive-the-daemon", "integration/container", "TestDaemonRestartKillContainers"),
  ...difference("what-sockerless-is-made-of", "integration/system", "TestInfoBinaryCommits"),
  ...difference("volumes-have-the-drivers-block-and-tmpfs-too", "integration/volume", "TestVolumesInspect"),
  ...difference("networks-of-a-machine", "integration/networking", "TestInfoFirewallBackend"),
  ...difference(
    "networks-of-a-machine",
    "integration-cli/network",
    "TestDockerNetworkSuite/TestDockerNetworkConnectDisconnectWithPortMapping",
  ),
  ...difference(
    "a-creation-that-is-refused-leaves-no-volume",
    "integration-cli/run",
    "TestDockerCLIRunSuite/TestRunNoDupVolumes",
  ),
  ...difference(
    "streams-say-what-they-are",
    "integration-cli/api",
    "TestDockerAPISuite/TestPostContainersAttach",
  ),
  ...difference(
    "networks-of-a-machine",
    "integration-cli/cli",
    "TestDockerCLIPortSuite/TestPortBindingOnSandbox",
  ),
  ...difference(
    "what-this-test-does-not-see",
    "integration-cli/cli",
    "TestDockerCLICreateSuite/TestCreateWithLargePortRange",
  ),
  ...difference("copies-reach-what-is-mounted", "testcontainers-go", "ExampleRun"),
  ...of(
    "plugins",
    "integration-cli/network",
    ...[
      ...["CustomIPAM", "DriverOptions", "DriverUngracefulRestart", "IPAMMultipleNetworks", "IPAMOptions"],
      ...["MacInspect", "NullIPAMDriver", "OverlayPortMapping"],
    ].map((name) => `TestDockerNetworkSuite/TestDockerNetwork${name}`),
  ),
  // The driver that it asks for is one of dockerd's own.
  ...of("plugins", "integration-cli/run", "TestDockerCLIRunSuite/TestRunStoppedLoggingDriverNoLeak"),
  ...of("swarm", "integration/system", "TestPingSwarmHeader"),
  ...of("swarm", "integration/volume", "TestVolumesRemoveSwarmEnabled"),
  ...of(
    "swarm",
    "integration/network",
    ...["TestInspectNetwork", "TestServiceWithDataPathPortInit", "TestServiceWithDefaultAddressPoolInit"],
    "TestServiceWithPredefinedNetwork",
  ),
  ...of("IPv6", "integration/networking", "TestAdvertiseAddresses"),
  // They look where dockerd keeps a context.
  ...of(
    "build",
    "integration-cli/build",
    ...["ContextCleanup", "ContextCleanupFailedBuild"].map(
      (name) => `TestDockerCLIBuildSuite/TestBuild${name}`,
    ),
  ),
  ...buildKit("integration-cli/api", "TestDockerAPISuite/TestBuildOnBuildCache"),
  ...buildKit(
    "integration-cli/build",
    ...[
      ...["AddFileNotFound", "AddRemoteFileMTime", "BuildTimeArgEnv", "BuildTimeArgHistory"],
      "BuildTimeArgUnconsumedArg",
      ...["BuildTimeArgOverrideArgDefinedBeforeEnv", "BuildTimeArgOverrideEnvDefinedBeforeArg"],
      ...["CacheFrom", "CacheFromEqualDiffIDsLength", "CacheFromLoad", "CopyWildcardCache", "EmptyScratch"],
      ...["JSONEmptyRun", "MultiStageArg", "MultiStageCache", "MultiStageCopyFromErrors"],
      ...["MultiStageGlobalArg", "MultiStageResetScratch", "MultiStageUnusedArg", "Rm"],
      ...["SameDockerfileWithAndWithoutCache", "VolumeFileExistsinContainer", "WorkdirCmd"],
    ].map((name) => `TestDockerCLIBuildSuite/TestBuild${name}`),
  ),
  ...buildKit("integration-cli/run", "TestDockerCLIRunSuite/TestRunTmpfsMountsOverrideImageVolumes"),
  ...buildKit(
    "integration-cli/cli",
    "TestDockerCLIImagesSuite/TestImagesFilterSinceAndBefore",
    "TestDockerCLIImagesSuite/TestImagesOrderedByCreationDate",
    "TestDockerCLIPsSuite/TestPsListContainersFilterAncestorImage",
    "TestDockerCLIRmiSuite/TestRmiUntagHistoryLayer",
  ),
  ...buildKit(
    "integration-cli/registry",
    "TestDockerRegistrySuite/TestPsListContainersFilterAncestorImageByDigest",
    "TestDockerRegistrySuite/TestUserAgentPassThrough",
  ),
  // dockerd's classic builder names an image's parent, and does not read hosts before a step runs.
  ...buildKit("docker-java", "BuildImageCmdIT/cacheFrom", "BuildImageCmdIT/extraHosts"),
  // Provenance knows the steps of BuildKit's own operations alone.
  ...ofBuildKit(
    ...["CommandSourceMapping", "DockerfileProvenanceInputProducer"],
    ...["DuplicateLayersProvenance", "GatewayBuiltinSyntaxSourceProvenance", "OCILayoutProvenance"],
    ...["DifferentCallbackInputProducer", "NestedInputProducer", "PlainLLBInputFallback", "RootRequest"].map(
      (name) => `GatewayProvenance${name}`,
    ),
    ...["GatewayProvenanceSameCallbackInputProducer", "ProvenanceAttestation", "SecretSSHProvenance"],
    ...["GitProvenanceAttestationSHA1", "GitProvenanceAttestationSHA256"],
  ),
  ...ofBuildKit(
    ...["DockerfileADDFromURL", "HistoryFinalizeTrace", "MaintainBaseOSVersion", "PlatformWithOSVersion"],
    "ProvenanceExportLocalMultiPlatformNoSplit",
  ),
  // The one makes an image of several platforms that it neither pushes nor writes, the other asks for security.insecure.
  ...of(
    "build",
    "buildkit/dockerfile",
    ...["NilProvenance", "RunSecurityDefault"].map((name) => `TestIntegration/Test${name}`),
  ),
];

function of(topic: Exclude<Topic, "difference">, suite: string, ...tests: readonly string[]): Allowance[] {
  return tests.map((test) => ({ suite, test, topic, anchor: anchors[topic] }));
}

/** Failures for what dockerd's classic builder does otherwise than BuildKit. */
function buildKit(suite: string, ...tests: readonly string[]): Allowance[] {
  return tests.map((test) => ({ suite, test, topic: "build", anchor: "every-build-is-buildkits" }));
}

/** Tests of Dockerfiles of BuildKit's own, without `Test`. */
function ofBuildKit(...names: readonly string[]): Allowance[] {
  return buildKit("buildkit/dockerfile", ...names.map((name) => `TestIntegration/Test${name}`));
}

function difference(anchor: string, suite: string, ...tests: readonly string[]): Allowance[] {
  return tests.map((test) => ({ suite, test, topic: "difference", anchor }));
}
