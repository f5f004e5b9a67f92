import { invalid } from "../../common/errors.ts";
import type { HostConfig } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { SettingRules } from "../driver/settings.ts";
import { unpublishedPorts } from "../model/ports.ts";
import { parseSecurityOptions } from "../security/options.ts";

type Refusal = readonly [feature: string, asked: (host: HostConfig) => boolean];

/** Names of what runs the containers; the last one is containerd's, and dockerd takes it, too. */
const ownRuntimes = new Set(["", "runc", "crun", "io.containerd.runc.v2"]);

/** Refuses what could not be a runtime's name under dockerd either. @throws invalid */
function refuseUnknownRuntime(name: string): void {
  // containerd takes the last two words for the program's name.
  const isContainerds = /^[^./][^/]*\.[^/]+$/.test(name);
  if (!ownRuntimes.has(name) && !isContainerds) {
    throw invalid(`unknown or invalid runtime name: ${name}`);
  }
}

/** Settings that cannot be honoured here, each by the name that its users know. */
const refusals: readonly Refusal[] = [
  ["--userns", (host) => host.usernsMode !== "" && host.usernsMode !== "host"],
  ["--gpus", (host) => (host.resources?.deviceRequests.length ?? 0) > 0],
  ["--storage-opt", (host) => Object.keys(host.storageOpt).length > 0],
  ["--runtime", (host) => !ownRuntimes.has(host.runtime)],
];

/** The rules for settings of containers on this machine: which are refused, and which are not applied. */
export const localSettings: SettingRules = {
  unsupportedByExecs: () => [],
  unsupported(record) {
    const host = record.hostConfig;
    parseSecurityOptions(host?.securityOpt ?? []); // refuses what it cannot read
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
