/** That the oldest provider which a module takes has all that the module uses: by the schemas of both. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { checkout } from "../support/daemon.ts";
import { assertVersions } from "./criteria/interface.ts";
import { type HclBlock, HclModule, readSources } from "./hcl-module.ts";
import { floors } from "./schemas/selection.ts";

/** Names that the oldest provider of a module has not, and the one of the fixtures has. */
const newer = JSON.parse(
  readFileSync(join(checkout, "test/terraform/schemas/newer.json"), "utf8"),
) as Readonly<Record<keyof typeof floors, readonly string[]>>;

/** Paths of all names in a block, those of its dynamic blocks included. */
function* namesIn(path: string, body: HclBlock): Generator<string> {
  for (const [name, value] of Object.entries(body)) {
    const inner = (Array.isArray(value) ? value : [value]).filter(
      (each) => typeof each === "object",
    ) as HclBlock[];
    if (name === "dynamic") {
      for (const [block, [{ content = [] } = {}]] of Object.entries(inner[0] ?? {}) as [
        string,
        { readonly content?: readonly HclBlock[] }[],
      ][]) {
        yield* namesIn(path, { [block]: content });
      }
      continue;
    }
    yield `${path}.${name}`;
    for (const each of inner) {
      yield* namesIn(`${path}.${name}`, each ?? {});
    }
  }
}

/** All names of a provider that a module uses: those that it sets, and those that it reads. */
function usedBy(module: HclModule): ReadonlySet<string> {
  const used = new Set<string>();
  for (const [kind, declared] of [
    ["resource", module.resources],
    ["data", module.dataSources],
  ] as const) {
    for (const { type, body } of declared) {
      used.add(`${kind}.${type}`);
      for (const name of namesIn(`${kind}.${type}`, body)) {
        used.add(name);
      }
    }
  }
  const reading = /\b(?<data>data\.)?(?<type>(?:aws|azurerm)_\w+)\.\w+(?:\[[^\]]*\])?\.(?<name>\w+)/g;
  for (const { groups = {} } of Object.values(module.sources).join("\n").matchAll(reading)) {
    used.add(`${groups["data"] === undefined ? "resource" : "data"}.${groups["type"]}.${groups["name"]}`);
  }
  return used;
}

describe("the oldest provider that a module takes", () => {
  for (const [name, floor] of Object.entries(floors) as [keyof typeof floors, (typeof floors)["ecs"]][]) {
    it(`has all that ${name} uses, and is the one that its versions.tf names`, async () => {
      const module = await HclModule.parse(readSources(`modules/${name}`));
      const used = usedBy(module);
      assert.ok(used.size > 50, `${used.size} names`);
      assert.deepEqual(
        newer[name].filter((each) => used.has(each)),
        [],
      );
      assertVersions(module, floor.name, constraintOf(floor.version));
    });
  }

  it("is in each environment that of the module which needs the newest", async () => {
    for (const [path, name] of [
      ["ecs-test", "ecs-service"],
      ["aca-test", "aca"],
    ] as const) {
      const environment = await HclModule.parse(readSources(`environments/${path}`));
      assertVersions(environment, floors[name].name, constraintOf(floors[name].version));
    }
  });

  it("would not do for one that sets or reads what is newer", async () => {
    const [set, block, read] = [
      "enable_fault_injection = true",
      'dynamic "volume_configuration" {\n for_each = []\n content {\n name = "one"\n }\n }',
      "name = aws_eip.one[0].ipam_pool_id",
    ];
    const module = await HclModule.parse({
      "main.tf": `resource "aws_ecs_task_definition" "one" {\n ${set}\n}\nresource "aws_ecs_service" "one" {\n ${block}\n ${read}\n}\n`,
    });
    const used = usedBy(module);
    assert.deepEqual(
      newer.ecs.filter((each) => used.has(each)),
      [
        "resource.aws_ecs_service.volume_configuration",
        "resource.aws_ecs_task_definition.enable_fault_injection",
        "resource.aws_eip.ipam_pool_id",
      ],
    );
  });
});

/** `5.49.0` as `~> 5.49`. */
function constraintOf(version: string): string {
  return `~> ${version.replace(/\.0$/, "")}`;
}
