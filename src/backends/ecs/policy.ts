import { agentSeccomp } from "../common/cloud/agent-seccomp.ts";
import type { Policy } from "../common/driver.ts";
import { volumeMountpoint } from "./access-points/mountpoint.ts";
import { notApplied, refused, settingsOf } from "./settings.ts";

/**
 * Where Docker on Fargate differs from Docker on a machine.
 *
 * @param architecture of tasks, as GOARCH
 */
export const ecsPolicy = (architecture: string): Policy => ({
  volumeInUse: "running",
  forceRemovesUsedVolume: true,
  volumeDrivers: ["local", "efs"],
  volumeMountpoint,
  volumeInUseMessage: undefined,
  networkInUseMessage: undefined,
  hostPaths: "ignore",
  bridgeSettings: "ignore",
  privilegedExecs: false,
  publishesPorts: "frontend",
  joinsNetworksByAgents: true,
  startPatienceMs: 10_000,
  endsLaunches: true,
  unsupported(record) {
    const names = settingsOf(refused, record).map(({ name }) => name);
    if (names.length === 0 && record.hostConfig !== undefined) {
      agentSeccomp(record.hostConfig, architecture); // refuses what the agent would
    }
    return names;
  },
  notApplied: (record) => settingsOf(notApplied, record),
});
