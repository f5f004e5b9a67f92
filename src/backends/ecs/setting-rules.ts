import type { EcsSection } from "../../common/config/load.ts";
import { agentSeccomp } from "../common/cloud/agent-seccomp.ts";
import type { SettingRules } from "../common/driver.ts";
import { isContainerMode } from "../common/model/container-mode.ts";
import { notApplied, refused, settingsOf } from "./settings.ts";

/**
 * The rules for settings of tasks: which are refused, and which are not applied.
 *
 * @param architecture of tasks, as GOARCH
 * @param agentMode how agents are reached
 */
export const ecsSettings = (architecture: string, agentMode: EcsSection["agentMode"]): SettingRules => ({
  unsupportedByExecs: ({ privileged }) => (privileged ? ["exec --privileged"] : []),
  unsupported(record) {
    const names = settingsOf(refused, record).map(({ name }) => name);
    if (agentMode === "callback" && isContainerMode(record.hostConfig?.networkMode ?? "")) {
      names.push("--network container:NAME with ecs.agent_mode: callback"); // Its agent is reached by no other.
    }
    if (names.length === 0 && record.hostConfig !== undefined) {
      agentSeccomp(record.hostConfig, architecture); // refuses what the agent would
    }
    return names;
  },
  notApplied: (record) => settingsOf(notApplied, record),
});
