/** The backend's policy for AWS, where `sockerless doctor` has it: beside its code, which alone is installed. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { root } from "../program.ts";

export const file = "src/backends/ecs/doctor/backend-policy.json";

export function render(): Promise<string> {
  return readFile(join(root, "deploy/iam/backend-policy.json"), "utf8");
}
