import type { EcsSection } from "../../common/config/load.ts";
import { type CloudSetting, settingRules } from "../common/cloud/setting-rules.ts";
import type { SettingRules } from "../common/driver.ts";
import { isContainerMode } from "../common/model/container-mode.ts";
import { notApplied, refused, unsharedCaches } from "./settings.ts";

/** Facts of tasks that {@link ecsSettings} goes by. */
export interface TaskFacts {
  /** As GOARCH. */
  readonly architecture: string;
  /** How agents are reached. */
  readonly agentMode: EcsSection["agentMode"];
  /** Whether containers share volumes. */
  readonly hasFileSystem: boolean;
}

/** Refused where agents call: the agent of the container whose network is shared is reached by no other. */
const sharedNetwork: CloudSetting = {
  name: "--network container:NAME with ecs.agent_mode: callback",
  why: "the agents of the two do not reach each other",
  isSet: ({ networkMode }) => isContainerMode(networkMode),
};

/** The rules for settings of tasks: which are refused, and which are not applied. */
export const ecsSettings = ({ architecture, agentMode, hasFileSystem }: TaskFacts): SettingRules =>
  settingRules({
    refused: agentMode === "callback" ? [...refused, sharedNetwork] : refused,
    notApplied: hasFileSystem ? notApplied : [...notApplied, unsharedCaches],
    architecture,
  });
