import type { HostConfig } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { Policy } from "../common/driver.ts";
import { unpublishedPorts } from "../common/engine/ports.ts";
import { isWellKnownSocket } from "./docker-sockets.ts";
import { parseSecurityOptions } from "../common/security/options.ts";

type Refusal = readonly [feature: string, asked: (host: HostConfig) => boolean];

/** What cannot be honoured here, each by the name its users know it by. */
const refusals: readonly Refusal[] = [
  ["--userns", (host) => host.usernsMode !== "" && host.usernsMode !== "host"],
  ["--gpus", (host) => (host.resources?.deviceRequests.length ?? 0) > 0],
  ["--storage-opt", (host) => Object.keys(host.storageOpt).length > 0],
  ["--runtime", (host) => !["", "runc", "crun", "io.containerd.runc.v2"].includes(host.runtime)],
];

/** Docker's own rules hold on this machine. */
export const localPolicy: Policy = {
  volumeInUse: "any",
  forceRemovesUsedVolume: false,
  volumeDrivers: ["local"],
  volumeMountpoint: () => undefined,
  volumeInUseMessage: undefined,
  networkInUseMessage: undefined,
  hostPaths: "mount",
  bridgeSettings: "refuse",
  isSupplied: isWellKnownSocket,
  privilegedExecs: true,
  publishesPorts: "driver",
  unsupported(record) {
    const host = record.hostConfig;
    parseSecurityOptions(host?.securityOpt ?? []); // refuses what it cannot read
    return host === undefined
      ? []
      : [
          ...refusals.filter(([, asked]) => asked(host)).map(([feature]) => feature),
          ...(unpublishedPorts(record).named.length > 0 ? ["publishing SCTP ports"] : []),
        ];
  },
  notApplied: (record) =>
    unpublishedPorts(record).exposed.length === 0
      ? []
      : [{ name: "--publish-all to SCTP ports", why: "it forwards TCP and UDP" }],
};
