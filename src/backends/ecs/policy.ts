import type { Policy } from "../common/driver.ts";
import { volumeMountpoint } from "./access-points/mountpoint.ts";
import { notApplied, refused, settingsOf } from "./settings.ts";

/** Where Docker on Fargate differs from Docker on a machine. */
export const ecsPolicy: Policy = {
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
  unsupported: (record) => settingsOf(refused, record).map(({ name }) => name),
  notApplied: (record) => settingsOf(notApplied, record),
};
