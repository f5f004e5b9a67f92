/** The start request for a cloud container's agent: everything that a task definition cannot or must not contain. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import {
  type HostsEntrySchema,
  type ProcessSpecSchema,
  type StartRequestSchema,
  Tee,
} from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import { dockerSocketsOf } from "../../model/docker-socket.ts";
import { type ExtraHost, parseExtraHost } from "../../model/extra-hosts.ts";
import { parseSignal, sigterm } from "../../model/signals.ts";
import { parseSecurityOptions } from "../../security/options.ts";
import { agentSeccomp, asksForAll, boundingSet } from "./agent-seccomp.ts";
import type { SealedRecord } from "../authority/seal.ts";

/** Configured settings for agents. */
export interface StartSettings {
  /** Milliseconds for which a task stays after the end of its main process. */
  readonly lingerMs: number;
  /** Milliseconds for which an agent waits for an unreachable backend. */
  readonly drainTimeoutMs: number;
  /** Whether a container gets the Docker socket that it binds. */
  readonly hasDockerSocket: boolean;
  /** Architecture of the tasks, as GOARCH. */
  readonly architecture: string;
}

/** Like dockerd's own socket; owner and group are root. */
const dockerSocketMode = 0o660;

/** Docker's default. */
const defaultStopTimeoutS = 10;

/**
 * The start request of a container whose agent is its init process.
 *
 * @param sealed the record that the agent stores for a backend that has lost its state
 */
export function startDetails(
  spec: WorkloadSpec,
  settings: StartSettings,
  sealed: SealedRecord,
): MessageInitShape<typeof StartRequestSchema> {
  const { record } = spec;
  const { config, hostConfig } = record;
  const named = spec.joined?.network?.owner ?? record; // Sharers of a network share its owner's names.
  const linkedHosts = spec.linkedHosts ?? [];
  const isReplaced = ({ name, address }: ExtraHost): boolean =>
    linkedHosts.some(({ names, shownAddress }) => shownAddress === address && names.includes(name));
  const stopSignal = config?.stopSignal ?? "";
  const drainSeconds = Math.ceil(settings.drainTimeoutMs / 1000);
  return {
    process: processOf(spec, settings),
    hostname: ownNames(spec),
    extraHosts: [
      ...(named.hostConfig?.extraHosts ?? [])
        .map(parseExtraHost)
        .filter((host) => !isReplaced(host))
        .map((host) => hostsEntry(host, named)),
      ...linkedHosts.map(({ address, names }) => ({ address, names: [...names] })),
    ],
    resolver: {
      servers: named.hostConfig?.dns ?? [],
      search: named.hostConfig?.dnsSearch ?? [],
      options: named.hostConfig?.dnsOptions ?? [],
    },
    tee: hostConfig?.logConfig?.type === "none" ? Tee.NONE : Tee.STDOUT,
    // Long enough for the backend to copy its log, however short the linger; the backend releases it earlier.
    lingerSeconds: goesWithItsEnd(record)
      ? drainSeconds
      : Math.max(Math.ceil(settings.lingerMs / 1000), drainSeconds),
    drainTimeoutSeconds: drainSeconds,
    stopSignal: stopSignal === "" ? sigterm : parseSignal(stopSignal),
    stopTimeoutSeconds: config?.stopTimeout ?? defaultStopTimeoutS,
    secrets: [
      ...(spec.secrets?.files ?? []).map(({ path, content, mode, uid, gid, socket }) => ({
        path,
        content,
        mode,
        uid,
        gid,
        socket,
      })),
      ...(settings.hasDockerSocket ? dockerSocketsOf(record) : []).map((path) => ({
        path,
        mode: dockerSocketMode,
        socket: true,
      })),
    ],
    secretEnv: [...(spec.secrets?.env ?? [])],
    ...sealed,
  };
}

/** Whether a container is removed at its end (`--rm`), so that its files and log are not needed. */
export function goesWithItsEnd({ hostConfig }: ContainerRecord): boolean {
  return hostConfig?.autoRemove === true;
}

function processOf(
  spec: WorkloadSpec,
  { architecture }: StartSettings,
): MessageInitShape<typeof ProcessSpecSchema> {
  const { config, hostConfig } = spec.record;
  const { consoleHeight = 0, consoleWidth = 0 } = hostConfig ?? {};
  return {
    args: [...spec.args],
    env: [...spec.env],
    workingDir: config?.workingDir || "/",
    user: config?.user ?? "",
    tty: config?.tty ?? false,
    ...(consoleHeight > 0 ? { consoleSize: { height: consoleHeight, width: consoleWidth } } : {}),
    additionalGroups: hostConfig?.groupAdd ?? [],
    privileged: asksForAll(hostConfig),
    capabilities: boundingSet(hostConfig),
    noNewPrivileges: parseSecurityOptions(hostConfig?.securityOpt ?? []).noNewPrivileges,
    seccomp: hostConfig && agentSeccomp(hostConfig, architecture),
    resourceLimits: (hostConfig?.resources?.ulimits ?? []).map(({ name, soft, hard }) => ({
      name,
      soft: BigInt.asUintN(64, soft),
      hard: BigInt.asUintN(64, hard),
    })),
  };
}

/** In the order of `/etc/hosts`: the full name first. */
function ownNames({ record: { config } }: WorkloadSpec): string {
  const { hostname = "", domainname = "" } = config ?? {};
  return domainname === "" ? hostname : `${hostname}.${domainname}`;
}

/** A line of `/etc/hosts`; `host-gateway` is the gateway that inspect shows. */
function hostsEntry(
  { name, address }: ExtraHost,
  record: ContainerRecord,
): MessageInitShape<typeof HostsEntrySchema> {
  const gateway = Object.values(record.endpoints).find((endpoint) => endpoint.gateway !== "")?.gateway;
  return { address: address === "host-gateway" ? (gateway ?? "127.0.0.1") : address, names: [name] };
}
