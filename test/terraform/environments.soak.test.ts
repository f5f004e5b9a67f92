/** The ready examples, as a user runs them. */
import assert from "node:assert/strict";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import { readSources, terraformPath } from "./hcl-module.ts";
import { samples } from "./samples.ts";
import { skip, Workspace } from "./terraform.ts";
import { scratchDirectory } from "../support/scratch.ts";

const service = samples["ecs-service"].required;

describe("the environments in Terraform", { skip }, () => {
  for (const { name, variables } of [
    { name: "ecs-test", variables: { agent_ingress_cidrs: ["10.8.0.0/16"] } },
    {
      name: "ecs-test",
      variables: {
        image: service["image"],
        agent_ca_secret_arn: service["agent_ca_secret_arn"],
        tls_secret_arns: service["tls_secret_arns"],
      },
    },
    {
      name: "aca-test",
      variables: { subscription_id: "00000000-0000-4000-8000-000000000001" },
    },
  ]) {
    const given = Object.keys(variables).join(", ") || "nothing";
    it(`${name} is planned, applied, unchanged by a second plan, and destroyed, given ${given}`, async () => {
      const directory = scratchDirectory();
      await cp(terraformPath(), directory, {
        recursive: true,
        filter: (path) => !path.includes("/.terraform"),
      });
      await using workspace = await Workspace.open(join(directory, "environments", name), variables);
      assert.deepEqual(await workspace.validate(), []);
      await workspace.planAndApply();
      assert.deepEqual((await workspace.plan()).changes, []);
      await workspace.destroy();
      assert.deepEqual(await workspace.resources(), []);
    });
  }
});

describe("the environments", () => {
  for (const name of ["ecs-test", "aca-test"]) {
    it(`${name} leaves its remote state to whoever uses it`, () => {
      assert.match(readSources(`environments/${name}`)["versions.tf"] ?? "", /^ {2}# backend "/m);
    });
  }
});
