/** The 26 criteria of the ECS module over its parsed HCL, and that each of them can fail. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { clusterCriteria } from "./criteria/cluster.ts";
import type { Criterion, Mutation } from "./criteria/criterion.ts";
import { groupCriteria } from "./criteria/groups.ts";
import { interfaceCriteria, seedFiles } from "./criteria/interface.ts";
import { networkCriteria } from "./criteria/network.ts";
import { particulars } from "./criteria/particulars.ts";
import { roleCriteria } from "./criteria/roles.ts";
import { HclModule, readSources, type Sources } from "./hcl-module.ts";

const criteria: readonly Criterion[] = [
  ...networkCriteria,
  ...clusterCriteria,
  ...roleCriteria,
  ...groupCriteria,
  ...interfaceCriteria,
].sort((left, right) => left.number - right.number);

const sources = readSources("modules/ecs");

describe("the ECS module", () => {
  it("is checked for each of its 26 criteria", () => {
    assert.deepEqual(
      criteria.map(({ number }) => number),
      Array.from({ length: 26 }, (_, index) => index + 1),
    );
  });

  it("has the files of the seed", () => {
    assert.deepEqual(
      seedFiles.filter((file) => !(file in sources)),
      [],
    );
  });

  for (const { title, criterion } of [
    ...criteria.map((each) => ({ title: `criterion ${each.number}: ${each.statement}`, criterion: each })),
    ...particulars.map((each) => ({ title: each.statement, criterion: each })),
  ]) {
    describe(title, () => {
      it("is met", async () => {
        criterion.check(await HclModule.parse(sources));
      });

      for (const mutation of criterion.brokenBy) {
        it(`is broken by ${describeMutation(mutation)}`, async () => {
          const broken = await HclModule.parse(mutate(sources, mutation));
          assert.throws(() => criterion.check(broken));
        });
      }
    });
  }
});

function mutate(original: Sources, { file, from, to }: Mutation): Sources {
  const text = original[file] ?? "";
  assert.ok(text.includes(from), `${file} holds ${from}`);
  return { ...original, [file]: text.replaceAll(from, to) };
}

function describeMutation({ file, from, to }: Mutation): string {
  const short = (text: string): string => text.trim().replaceAll(/\s+/g, " ").slice(0, 60) || "nothing";
  return `${short(from)} → ${short(to)} in ${file}`;
}
