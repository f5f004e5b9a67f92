import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { it } from "node:test";

import { checkout } from "../../../common/built-programs.ts";
import { loadConfig } from "../../../common/config/load.ts";
import { agentImageOf } from "./agent-image.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";

it("the documented example says where the agent comes from", async () => {
  const text = await readFile(join(checkout, "docs/configuration.md"), "utf8");
  const [, example = ""] = /## Example\n\n```yaml\n(.*?)```/s.exec(text) ?? [];
  const directory = scratchDirectory();
  const file = join(directory, "config.yaml");
  await writeFile(file, example);
  const { config } = loadConfig({ command: "serve", environment: {}, uid: 0, file });
  assert.ok(config.backend === "ecs");
  assert.match(agentImageOf(config.ecs) ?? "", /\.dkr\.ecr\..*:sockerless-agent-/);
});
