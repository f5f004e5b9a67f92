import type { EcsSection } from "../../common/config/load.ts";
import { agentSeccomp } from "../common/cloud/agent-seccomp.ts";
import type { SettingRules } from "../common/driver.ts";
import { isContainerMode } from "../common/model/container-mode.ts";
import { notApplied, refused, settingsOf, unsharedCaches } from "./settings.ts";

/** Facts of tasks that {@link ecsSettings} goes by. */
export interface TaskFacts {
  /** As GOARCH. */
  readonly architecture: string;
  /** How agents are reached. */
  readonly agentMode: EcsSection["agentMode"];
  /** Whether containers share volumes. */
  readonly hasFileSystem: boolean;
}

/** The rules for settings of tasks: which are refused, and which are not applied. */
export const ecsSettings = ({ architecture, agentMode, hasFileSystem }: TaskFacts): SettingRules => ({
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
  notApplied: (record) => settingsOf(hasFileSystem ? notApplied : [...notApplied, unsharedCaches], record),
});
