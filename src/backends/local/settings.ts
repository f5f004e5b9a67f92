import { invalid } from "../../common/errors.ts";
import type { HostConfig } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { SettingRules } from "../driver/settings.ts";
import { unpublishedPorts } from "../model/ports.ts";
import { parseSecurityOptions } from "../security/options.ts";

type Refusal = readonly [feature: string, asked: (host: HostConfig) => boolean];

/** Names of the default runtime; the last is containerd's, which dockerd accepts too. */
const ownRuntimes = new Set(["", "runc", "crun", "io.containerd.runc.v2"]);

/** Rejects names that are no valid runtime name under dockerd either. @throws invalid */
function refuseUnknownRuntime(name: string): void {
  // containerd derives the program's name from the last two parts.
  const isContainerds = /^[^./][^/]*\.[^/]+$/.test(name);
  if (!ownRuntimes.has(name) && !isContainerds) {
    throw invalid(`unknown or invalid runtime name: ${name}`);
  }
}

/** Settings that are not supported here, by the names that users know. */
const refusals: readonly Refusal[] = [
  ["--userns", (host) => host.usernsMode !== "" && host.usernsMode !== "host"],
  ["--gpus", (host) => (host.resources?.deviceRequests.length ?? 0) > 0],
  ["--storage-opt", (host) => Object.keys(host.storageOpt).length > 0],
  ["--runtime", (host) => !ownRuntimes.has(host.runtime)],
];

/** Rules for settings of containers on this machine: which are refused, and which have no effect. */
export const localSettings: SettingRules = {
  unsupportedByExecs: () => [],
  unsupported(record) {
    const host = record.hostConfig;
    parseSecurityOptions(host?.securityOpt ?? []); // Throws for invalid options.
    refuseUnknownRuntime(host?.runtime ?? "");
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
