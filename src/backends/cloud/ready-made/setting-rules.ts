/** Rules for Docker's settings, by a cloud's tables. */
import type { HostConfig } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { SettingRules, UnappliedSetting } from "../../driver/settings.ts";
import { agentSeccomp } from "../tasks/agent-seccomp.ts";

/** One row of a table. */
export interface CloudSetting extends UnappliedSetting {
  /** Whether a container sets it to other than its neutral value. */
  readonly isSet: (hostConfig: HostConfig, record: ContainerRecord) => boolean;
}

/** A cloud's tables. */
export interface SettingTables {
  /** Refused, as the container would differ from the request. */
  readonly refused: readonly CloudSetting[];
  /** Accepted but not applied, as the container works without it. */
  readonly notApplied: readonly CloudSetting[];
  /** The tasks' architecture, as GOARCH. */
  readonly architecture: string;
}

/** Creates rules from tables. */
export function settingRules({ refused, notApplied, architecture }: SettingTables): SettingRules {
  return {
    unsupportedByExecs: ({ privileged }) => (privileged ? ["exec --privileged"] : []),
    unsupported(record) {
      const names = settingsOf(refused, record).map(({ name }) => name);
      if (names.length === 0 && record.hostConfig !== undefined) {
        agentSeccomp(record.hostConfig, architecture); // refuses what the agent would
      }
      return names;
    },
    notApplied: (record) => settingsOf(notApplied, record),
  };
}

/** The entries of a table that apply to a container. */
function settingsOf(table: readonly CloudSetting[], record: ContainerRecord): readonly CloudSetting[] {
  const host = record.hostConfig;
  return host === undefined ? [] : table.filter(({ isSet }) => isSet(host, record));
}
