/** That the modules refuse what cannot work, variable by variable, and rules between variables. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { sampled } from "../support/soak.ts";
import { HclModule, blocks, readSources } from "./hcl-module.ts";
import { moduleCall } from "./module-call.ts";
import { contradictions, samples } from "./samples.ts";
import { skip, Workspace } from "./terraform.ts";

for (const [name, { required, values }] of Object.entries(samples)) {
  const module = name as keyof typeof samples;

  describe(`variables of ${module}`, { concurrency: 2 }, () => {
    it("have samples of wrong values where they are validated", async () => {
      const { variables } = await HclModule.parse(readSources(`modules/${module}`));
      const validated = [...variables].filter(([, body]) => blocks(body, "validation").length > 0);
      assert.deepEqual(new Set(validated.map(([variable]) => variable)), new Set(Object.keys(values)));
    });

    // Terraform tells all refused variables at once, so one plan tries one wrong value of each.
    const rounds = Math.max(...Object.values(values).map(({ wrong }) => wrong.length));
    for (let round = 0; round < rounds; round++) {
      const tried = Object.entries(values).filter(([, { wrong }]) => round < wrong.length);
      it(
        `refuse wrong values (${round + 1} of ${rounds}: ${tried.length} variables)`,
        inRound(round),
        async () => {
          const wrong = Object.fromEntries(
            tried.map(([variable, { wrong: list }]) => [variable, list[round]]),
          );
          await using workspace = await Workspace.create(moduleCall(module, { ...required, ...wrong }));
          const { diagnostics } = await workspace.plan();
          const refused = new Set(
            diagnostics
              .filter(({ severity }) => severity === "error")
              .map(({ detail }) => variableOfRule(module, detail)),
          );
          for (const [variable] of tried) {
            assert.ok(refused.has(variable), `${variable} = ${JSON.stringify(wrong[variable])} is refused`);
          }
        },
      );
    }

    it("accept right values", { skip }, async () => {
      const right = Object.entries(values).flatMap(([variable, sample]) =>
        "right" in sample ? [[variable, sample.right]] : [],
      );
      await using workspace = await Workspace.create(
        moduleCall(module, { ...required, ...Object.fromEntries(right) }),
      );
      assert.deepEqual((await workspace.plan()).diagnostics, []);
    });

    for (const { title, variables, message } of contradictions[module]) {
      it(`refuse ${title}`, { skip }, async () => {
        await using workspace = await Workspace.create(moduleCall(module, { ...required, ...variables }));
        const { diagnostics, resources } = await workspace.plan();
        assert.deepEqual(resources, []);
        assert.ok(
          diagnostics.some(({ severity, detail }) => severity === "error" && message.test(detail)),
          JSON.stringify(diagnostics),
        );
      });
    }
  });
}

/** Options of a round: the first one is the sample of `npm test`. */
function inRound(round: number): { readonly skip: string | false } {
  return { skip: skip || sampled(round === 0).skip };
}

/** The variable whose rule a message names: "This was checked by the validation rule at …/variables.tf:12,3-13." */
function variableOfRule(module: string, detail: string): string | undefined {
  const line = Number(/validation rule at \S*variables\.tf:(\d+),/.exec(detail)?.[1]);
  const before =
    readSources(`modules/${module}`)["variables.tf"]?.split("\n").slice(0, line).join("\n") ?? "";
  return [...before.matchAll(/^variable "(\w+)"/gm)].at(-1)?.[1];
}
