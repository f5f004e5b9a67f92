import assert from "node:assert/strict";
import { posix } from "node:path";
import { describe, it } from "node:test";

import { findCircles, trespassesOf } from "./import-fences.ts";

const packages = new Set(["pino", "level", "@aws-sdk/client-ecs"]);

function forbidden(file: string, source: string): string[] {
  return trespassesOf(file, source, packages).map(({ imported }) => imported);
}

describe("import fences", () => {
  it("keep the frontend from the backends, however it is written", () => {
    const file = "src/frontend/routes/exec.ts";
    const engine = "src/backends/engine/engine.ts";
    for (const source of [
      'import { Engine } from "../../backends/engine/engine.ts";',
      'import type { Engine } from "../../backends/engine/engine.ts";',
      'import {\n  Engine,\n  type Other,\n} from "../../backends/engine/engine.ts";',
      'import "../../backends/engine/engine.ts";',
      'export * from "../../backends/engine/engine.ts";',
      'const { Engine } = await import("../../backends/engine/engine.ts");',
      'new Worker(new URL("../../backends/engine/engine.ts", import.meta.url));',
      'import { Engine } from "../../../src/backends/engine/engine.ts";',
    ]) {
      assert.deepEqual(forbidden(file, source), [engine], source);
    }
  });

  it("keep backends from each other and from the frontend", () => {
    assert.equal(forbidden("src/backends/ecs/main.ts", 'import { x } from "../local/x.ts";').length, 1);
    assert.equal(forbidden("src/backends/images/x.ts", 'import { x } from "../local/x.ts";').length, 1);
    assert.equal(forbidden("src/backends/ecs/x.ts", 'import { x } from "../../frontend/x.ts";').length, 1);
  });

  it("keep what clouds share from each cloud, and from all that is no cloud's", () => {
    const shared = "src/backends/cloud/tasks/launch.ts";
    assert.deepEqual(forbidden(shared, 'import { viewOf } from "../../ecs/tasks/task-view.ts";'), [
      "src/backends/ecs/tasks/task-view.ts",
    ]);
    assert.deepEqual(forbidden(shared, 'import type { Task } from "@aws-sdk/client-ecs";'), [
      "@aws-sdk/client-ecs",
    ]);
    assert.deepEqual(forbidden(shared, 'import type { Driver } from "../../driver/driver.ts";'), []);
    const launch = 'import { launch } from "../cloud/tasks/launch.ts";';
    assert.deepEqual(forbidden("src/backends/ecs/main.ts", launch), []);
    assert.deepEqual(forbidden("src/backends/local/main.ts", launch), [shared]);
    const fromEngine = 'import { launch } from "../cloud/tasks/launch.ts";';
    assert.deepEqual(forbidden("src/backends/engine/engine.ts", fromEngine), [shared]);
  });

  it("let a backend use what all share", () => {
    const source = `
      import { x } from "./x.ts";
      import { y } from "../model/y.ts";
      import { z } from "../../common/errors.ts";
      import { a } from "../../agent-client/dial.ts";
      import { g } from "../../gen/sockerless/agent/v1/agent_pb.ts";
      import { readFile } from "node:fs/promises";
      import { Level } from "level";`;
    assert.deepEqual(forbidden("src/backends/local/main.ts", source), []);
  });

  it("keep drivers and images from the engine, which stands on what they share", () => {
    for (const folder of ["src/backends/ecs", "src/backends/images", "src/backends/cloud"]) {
      const up = posix.relative(folder, "src/backends");
      assert.equal(forbidden(`${folder}/x.ts`, `import { x } from "${up}/engine/context.ts";`).length, 1);
      assert.deepEqual(forbidden(`${folder}/x.ts`, `import { x } from "${up}/model/records.ts";`), []);
    }
    const below = "src/backends/model/x.ts";
    assert.equal(forbidden(below, 'import { x } from "../images/images.ts";').length, 1);
  });

  it("keep the engine's decisions from what is done", () => {
    const file = "src/backends/engine/networks/decisions/x.ts";
    for (const done of ["../connect-network.ts", "../../context.ts", "../../containers/live/live.ts"]) {
      assert.equal(forbidden(file, `import type { x } from "${done}";`).length, 1, done);
    }
    for (const decided of [
      "./cidr.ts",
      "../../containers/decisions/lookup.ts",
      "../../../driver/networks.ts",
    ]) {
      assert.deepEqual(forbidden(file, `import { x } from "${decided}";`), [], decided);
    }
    assert.deepEqual(
      forbidden(file.replace("decisions/", ""), 'import { x } from "./decisions/cidr.ts";'),
      [],
    );
  });

  it("keep the leaves leaves", () => {
    assert.equal(forbidden("src/common/errors.ts", 'import { x } from "../agent-client/x.ts";').length, 1);
    assert.equal(forbidden("src/agent-client/x.ts", 'import { x } from "../backends/model/x.ts";').length, 1);
    assert.deepEqual(forbidden("src/common/config/load.ts", 'import { x } from "../errors.ts";'), []);
  });

  it("keep simulators from everything of ours", () => {
    assert.equal(
      forbidden("test/simulators/aws/x.ts", 'import { x } from "../../../src/common/ids.ts";').length,
      1,
    );
    assert.deepEqual(forbidden("test/simulators/aws/x.ts", 'import { x } from "../common/clock.ts";'), []);
    assert.equal(forbidden("test/simulators/common/x.ts", 'import { x } from "../aws/aws.ts";').length, 1);
    assert.deepEqual(forbidden("test/api/x.test.ts", 'import { x } from "../../src/common/ids.ts";'), []);
  });

  it("keep a cloud's packages with their backend, and development's out of the product", () => {
    const ecs = 'import { ECSClient } from "@aws-sdk/client-ecs";';
    assert.deepEqual(forbidden("src/backends/ecs/aws.ts", ecs), []);
    assert.deepEqual(forbidden("src/backends/cloud/aws.ts", ecs), ["@aws-sdk/client-ecs"]);
    assert.deepEqual(forbidden("src/frontend/x.ts", 'import { Level } from "level";'), ["level"]);
    assert.deepEqual(forbidden("src/frontend/x.ts", 'import Docker from "dockerode";'), ["dockerode"]);
    assert.deepEqual(forbidden("src/frontend/x.test.ts", 'import Docker from "dockerode";'), []);
  });

  it("find files that import one another in a circle, and no others", () => {
    const straight: [string, string[]][] = [
      ["a", ["b", "c"]],
      ["b", ["d"]],
      ["c", ["d"]],
    ];
    assert.deepEqual(findCircles(new Map(straight)), []);
    assert.deepEqual(findCircles(new Map([...straight, ["d", ["b", "e"]]])), [["b", "d", "b"]]);
    assert.deepEqual(findCircles(new Map([["a", ["a"]]])), [["a", "a"]]);
  });
});
