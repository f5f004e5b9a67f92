import { settingRules } from "../cloud/ready-made/setting-rules.ts";
import type { SettingRules } from "../driver/settings.ts";
import { innerSocketOff, notApplied, refused, unsharedCaches } from "./settings.ts";

/** Facts about tasks that determine {@link ecsSettings}. */
export interface TaskFacts {
  /** As GOARCH. */
  readonly architecture: string;
  /** Whether containers share volumes. */
  readonly hasFileSystem: boolean;
  /** Whether containers get the Docker socket that they bind. */
  readonly hasDockerSocket: boolean;
}

/** The rules for settings of tasks: which ones are refused, and which are not applied. */
export const ecsSettings = ({ architecture, hasFileSystem, hasDockerSocket }: TaskFacts): SettingRules =>
  settingRules({
    refused,
    notApplied: [
      ...notApplied,
      ...(hasFileSystem ? [] : [unsharedCaches]),
      ...(hasDockerSocket ? [] : [innerSocketOff]),
    ],
    architecture,
  });
