/**
 * Tests that are run against neither engine, by name: they start a daemon of their own, or look into the one there is, for
 * what dockerd's own program alone can be.
 */

/** Tests of one suite that are left out for one reason. */
export interface Skipped {
  readonly suite: string;
  readonly reason: string;
  /** Names of tests, with `/` before a subtest. */
  readonly tests: readonly string[];
}

const ownFlag = "they start a daemon with a flag that sockerless has no setting for";
const inside =
  "they look into dockerd: its files below its root, its goroutines, its rules of packets, containerd's shims";
const faults = "they have a variable break dockerd from within";
const ownConfiguration = "they start a daemon with a daemon.json";

export const skipped: readonly Skipped[] = [
  {
    suite: "docker-java",
    reason: "it wants a shell that ends at once, for want of input, to be listed as running still",
    tests: ["ListContainersCmdIT/shouldFilterByRunningStatus"],
  },
  {
    suite: "docker-java",
    reason: "they are of [swarms](differences.md#there-is-no-swarm)",
    tests: [
      ...["CreateConfigCmdExecIT", "CreateSecretCmdExecIT", "CreateServiceCmdExecIT"],
      ...["InitializeSwarmCmdExecIT", "InspectConfigCmdIT", "JoinSwarmCmdExecIT", "LeaveSwarmCmdExecIT"],
      ...["ListConfigCmdExecIT", "ListSecretCmdExecIT", "ListServicesCmdExecIT", "ListSwarmNodesCmdExecIT"],
      ...["ListTasksCmdExecIT", "LogSwarmObjectIT", "RemoveSwarmNodeCmdExecIT", "SwarmCmdIT"],
      ...["UpdateSwarmCmdExecIT", "UpdateSwarmNodeIT", "UpdateSwarmServiceIT"],
    ],
  },
  {
    suite: "integration/container",
    reason: `${ownFlag} (cdi-spec-dir, feature)`,
    tests: ["TestCreateWithCDIDevices", "TestCDISpecDirsAreInSystemInfo", "TestCDIInfoDiscoveredDevices"],
  },
  {
    suite: "integration/container",
    reason: `${ownFlag} (default-cgroupns-mode)`,
    tests: [
      ...[
        "TestCgroupNamespacesRun",
        "TestCgroupNamespacesRunDaemonHostMode",
        "TestCgroupNamespacesRunHostMode",
      ],
      ...["TestCgroupNamespacesRunInvalidMode", "TestCgroupNamespacesRunOlderClient"],
      ...["TestCgroupNamespacesRunPrivateMode", "TestCgroupNamespacesRunPrivileged"],
      "TestCgroupNamespacesRunPrivilegedAndPrivate",
    ],
  },
  {
    suite: "integration/container",
    reason: `${ownFlag} (host-gateway-ip)`,
    tests: ["TestDaemonHostGatewayIP"],
  },
  {
    suite: "integration/container",
    reason:
      "it wants the containers of a killed daemon dead, which [outlive it](differences.md#containers-outlive-the-daemon) here",
    tests: ["TestContainerKillOnDaemonStart"],
  },
  {
    suite: "integration/container",
    reason: `${ownFlag} (default-ipc-mode)`,
    tests: ["TestDaemonIpcModePrivate", "TestDaemonIpcModeShareable", "TestDaemonRestartIpcMode"],
  },
  {
    suite: "integration/container",
    reason: ownConfiguration,
    tests: ["TestDaemonIpcModePrivateFromConfig", "TestDaemonIpcModeShareableFromConfig"],
  },
  {
    suite: "integration/container",
    reason: inside,
    tests: [
      ...["TestAttachDisconnectLeak", "TestHardRestartWhenContainerIsRunning"],
      ...["TestNetworkStateCleanupOnDaemonStart", "TestRestartDaemonWithRestartingContainer"],
      "TestRunWithAlternativeContainerdShim",
    ],
  },
  {
    suite: "integration-cli/registry",
    reason: inside,
    tests: ["TestDockerRegistrySuite/TestPullFailsWithAlteredLayer"],
  },
  { suite: "integration-cli/api", reason: inside, tests: ["TestDockerAPISuite/TestExecStateCleanup"] },
  {
    suite: "integration-cli/build",
    reason:
      "it waits for ever for the ID of a step's container, which [BuildKit](differences.md#every-build-is-buildkits) does not tell",
    tests: ["TestDockerCLIBuildSuite/TestBuildCancellationKillsSleep"],
  },
  {
    suite: "integration-cli/cli",
    reason: inside,
    tests: ["TestDockerCLICpSuite/TestCpSpecialFiles", "TestDockerCLIExecSuite/TestRunMutableNetworkFiles"],
  },
  {
    suite: "integration-cli/cli",
    reason:
      "it wants busybox kept for an image that was built on it, which [BuildKit](differences.md#every-build-is-buildkits) does not say, and takes it from the tests behind it",
    tests: ["TestDockerCLIRmiSuite/TestRmiParentImageFail"],
  },
  { suite: "integration/image", reason: `${ownFlag} (userns-remap)`, tests: ["TestUsernsCommit"] },
  {
    suite: "integration/network",
    reason: `${ownFlag} (bip, bridge, default-address-pool, default-network-opt, ipv6)`,
    tests: [
      ...["TestDaemonWithBipAndDefaultNetworkPool", "TestDaemonRestartWithExistingNetwork"],
      ...["TestDaemonRestartWithExistingNetworkWithDefaultPoolRange", "TestDaemonRestartWithLiveRestore"],
      ...["TestDaemonDefaultNetworkPools", "TestDefaultNetworkOpts", "TestHostGatewayFromDocker0"],
      ...["TestDaemonDNSFallback", "TestRunContainerWithBridgeNone"],
    ],
  },
  {
    suite: "integration/network",
    reason:
      "it looks for a rule where [dockerd keeps its own](differences.md#networks-of-a-machine); what that does `test/api/network-options.test.ts` shows",
    tests: ["TestHostIPv4BridgeLabel"],
  },
  { suite: "integration/network/bridge", reason: faults, tests: ["TestNetworkInitErrorDocker0"] },
  {
    suite: "integration/network/bridge",
    reason: `${ownFlag} (bridge, default-network-opt, icc, ip-forward-no-drop)`,
    tests: [
      ...["TestNoSuchExternalBridge", "TestCreateWithIPv6WithoutEnableIPv6Flag", "TestDefaultIPvOptOverride"],
      ...["TestLegacyLink", "TestRemoveLegacyLink", "TestFilterForwardPolicy"],
    ],
  },
  {
    suite: "integration/networking",
    reason: `${ownFlag} (allow-direct-routing, ipv6)`,
    tests: [
      ...["TestAllowDirectRemoteAccessOnExposedPort", "TestDefaultBridgeAddresses", "TestDefaultBridgeIPv6"],
      ...["TestEtcHostsIpv6", "TestRoutedAccessToPublishedPort"],
    ],
  },
  {
    suite: "integration/system",
    reason: `${ownFlag} (registry-mirror, an unprotected TCP port)`,
    tests: ["TestInfoRegistryMirrors", "TestInfoAPIWarnings"],
  },
  {
    suite: "integration/system",
    reason:
      "it wants a new daemon to have no image, which has [a built-in one](differences.md#what-sockerless-is-made-of) here",
    tests: ["TestDiskUsage"],
  },
  {
    suite: "integration/system",
    reason: ownConfiguration,
    tests: ["TestPingBuilderHeader/buildkit_disabled"],
  },
];

/** Whether a test is left out, or one above it. */
export function isSkipped(suite: string, test: string): boolean {
  return skipped.some(
    (each) => each.suite === suite && each.tests.some((name) => test === name || test.startsWith(`${name}/`)),
  );
}

/** The tests that are left out of a suite. */
export function skippedOf(suite: string): string[] {
  return skipped.filter((each) => each.suite === suite).flatMap(({ tests }) => tests);
}

/** The pattern for `-test.skip` of a suite; empty: nothing is left out. */
export function skipPattern(suite: string): string {
  return skippedOf(suite)
    .map((test) =>
      test
        .split("/")
        .map((part) => `^${RegExp.escape(part)}$`)
        .join("/"),
    )
    .join("|");
}
