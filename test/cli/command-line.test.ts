import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import { version } from "../../src/common/version.ts";
import { scratchDirectory } from "../support/scratch.ts";

const bin = fileURLToPath(new URL("../../../bin/", import.meta.url));

function run(program: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8", cwd: "/" });
  return { status, stdout, stderr };
}

/** A mistake of the user is told without where in the program it was met. */
const stack = /^ +at /m;

describe("bin/sockerless", () => {
  it("prints its version with its commit's date, from any directory and through a link", () => {
    const directory = scratchDirectory();
    symlinkSync(join(bin, "sockerless"), join(directory, "sockerless"));
    for (const program of [join(bin, "sockerless"), join(directory, "sockerless")]) {
      const { status, stdout, stderr } = run(program, "version");
      assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
      const [own, commit, date] = stdout.trimEnd().split(", ");
      assert.equal(own, `sockerless ${version}`);
      assert.match(commit ?? "", /^commit [0-9a-f]{40}$/);
      assert.match(date ?? "", /^\d{4}-\d{2}-\d{2}$/);
    }
  });

  it("suggests the flag that was meant", () => {
    const { status, stderr } = run(join(bin, "sockerless"), "serve", "--hst", "unix:///x");
    assert.notEqual(status, 0);
    assert.match(stderr, /Did you mean --host\?/);
  });

  it("refuses an incomplete configuration before it starts anything", () => {
    const { status, stderr, stdout } = run(join(bin, "sockerless"), "serve", "--host", "tcp://127.0.0.1:0");
    assert.equal(status, 1);
    assert.equal(stdout, "");
    assert.match(stderr, /TCP demands mutual TLS/);
    assert.doesNotMatch(stderr, stack);
  });

  it("offers the settings of each backend, and of one alone those of its own", () => {
    assert.match(
      run(join(bin, "sockerless"), "serve", "--help").stdout,
      /--ecs-cluster[\s\S]*--aca-location/,
    );
    assert.match(run(join(bin, "sockerless"), "backend", "--help").stdout, /\baca\b/);
    assert.doesNotMatch(run(join(bin, "sockerless"), "backend", "local", "--help").stdout, /aca/);
  });

  it("offers the background, and an end of it by the settings that find the daemon", () => {
    assert.match(run(join(bin, "sockerless"), "serve", "--help").stdout, /--log-file[\s\S]*-d, --detach/);
    const { stdout } = run(join(bin, "sockerless"), "stop", "--help");
    const flags = [...stdout.matchAll(/^ {2}(?:-\w, )?--([\w-]+)/gm)].map(([, flag]) => flag);
    assert.deepEqual(flags, ["config", "backend", "state-dir", "help"]);
  });

  it("says what settings a backend needs", () => {
    for (const command of [
      ["serve", "--backend", "ecs"],
      ["backend", "ecs"],
      ["ecs", "push-agent"],
      ["backend", "aca"],
    ]) {
      const { status, stderr } = run(join(bin, "sockerless"), ...command);
      assert.equal(status, 1);
      assert.match(stderr, /(ecs\.execution_role_arn|aca\.managed_environment_name) is required/);
      assert.doesNotMatch(stderr, stack);
    }
  });

  it("has an alias for each backend", () => {
    for (const name of ["local", "ecs", "aca"]) {
      const { status, stdout } = run(join(bin, `sockerless-backend-${name}`), "--help");
      assert.equal(status, 0);
      assert.match(stdout, new RegExp(`Usage: sockerless backend ${name} `));
    }
  });
});
