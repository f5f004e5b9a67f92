import { settingRules } from "../cloud/ready-made/setting-rules.ts";
import type { SettingRules } from "../driver/settings.ts";
import { notApplied, refused, unsharedCaches } from "./settings.ts";

/** Facts of tasks that {@link ecsSettings} goes by. */
export interface TaskFacts {
  /** As GOARCH. */
  readonly architecture: string;
  /** Whether containers share volumes. */
  readonly hasFileSystem: boolean;
}

/** The rules for settings of tasks: which are refused, and which are not applied. */
export const ecsSettings = ({ architecture, hasFileSystem }: TaskFacts): SettingRules =>
  settingRules({
    refused,
    notApplied: hasFileSystem ? notApplied : [...notApplied, unsharedCaches],
    architecture,
  });
