import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { settings } from "./settings.ts";

describe("settings", () => {
  it("have flags and environment variables of their own", () => {
    for (const names of [settings.map((each) => each.flag), settings.map((each) => each.variable)]) {
      assert.equal(new Set(names).size, names.length);
    }
  });

  it("are named after their key", () => {
    const cluster = settings.find((each) => each.name === "ecs.cluster");
    assert.equal(cluster?.flag, "ecs-cluster");
    assert.equal(cluster?.variable, "SOCKERLESS_ECS_CLUSTER");
    assert.equal(settings.find((each) => each.name === "hosts")?.flag, "host");
  });

  it("are required as specified", () => {
    const required = settings.filter((each) => each.required).map((each) => each.name);
    assert.deepEqual(required, [
      "ecs.region",
      "ecs.cluster",
      "ecs.subnets",
      "ecs.security_groups",
      "ecs.execution_role_arn",
      "aca.subscription_id",
      "aca.resource_group",
      "aca.managed_environment_name",
      "aca.location",
    ]);
  });
});
