import { agentSeccomp } from "../common/cloud/agent-seccomp.ts";
import type { SettingRules } from "../common/driver.ts";
import { notApplied, refused, settingsOf } from "./settings.ts";

/**
 * The rules for settings of tasks: which are refused, and which are not applied.
 *
 * @param architecture of tasks, as GOARCH
 */
export const ecsSettings = (architecture: string): SettingRules => ({
  unsupportedByExecs: ({ privileged }) => (privileged ? ["exec --privileged"] : []),
  unsupported(record) {
    const names = settingsOf(refused, record).map(({ name }) => name);
    if (names.length === 0 && record.hostConfig !== undefined) {
      agentSeccomp(record.hostConfig, architecture); // refuses what the agent would
    }
    return names;
  },
  notApplied: (record) => settingsOf(notApplied, record),
});
