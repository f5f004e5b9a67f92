/**
 * The npm package: two builds are equal, and a user without root installs it from its file into an empty directory, where
 * it serves ECS. `npm run soak -- packages`.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { chmod, chown, mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { buildLimitMs, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { EcsAccount } from "../support/ecs-daemon.ts";
import { LoneProgram } from "../support/lone-program.ts";
import { withinMachine } from "../support/within-machine.ts";
import { scratchDirectory } from "../support/scratch.ts";

/** An ID of no account on the machine. */
const user = 63_999;
const asUser = ["setpriv", `--reuid=${user}`, `--regid=${user}`, "--clear-groups", "--no-new-privs"] as const;

describe("the npm package", () => {
  const directory = scratchDirectory();
  let place: string;
  let file: string;

  const succeed = async (program: string, args: readonly string[], env = process.env): Promise<string> => {
    const result = await runCommand(program, args, { cwd: place, env, timeout: 4 * buildLimitMs });
    assert.equal(result.code, 0, `${program} ${args.join(" ")}: ${result.text}\n${result.errorText}`);
    return result.text;
  };
  const build = async (name: string): Promise<string> => {
    const output = join(directory, name);
    const script = [join(checkout, "scripts/package.ts"), "--kind", "npm", "--output", output];
    const tsx = import.meta.resolve("tsx");
    await succeed(process.execPath, ["--import", tsx, ...script]);
    const [built = "", ...others] = await readdir(output);
    assert.deepEqual(others, []);
    return join(output, built);
  };
  /** Environment of the user: nothing of root's directories, and no Node that fits, nor Go. */
  const environment = (): NodeJS.ProcessEnv => ({
    HOME: place,
    TMPDIR: place,
    PATH: `${place}/node_modules/.bin:/usr/bin:/bin`,
    ...Object.fromEntries(
      Object.entries(process.env).filter(([name]) => /^npm_config_registry$|^NODE_EXTRA|PROXY$/i.test(name)),
    ),
  });

  before(async () => {
    await chmod(directory, 0o755);
    place = join(directory, "place");
    await mkdir(place);
    await chown(place, user, user);
    file = await build("first");
  });
  it("is the same in two builds", async () => {
    const [first, second] = await Promise.all([file, await build("second")].map((each) => readFile(each)));
    const digest = (content: Buffer | undefined): string =>
      createHash("sha256")
        .update(content ?? "")
        .digest("hex");
    assert.equal(digest(second), digest(first));
  });

  it("serves ECS where a user without root has installed it, without a script of its own", async () => {
    const npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", place, file];
    const [program = "", ...args] = [...asUser, ...npm];
    await succeed(program, args, { ...withoutNpm(process.env), ...environment() });
    const sockerless = join(place, "node_modules/.bin/sockerless");
    const version = await succeed(asUser[0], [...asUser.slice(1), sockerless, "version"], environment());
    assert.match(version, /^sockerless \S+, commit [0-9a-f]{40}, \d{4}-\d{2}-\d{2}$/);

    await using account = await EcsAccount.open();
    await chmod(account.directory, 0o755);
    // The account's setup has written the agents' authority, which its user reads.
    for (const name of await readdir(account.directory)) {
      await chown(join(account.directory, name), user, user);
    }
    await chown(account.directory, user, user);
    const host = `unix://${join(place, "docker.sock")}`;
    const serve = [
      ...["serve", "--backend", "ecs", "--host", host, "--listen", `unix://${join(place, "backend.sock")}`],
      ...["--state-dir", join(place, "state"), "--run-dir", join(place, "run"), ...account.args],
    ];
    await using daemon = await LoneProgram.start(
      asUser[0],
      [...asUser.slice(1), sockerless, ...serve],
      withinMachine({ ...environment(), ...account.env }) as NodeJS.ProcessEnv,
    );
    const status = await readFile(`/proc/${daemon.pid}/status`, "utf8");
    assert.match(status, new RegExp(`^Uid:\\t${user}\\t`, "m"));
    const docker = await runCommand("docker", ["--host", host, "run", "--rm", "sockerless/hello"]);
    assert.equal(docker.code, 0, `${docker.errorText}\n${daemon.output}`);
    assert.match(docker.text, /Hello/i);
    await daemon.end();
  });
});

/** Settings of the npm that runs the tests lead to its own user's directories. */
function withoutNpm(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !/^npm_/i.test(name)));
}
