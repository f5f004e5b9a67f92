/**
 * Settings that no backend of sockerless honours yet, by the names that users know. What is neutral (what every client
 * sends to say nothing) is no setting. Drivers add what they cannot do themselves (`Policy.unsupported`).
 */
import type { HostConfig } from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { configOf, hostConfigOf } from "../records.ts";

/** One setting that is not honoured unless it says nothing. */
interface UnsupportedSetting {
  readonly name: string;
  readonly isSet: (hostConfig: HostConfig) => boolean;
}

const settings: readonly UnsupportedSetting[] = [
  { name: "HostConfig.Cgroup", isSet: (hostConfig) => hostConfig.cgroup !== "" },
  { name: "--cpu-count", isSet: ({ resources }) => (resources?.cpuCount ?? 0n) !== 0n },
  {
    name: "--kernel-memory",
    isSet: ({ resources }) => (resources?.kernelMemory ?? 0n) > 0n || (resources?.kernelMemoryTcp ?? 0n) > 0n,
  },
];

/** The names of the settings of a container that are not honoured. */
export function unsupportedSettings(record: ContainerRecord): readonly string[] {
  const hostConfig = hostConfigOf(record);
  const names = settings.filter(({ isSet }) => isSet(hostConfig)).map(({ name }) => name);
  const ipv6 = Object.values(record.networking?.endpoints ?? {}).some(
    (endpoint) => endpoint.ipv6Address !== "" || endpoint.linkLocalIps.length > 0,
  );
  return [
    ...names,
    ...(ipv6 ? ["--ip6"] : []),
    ...(configOf(record).onBuild?.values.length ? ["Config.OnBuild"] : []),
  ];
}
