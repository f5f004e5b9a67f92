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
  // Only the status is told.
  ...of(
    "build",
    "integration-cli/api",
    ...[
      ...["APIBuildGitWithF", "APIDockerFileRemote", "APIDoubleDockerfile", "APILowerDockerfile"],
      ...["APIRemoteTarballContext", "APIRemoteTarballContextWithCustomDockerfile"],
      "ChownOnCopy",
    ].map((name) => `TestDockerAPISuite/TestBuild${name}`),
  ),
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
  // The image is what is looked for afterwards.
  ...of(
    "build",
    "integration-cli/run",
    ...["TestRunCreateVolumeWithSymlink", "TestRunVolumesFromSymlinkPath"].map(
      (name) => `TestDockerCLIRunSuite/${name}`,
    ),
  ),
  // They look for traces of a build.
  ...of(
    "build",
    "integration-cli/build",
    ...["AddSingleFileToWorkdir", "ContextCleanup", "ContextCleanupFailedBuild"].map(
      (name) => `TestDockerCLIBuildSuite/TestBuild${name}`,
    ),
    ...["CopySingleFileToWorkdir", "WithFailure"].map((name) => `TestDockerCLIBuildSuite/TestBuild${name}`),
  ),
  // It builds before it pulls.
  ...of("build", "integration-cli/registry", "TestDockerRegistrySuite/TestUserAgentPassThrough"),
  ...of("build", "testcontainers-go", "ExampleGenericContainer_buildFromDockerfile"),
];

function of(topic: Exclude<Topic, "difference">, suite: string, ...tests: readonly string[]): Allowance[] {
  return tests.map((test) => ({ suite, test, topic, anchor: anchors[topic] }));
}

function difference(anchor: string, suite: string, ...tests: readonly string[]): Allowance[] {
  return tests.map((test) => ({ suite, test, topic: "difference", anchor }));
}
